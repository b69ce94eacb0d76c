"""Holding rows out, so that what a model is measured on is nothing that it was trained on."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glassgpt.core.errors import ConfigError, InputError
from glassgpt.data.duplicates import BANDS, band_hashes, fold, remembering
from glassgpt.data.rows import Row

TOGETHER = 0.7  # from this similarity on, rows stay on the same side
LEAK = 0.85  # from this on, a held-out row counts as known from the training rows
_ROWS_AT_ONCE = 1000
_ALL_PAIRS = 50  # rows in a bucket up to which each is compared with each


@dataclass(frozen=True)
class Leak:
    """A held-out row that stands, nearly or exactly, among the training rows; both are positions."""

    train: int
    held_out: int
    similarity: float


def split(rows: Sequence[Row], share: float = 0.1, seed: int = 0) -> tuple[list[Row], list[Row]]:
    """Rows to train on and rows held out, both in the order of the file, about `share` of all held out.

    Rows that say nearly the same, or answer the same question, are held out together or not at all. Every language
    and kind has its part, as chance has it; the same seed gives the same split.

    Raises:
        ConfigError: the share is not between 0 and 1.
        InputError: all rows are alike, or there is only one: nothing can be held out.
    """
    if not 0 < share < 1:
        raise ConfigError("{name} is {value}; expected a number above 0 and below 1", name="share", value=share)
    if len(rows) < 2:
        raise InputError(
            "nothing can be held out where there are fewer than two rows ({count})", hint="Give more rows that differ.",
            count=len(rows),
        )  # fmt: skip
    leader = list(range(len(rows)))

    def find(i: int) -> int:
        while leader[i] != i:
            leader[i] = leader[leader[i]]
            i = leader[i]
        return i

    for a, b, _ in alike(rows, TOGETHER):
        leader[find(a)] = find(b)
    groups: dict[int, list[int]] = defaultdict(list)
    for i in range(len(rows)):
        groups[find(i)].append(i)
    if len(groups) < 2:
        raise InputError(
            "nothing can be held out of {count} rows that say the same", hint="Give more rows that differ.",
            count=len(rows),
        )  # fmt: skip
    order = sorted(groups.values())
    random.Random(seed).shuffle(order)
    held_out: set[int] = set()
    for group in order[:-1]:  # one group at least is trained on
        if held_out and len(held_out) + len(group) / 2 > share * len(rows):
            continue
        held_out.update(group)
    return [row for i, row in enumerate(rows) if i not in held_out], [rows[i] for i in sorted(held_out)]


def leakage(train: Sequence[Row], held_out: Sequence[Row], at_least: float = LEAK) -> list[Leak]:
    """The held-out rows that stand among the training rows, each with the first of those that it is most like."""
    best: dict[int, Leak] = {}
    for a, b, similarity in alike([*train, *held_out], at_least):
        first, second = min(a, b), max(a, b) - len(train)
        if first < len(train) and second >= 0:
            leak = Leak(first, second, similarity)
            best[second] = max(best.get(second, leak), leak, key=lambda leak: (leak.similarity, -leak.train))
    return [best[i] for i in sorted(best)]


def alike(rows: Sequence[Row], at_least: float) -> Iterator[tuple[int, int, float]]:
    """Pairs of positions whose questions, or whose whole texts, are at least that similar (Jaccard similarity of their
    character shingles). Pairs are found by MinHash, so one near the bound may be missed.

    A row leaves 144 bytes behind while it is looked for, whatever its length."""
    for part in (_question, _whole):
        yield from _alike(rows, part, at_least)


def _alike(rows: Sequence[Row], part: Callable[[Row], str], at_least: float) -> Iterator[tuple[int, int, float]]:
    bands, filled = _bands(rows, part)
    pieces = remembering(lambda i: [part(rows[i])])
    # led[i, band]: in its bucket of this band, row i was compared with all that come after it.
    led = np.zeros(bands.shape, bool)
    for band in range(BANDS):
        for members in _buckets(bands[filled, band]):
            members = filled[members]
            # In a large bucket each is compared with the first: being alike is for groups, not for every pair.
            leaders = members[:1] if len(members) > _ALL_PAIRS else members[:-1]
            led[leaders, band] = True
            for at, a in enumerate(leaders.tolist()):
                others = members[at + 1 :]
                again = (bands[others, :band] == bands[a, :band]) & led[a, :band]
                for b in others[~again.any(axis=1)].tolist():
                    one, other = pieces(a).shingles[0], pieces(b).shingles[0]
                    shared = len(one & other)
                    similarity = shared / (len(one) + len(other) - shared)
                    if similarity >= at_least:
                        yield a, b, similarity


def _bands(rows: Sequence[Row], part: Callable[[Row], str]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """(N, BANDS), and the positions of the rows that say anything."""
    bands = np.empty((len(rows), BANDS), np.uint64)
    filled = np.zeros(len(rows), bool)
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        texts = [fold(part(row)) for row in rows[start : start + _ROWS_AT_ONCE]]
        bands[start : start + len(texts)] = band_hashes(texts)
        filled[start : start + len(texts)] = [bool(text) for text in texts]
    return bands, np.flatnonzero(filled)


def _buckets(keys: NDArray[np.uint64]) -> Iterator[NDArray[np.int64]]:
    """The positions that share a key, in order, for each key that more than one has."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    begins = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])) if len(keys) else order
    ends = np.append(begins[1:], len(keys))
    several = ends - begins > 1
    for begin, end in zip(begins[several].tolist(), ends[several].tolist(), strict=True):
        yield order[begin:end]


def _whole(row: Row) -> str:
    return " ".join(row.texts)


def _question(row: Row) -> str:
    """What is asked in a conversation: all but its last text; of a plain text all of it."""
    return row.texts[0] if row.kind == "text" else " ".join(row.texts[:-1])
