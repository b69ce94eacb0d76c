"""BM25 (Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework", section 3.1): how well the words of
texts fit those of a question.

Where each word stands is kept in arrays that grow; what a word is worth and how long texts are on average is worked
out when a question comes, so adding and removing leaves every score what an index made anew would give.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_REPEATS, _LENGTH = 1.2, 0.75  # k1 and b
BEST = _REPEATS + 1  # times what its words are worth: more no text can score
_REBUILD = 0.3  # the share of texts removed at which the lists are cleaned


class Bm25:
    """Texts by their numbers, which count from 0; a removed one scores nothing."""

    def __init__(self) -> None:
        self._places: dict[str, tuple[array[int], array[int]]] = {}  # of a word: the texts, and how often in each
        self._lengths = array("i")  # -1: removed
        self._alive = self._words = 0

    def __len__(self) -> int:
        return self._alive

    def add(self, words: Sequence[str]) -> int:
        """Another text; gives its number."""
        number = len(self._lengths)
        self._lengths.append(len(words))
        self._alive += 1
        self._words += len(words)
        for word, count in Counter(words).items():
            texts, counts = self._places.setdefault(word, (array("i"), array("i")))
            texts.append(number)
            counts.append(count)
        return number

    def remove(self, number: int) -> None:
        """Take a text out; numbers of others stay what they are."""
        if self._lengths[number] >= 0:
            self._alive -= 1
            self._words -= self._lengths[number]
            self._lengths[number] = -1
            if self._alive < (1 - _REBUILD) * len(self._lengths):
                self._clean()

    def score(self, words: Sequence[str]) -> tuple[NDArray[np.float32], float]:
        """The score of every text, by number, and what the words are worth together: no score is more than `BEST`
        times that."""
        scores, whole = np.zeros(len(self._lengths), np.float32), 0.0
        lengths = np.frombuffer(self._lengths, np.intc) if self._lengths else np.zeros(0, np.intc)
        average = max(1.0, self._words / max(1, self._alive))
        spread = (_REPEATS * (1 - _LENGTH + _LENGTH * lengths / average)).astype(np.float32)
        for word in dict.fromkeys(words):
            texts = np.frombuffer(self._places[word][0], np.intc) if word in self._places else np.zeros(0, np.intc)
            alive = int((lengths[texts] >= 0).sum())
            worth = math.log(1 + (self._alive - alive + 0.5) / (alive + 0.5))
            whole += worth
            if alive:
                counts = np.frombuffer(self._places[word][1], np.intc).astype(np.float32)
                scores[texts] += np.float32(worth * BEST) * counts / (counts + spread[texts])
        scores[lengths < 0] = 0
        return scores, whole

    def _clean(self) -> None:
        lengths = np.frombuffer(self._lengths, np.intc)
        places = {}
        for word, (texts, counts) in self._places.items():
            kept = lengths[np.frombuffer(texts, np.intc)] >= 0
            if kept.any():
                places[word] = (array("i", np.frombuffer(texts, np.intc)[kept].tobytes()),
                                array("i", np.frombuffer(counts, np.intc)[kept].tobytes()))  # fmt: skip
        self._places = places
