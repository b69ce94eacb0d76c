"""Batches: what one pass of a training reads. A batch is a function of the data, the seed and its number, so that
nothing but the number must be kept to go on after a stop, and any rank can compute its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from glassgpt.data.shards import Shards

IGNORED = -100  # the target where nothing is learned
ROW_TOKENS = 512


@dataclass(frozen=True)
class Batch:
    """Rows of tokens, [B, T] each.

    - `ids`: what is read (0 on padding).
    - `targets`: the token that follows in the same document, or -100 where none is learned.
    - `segments`: which document of the row a token belongs to (-1 on padding); None where each row is one window.
    - `trained` targets and `tokens` read, padding not counted; `epoch` of the first token.
    """

    ids: np.ndarray
    targets: np.ndarray
    segments: np.ndarray | None
    trained: int
    tokens: int
    epoch: int

    def split(self, rows: int) -> list[Batch]:
        """The same in batches of `rows` rows (at least one); the last may have fewer."""
        parts = []
        for start in range(0, len(self.ids), max(1, rows)):
            part = slice(start, start + max(1, rows))
            ids, targets = self.ids[part], self.targets[part]
            segments = None if self.segments is None else self.segments[part]
            tokens = ids.size if segments is None else int((segments >= 0).sum())
            parts.append(Batch(ids, targets, segments, int((targets != IGNORED).sum()), tokens, self.epoch))
        return parts


class TextBatches:
    """Windows of `context` tokens in random order, for pre-training. An epoch reads every window once; where windows
    begin is shifted from epoch to epoch, so that the same text is not always cut at the same places. Where there are
    several documents, none sees another (`text_windows`)."""

    def __init__(self, shards: Shards, batch: int, context: int, seed: int, *, rank: int = 0, ranks: int = 1) -> None:
        self.shards, self.batch, self.context, self.seed = shards, batch, context, seed
        self.rank, self.ranks = rank, ranks
        # One fewer than would fit, so that there is room to shift them.
        self.windows = max(1, (len(shards) - 1) // context - 1)
        self._order = lru_cache(maxsize=2)(self._epoch_order)

    def __call__(self, number: int) -> Batch:
        """Batch `number`, from 0."""
        first = (number * self.ranks + self.rank) * self.batch
        starts = [self._start(first + i) for i in range(self.batch)]
        return _windows(self.shards, starts, self.context, first // self.windows)

    def _start(self, window: int) -> int:
        epoch, place = divmod(window, self.windows)
        offset, order = self._order(epoch)
        return int(order[place]) * self.context + offset

    def _epoch_order(self, epoch: int) -> tuple[int, np.ndarray]:
        random = np.random.Generator(np.random.Philox(key=[self.seed, epoch]))
        spare = len(self.shards) - 1 - self.windows * self.context
        return int(random.integers(spare + 1)), random.permutation(self.windows)


def text_windows(shards: Shards, context: int, rows: int) -> list[Batch]:
    """All of a text in order, in windows of `context` tokens that do not overlap, `rows` at a time; the last window
    may be shorter. Every token is to be predicted but the first of each document."""
    whole = (len(shards) - 1) // context
    starts = [i * context for i in range(whole)]
    batches = [_windows(shards, starts[i : i + rows], context) for i in range(0, whole, rows)]
    rest = len(shards) - 1 - whole * context
    return batches + ([_windows(shards, [whole * context], rest)] if rest else [])


def _windows(shards: Shards, starts: Sequence[int], context: int, epoch: int = 0) -> Batch:
    """Windows that begin at these tokens. Of several documents in one, each is a segment of its own."""
    span = context + 1
    tokens = np.stack([shards.tokens(s, s + span) for s in starts])  # [B, T + 1]
    learned = np.stack([shards.mask(s, s + span) for s in starts])
    segments = None
    if shards.documents > 1:
        numbers = np.stack([np.searchsorted(shards.starts, np.arange(s, s + span), "right") for s in starts])
        learned[:, 1:] &= numbers[:, 1:] == numbers[:, :-1]  # the first token of a document follows from nothing
        segments = numbers[:, :-1]
    targets = np.where(learned[:, 1:], tokens[:, 1:], IGNORED)
    trained = int((targets != IGNORED).sum())
    return Batch(tokens[:, :-1], targets, segments, trained, len(starts) * context, epoch)


class ExampleBatches:
    """`batch` whole examples at a time, packed into rows without padding between them, for fine-tuning.

    Rows hold at most `row_tokens` tokens (or one longer example); each example is a segment of its own, so none sees
    another. `order="sequential"` keeps the order of the file.
    """

    def __init__(
        self, shards: Shards, batch: int, seed: int, *, order: Literal["shuffled", "sequential"] = "shuffled",
        row_tokens: int = ROW_TOKENS, rank: int = 0, ranks: int = 1,
    ) -> None:  # fmt: skip
        self.shards, self.batch, self.seed, self.order = shards, batch, seed, order
        self.row_tokens, self.rank, self.ranks = row_tokens, rank, ranks
        self._permutation = lru_cache(maxsize=2)(self._epoch_order)

    def __call__(self, number: int) -> Batch:
        """Batch `number`, from 0."""
        first = (number * self.ranks + self.rank) * self.batch
        documents = [self._document(first + i) for i in range(self.batch)]
        return pack_examples(self.shards, documents, self.row_tokens, epoch=first // self.shards.documents)

    def _document(self, place: int) -> int:
        epoch, at = divmod(place, self.shards.documents)
        return at if self.order == "sequential" else int(self._permutation(epoch)[at])

    def _epoch_order(self, epoch: int) -> np.ndarray:
        random = np.random.Generator(np.random.Philox(key=[self.seed, epoch]))
        return random.permutation(self.shards.documents)


def pack_examples(shards: Shards, documents: Sequence[int], row_tokens: int = ROW_TOKENS, epoch: int = 0) -> Batch:
    """A batch of these documents, each a segment of its own, in rows of at most `row_tokens` or one longer document."""
    spans = [shards.span(document) for document in documents]
    rows = _pack([stop - start for start, stop in spans], row_tokens)
    width = max(sum(spans[i][1] - spans[i][0] for i in row) for row in rows)
    ids = np.zeros((len(rows), width), dtype=np.int64)
    targets = np.full((len(rows), width), IGNORED, dtype=np.int64)
    segments = np.full((len(rows), width), -1, dtype=np.int64)
    for r, row in enumerate(rows):
        at = 0
        for segment, i in enumerate(row):
            found, learned = shards.tokens(*spans[i]), shards.mask(*spans[i])
            end = at + len(found)
            ids[r, at:end], segments[r, at:end] = found, segment
            targets[r, at : end - 1] = np.where(learned[1:], found[1:], IGNORED)
            at = end
    return Batch(ids, targets, segments, int((targets != IGNORED).sum()), int((segments >= 0).sum()), epoch)


def _pack(lengths: list[int], room: int) -> list[list[int]]:
    """Places of examples for each row, in as few rows of like length as `room` allows, but two where there are two
    examples, so that two workers have something to do. The longest go first, each into the shortest row."""
    room = max(room, *lengths, 1)
    count = max(min(2, len(lengths)), -(-sum(lengths) // room))
    while True:
        rows: list[list[int]] = [[] for _ in range(count)]
        filled = [0] * count
        for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
            shortest = filled.index(min(filled))
            rows[shortest].append(i)
            filled[shortest] += lengths[i]
        if max(filled) <= room or count == len(lengths):
            return rows
        count += 1
