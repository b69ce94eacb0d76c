"""How sure a model was of each token, and what else it considered: step by step, from the scores that it answers
with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glassgpt.core.errors import InputError
from glassgpt.engine.language_model import LanguageModel
from glassgpt.engine.sampling import History, adjusted, filtered, generator, softmax, top_logprobs
from glassgpt.engine.settings import SamplingSettings, check_int
from glassgpt.inside.subject import Prompt, ids_of, scores_of, token_text

MOST_ALTERNATIVES = 100


@dataclass(frozen=True)
class Alternative:
    """A token that could have come: its id, what it stands for, and its probability from 0 to 1."""

    id: int
    text: str
    probability: float


@dataclass(frozen=True)
class Step:
    """One token and what the model thought of it before it came.

    Attributes:
        position: its place among the ids; the first token of all has none before it and no step.
        rank: how many tokens were likelier, plus 1.
        entropy: how open the choice was, in bits: 0 where one token is certain, log2(V) where all are alike.
        alternatives: the likeliest tokens, the likeliest first.
    """

    position: int
    id: int
    text: str
    probability: float
    logprob: float
    rank: int
    entropy: float
    alternatives: tuple[Alternative, ...]


@dataclass(frozen=True)
class Considered:
    """A token before and after temperature and filters: both probabilities; 0 where it was excluded."""

    id: int
    text: str
    before: float
    after: float


@dataclass(frozen=True)
class Decision:
    """One choice under given settings.

    Attributes:
        kept: how many tokens were left to draw from.
        entropy: of what was left, in bits.
        considered: the likeliest tokens.
        drawn: what the seed's chance draws here; the likeliest where the settings are greedy.
    """

    kept: int
    entropy: float
    considered: tuple[Considered, ...]
    drawn: Alternative


def read_steps(model: LanguageModel, prompt: Prompt, top: int = 5, start: int = 1) -> list[Step]:
    """What the model thought of the tokens of a text or conversation, from place `start` on.

    Args:
        top: how many alternatives to tell, up to 100.

    Raises:
        InputError: the prompt cannot be read, or `start` is not one of its places.
        ConfigError: `top` is out of range.
    """
    check_int("top", top, 0, MOST_ALTERNATIVES)
    ids = ids_of(model, prompt)
    if not 1 <= start <= len(ids):
        raise InputError("place {place} is not among {count} tokens", place=start, count=len(ids))
    steps: list[Step] = []
    if start == len(ids):
        return steps
    for at, scores in scores_of(model, ids[:-1], start - 1):
        for row, values in enumerate(scores):
            place = at + row + 1
            steps.append(step_of(model, place, ids[place], values, top))
    return steps


def step_of(model: LanguageModel, place: int, id: int, scores: NDArray[np.float32], top: int) -> Step:
    """One step from its scores [V]."""
    top_score = scores.max()
    below = scores.astype(np.float64) - top_score
    weights = np.exp(below)
    total = float(weights.sum())
    logprob = float(below[id]) - math.log(total)
    # The mean of -log p, whose logarithms need not be taken one by one; what weighs nothing counts nothing.
    entropy = (math.log(total) - float(weights @ np.maximum(below, -1e4)) / total) / math.log(2)
    best = top_logprobs(scores, top, mass=float(top_score) + math.log(total))
    return Step(
        place, id, token_text(model.tokenizer, id), math.exp(logprob), logprob,
        int(np.count_nonzero(scores > scores[id])) + 1, max(0.0, entropy),
        tuple(Alternative(i, token_text(model.tokenizer, i), math.exp(p)) for i, p in best),
    )  # fmt: skip


def decide(model: LanguageModel, ids: Sequence[int], settings: SamplingSettings, *, prompt_tokens: int | None = None,
           index: int = 0, top: int = 10) -> Decision:  # fmt: skip
    """What these settings would make of the next token after `ids`, and what their seed would draw.

    The seed's chance is that of a reply that began after `prompt_tokens` (all of `ids` unless given), so that the
    reply's own settings draw the reply's own token.

    Raises:
        InputError: the ids cannot be read.
        ConfigError: a setting is out of range.
    """
    check_int("top", top, 1, MOST_ALTERNATIVES)
    ids = ids_of(model, ids)
    begun = len(ids) if prompt_tokens is None else prompt_tokens
    history = History(ids[:begun])
    random = generator(settings.seed or 0, index)
    for id in ids[begun:]:
        history.append(id)
        if not settings.greedy:
            random.random()
    _, rows = next(scores_of(model, ids, len(ids) - 1))
    scores = rows[0].copy()
    before = softmax(scores)
    if settings.greedy:
        changed, _ = adjusted(scores, settings, history)
        after = np.zeros(len(scores))
        drawn = int(changed.argmax())
        after[drawn] = 1.0
    else:
        after = softmax(filtered(scores, settings, history))
        sums = after.cumsum()
        drawn = int(np.searchsorted(sums, random.random() * sums[-1], side="right"))
    likely = np.lexsort((np.arange(len(before)), -before, -after))[:top]
    tokenizer = model.tokenizer
    return Decision(
        int((after > 0).sum()), entropy_of(after),
        tuple(Considered(int(i), token_text(tokenizer, int(i)), float(before[i]), float(after[i])) for i in likely),
        Alternative(drawn, token_text(tokenizer, drawn), float(after[drawn])),
    )  # fmt: skip


def entropy_of(probabilities: NDArray[np.float64]) -> float:
    """How open a choice is, in bits (Shannon 1948)."""
    real = probabilities[probabilities > 0]
    return max(0.0, float(-(real * np.log2(real)).sum()))
