"""Which tokens of a prompt made the next one likely: integrated gradients (Sundararajan et al. 2017, arXiv:1703.01365).

The token vectors move on a straight line from a baseline, the mean of all token vectors, to those of the prompt; the
gradient of the next token's log-probability is integrated along it. The parts of all tokens add up to the difference
between the prompt's log-probability and the baseline's (completeness); how far they miss it is told as the gap.

Control tokens and the first of all stay what they are: they are the frame, not what was said, and every head rests on
the first, so that without it the network computes something else altogether.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from glassgpt.core.errors import ConfigError, InputError
from glassgpt.engine.language_model import LanguageModel
from glassgpt.engine.settings import check_int
from glassgpt.inside.subject import MOST_BYTES, Prompt, check_room, ids_of, network_of, read_seen, texts_of
from glassgpt.model.gpt import GPT

ENOUGH = 0.015  # a gap at which more steps are not worth their time
_POINTS = 6  # of Gauss and Legendre on each stretch of the line
_FIRST = (0.0, 0.02, 0.1, 0.3, 1.0)  # near the baseline norms make the function steep
_AT_ONCE = 2048  # tokens that are read at once


@dataclass(frozen=True)
class Attribution:
    """What each token did for the next one.

    Attributes:
        scores: what each added to the log-probability of the target, in nats; negative where it spoke against it, 0
            where it is part of the frame.
        target, target_text: the next token that is explained.
        logprob: its log-probability after the prompt; `baseline`: after the baseline.
        gap: how far the sum of `scores` is from the difference of the two, as a share of it.
        steps: points on the line at which the gradient was taken.
    """

    tokens: tuple[str, ...]
    scores: tuple[float, ...]
    target: int
    target_text: str
    logprob: float
    baseline: float
    gap: float
    steps: int


def attribute(model: LanguageModel, prompt: Prompt, target: int | None = None, *, most_steps: int = 600,
              seconds: float | None = None, going: Callable[[], bool] = lambda: True) -> Attribution:  # fmt: skip
    """Explain the next token after a prompt: `target`, or the likeliest.

    The line is cut into stretches. What each should add up to is known from its ends, so those that miss it by the most
    are halved until all together miss less than 1.5 %, or `most_steps` gradients were taken, or the `seconds` are over;
    the first stretches are read in any case. `going` is asked between a few gradients.

    Raises:
        InputError: the prompt cannot be read; or nobody waits for it any more, by `going`.
        ConfigError: the target is not in the vocabulary, `most_steps` is out of range, or the text is too long.
    """
    network, ids = network_of(model), ids_of(model, prompt)
    check_int("most_steps", most_steps, _POINTS * (len(_FIRST) - 1), 100_000)
    if target is not None and not 0 <= target < network.config.vocab_size:
        raise ConfigError("token id {id} is not in the vocabulary, which has {size} entries", id=target,
                          size=network.config.vocab_size)  # fmt: skip
    rows = torch.tensor([ids], device=network.embed.weight.device)
    held: list[Tensor] = []

    def hold(name: str, value: Tensor) -> Tensor:
        if name == "embed":
            held.append(value)
        return value

    with torch.no_grad():
        last = network.logits(read_seen(network, rows, hold)[0, -1]).float().log_softmax(-1)
        target = int(last.argmax()) if target is None else target
        vectors = held[0][0]  # [T, C]
        middle = (network.embed.weight.mean(0) * network.config.embed_scale).to(vectors)
        said = [place for place, id in enumerate(ids) if place and not model.tokenizer.is_control(id)]
        start = vectors.clone()
        start[said or [0]] = middle
    began = time.monotonic()
    until = math.inf if seconds is None else began + seconds
    line = _Line(network, rows, start, vectors, target, going)
    stretches = line.stretches(list(pairwise(_FIRST)))
    steps = _POINTS * len(stretches)
    low, high = line.heights[0.0], line.heights[1.0]
    whole = max(abs(high - low), 1e-9)
    # Stretches that miss in opposite directions must not hide one another.
    while (missed := sum(abs(s.missed) for s in stretches)) > ENOUGH * whole and steps + 2 * _POINTS <= most_steps:
        now = time.monotonic()
        if now > until:
            break
        # As many at once as must be better and as there is time for: a network reads many points in little more time
        # than few.
        reach = steps + max(2 * _POINTS, min(most_steps, (until - now) / (now - began) * steps))
        stretches.sort(key=lambda stretch: -abs(stretch.missed))
        halved: list[tuple[float, float]] = []
        while stretches and missed > ENOUGH / 2 * whole and steps + 2 * _POINTS <= min(most_steps, reach):
            worst = stretches.pop(0)
            middle_point = (worst.begin + worst.end) / 2
            halved += [(worst.begin, middle_point), (middle_point, worst.end)]
            missed -= abs(worst.missed)
            steps += 2 * _POINTS
        stretches += line.stretches(halved)
    scores = np.sum([stretch.parts for stretch in stretches], axis=0)
    gap = abs(float(scores.sum()) - (high - low)) / whole
    texts = texts_of(model.tokenizer, [*ids, target])
    return Attribution(tuple(texts[:-1]), tuple(scores.tolist()), target, texts[-1], high, low, gap, steps)


@dataclass(frozen=True)
class _Stretch:
    """A part of the line: the target's log-probability at its ends, and what the tokens add on it, [T]."""

    begin: float
    end: float
    low: float
    high: float
    parts: np.ndarray

    @property
    def missed(self) -> float:
        return float(self.parts.sum()) - (self.high - self.low)


