"""Positions: the paper's formula as a loop, and rotary embeddings against transformers."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

from glassgpt.core.errors import ConfigError, InputError
from glassgpt.model.config import RopeScaling
from glassgpt.model.positions import (
    LearnedPositions,
    PositionalEncoding,
    Rotary,
    dynamic_frequencies,
    rotary_frequencies,
    rotate,
)


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 3), length=st.integers(1, 9), width=st.integers(1, 13), start=st.sampled_from([0, 500, 4990])
)
def test_sinusoids_equal_the_papers_formula_at_any_place_and_odd_widths_too(batch, length, width, start):
    encoding = PositionalEncoding(width, max_len=start + length)
    out = encoding(torch.zeros(batch, start + length, width))[:, start:]
    for t in range(length):
        for column in range(width):
            angle = (start + t) / 10000 ** ((column - column % 2) / width)  # column 2i and 2i + 1 share an angle
            expected = math.cos(angle) if column % 2 else math.sin(angle)
            for row in range(batch):
                assert out[row, t, column].item() == pytest.approx(expected, abs=1e-6)


def test_positions_are_added_and_are_the_same_for_every_row_of_a_batch():
    encoding, x = PositionalEncoding(6, max_len=10), torch.randn(4, 5, 6)
    torch.testing.assert_close(encoding(x) - x, encoding(torch.zeros(1, 5, 6)).expand(4, 5, 6))
    assert encoding(x.to(torch.bfloat16)).dtype == torch.bfloat16


def test_a_sequence_longer_than_the_table_is_refused_with_both_lengths():
    PositionalEncoding(4, max_len=6)(torch.zeros(1, 6, 4))
    with pytest.raises(InputError, match="the sequence has 7 positions; this encoding holds 6"):
        PositionalEncoding(4, max_len=6)(torch.zeros(1, 7, 4))
    with pytest.raises(ConfigError, match="embed_size 0 and max_len 6"):
        PositionalEncoding(0, max_len=6)


def test_learned_positions_look_up_one_row_per_position():
    learned = LearnedPositions(7, 3)
    torch.nn.init.normal_(learned.weight)
    out = learned(torch.tensor([[0, 1, 2], [4, 5, 6]]))
    assert torch.equal(out[1, 2], learned.weight[6])
    assert out.shape == (2, 3, 3)


SCALINGS = {
    "linear": [RopeScaling("linear", 1.0), RopeScaling("linear", 3.5)],
    "dynamic": [RopeScaling("dynamic", 2.0, 64), RopeScaling("dynamic", 1.0, 64)],
    "llama3": [RopeScaling("llama3", 8.0, 8192), RopeScaling("llama3", 32.0, 512, 1.0, 4.0)],
    "yarn": [
        RopeScaling("yarn", 4.0, 32768),
        RopeScaling("yarn", 40.0, 4096, beta_fast=16.0, beta_slow=2.0),
        RopeScaling("yarn", 2.0, 128, attention_factor=1.25),
        RopeScaling("yarn", 1.0, 2048),
    ],
}


def llama(head_dim: int, theta: float, scaling: RopeScaling | None) -> LlamaConfig:
    """transformers' config for the same rotary embedding."""
    values: dict[str, object] = {"rope_type": "default", "rope_theta": theta}
    context = 2048
    if scaling is not None:
        context = scaling.original_context or context
        values = {"rope_type": scaling.kind, "rope_theta": theta, "factor": scaling.factor}
        if scaling.kind in ("llama3", "yarn"):
            values["original_max_position_embeddings"] = scaling.original_context
            names = {"llama3": ("low_freq_factor", "high_freq_factor"), "yarn": ("beta_fast", "beta_slow")}
            values |= {name: getattr(scaling, name) for name in names[scaling.kind]}
            if scaling.attention_factor is not None:
                values["attention_factor"] = scaling.attention_factor
    return LlamaConfig(
        hidden_size=2 * head_dim,
        num_attention_heads=2,
        head_dim=head_dim,
        max_position_embeddings=context,
        rope_parameters=values,
    )


@pytest.mark.parametrize("scaling", [s for group in SCALINGS.values() for s in group], ids=str)
@pytest.mark.parametrize(("head_dim", "theta"), [(64, 10000.0), (128, 500000.0), (16, 1_000_000.0)])
def test_scaled_frequencies_equal_those_of_transformers(scaling, head_dim, theta):
    config = llama(head_dim, theta, scaling)
    for length in (10, 64, 65, 300) if scaling.kind == "dynamic" else (10,):
        expected, factor = ROPE_INIT_FUNCTIONS[scaling.kind](config, torch.device("cpu"), length)
        if scaling.kind == "dynamic":
            ours, our_factor = dynamic_frequencies(head_dim, theta, scaling, length), 1.0
        else:
            ours, our_factor = rotary_frequencies(head_dim, theta, scaling)
        torch.testing.assert_close(ours, expected, rtol=2e-6, atol=0)
        assert our_factor == pytest.approx(factor, rel=1e-9)


def test_every_kind_of_scaling_that_a_config_may_name_is_compared():
    for kind in SCALINGS:
        with pytest.raises(ConfigError, match="expected one of linear, dynamic, llama3, yarn"):
            RopeScaling(kind + "?", 2.0, 8)  # type: ignore[arg-type]
    assert sorted(SCALINGS) == ["dynamic", "linear", "llama3", "yarn"]


@pytest.mark.parametrize("scaling", [None, *(s for group in SCALINGS.values() for s in group)], ids=str)
@pytest.mark.parametrize("length", [9, 90])
def test_rotated_queries_equal_those_of_transformers(scaling, length):
    torch.manual_seed(0)
    positions = torch.stack((torch.arange(length), torch.arange(length).flip(0)))  # each row has its own
    q, k = torch.randn(2, 4, length, 16), torch.randn(2, 2, length, 16)
    theirs = LlamaRotaryEmbedding(llama(16, 10000.0, scaling))
    expected = apply_rotary_pos_emb(q, k, *theirs(q, positions))
    turn = Rotary(16, 10000.0, scaling)(positions, torch.float32)
    torch.testing.assert_close(rotate(q, *turn), expected[0], rtol=0, atol=1e-4)
    torch.testing.assert_close(rotate(k, *turn), expected[1], rtol=0, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(t=st.integers(0, 400), distance=st.integers(0, 400), shift=st.integers(0, 400), seed=st.integers(0, 1000))
def test_a_rotated_product_depends_on_the_distance_alone(t, distance, shift, seed):
    torch.manual_seed(seed)
    q, k = torch.randn(2, 1, 1, 1, 8)
    rotary = Rotary(8)

    def product(query_at: int, key_at: int) -> float:
        turn = [rotary(torch.tensor([[place]]), torch.float32) for place in (query_at, key_at)]
        return float((rotate(q, *turn[0]) * rotate(k, *turn[1])).sum())

    assert product(t + distance, t) == pytest.approx(product(t + distance + shift, t + shift), abs=1e-3)


def test_rotation_keeps_lengths_and_place_zero_turns_nothing():
    x = torch.randn(1, 2, 5, 8)
    turned = rotate(x, *Rotary(8)(torch.arange(5)[None], torch.float32))
    torch.testing.assert_close(turned[:, :, 0], x[:, :, 0])
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    assert not torch.allclose(turned[:, :, 1], x[:, :, 1], atol=1e-2)
