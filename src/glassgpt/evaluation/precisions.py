"""What fewer bits cost: a model's precisions beside one another on a text, through the compiled engine. No torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glassgpt.core.errors import ConfigError, FormatError, InputError
from glassgpt.core.threads import thread_budget
from glassgpt.engine.network import Network
from glassgpt.engine.pages import pages_for
from glassgpt.engine.quantize import Floats
from glassgpt.engine.runner import Rows, Runner
from glassgpt.text.tokenizer import Tokenizer

ROWS = 128  # positions in a step: their scores over a vocabulary of 262,144 fill 134 MB for each precision
_BLOCK = 16  # rows of scores that are looked at together, so that they stay near the processor
_LONGEST = 64  # characters to a token, more than any text has on average

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Fidelity:
    """How one precision did.

    - `nbytes`: what decoding a token reads of the weights.
    - `loss`: mean negative log-probability per predicted token, in nats; `perplexity`: exp(loss).
    - `change`: of the perplexity against the reference's, in percent.
    - `divergence`: mean Kullback-Leibler divergence of its distributions from the reference's, KL(reference || it), in
      nats.
    - `agreement`: how often its likeliest token is the reference's, from 0 to 1.
    """

    precision: str
    nbytes: int
    loss: float
    perplexity: float
    change: float
    divergence: float
    agreement: float


@dataclass(frozen=True)
class Comparison:
    """All of them, the reference first; how many `tokens` were predicted, in windows of how many."""

    found: tuple[Fidelity, ...]
    tokens: int
    window: int


def compare_precisions(
    networks: Sequence[Network],
    tokenizer: Tokenizer,
    text: str,
    *,
    window: int = 512,
    tokens: int = 0,
    threads: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """How far networks are from the first of them, all reading the same text.

    The text is cut into windows as `evaluation.perplexity` cuts it, so that the loss is the mean over the same tokens.

    Args:
        networks: one model in several precisions; the first is what the others are compared with.
        window: tokens per window, at most the model's context (a longer one is shortened to it).
        tokens: predict only so many, from the beginning of the text; 0: all.
        threads: to compute with; 0: the whole budget.
        progress: called with tokens done and in all.

    Raises:
        InputError: the text has fewer than two tokens.
        ConfigError: the window is under two tokens, or `tokens` is negative.
        FormatError: a network computed no number.
    """
    if window < 2:
        raise ConfigError("window is {value}; expected at least 2 tokens", value=window)
    if tokens < 0:
        raise ConfigError("tokens is {value}; expected a whole number from 1, or 0 for all", value=tokens)
    window = min(window, networks[0].config.context_length)
    ids = tokenizer.encode(text[: tokens * _LONGEST] if tokens else text, add_bos=False)
    bos = [tokenizer.bos_id] if tokenizer.add_bos and tokenizer.bos_id is not None else []
    if len(ids) + len(bos) < 2:
        raise InputError("the text has {count} tokens; at least 2 are needed", count=len(ids))
    pieces = list(cut_windows(ids, bos, window, tokens))
    done, total = 0, sum(len(piece) - 1 for piece in pieces)
    pages = range(pages_for(window))
    runners = [Runner(network, threads=threads or thread_budget(), pages=len(pages), rows=ROWS) for network in networks]
    sums = [_Sums(network) for network in networks]
    try:
        for piece in pieces:
            # A position has the same scores in any pieces; a runner keeps its own until its next step.
            for at in range(0, len(piece) - 1, ROWS):
                own = piece[at : min(at + ROWS, len(piece) - 1)]
                targets = np.array(piece[at + 1 : at + 1 + len(own)])
                work = [Rows(own, at, pages, len(own), piece[:at])]
                scores = [runner.run(work) for runner in runners]
                for one, its in zip(sums, scores, strict=True):
                    one.add(scores[0], its, targets)
                done += len(own)
                if progress is not None:
                    progress(done, total)
    finally:
        for runner in runners:
            runner.close()
    return Comparison(tuple(one.result(total, sums[0].nats) for one in sums), total, window)


def cut_windows(ids: list[int], bos: list[int], window: int, most: int) -> Iterator[list[int]]:
    """A text's ids in windows of at most `window`, each with the BOS token (`bos`: its id, or nothing) before it;
    together they have `most` tokens to predict (0: all)."""
    step, left = window - len(bos), most or len(ids)
    for start in range(0, len(ids), step):
        piece = (bos + ids[start : start + step])[: left + 1]
        if len(piece) < 2:
            return  # enough, or one token alone, which nothing precedes
        left -= len(piece) - 1
        yield piece


class _Sums:
    """What is added up over the text for one precision."""

    def __init__(self, network: Network) -> None:
        self.network, self.nats, self.divergence, self.agreed = network, 0.0, 0.0, 0

    def add(self, reference: Floats, scores: Floats, targets: NDArray[np.int64]) -> None:
        """Positions with the reference's scores [T, V], its own, and the tokens that came [T]."""
        for start in range(0, len(targets), _BLOCK):
            rows = slice(start, start + _BLOCK)
            nats, divergences = surprise(reference[rows], scores[rows], targets[rows])
            self.nats += float(nats.sum())
            self.divergence += float(divergences.sum())
            self.agreed += int((reference[rows].argmax(axis=1) == scores[rows].argmax(axis=1)).sum())
        if not math.isfinite(self.nats + self.divergence):
            raise FormatError(
                "in {precision} the model computes NaN instead of scores",
                hint="Its weights are damaged, or do not suit this precision.",
                precision=self.network.precision,
            )

    def result(self, count: int, reference: float) -> Fidelity:
        """The means over `count` tokens; `reference`: the reference's nats in all."""
        loss = self.nats / count
        change = 100 * math.expm1(min((self.nats - reference) / count, 700.0))
        return Fidelity(self.network.precision, self.network.nbytes, loss, math.exp(min(loss, 700.0)), change,
                        self.divergence / count, self.agreed / count)  # fmt: skip


@np.errstate(invalid="ignore", over="ignore")
def surprise(reference: Floats, scores: Floats, targets: NDArray[np.int64]) -> tuple[Doubles, Doubles]:
    """From two sets of scores [T, V]: the negative log-probability of the tokens that came [T] by the second, and the
    divergence of its distributions from the first's, both in nats [T]. No number where a score was none.

    Powers are taken in float32 and added up in float64. The difference of scores is weighed, not that of logarithms
    that were rounded, because a divergence is much smaller than they are.
    """
    weights, mass = _mass(reference)
    total = weights.sum(axis=1, dtype=np.float64)
    own = _mass(scores)[1]
    weights *= reference - scores
    divergences = weights.sum(axis=1, dtype=np.float64) / total - (mass - own)
    return own - scores[np.arange(len(targets)), targets], divergences


def _mass(scores: Floats) -> tuple[Floats, Doubles]:
    """e^(score - the row's highest) [T, V], and the log of the sum of e^score [T]."""
    top = scores.max(axis=1, keepdims=True)
    weights = np.exp(scores - top)
    return weights, top[:, 0] + np.log(weights.sum(axis=1, dtype=np.float64))
