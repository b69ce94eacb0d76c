"""What an assistant knows of a business: the user's own files, searched by words and by meaning.

A question is compared with every passage in two ways: by the share of its words that a passage has, weighed by how
rare they are (`bm25`), and by the cosine of vectors that small encoders give to both (`encoders`). A row of a question
and an answer is compared with both. Their sum ranks, and the best is taken for the answer from a limit on, which was
measured (docs/log.md).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from glassgpt.assistant.encoders import ENGLISH, MULTILINGUAL, Encoders
from glassgpt.assistant.index import Entry, Floats, Index, Match, Source
from glassgpt.assistant.passage import Passage
from glassgpt.assistant.search_text import plain, search_texts
from glassgpt.assistant.terms import terms
from glassgpt.core.errors import InputError, NotFoundError, nearest

MOST_HITS = 50
_AT_ONCE = 256  # texts that are encoded between two tellings of the progress
LONGEST_QUESTION = 4000  # characters


@dataclass(frozen=True)
class Scale:
    """How a cosine and a share of words become a score.

    - `words`: what a share of 1 adds to a cosine.
    - `known`: the sum from which a row of a question and an answer is taken for the answer: a score of 1/2.
      `known_text`: the same for a piece of a text.
    - `step`: what more, from there, makes the odds e times as good.
    """

    words: float
    known: float
    known_text: float
    step: float


# Chosen on one half of the questions, measured on the other (docs/log.md, "Retrieval").
SCALES: Mapping[int, Scale] = {
    MULTILINGUAL: Scale(words=0.1, known=0.894, known_text=0.880, step=0.012),
    ENGLISH: Scale(words=0.4, known=0.415, known_text=0.378, step=0.07),
}
WORDS_ALONE = Scale(words=1.0, known=0.35, known_text=0.35, step=0.1)


@dataclass(frozen=True)
class Hit:
    """A passage that was found.

    - `source`: the file, and `passage.place` where in it.
    - `score`: how well it fits, from 0 to 1; from 1/2 on it is taken for the answer.
    - `words`, `meaning`: the share of the question's words, and the cosine (None where no encoder read both).
    """

    source: str
    passage: Passage
    score: float
    words: float
    meaning: float | None

    @property
    def known(self) -> bool:
        """Whether it fits well enough to be the answer."""
        return self.score >= 0.5


@dataclass(frozen=True)
class Added:
    """What became of a file: how many passages it has, whether it was there unchanged, and what was told of it."""

    source: str
    passages: int
    unchanged: bool
    notes: tuple[str, ...] = ()


class Searches(Protocol):
    """What an assistant asks for passages: a `Knowledge`, or what becomes one when it is first asked."""

    def search(self, question: str, limit: int = 3) -> list[Hit]: ...


class Knowledge:
    """Files that can be asked. Safe to use from several threads.

    Args:
        path: where the index is kept; None: in memory alone.
        encoders: turn texts into vectors; None: words alone are compared. Files that others have read are read anew.
    """

    def __init__(self, path: Path | None = None, encoders: Encoders | None = None,
                 scales: Mapping[int, Scale] | None = None) -> None:  # fmt: skip
        self.encoders = encoders
        self.scales = scales or (SCALES if encoders else {MULTILINGUAL: WORDS_ALONE, ENGLISH: WORDS_ALONE})
        self._index = Index(path, encoders.name if encoders else "", encoders.width if encoders else 0)
        self._adding = threading.Lock()
        if encoders:
            for source in self._index.sources():  # read by others, or by none: the passages are all there
                if source.encoder != encoders.name:
                    entries = self._entries(self._index.passages(source.name), lambda done, all: None)
                    self._index.put(source.name, source.sha256, entries, source.notes)

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
            self._index.put(name, sha256, self._entries(passages, progress), notes)
        return Added(name, len(passages), False, tuple(notes))

    def remove(self, name: str) -> None:
        """Forget a file; raises NotFoundError where there is none of that name."""
        check_known(name, [source.name for source in self._index.sources()])
        self._index.drop(name)

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
        if not question.strip() or len(question) > LONGEST_QUESTION:
            raise InputError(
                "the question has {count} characters; expected 1 to {most}",
                hint="Ask in a sentence or two.",
                count=len(question.strip()),
                most=LONGEST_QUESTION,
            )
        asked = plain(question)
        vectors = {} if self.encoders is None or not asked else self.encoders.question(asked, self._index.read_by())
        match = self._index.match(terms(asked), vectors)
        scores = self._scores(match)
        limit = max(1, min(limit, MOST_HITS, len(scores)))
        if not len(scores):
            return []
        best = np.argpartition(-scores, limit - 1)[:limit]
        best = best[np.lexsort((best, -scores[best]))]  # of equal ones the one that was added first
        found = []
        for number in best.tolist():
            stored = self._index.stored(number) if np.isfinite(scores[number]) else None
            if stored is None:
                continue
            meaning = float(match.cosines[number]) if match.encoders[number] in vectors else None
            score = 1 / (1 + np.exp(-np.float64(scores[number])))
            found.append(Hit(stored.source, stored.passage, float(score), float(match.words[number]), meaning))
        return found

    def _scores(self, match: Match) -> Floats:
        """How far each passage is above the limit, in steps; minus infinity for what has nothing in common."""
        scores = np.full(len(match.words), -np.inf, np.float32)
        for encoder, scale in self.scales.items():
            fit = match.cosines + np.float32(scale.words) * match.words
            known = np.where(match.is_row, np.float32(scale.known), np.float32(scale.known_text))
            take = (match.encoders == encoder) & match.there & (fit > 0)
            scores[take] = ((fit - known) / np.float32(scale.step))[take]
        return scores

    def close(self) -> None:
        """Lets the index go."""
        self._index.close()

    def _entries(self, passages: Sequence[Passage], progress: Callable[[int, int], None]) -> list[Entry]:
        """Passages with what is searched of them. Of a row both sides are read, and the mean of the two vectors is
        kept: a cosine with the mean is the mean of the cosines. What stands there twice is read once."""
        texts = search_texts(passages)
        search = ["\n".join(filter(None, pair)) for pair in texts]
        if self.encoders is None:
            return [Entry(p, s) for p, s in zip(passages, search, strict=True)]
        which = [self.encoders.which(text) for text in search]
        wanted: dict[tuple[int, str, str], list[int]] = {}
        for at, (question, answer) in enumerate(texts):
            for role, text in (("query", question), ("passage", answer)):
                if text:
                    wanted.setdefault((which[at], role, text), []).append(at)
        sums, sides = np.zeros((len(passages), self.encoders.width), np.float32), np.zeros(len(passages), np.int32)
        keys, done = sorted(wanted, key=lambda key: key[:2]), 0
        while done < len(keys):
            encoder, role = keys[done][:2]
            part = [key for key in keys[done : done + _AT_ONCE] if key[:2] == (encoder, role)]
            for key, vector in zip(part, self.encoders.encode(encoder, [key[2] for key in part], role), strict=True):
                sums[wanted[key]] += vector
                sides[wanted[key]] += 1
            done += len(part)
            progress(len(passages) * done // len(keys), len(passages))
        means = sums / np.maximum(sides, 1)[:, None]
        return [Entry(p, search[at], which[at], means[at] if sides[at] else None) for at, p in enumerate(passages)]


def check_known(name: str, known: Sequence[str]) -> None:
    """Raises NotFoundError, with the nearest name, where a file is not among those that were added."""
    if name not in known:
        near = nearest(name, list(known))
        raise NotFoundError(
            "no file {name} has been added",
            hint="Did you mean {near}?" if near else "`glassgpt knowledge list` shows those that were.",
            name=name,
            near=near,
        )
