"""Holding rows out, so that what a model is measured on is nothing that it was trained on."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from glassgpt.core.errors import ConfigError, InputError
from glassgpt.data.duplicates import BANDS, band_hashes, fold, shingles
from glassgpt.data.rows import Row

TOGETHER = 0.7  # from this similarity on, rows stay on the same side
LEAK = 0.85  # from this on, a held-out row counts as known from the training rows


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
    """The held-out rows that stand among the training rows, each with the one it is most like."""
    best: dict[int, Leak] = {}
    for a, b, similarity in alike([*train, *held_out], at_least):
        first, second = min(a, b), max(a, b) - len(train)
        if first < len(train) and second >= 0 and similarity > (best[second].similarity if second in best else 0):
            best[second] = Leak(first, second, similarity)
    return [best[i] for i in sorted(best)]


def alike(rows: Sequence[Row], at_least: float) -> Iterator[tuple[int, int, float]]:
    """Pairs of positions whose questions, or whose whole texts, are at least that similar (Jaccard similarity of their
    character shingles). Pairs are found by MinHash, so one near the bound may be missed."""
    for texts in ([_question(row) for row in rows], [" ".join(row.texts) for row in rows]):
        folded = [fold(text) for text in texts]
        bands = band_hashes(folded)
        buckets: dict[tuple[int, int], list[int]] = defaultdict(list)
        for i in range(len(rows)):
            if folded[i]:
                for band in range(BANDS):
                    buckets[band, int(bands[i, band])].append(i)
        seen: set[tuple[int, int]] = set()
        for members in buckets.values():
            # In a large bucket each is compared with the first: being alike is for groups, not for every pair.
            pairs = ((members[0], b) for b in members[1:]) if len(members) > 50 else _pairs(members)
            for pair in pairs:
                if pair not in seen:
                    seen.add(pair)
                    one, other = shingles(folded[pair[0]]), shingles(folded[pair[1]])
                    shared = len(one & other)
                    similarity = shared / (len(one) + len(other) - shared)
                    if similarity >= at_least:
                        yield *pair, similarity


def _pairs(members: list[int]) -> Iterator[tuple[int, int]]:
    return ((a, b) for i, a in enumerate(members) for b in members[i + 1 :])


def _question(row: Row) -> str:
    """What is asked in a conversation: all but its last text; of a plain text all of it."""
    return row.texts[0] if row.kind == "text" else " ".join(row.texts[:-1])
