"""The page on the tutorial's slips: each slip does what the page says."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "docs" / "from-the-tutorial.md", ROOT / "docs" / "from-the-tutorial.zh.md"]
sys.path.insert(0, str(ROOT / "examples"))

from tutorial_mistakes import TutorialAttention, held_out_loss  # noqa: E402

from glassgpt import PositionalEncoding, SelfAttention  # noqa: E402


def test_both_pages_have_the_same_figures_in_their_tables():
    def figures(page: Path) -> list[str]:
        return re.findall(r"\d[\d,.]*\d", "".join(re.findall(r"^\|.*", page.read_text(encoding="utf-8"), re.M)))

    assert figures(PAGES[0]) == figures(PAGES[1])


def test_positions_cut_by_the_batch_depend_on_the_row_and_not_on_the_place():
    table = PositionalEncoding(16, 100).table[:, None]  # [max_len, 1, C], as the tutorial keeps it
    x = torch.zeros(3, 10, 16)
    wrong = x + table[: x.size(0)]
    assert torch.equal(wrong[0, 1], wrong[0, 2]), "two places of one sentence look alike"
    assert not torch.equal(wrong[0], wrong[2]), "the same sentence differs from row to row"


def test_a_missing_import_of_math_is_a_name_error():
    (wrong,) = re.findall(r"```python\n(div_term.*?)```", PAGES[0].read_text(encoding="utf-8"), re.S)
    with pytest.raises(NameError, match="math"):
        exec(wrong, {"torch": torch, "d": 16})  # noqa: S102 - our own page


def test_heads_that_share_a_projection_cannot_read_beyond_their_slice():
    torch.manual_seed(0)
    shared, right = TutorialAttention(64, 8), SelfAttention(64, 8)
    for attention in (shared, right):
        attention.out_proj = nn.Identity()  # type: ignore[assignment]
    x = torch.randn(1, 6, 64)
    other = x.clone()
    other[..., 8:] = torch.randn(1, 6, 56)  # all but the first head's slice
    assert torch.allclose(shared(x, x, x)[..., :8], shared(other, other, other)[..., :8])
    assert not torch.allclose(right(x, x, x)[..., :8], right(other, other, other)[..., :8])


def test_the_tutorials_attention_with_both_mistakes_put_right_is_ours():
    torch.manual_seed(0)
    ours, theirs = SelfAttention(64, 8), TutorialAttention(64, 8, shared=False, wide_scale=False)
    theirs.load_state_dict(ours.state_dict())
    x, mask = torch.randn(2, 10, 64), torch.ones(10, 10, dtype=torch.bool).tril()
    assert torch.allclose(ours(x, x, x, mask), theirs(x, x, x, mask), atol=1e-6)
    wide = TutorialAttention(64, 8, shared=False, wide_scale=True)
    assert theirs.scale / wide.scale == pytest.approx(8**0.5)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.full) for seed in (1, 2))])
def test_each_of_the_two_attention_mistakes_costs_something(seed):
    """A shorter run than the page's; the right attention wins with each of three starts."""
    right = held_out_loss("correct", seed, 150)
    assert held_out_loss("shared projection", seed, 150) > right + 0.01
    assert held_out_loss("scale by sqrt(width)", seed, 150) > right
