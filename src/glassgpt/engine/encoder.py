"""Texts to vectors, with a small encoder that runs in the compiled step.

Texts are read whole, as many in one step as its rows hold. A vector is the mean over a text's tokens of what the last
layer gives, of length 1; longer texts than the model's context are read in windows, whose means are weighed by their
lengths.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from glassgpt.core.errors import InputError
from glassgpt.core.threads import thread_budget
from glassgpt.engine.draft import BRIEF
from glassgpt.engine.network import Network
from glassgpt.engine.pages import PAGE, pages_for
from glassgpt.engine.quantize import Floats
from glassgpt.engine.runner import Rows, Runner

_ROWS = 512  # tokens in a step: more do not make it quicker


class EncoderTokenizer(Protocol):
    """What an encoder needs of a tokenizer: ids of a text alone, and those that stand around it."""

    begin: int
    end: int

    def encode(self, text: str) -> list[int]: ...


class TextEncoder:
    """Turns texts into vectors. Safe to use from several threads, one at a time.

    Args:
        network: with an encoder's settings.
        threads: to compute with; 0: the whole budget.
        roles: what stands before a text by what it is, for models that were trained so: "query", "passage".
    """

    def __init__(self, network: Network, tokenizer: EncoderTokenizer, threads: int = 0,
                 roles: Mapping[str, str] | None = None, name: str = "") -> None:  # fmt: skip
        self.network, self.tokenizer, self.roles, self.name = network, tokenizer, dict(roles or {}), name
        self.width, self.window = network.config.n_embd, network.config.context_length
        rows = max(_ROWS, self.window)
        # A text has pages of its own, and none is shorter than three tokens.
        self._runner = Runner(network, threads=threads or thread_budget(), pages=rows // 3 + rows // PAGE + 1,
                              rows=rows, cache_bits=32, patience=BRIEF)  # fmt: skip
        self._rows, self._lock = rows, threading.Lock()

    def encode(self, texts: Sequence[str], role: str = "") -> Floats:
        """The vectors of texts, [N, C] float32, each of length 1.

        Args:
            role: "query" for a question, "passage" for what may answer one; "": none.

        Raises:
            InputError: a text is empty.
        """
        for number, text in enumerate(texts):
            if not text.strip():
                raise InputError("text {number} is empty", hint="Give some text.", number=number + 1)
        texts = [self.roles.get(role, "") + text for text in texts]
        windows = [(number, ids) for number, text in enumerate(texts) for ids in self._windows(text)]
        found = np.zeros((len(texts), self.width), np.float32)
        # Those of a length stand together: no step is cut short by one that does not fit.
        order = sorted(range(len(windows)), key=lambda at: len(windows[at][1]))
        at = 0
        while at < len(order):
            group, room = [], self._rows
            while at < len(order) and len(windows[order[at]][1]) <= room:
                group.append(windows[order[at]])
                room -= len(group[-1][1])
                at += 1
            for (number, ids), mean in zip(group, self._step([ids for _, ids in group]), strict=True):
                found[number] += mean * max(1, len(ids) - 2)
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    def close(self) -> None:
        """Ends the helping threads."""
        with self._lock:
            self._runner.close()

    def _windows(self, text: str) -> list[list[int]]:
        ids, tokenizer, most = self.tokenizer.encode(text), self.tokenizer, self.window - 2
        starts = range(0, max(1, len(ids)), most)  # a text of nothing that the tokenizer knows is a window too
        return [[tokenizer.begin, *ids[at : at + most], tokenizer.end] for at in starts]

    def _step(self, texts: list[list[int]]) -> list[Floats]:
        """The means of texts that fit into a step."""
        rows, page = [], 0
        for ids in texts:
            pages = pages_for(len(ids))
            rows.append(Rows(ids, 0, range(page, page + pages), len(ids)))
            page += pages
        with self._lock:
            self._runner.run(rows)
            hidden = self._runner.hidden(sum(map(len, texts)))
            ends = np.cumsum([len(ids) for ids in texts])
            return [hidden[end - len(ids) : end].mean(axis=0) for ids, end in zip(texts, ends, strict=True)]
