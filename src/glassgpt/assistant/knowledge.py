"""What an assistant knows of a business: the user's own files, searched by words and by meaning.

A question is compared with every passage in two ways: by the share of its words that a passage has, weighed by how rare
they are (`bm25`), and by the cosine of vectors that a small encoder gives to both (`engine.encoder`). Their sum ranks;
whether the best is good enough to be an answer was measured (docs/log.md).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from glassgpt.assistant.index import Floats, Index, Source
from glassgpt.assistant.passage import Passage
from glassgpt.assistant.terms import terms
from glassgpt.core.errors import InputError, NotFoundError, nearest

MOST_HITS = 50
_AT_ONCE = 256  # texts that are encoded between two tellings of the progress
_LONGEST_QUESTION = 4000  # characters


class Encodes(Protocol):
    """What turns texts into vectors."""

    name: str
    width: int

    def encode(self, texts: Sequence[str], role: str = "") -> Floats: ...


@dataclass(frozen=True)
class Weights:
    """How hits are ranked, and what is good enough.

    - `words`: what a share of 1 adds to a cosine.
    - `known`: the least score of a row of questions and answers that answers; `known_text`: of a piece of a text.
    """

    words: float
    known: float
    known_text: float


# Chosen on the first half of the questions, measured on the other (docs/log.md).
WITH_MEANING = Weights(words=0.1, known=0.93, known_text=0.86)
WORDS_ALONE = Weights(words=1.0, known=0.35, known_text=0.35)


@dataclass(frozen=True)
class Hit:
    """A passage that was found.

    - `source`: the file, and `passage.place` where in it.
    - `score`: what it was ranked by: the cosine and a part of the share of words.
    - `words`, `meaning`: that share, and the cosine (None without an encoder).
    - `known`: whether it is good enough to be an answer.
    """

    source: str
    passage: Passage
    score: float
    words: float
    meaning: float | None
    known: bool


@dataclass(frozen=True)
class Added:
    """What became of a file: how many passages it has, whether it was there unchanged, and what was told of it."""

    source: str
    passages: int
    unchanged: bool
    notes: tuple[str, ...] = ()


class Knowledge:
    """Files that can be asked. Safe to use from several threads.

    Args:
        path: where the index is kept; None: in memory alone.
        encoder: turns texts into vectors; None: words alone are compared.
    """

    def __init__(self, path: Path | None = None, encoder: Encodes | None = None,
                 weights: Weights | None = None) -> None:  # fmt: skip
        self.encoder, self.weights = encoder, weights or (WITH_MEANING if encoder else WORDS_ALONE)
        self._index = Index(path, encoder.name if encoder else "", encoder.width if encoder else 0)
        self._adding = threading.Lock()

    def add(self, name: str, sha256: str, passages: Sequence[Passage], notes: Sequence[str] = (),
            progress: Callable[[int, int], None] = lambda done, all: None) -> Added:  # fmt: skip
        """Add a file's passages, or those of its new content; nothing happens where the content is the same.

        Args:
            name: of the file, by which it is listed and removed; `sha256` of its content.
            progress: called with the passages that have vectors, and all.
        """
        with self._adding:
            for source in self._index.sources():
                if source.name == name and source.sha256 == sha256:
                    return Added(name, source.passages, True, source.notes)
            vectors = self._vectors(passages, progress) if self.encoder is not None else None
            self._index.put(name, sha256, passages, vectors, notes)
        return Added(name, len(passages), False, tuple(notes))

    def remove(self, name: str) -> None:
        """Forget a file; raises NotFoundError where there is none of that name."""
        if not self._index.drop(name):
            known = [source.name for source in self._index.sources()]
            near = nearest(name, known)
            raise NotFoundError(
                "no file {name} has been added",
                hint="Did you mean {near}?" if near else "`glassgpt knowledge list` shows those that were.",
                name=name,
                near=near,
            )

    def sources(self) -> list[Source]:
        """The files, in the order in which they were added."""
        return self._index.sources()

    def __len__(self) -> int:
        return len(self._index)

    def search(self, question: str, limit: int = 3) -> list[Hit]:
        """The passages that fit best, the best first; none that has nothing in common with the question.

        Raises:
            InputError: the question is empty or longer than 4,000 characters.
        """
        if not question.strip() or len(question) > _LONGEST_QUESTION:
            raise InputError(
                "the question has {count} characters; expected 1 to {most}",
                hint="Ask in a sentence or two.",
                count=len(question.strip()),
                most=_LONGEST_QUESTION,
            )
        vector = None if self.encoder is None else self.encoder.encode([question], "query")[0]
        shares, cosines, there = self._index.match(terms(question), vector)
        scores = np.where(there, cosines + np.float32(self.weights.words) * shares, -np.inf)
        limit = max(1, min(limit, MOST_HITS, len(scores)))
        if not len(scores):
            return []
        best = np.argpartition(-scores, limit - 1)[:limit]
        best = best[np.lexsort((best, -scores[best]))]  # of equal ones the one that was added first
        found = []
        for number in best.tolist():
            if not np.isfinite(scores[number]) or scores[number] <= 0:
                continue
            stored, score = self._index.stored(number), float(scores[number])
            least = self.weights.known if stored.passage.question is not None else self.weights.known_text
            found.append(Hit(stored.source, stored.passage, score, float(shares[number]),
                             None if vector is None else float(cosines[number]), score >= least))  # fmt: skip
        return found

    def close(self) -> None:
        """Lets the index go."""
        self._index.close()

    def _vectors(self, passages: Sequence[Passage], progress: Callable[[int, int], None]) -> Floats:
        """Of rows the question's, as a question; of other passages the text's. What stands there twice is read once."""
        assert self.encoder is not None
        texts = [("query", p.question) if p.question is not None else ("passage", p.text) for p in passages]
        found = np.zeros((len(passages), self.encoder.width), np.float32)
        places: dict[tuple[str, str], list[int]] = {}
        for at, one in enumerate(texts):
            places.setdefault(one, []).append(at)
        done = 0
        for role in ("query", "passage"):
            own = [text for kind, text in places if kind == role and text.strip()]
            for at in range(0, len(own), _AT_ONCE):
                part = own[at : at + _AT_ONCE]
                for text, vector in zip(part, self.encoder.encode(part, role), strict=True):
                    found[places[role, text]] = vector
                    done += len(places[role, text])
                progress(done, len(passages))
        return found
