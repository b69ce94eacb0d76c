"""Rotary frequencies: by which angle each pair of numbers turns from one position to the next. No torch here."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from glassgpt.model.config import RopeScaling

Floats = NDArray[np.float32]


@np.errstate(all="ignore")  # what damaged settings give is told by those who check it
def rotary_frequencies(head_dim: int, theta: float, scaling: RopeScaling | None) -> tuple[Floats, float]:
    """Angles per position for each pair, [D / 2] in float32, and the factor on cosines and sines.

    Arithmetic in float32, as models are trained with, but for the power: rounded from float64 it has the same bits on
    every machine, where those of a float32 power depend on the processor.
    """
    exponent = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    inv_freq = np.float32(1) / np.power(float(theta), exponent.astype(np.float64)).astype(np.float32)
    if scaling is None or scaling.kind == "dynamic":
        return inv_freq, 1.0
    divided = inv_freq / np.float32(scaling.factor)
    if scaling.kind == "linear":
        return divided, 1.0
    if scaling.kind == "llama3":
        wavelength = np.float32(2 * math.pi) / inv_freq
        turns = np.float32(scaling.original_context) / wavelength  # full turns within the trained context
        low, high = scaling.low_freq_factor, scaling.high_freq_factor
        keep = ((turns - np.float32(low)) / np.float32(high - low)).clip(0.0, 1.0)  # 1: keep the frequency, 0: divide
        return keep * inv_freq + (1 - keep) * inv_freq / np.float32(scaling.factor), 1.0

    # yarn (section 3.2 and equation 22): a ramp over dimensions, found from the turns each one makes
    def dimension(turns: float) -> float:
        return head_dim * math.log(scaling.original_context / (turns * 2 * math.pi)) / (2 * math.log(theta))

    first = max(math.floor(dimension(scaling.beta_fast)), 0)
    last = min(math.ceil(dimension(scaling.beta_slow)), head_dim - 1)
    ramp = (np.arange(head_dim // 2, dtype=np.float32) - np.float32(first)) / np.float32(max(last - first, 0.001))
    divide = ramp.clip(0.0, 1.0)
    factor = scaling.attention_factor
    if factor is None:
        factor = 0.1 * math.log(scaling.factor) + 1.0 if scaling.factor > 1 else 1.0
    return divided * divide + inv_freq * (1 - divide), factor


def dynamic_frequencies(head_dim: int, theta: float, scaling: RopeScaling, length: int) -> Floats:
    """NTK-aware frequencies for a sequence of `length` tokens: the base grows past the trained context."""
    if length > scaling.original_context:
        stretch = scaling.factor * length / scaling.original_context - (scaling.factor - 1)
        theta = theta * stretch ** (head_dim / (head_dim - 2))
    return rotary_frequencies(head_dim, theta, None)[0]
