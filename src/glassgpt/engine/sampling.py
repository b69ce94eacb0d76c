"""From scores to a token: a chain of small pure functions over one position's logits, in numpy.

Order, as in most engines: repetition penalty, temperature, top-k, top-p, min-p, then one draw.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from glassgpt.core.errors import ConfigError

Logits = np.ndarray  # [V] float32; -inf where a token is excluded


@dataclass(frozen=True)
class SamplingSettings:
    """How tokens are chosen.

    - `temperature`: 0 takes the likeliest token (greedy); higher values are more varied.
    - `top_k`: only the k likeliest tokens (0: all).
    - `top_p`: the smallest set whose probabilities reach p (Holtzman et al. 2019, arXiv:1904.09751; 1: all).
    - `min_p`: only tokens at least this share of the likeliest one's probability (arXiv:2407.01082; 0: all).
    - `repetition_penalty`: divides the score of tokens already seen (Keskar et al. 2019, arXiv:1909.05858; 1: none).
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

    def __post_init__(self) -> None:
        _check("temperature", self.temperature, 0.0, 100.0)
        _check("top_p", self.top_p, 0.0, 1.0, open_low=True)
        _check("min_p", self.min_p, 0.0, 1.0)
        _check("repetition_penalty", self.repetition_penalty, 0.0, 100.0, open_low=True)
        _check_int("top_k", self.top_k, 0, 1 << 31)
        if self.seed is not None:
            _check_int("seed", self.seed, 0, (1 << 64) - 1)

    @property
    def greedy(self) -> bool:
        """Whether no chance is involved."""
        return self.temperature == 0 or self.top_k == 1


def penalize(logits: Logits, seen: Sequence[int], penalty: float) -> Logits:
    """Make tokens that occurred less likely: positive scores divided by `penalty`, negative ones multiplied."""
    if penalty == 1.0 or not len(seen):
        return logits
    out, ids = logits.copy(), np.unique(np.asarray(seen, dtype=np.int64))
    out[ids] = np.where(out[ids] > 0, out[ids] / penalty, out[ids] * penalty)
    return out


def warm(logits: Logits, temperature: float) -> Logits:
    """Divide by the temperature (above 0), after moving the largest score to 0 so that nothing overflows."""
    return (logits - logits.max()) / np.float32(max(temperature, 1e-6))


def keep_top_k(logits: Logits, k: int) -> Logits:
    """Exclude all but the `k` likeliest; ties with the last one stay."""
    if not 0 < k < len(logits):
        return logits
    threshold = np.partition(logits, -k)[-k]
    return np.where(logits >= threshold, logits, -np.inf)


def keep_top_p(logits: Logits, p: float) -> Logits:
    """Exclude all outside the smallest set of likeliest tokens whose probabilities reach `p`."""
    if p >= 1.0:
        return logits
    probabilities = softmax(logits)
    order = np.argsort(-probabilities, kind="stable")
    before = np.cumsum(probabilities[order]) - probabilities[order]  # what likelier tokens reach already
    out = logits.copy()
    out[order[before >= p]] = -np.inf
    return out


def keep_min_p(logits: Logits, p: float) -> Logits:
    """Exclude tokens less likely than `p` times the likeliest."""
    if p <= 0.0:
        return logits
    return np.where(logits >= logits.max() + math.log(p), logits, -np.inf)


def filtered(logits: Logits, settings: SamplingSettings, seen: Sequence[int] = ()) -> Logits:
    """The whole chain before the draw: the scores from which a token is drawn."""
    logits = penalize(logits, seen, settings.repetition_penalty)
    steps: list[Callable[[Logits], Logits]] = [
        lambda x: warm(x, settings.temperature),
        lambda x: keep_top_k(x, settings.top_k),
        lambda x: keep_top_p(x, settings.top_p),
        lambda x: keep_min_p(x, settings.min_p),
    ]
    for step in steps:
        logits = step(logits)
    return logits


def choose(logits: Logits, settings: SamplingSettings, seen: Sequence[int], random: np.random.Generator) -> int:
    """One token id: the likeliest at temperature 0 (the lowest id on a tie), otherwise a draw."""
    if settings.greedy:
        return int(np.argmax(penalize(logits, seen, settings.repetition_penalty)))
    probabilities = softmax(filtered(logits, settings, seen)).cumsum()
    # The last sum stands for 1, whatever rounding left of it, so that no excluded token can be drawn.
    return int(np.searchsorted(probabilities, random.random() * probabilities[-1], side="right"))


def softmax(logits: Logits) -> np.ndarray:
    """Probabilities [V] in float64."""
    weights = np.exp(logits.astype(np.float64) - logits.max())
    return weights / weights.sum()


def log_probability(logits: Logits, token_id: int) -> float:
    """The natural log of the model's own probability of a token (before temperature and filters)."""
    wide = logits.astype(np.float64)
    top = wide.max()
    return float(wide[token_id] - top - np.log(np.exp(wide - top).sum()))


def generator(seed: int, index: int) -> np.random.Generator:
    """The randomness of completion number `index`: its own stream, whatever happens beside it."""
    return np.random.Generator(np.random.Philox(key=[seed, index]))


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


def _check_int(name: str, value: object, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ConfigError(
            "{name} is {value}; expected a whole number from {low} to {high}",
            name=name,
            value=value,
            low=low,
            high=high,
        )
