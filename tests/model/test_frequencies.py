"""Rotary frequencies in numpy: against torch's own float32 arithmetic, and the network turns by the same bits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from glassgpt.model import frequencies, positions
from glassgpt.model.config import RopeScaling

SCALINGS = [
    None,
    RopeScaling("linear", 3.5),
    RopeScaling("dynamic", 2.0, 64),
    RopeScaling("llama3", 8.0, 8192),
    RopeScaling("llama3", 32.0, 512),
    RopeScaling("yarn", 4.0, 32768),
    RopeScaling("yarn", 40.0, 4096, beta_fast=16.0, beta_slow=2.0),
    RopeScaling("yarn", 2.0, 128, attention_factor=1.25),
]
WIDTHS = [(16, 1e4), (64, 1e5), (80, 12345.678), (128, 5e5), (256, 1e6)]


def in_torch(head_dim: int, theta: float, scaling: RopeScaling | None) -> torch.Tensor:
    """The formulas once more, all in float32."""
    plain = 1.0 / theta ** (torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
    if scaling is None or scaling.kind == "dynamic":
        return plain
    if scaling.kind == "linear":
        return plain / scaling.factor
    if scaling.kind == "llama3":
        turns = scaling.original_context / (2 * math.pi / plain)
        keep = ((turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)).clamp(0, 1)
        return keep * plain + (1 - keep) * plain / scaling.factor
    low, high = (
        head_dim * math.log(scaling.original_context / (beta * 2 * math.pi)) / (2 * math.log(theta))
        for beta in (scaling.beta_fast, scaling.beta_slow)
    )
    first, last = max(math.floor(low), 0), min(math.ceil(high), head_dim - 1)
    divide = ((torch.arange(head_dim // 2, dtype=torch.float32) - first) / max(last - first, 0.001)).clamp(0, 1)
    return plain / scaling.factor * divide + plain * (1 - divide)


@pytest.mark.parametrize("scaling", SCALINGS, ids=str)
@pytest.mark.parametrize(("head_dim", "theta"), WIDTHS)
def test_frequencies_are_torchs_but_for_the_last_bits_of_a_power(scaling, head_dim, theta):
    ours, factor = frequencies.rotary_frequencies(head_dim, theta, scaling)
    theirs = in_torch(head_dim, theta, scaling).numpy()
    assert ours.dtype == np.float32 and ours.shape == (head_dim // 2,)
    # Neighbouring float32 numbers are neighbouring whole numbers; llama3's ramp is a difference, which costs bits.
    assert np.abs(ours.view(np.int32).astype(int) - theirs.view(np.int32)).max() <= (8 if scaling else 2)
    tensor, same_factor = positions.rotary_frequencies(head_dim, theta, scaling)
    assert np.array_equal(tensor.numpy(), ours) and same_factor == factor


@pytest.mark.parametrize("length", [10, 64, 65, 4096])
def test_a_base_that_grows_with_the_sequence_gives_the_network_the_same_bits(length):
    scaling = RopeScaling("dynamic", 2.0, 64)
    ours = frequencies.dynamic_frequencies(64, 1e4, scaling, length)
    assert np.array_equal(positions.dynamic_frequencies(64, 1e4, scaling, length).numpy(), ours)
    assert (ours[-1] < frequencies.rotary_frequencies(64, 1e4, None)[0][-1]) == (length > 64)


def test_impossible_settings_give_no_warnings_on_the_users_screen(recwarn):
    for theta in (-1.0, 1e300, 5e-324):
        frequencies.rotary_frequencies(16, theta, RopeScaling("llama3", 8.0, 8192, 1.0, 1.0))
    assert not recwarn.list
