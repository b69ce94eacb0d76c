"""Where a reply came from: which of it stands in the training data, which in passages, and which nowhere.

    with Origins.open(Path("runs/shop-1")) as origins:
        for span in origins.explain(reply).spans: ...

A suffix array over the run's token shards (`suffix_array`, kept on disk by `origins_index`) finds every maximal span
(`spans`) and the nearest rows for the rest (`nearest`). After the idea of OLMoTrace (Liu et al. 2025) and infini-gram
(Liu et al. 2024). torch is not needed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np

from glassgpt.core.errors import ConfigError, GlassError, NotFoundError
from glassgpt.core.runs import TRAIN, Run
from glassgpt.core.words import Sentence
from glassgpt.data.shards import MANIFEST, Shards, open_shards
from glassgpt.engine.settings import check_int
from glassgpt.formats.place import read_tokenizer
from glassgpt.inside.asked import Asked, check_text
from glassgpt.inside.nearest import Shared, find_nearest
from glassgpt.inside.origins_index import PART, Index, Progress, open_index
from glassgpt.inside.spans import Match, Place, Span, find_matches, find_quotes, least_span, tile
from glassgpt.text.tokenizer import Tokenizer

MOST_SHOWN = 1000  # places or rows
_CUT = "\ufffd"  # what half a character at the edge of an excerpt becomes
_AROUND = 24  # tokens told before and after a place
_ROW_TOKENS = 200  # tokens told of a near row


@dataclass(frozen=True)
class NearRow:
    """A row that is near to what stands nowhere word for word: `score` in bits (see `nearest`), what it shares with the
    text, and `text`, what it says from a little before the first of that on."""

    source: str
    row: int
    document: int
    offset: int
    score: float
    shared: tuple[Shared, ...]
    text: str


@dataclass(frozen=True)
class Explanation:
    """Where a text came from.

    Attributes:
        text: what was explained; all offsets count its characters. A tokenizer that normalises text may have changed
            it (NFC).
        spans: the whole text, in order.
        matches: every maximal span that stands in the training data; they may overlap.
        nearest: rows that are near to the composed spans, the nearest first.
        least: how many tokens a span needs to be called memorised.
        tokens: of the text.
        notes: what a reader must know, such as that a base model's own data was not searched.
        seconds: how long it took.
    """

    text: str
    spans: tuple[Span, ...]
    matches: tuple[Match, ...]
    nearest: tuple[NearRow, ...]
    least: int
    tokens: int
    notes: tuple[Sentence, ...]
    seconds: float

    @property
    def shares(self) -> dict[str, float]:
        """How much of the characters is of each kind, from 0 to 1."""
        counted = dict.fromkeys(("memorised", "retrieved", "composed"), 0)
        for span in self.spans:
            counted[span.kind] += span.end - span.start
        return {kind: count / max(1, len(self.text)) for kind, count in counted.items()}

    def to_json(self, language: str = "en") -> dict[str, Any]:
        """All of it as plain values, the notes in `language`."""
        told = asdict(self) | {"notes": [note.text(language) for note in self.notes], "shares": self.shares}
        for span in told["spans"]:
            span["text"] = self.text[span["start"] : span["end"]]
        return told


@dataclass(frozen=True)
class RowPart:
    """A stretch of a row as it was laid out for training: what it says, and whether that was learned."""

    text: str
    learned: bool


class Origins:
    """A run's training data, sorted so that it can be asked. Any number of threads may ask at the same time."""

    def __init__(self, shards: Shards, index: Index, tokenizer: Tokenizer, notes: Sequence[Sentence] = ()) -> None:
        """`open` is the door to use."""
        self._open: tuple[Shards, Index] | None = (shards, index)
        self._tokenizer, self.notes = tokenizer, tuple(notes)
        self.tokens, self.documents = len(shards), shards.documents
        self.least = least_span(len(shards), index.about.bytes / max(1, len(shards)))

    @classmethod
    def open(
        cls,
        folder: str | Path,
        *,
        part: int = PART,
        tell: Callable[[Sentence], None] = lambda sentence: None,
        progress: Progress = lambda done, all: None,
    ) -> Origins:
        """The training data of the run in `folder`. The first time it is sorted, which takes a minute for some hundred
        million tokens, and kept in the run; a copy that is damaged or of other data is made anew.

        Args:
            part: tokens sorted at once, which decides how much memory that needs (see `origins_index`).
            tell: called with what is done and why, where something must be made.
            progress: called with the tokens sorted and all of them.

        Raises:
            NotFoundError: it is no run, or its training data is no longer there.
            FormatError: the run is damaged.
            GlassError: the disk refused the index.
        """
        run = Run.open(Path(folder))
        if not (run.folder / TRAIN / MANIFEST).is_file():
            raise NotFoundError(
                "{folder} has no training data in {place}",
                hint="Origins are found in the shards that a training leaves; restore them, or train again.",
                folder=run.folder,
                place=TRAIN,
            )
        tokenizer = _tokenizer(run)
        shards = open_shards(run.folder / TRAIN, tokenizer)
        index = open_index(run.folder, shards, tokenizer, part=part, tell=tell, progress=progress)
        return cls(shards, index, tokenizer, _notes(run))

    def close(self) -> None:
        """Let go of the files; questions that are being answered end as usual."""
        self._open = None

    def __enter__(self) -> Origins:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def explain(
        self,
        text: str,
        *,
        retrieved: Sequence[tuple[str, str]] = (),
        least: int | None = None,
        places: int = 5,
        nearest: int = 3,
    ) -> Explanation:
        """Where a text came from.

        Args:
            text: a reply, at most 8,192 tokens.
            retrieved: the passages that it was written from, (source, text) each.
            least: tokens that a span needs to be called memorised; by default so many that one in 128 such spans would
                stand in the data by chance (`spans.least_span`; `self.least` is the number).
            places: the most places told of a span.
            nearest: the most rows told for the rest.

        Raises:
            InputError: the text is empty or too long, or the passages are.
            ConfigError: a number is out of range.
        """
        began = time.perf_counter()
        check_question(text, least, places, nearest)
        shards, index = self._opened()
        asked = Asked(text, self._tokenizer)
        least = self.least if least is None else least

        def where(symbol: int, length: int) -> Place:
            return self._place(shards, index, symbol, length)

        found = index.array.match(asked.symbols)
        matches = find_matches(index.array, asked, found, self._tokenizer, least, places, where)
        spans = tile(len(asked.text), matches, find_quotes(asked.text, retrieved))
        composed = np.zeros(len(asked.text) + 1, bool)
        for span in spans:
            composed[span.start : span.end] = span.kind == "composed"
        first, last = asked.touched()
        rest = composed[first] & composed[last]
        near = find_nearest(index.array, index.begins, asked, found, rest, nearest)
        rows = tuple(self._row(shards, index, n.document, n.symbol, n.score, n.shared) for n in near)
        return Explanation(asked.text, tuple(spans), tuple(matches), rows, least, len(asked.symbols), self.notes,
                           time.perf_counter() - began)  # fmt: skip

    def read(self, document: int, most: int = 4096) -> list[RowPart]:
        """What a row of the training data says, at most so many tokens of it, in stretches that were learned or not.
        Raises NotFoundError where there is no such document, ConfigError where `most` is out of range."""
        check_int("most", most, 1, 1 << 20)
        shards, _ = self._opened()
        if not 0 <= document < shards.documents:
            raise NotFoundError("there is no document {number}", hint="They are numbered from 0 to {last}.",
                                number=document, last=shards.documents - 1)  # fmt: skip
        begin, end = shards.span(document)
        end = min(end, begin + most)
        ids, mask = shards.tokens(begin, end), shards.mask(begin, end)
        cuts = [0, *(np.flatnonzero(mask[1:] != mask[:-1]) + 1).tolist(), end - begin]
        parts = [RowPart(self._tokenizer.decode(ids[a:b].tolist()), bool(mask[a]))
                 for a, b in pairwise(cuts) if a < b]  # fmt: skip
        if parts:
            parts[-1] = RowPart(parts[-1].text.rstrip(_CUT), parts[-1].learned)
        return [part for part in parts if part.text]

    def _opened(self) -> tuple[Shards, Index]:
        if (opened := self._open) is None:
            raise GlassError("the training data is closed", hint="Open it again with `Origins.open`.")
        return opened

    def _place(self, shards: Shards, index: Index, symbol: int, length: int) -> Place:
        document = int(np.searchsorted(index.begins, symbol, side="right")) - 1
        at = symbol - document  # a 0 follows each document
        begin, end = shards.span(document)
        origin = shards.origin(at)
        before = self._said(shards, max(begin, at - _AROUND), at).lstrip(_CUT)
        after = self._said(shards, at + length, min(end, at + length + _AROUND)).rstrip(_CUT)
        part = _part(shards, begin, end, at, at + length)
        said = self._said(shards, at, at + length)
        return Place(origin.source, origin.row, document, at - begin, part, before, said, after)

    def _said(self, shards: Shards, start: int, stop: int) -> str:
        return self._tokenizer.decode(shards.tokens(start, stop).tolist()) if start < stop else ""

    def _row(
        self, shards: Shards, index: Index, document: int, symbol: int, score: float, shared: tuple[Shared, ...]
    ) -> NearRow:
        begin, end = shards.span(document)
        at = symbol - document
        origin = shards.origin(at)
        start = begin if at - begin < _ROW_TOKENS // 2 else at - _AROUND
        text = self._said(shards, start, min(end, start + _ROW_TOKENS)).strip(_CUT)
        return NearRow(origin.source, origin.row, document, at - begin, round(score, 2), shared, text)


