"""How tokens are chosen: the settings of `sampling`, checked on construction."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from glassgpt.core.errors import ConfigError


@dataclass(frozen=True)
class SamplingSettings:
    """How tokens are chosen.

    - `temperature`: 0 takes the likeliest token (greedy); higher values are more varied.
    - `top_k`: only the k likeliest tokens (0: all).
    - `top_p`: the smallest set whose probabilities reach p (Holtzman et al. 2019, arXiv:1904.09751; 1: all).
    - `min_p`: only tokens at least this share of the likeliest one's probability (arXiv:2407.01082; 0: all).
    - `repetition_penalty`: divides the score of tokens already seen (Keskar et al. 2019, arXiv:1909.05858; 1: none).
    - `presence_penalty`, `frequency_penalty`: taken from the score of a generated token once, and once for each time
      that it was generated, as OpenAI's API has it; 0: none.
    - `logit_bias`: pairs of a token id and what is added to its score.
    - `seed`: the same seed gives the same tokens; None draws a fresh one.

    Raises:
        ConfigError: a value is out of its range.
    """

    temperature: float = 0.8
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()

    def __post_init__(self) -> None:
        _check("temperature", self.temperature, 0.0, 100.0)
        _check("top_p", self.top_p, 0.0, 1.0, open_low=True)
        _check("min_p", self.min_p, 0.0, 1.0)
        _check("repetition_penalty", self.repetition_penalty, 0.01, 100.0)  # less would divide scores to infinity
        check_int("top_k", self.top_k, 0, 1 << 31)
        if self.seed is not None:
            check_int("seed", self.seed, 0, (1 << 64) - 1)
        _check("presence_penalty", self.presence_penalty, -2.0, 2.0)
        _check("frequency_penalty", self.frequency_penalty, -2.0, 2.0)
        _check_bias(self.logit_bias)

    @property
    def greedy(self) -> bool:
        """Whether no chance is involved."""
        return self.temperature == 0 or self.top_k == 1

    @cached_property
    def bias(self) -> tuple[np.ndarray, np.ndarray]:
        """`logit_bias` as ids [N] and what is added to their scores [N] float32."""
        ids = np.array([id for id, _ in self.logit_bias], dtype=np.int64)
        return ids, np.array([value for _, value in self.logit_bias], dtype=np.float32)


def _check_bias(bias: object) -> None:
    """Raise ConfigError unless `bias` is a tuple of distinct ids with numbers from -100 to 100."""
    if not isinstance(bias, tuple) or not all(isinstance(pair, tuple) and len(pair) == 2 for pair in bias):
        raise ConfigError("logit_bias is {value}; expected pairs of a token id and a number", value=bias)
    for id, value in bias:
        check_int("logit_bias", id, 0, 1 << 31)
        _check("logit_bias", value, -100.0, 100.0)
    if len({id for id, _ in bias}) != len(bias):
        raise ConfigError("logit_bias names a token id twice", hint="Give each id once.")


def _check(name: str, value: object, low: float, high: float, open_low: bool = False) -> None:
    fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not fits or not low <= value <= high or (open_low and value == low):  # type: ignore[operator]
        raise ConfigError(
            "{name} is {value}; expected a number above {low} and at most {high}"
            if open_low
            else "{name} is {value}; expected a number from {low} to {high}",
            hint="Temperature 0 always takes the likeliest token; 0.7 to 1 is usual." if name == "temperature" else "",
            name=name,
            value=value,
            low=low,
            high=high,
        )


def check_int(name: str, value: object, low: int, high: int) -> None:
    """Raise ConfigError unless `value` is a whole number from `low` to `high`."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ConfigError(
            "{name} is {value}; expected a whole number from {low} to {high}",
            name=name,
            value=value,
            low=low,
            high=high,
        )