class _Line:
    """Token vectors [T, C] from a baseline to a prompt's, and the target's log-probability on the way."""

    def __init__(self, network: GPT, rows: Tensor, start: Tensor, end: Tensor, target: int,
                 going: Callable[[], bool]) -> None:  # fmt: skip
        self.network, self.rows, self.start, self.way, self.target = network, rows, start, end - start, target
        self.going = going
        config, length = network.config, rows.shape[1]
        # What the way back needs of each layer: its pattern and some rows of its width; and three tables meanwhile.
        each = 4 * (config.n_layer + 3) * config.n_head * length**2 + 4 * 16 * config.n_layer * length * config.n_embd
        check_room(each, length)
        self.at_once = max(1, min(_AT_ONCE // length, MOST_BYTES // each))
        self.heights: dict[float, float] = {}
        points, weights = np.polynomial.legendre.leggauss(_POINTS)
        self.points, self.weights = (points + 1) / 2, weights / 2

    def stretches(self, ends: Sequence[tuple[float, float]]) -> list[_Stretch]:
        """The stretches between these ends; all their points are read together, as many at a time as fit."""
        places = [float(place) for begin, end in ends for place in begin + (end - begin) * self.points]
        new = sorted({place for pair in ends for place in pair} - self.heights.keys())
        gradients = np.empty((len(places), self.rows.shape[1]))
        for at in range(0, len(places), self.at_once):
            if not self.going():
                raise InputError("nobody waits for this any more")
            vectors = self._at(places[at : at + self.at_once]).requires_grad_()
            (gradient,) = torch.autograd.grad(self._logprobs(vectors).sum(), vectors)
            gradients[at : at + self.at_once] = (gradient * self.way).sum(-1).cpu().double().numpy()
        with torch.no_grad():
            for at in range(0, len(new), self.at_once):
                own = new[at : at + self.at_once]
                self.heights.update(zip(own, self._logprobs(self._at(own)).tolist(), strict=True))
        found = []
        for number, (begin, end) in enumerate(ends):
            parts = (end - begin) * self.weights @ gradients[number * _POINTS : (number + 1) * _POINTS]
            found.append(_Stretch(begin, end, self.heights[begin], self.heights[end], parts))
        return found

    def _at(self, places: Sequence[float]) -> Tensor:
        """The token vectors there, [N, T, C]."""
        shares = torch.tensor(places, dtype=self.way.dtype, device=self.way.device)
        return self.start + shares[:, None, None] * self.way

    def _logprobs(self, vectors: Tensor) -> Tensor:
        """The target's log-probability [N] after token vectors [N, T, C]."""

        def replace(name: str, value: Tensor) -> Tensor:
            return vectors if name == "embed" else value

        hidden = self.network.hidden(self.rows.expand(len(vectors), -1), probe=replace)
        return self.network.logits(hidden[:, -1]).float().log_softmax(-1)[:, self.target]


def strongest(scores: Sequence[float], count: int = 5) -> Sequence[int]:
    """The places whose scores are the highest, the first most."""
    return [int(i) for i in np.argsort(-np.array(scores), kind="stable")[:count]]