def check_question(text: str, least: int | None, places: int, nearest: int) -> None:
    """Raises what `Origins.explain` would, before any data is sorted for it: InputError, ConfigError."""
    for name, value, smallest in (("least", least, 1), ("places", places, 1), ("nearest", nearest, 0)):
        if value is not None and not smallest <= value <= MOST_SHOWN:
            raise ConfigError("{name} is {value}; expected a number from {smallest} to {largest}", name=name,
                              value=value, smallest=smallest, largest=MOST_SHOWN)  # fmt: skip
    check_text(text)


def _part(shards: Shards, begin: int, end: int, start: int, stop: int) -> Literal["question", "answer", "both"] | None:
    """In which part of a conversation a span lies, by what is learned of it."""
    if not shards.manifest.masked or shards.mask(begin, end)[1:].all():  # a plain text is learned but for its first
        return None
    learned = shards.mask(start, stop)
    return "answer" if learned.all() else "both" if learned.any() else "question"


def _tokenizer(run: Run) -> Tokenizer:
    """The run's own tokenizer: of a fine-tuning that has no model yet, its base's."""
    try:
        return read_tokenizer(str(run.folder))
    except NotFoundError:
        base = run.about.get("settings", {}).get("base")
        if not base:
            raise
        return read_tokenizer(str(base), pull_missing=False)


def _notes(run: Run) -> list[Sentence]:
    base = run.about.get("settings", {}).get("base") if run.about.get("kind") != "pretrain" else None
    if not base or Path(base).parent == run.folder:  # a build's own network with random weights
        return []
    return [
        Sentence(
            "only the rows that this run was taught are searched: what its base {base} was trained on is not here",
            base=Path(base).name,
        )
    ]
