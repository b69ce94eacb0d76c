"""Attention against torch's own, and its masks against loops."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from glassgpt.core.errors import ConfigError
from glassgpt.model.attention import (
    CausalSelfAttention,
    SelfAttention,
    attend,
    attend_explicit,
    causal_mask,
    join_heads,
    padding_mask,
    split_heads,
)
from glassgpt.model.config import ModelConfig
from glassgpt.model.positions import Rotary


def copied(ours: SelfAttention, width: int) -> nn.MultiheadAttention:
    """torch's module with `ours`'s weights; both have biases."""
    theirs = nn.MultiheadAttention(width, ours.heads, batch_first=True).eval()
    parts = (ours.q_proj, ours.k_proj, ours.v_proj)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([p.weight for p in parts]))
        theirs.in_proj_bias.copy_(torch.cat([p.bias for p in parts]))
        theirs.out_proj.load_state_dict(ours.out_proj.state_dict())
    return theirs


def random_mask(*shape: int) -> Tensor:
    """True where a query may look; every query may look somewhere."""
    mask = torch.rand(shape) < 0.5
    mask[..., 0] |= ~mask.any(dim=-1)
    return mask


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.tuples(st.integers(1, 3), st.integers(1, 7), st.integers(1, 7), st.integers(1, 4), st.integers(1, 8)),
    masked=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_cross_attention_equals_torch_multihead_attention_with_and_without_a_mask(sizes, masked, seed):
    torch.manual_seed(seed)
    batch, queries, keys, heads, head_dim = sizes
    ours = SelfAttention(heads * head_dim, heads, bias=True).eval()
    query, key, value = (torch.randn(batch, n, heads * head_dim) for n in (queries, keys, keys))
    mask = random_mask(queries, keys) if masked else None
    with torch.no_grad():
        expected, _ = copied(ours, heads * head_dim)(query, key, value, attn_mask=None if mask is None else ~mask)
        assert (ours(value, key, query, mask) - expected).abs().max() < 1e-5


@pytest.mark.parametrize("shape", [(5, 5), (2, 5, 5), (2, 1, 1, 5), (2, 3, 5, 5)])
def test_self_attention_takes_masks_for_the_batch_for_each_row_and_for_each_head(shape: tuple[int, ...]):
    torch.manual_seed(1)
    ours = SelfAttention(12, 3, bias=True).eval()
    x, mask = torch.randn(2, 5, 12), random_mask(*shape)
    full = mask[:, None] if mask.dim() == 3 else mask
    full = full.expand(2, 3, 5, 5).reshape(6, 5, 5)  # torch wants one mask per row and head
    with torch.no_grad():
        expected, _ = copied(ours, 12)(x, x, x, attn_mask=~full)
        assert (ours(x, x, x, mask) - expected).abs().max() < 1e-5
        assert torch.equal(ours(x, x, x, mask.int()), ours(x, x, x, mask))  # the tutorial's masks hold 0 and 1


def test_values_keys_and_query_are_taken_in_the_tutorials_order():
    torch.manual_seed(2)
    ours = SelfAttention(8, 2).eval()
    values, keys, query = torch.randn(1, 4, 8), torch.randn(1, 4, 8), torch.randn(1, 3, 8)
    with torch.no_grad():
        out = ours(values, keys, query)
        assert out.shape == (1, 3, 8)
        assert not torch.allclose(out, ours(keys, values, query), atol=1e-3)
        bias = ours.out_proj.bias
        assert torch.allclose(ours(torch.zeros(1, 4, 8), keys, query), bias.expand(1, 3, 8))  # no values, no output


@settings(max_examples=80, deadline=None)
@given(
    sizes=st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 6), st.integers(1, 6)),
    head_dim=st.integers(1, 9),
    scale=st.sampled_from([None, 0.3, 1.0]),
    masked=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_fused_and_explicit_attention_and_torch_agree_over_any_grouping_of_heads(sizes, head_dim, scale, masked, seed):
    torch.manual_seed(seed)
    batch, kv_heads, groups, queries, keys = sizes
    q = torch.randn(batch, kv_heads * groups, queries, head_dim)
    k, v = torch.randn(2, batch, kv_heads, keys, head_dim)
    mask = random_mask(batch, 1, queries, keys) if masked else None
    each = [head // groups for head in range(kv_heads * groups)]  # the key/value head of each query head
    expected = F.scaled_dot_product_attention(q, k[:, each], v[:, each], attn_mask=mask, scale=scale)
    out, pattern = attend_explicit(q, k, v, mask, scale)
    torch.testing.assert_close(attend(q, k, v, mask, scale), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(pattern.sum(-1), torch.ones(pattern.shape[:-1]))
    if mask is not None:
        assert (pattern[~mask.expand_as(pattern)] == 0).all()


def test_scores_are_divided_by_the_root_of_the_heads_width_computed_by_hand():
    q = torch.tensor([[[[2.0, 0.0, 0.0, 0.0]]]])  # one head of width 4: scores 2 * k[0] / 2
    k = torch.tensor([[[[1.0, 0, 0, 0], [0.0, 0, 0, 0]]]])
    v = torch.tensor([[[[1.0, 0, 0, 0], [0.0, 0, 0, 0]]]])
    share = torch.tensor(1.0).exp() / (torch.tensor(1.0).exp() + 1)
    torch.testing.assert_close(attend(q, k, v)[0, 0, 0, 0], share)
    torch.testing.assert_close(attend_explicit(q, k, v)[1][0, 0, 0], torch.stack((share, 1 - share)))


@settings(max_examples=80, deadline=None)
@given(
    rows=st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=3),
    first=st.integers(0, 5),
    window=st.one_of(st.none(), st.integers(1, 7)),
    use_keep=st.booleans(),
)
def test_causal_mask_equals_a_plain_loop_over_row_query_and_key(rows, first, window, use_keep):
    """`first` > 0: the queries are the last positions only, as with a cache."""
    keys = torch.arange(6).expand(len(rows), 6)
    mask = causal_mask(keys[:, first:], keys, window, torch.tensor(rows) if use_keep else None)
    assert mask.shape == (len(rows), 1, 6 - first, 6)
    for b, keep in enumerate(rows):
        for t in range(first, 6):
            for s in range(6):
                seen = s <= t and (window is None or t - s < window) and (keep[s] or not use_keep or s == t)
                assert bool(mask[b, 0, t - first, s]) == seen, (b, t, s)


def test_padding_mask_hides_padding_from_every_query():
    keep = torch.tensor([[True, True, False], [True, False, False]])
    x = torch.randn(2, 3, 8)
    attention = SelfAttention(8, 2).eval()
    with torch.no_grad():
        out = attention(x, x, x, padding_mask(keep))
        for row, length in enumerate((2, 1)):
            alone = x[row : row + 1, :length]
            torch.testing.assert_close(out[row, :length], attention(alone, alone, alone)[0], rtol=0, atol=1e-6)


def test_splitting_and_joining_heads_gives_each_head_its_own_slice():
    x = torch.arange(2 * 3 * 8).reshape(2, 3, 8)
    heads = split_heads(x, 4)
    assert heads.shape == (2, 4, 3, 2)
    for head in range(4):
        assert torch.equal(heads[:, head], x[..., 2 * head : 2 * head + 2])
    assert torch.equal(join_heads(heads), x)


def test_a_gpt_blocks_attention_equals_torchs_with_grouped_heads_norms_rotation_and_window():
    torch.manual_seed(4)
    config = ModelConfig(10, 1, 6, 48, 16, n_kv_head=2, qk_norm=True, qkv_bias=True, out_bias=True)
    ours = CausalSelfAttention(config, layer=0).eval()
    nn.init.normal_(ours.q_norm.weight), nn.init.normal_(ours.k_norm.weight)
    x, places = torch.randn(2, 9, 48), torch.arange(9).expand(2, 9)
    mask = causal_mask(places, places, window=4)
    with torch.no_grad():
        out = ours(x, mask, Rotary(8)(places, torch.float32))

        def heads(layer: nn.Linear, norm: nn.Module | None) -> Tensor:
            y = layer(x).view(2, 9, -1, 8).transpose(1, 2)
            if norm is None:
                return y
            y = F.rms_norm(y, (8,), norm.weight, config.norm_eps)
            turns = torch.outer(torch.arange(9.0), 10000.0 ** (-torch.arange(4) / 4))
            z = torch.polar(torch.ones_like(turns), turns) * torch.complex(y[..., :4], y[..., 4:])
            return torch.cat((z.real, z.imag), -1)

        q, k, v = heads(ours.q_proj, ours.q_norm), heads(ours.k_proj, ours.k_norm), heads(ours.v_proj, None)
        k, v = k[:, [0, 0, 0, 1, 1, 1]], v[:, [0, 0, 0, 1, 1, 1]]
        expected = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        expected = ours.out_proj(expected.transpose(1, 2).reshape(2, 9, 48))
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-5)


def test_dropout_acts_in_training_only():
    attention, x = SelfAttention(8, 2, dropout=0.5), torch.randn(1, 6, 8)
    assert not torch.equal(attention(x, x, x), attention(x, x, x))
    attention.eval()
    assert torch.equal(attention(x, x, x), attention(x, x, x))


@pytest.mark.parametrize("heads", [3, 0, -2])
def test_a_width_that_the_heads_do_not_divide_is_refused(heads: int):
    with pytest.raises(ConfigError, match=f"embed_size 16 is not a multiple of heads {heads}"):
        SelfAttention(16, heads)
