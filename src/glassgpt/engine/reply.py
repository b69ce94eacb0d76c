"""A reply on its way: what the engine's thread keeps of one request from its first scores to its last piece."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from glassgpt.core.errors import FormatError
from glassgpt.engine.pages import Sequence as Line
from glassgpt.engine.quantize import Floats
from glassgpt.engine.request import Piece, Request, Writer
from glassgpt.engine.sampling import History, generator, sample, top_logprobs
from glassgpt.engine.speculate import PromptLookup
from glassgpt.text.tokenizer import Tokenizer

Deliver = Callable[[Piece | Exception], None]


class Pool:
    """The mean of rows that come in pieces."""

    def __init__(self) -> None:
        self._sum: Floats | None = None
        self._count = 0

    def add(self, rows: Floats) -> None:
        """More rows, [N, C]."""
        total = rows.sum(axis=0, dtype=np.float64)
        self._sum = total if self._sum is None else self._sum + total
        self._count += len(rows)

    def take(self) -> Floats | None:
        """The mean, once."""
        mean, self._sum = (None if self._sum is None else (self._sum / self._count).astype(np.float32)), None
        return mean


class Reply:
    """One request on its way: chance, history, text and grammar, which nobody else shares."""

    def __init__(self, request: Request, line: Line, tokenizer: Tokenizer, deliver: Deliver, constraint: Any,
                 speculate: bool) -> None:  # fmt: skip
        self.request, self.line, self.deliver, self.constraint = request, line, deliver, constraint
        self.writer = Writer(tokenizer, request)
        self.random = generator(request.settings.seed or 0, request.index)
        self.history = History(request.prompt)
        self.lookup = PromptLookup(request.prompt) if speculate else None
        self.pool = Pool() if request.pooled else None
        self.drafted = False  # whether the guesses of this step are the smaller model's
        self.ready: list[Piece] = []  # what this step brought

    def take(self, scores: Floats, masses: Sequence[float], draft: Sequence[int]) -> list[int]:
        """Chooses tokens from the scores [N, V] of the last rows and their masses: one, and one more as long as the
        draft was right."""
        accepted: list[int] = []
        for number, (logits, mass) in enumerate(zip(scores, masses, strict=True)):
            if not math.isfinite(mass):
                raise FormatError(
                    "the model computed NaN instead of scores",
                    hint="Its weights are damaged, or do not suit this precision; try --precision float32.",
                )
            allowed = None if self.constraint is None else self.constraint.allowed()
            token, logprob = sample(logits, self.request.settings, self.history, self.random, allowed, mass)
            accepted.append(token)
            self.history.append(token)
            if self.constraint is not None:
                self.constraint.accept(token)
            wanted = self.request.alternatives
            others = tuple(top_logprobs(logits, wanted, mass)) if wanted else ()
            for piece in self.writer.push(token, logprob, others):
                self.ready.append(piece if self.pool is None else replace(piece, pooled=self.pool.take()))
            if self.writer.finish or number == len(draft) or draft[number] != token:
                break
        if self.lookup is not None:
            self.lookup.append(accepted, 0 if self.drafted else len(draft))
        return accepted

    def hand_out(self) -> None:
        """Delivers what this step brought."""
        ready, self.ready = self.ready, []
        for piece in ready:
            self.deliver(piece)

    def guess(self) -> list[int]:
        """Tokens that may come next."""
        if self.constraint is not None:
            forced = self.constraint.forced()
            if forced:
                return forced
        return self.lookup.guess() if self.lookup is not None else []
