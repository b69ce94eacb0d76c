"""What attention heads do, by measured score: which look at the token before, at the first, or copy what came after the
same token earlier (induction heads, Olsson et al. 2022, arXiv:2209.11895).

Shapes: B sequences, T positions, H heads.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from glassgpt.core.errors import ConfigError
from glassgpt.engine.language_model import LanguageModel
from glassgpt.engine.settings import check_int
from glassgpt.inside.subject import network_of, read_seen
from glassgpt.model.gpt import GPT

NAMED = 0.4  # the mean share of its attention from which on a head is named after what it looks at
KINDS = ("previous", "first", "same", "duplicate", "induction")


@dataclass(frozen=True)
class HeadScore:
    """How much of its attention a head gives, on average, to

    - `previous`: the token before,
    - `first`: the first token of all, where heads look that have nothing to read (Xiao et al. 2023, arXiv:2309.17453),
    - `same`: the position itself,
    - `duplicate`: the same token earlier,
    - `induction`: the token that came after the same token earlier.

    The first three are measured on every token of random sequences; the last two in the second half of sequences whose
    halves are alike. 0 to 1 each.
    """

    layer: int
    head: int
    previous: float
    first: float
    same: float
    duplicate: float
    induction: float

    @property
    def names(self) -> tuple[str, ...]:
        """What the head can be called: the kinds that it gives `NAMED` or more of its attention to."""
        return tuple(kind for kind in KINDS if getattr(self, kind) >= NAMED)


def head_scores(model: LanguageModel | GPT, *, half: int = 32, sequences: int = 4, seed: int = 0) -> list[HeadScore]:
    """The scores of all heads, layer by layer, on random tokens that come twice: `sequences` times `half` of them.

    Random tokens mean nothing, so that what is found is not the language but the head.

    Raises:
        ConfigError: twice `half` is more than the model's context, or less than 4; or `sequences` is out of range.
    """
    network = network_of(model)
    config = network.config
    check_int("sequences", sequences, 1, 1024)
    if half < 2 or 2 * half > config.context_length:
        raise ConfigError(
            "{half} tokens cannot be read twice; expected from 2 to {most}", half=half, most=config.context_length // 2
        )
    random = torch.Generator().manual_seed(seed)
    once = torch.randint(0, config.vocab_size, (sequences, half), generator=random)
    ids = torch.cat((once, once), dim=1).to(network.embed.weight.device)
    found: list[HeadScore] = []

    def measure(name: str, value: Tensor) -> Tensor:  # one layer at a time is in memory
        if name.endswith(".pattern"):
            layer = int(name.split(".")[1])
            found.extend(HeadScore(layer, head, **scores) for head, scores in enumerate(pattern_scores(value, half)))
        return value

    with torch.no_grad():
        read_seen(network, ids, measure)
    return found


def pattern_scores(pattern: Tensor, half: int) -> list[dict[str, float]]:
    """The scores of each head of one layer from its pattern [B, H, T, T] on sequences whose tokens come again after
    `half`."""
    later = pattern[:, :, half:]  # [B, H, half, T], the second time
    offsets = {
        "previous": pattern.diagonal(-1, 2, 3),
        "first": pattern[:, :, 1:, 0],
        "same": pattern.diagonal(0, 2, 3)[:, :, 1:],  # the first position sees nothing else
        "duplicate": later.diagonal(0, 2, 3),
        "induction": later.diagonal(1, 2, 3),
    }
    means = {kind: values.float().mean(dim=(0, 2)).tolist() for kind, values in offsets.items()}
    return [{kind: means[kind][head] for kind in means} for head in range(pattern.shape[1])]


@dataclass(frozen=True)
class Summary:
    """What one head does in one text, from its pattern: the mean share of attention on the token before, the first and
    itself; and how far it is spread, in bits, on average."""

    previous: float
    first: float
    same: float
    entropy: float


def summarise(pattern: Tensor) -> Summary:
    """The summary of a head's pattern [T, T]; of a text of one token all on itself."""
    if len(pattern) < 2:
        return Summary(0.0, 0.0, 1.0, 0.0)
    rows = pattern[1:].cpu().double()
    bits = -(rows * rows.clamp_min(1e-30).log2()).sum(-1)
    return Summary(float(pattern.diagonal(-1).mean()), float(rows[:, 0].mean()),
                   float(pattern.diagonal(0)[1:].mean()), float(bits.mean()))  # fmt: skip
