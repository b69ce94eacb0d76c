"""Every place where a text stands in a large one: a suffix array (Manber and Myers 1993), in plain numpy.

The text is a sequence of symbols from 1 on, with a 0 after each document, so that nothing is found across two. It is
sorted in parts: each part has the starts that lie in it, sorted by the `reach` symbols that follow, which may run on
into the next part. So the memory for making it depends on the size of a part alone, and a text of at most `reach`
symbols is found exactly, by a search in every part.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from glassgpt.core.errors import ConfigError

Ints = NDArray[np.int64]

REACH = 8192  # symbols that starts are sorted by, and so the longest text that can be asked for
PAD = 64  # zeros after the last document: comparisons read so many symbols at a time
UNKNOWN = -1  # in a question: a symbol that stands nowhere
MOST = (1 << 24) - 1  # symbols that are sorted at once: rank, place and group fit into 64 bits
_FIRST, _ROWS = 4, 1 << 14  # symbols compared at first, and searches made at once
_SORTED_AT_ONCE = 1 << 20


def sort_suffixes(window: NDArray[np.unsignedinteger], count: int, reach: int = REACH) -> Ints:
    """The starts 0 to `count` - 1, sorted by the `reach` symbols that follow each; equal ones by their place.

    Args:
        window: a part of a text and, after its `count` symbols, `reach` more or all that there are; at most `MOST`.

    By prefix doubling (Karp, Miller and Rosenberg 1972; Larsson and Sadakane 2007): starts sorted by h symbols have
    ranks, and a start's rank with the rank of the place h further on sorts by 2h. Only what is still equal is sorted
    again. Whatever is compared lies in one 64-bit number together with the place, because numpy sorts numbers ten times
    as fast as it sorts places by numbers.
    """
    n = len(window)
    if n > MOST:
        raise ConfigError("{count:,} symbols are to be sorted at once; at most {most:,} can be", count=n, most=MOST,
                          hint="Give a smaller `part`.")  # fmt: skip
    place_bits, symbol_bits = _bits(n), _bits(int(window.max(initial=0)))
    depth = max(1, (64 - place_bits) // symbol_bits)
    key = np.zeros(n, np.uint64)
    for j in range(depth):
        key <<= np.uint64(symbol_bits)
        key[: max(0, n - j)] |= window[j:]
    key <<= np.uint64(place_bits)
    key |= np.arange(n, dtype=np.uint64)
    key.sort()
    order = (key & np.uint64((1 << place_bits) - 1)).astype(np.int32)
    key >>= np.uint64(place_bits)
    first = _changes(key)
    del key
    group = np.maximum.accumulate(
        np.where(first, np.arange(n, dtype=np.int32), 0)
    )  # where its equals begin, in `order`
    rank = np.empty(n, np.int32)
    rank[order] = group + 1  # 0 is for what lies beyond the end
    active = np.flatnonzero(_shared(first)).astype(np.int32)
    while depth < reach and len(active):
        held = active
        renewed: list[NDArray[np.int32]] = []
        left: list[NDArray[np.int32]] = []
        for begin, end in _chunks(group[held]):
            at = held[begin:end]
            who = order[at]
            changed = _changes(group[at])
            key = np.cumsum(changed, dtype=np.uint64)
            key -= np.uint64(1)
            key <<= np.uint64(_bits(n))
            beyond = who + np.int32(depth)
            inside = beyond < n
            key[inside] |= rank[beyond[inside]].astype(np.uint64)
            del beyond, inside, changed
            key <<= np.uint64(_bits(len(at)))
            key |= np.arange(len(at), dtype=np.uint64)
            key.sort()
            order[at] = who[(key & np.uint64((1 << _bits(len(at))) - 1)).astype(np.int64)]
            first = _changes(key >> np.uint64(_bits(len(at))))
            renewed.append(np.maximum.accumulate(np.where(first, at, 0)))
            left.append(at[_shared(first)])
        group[held] = np.concatenate(renewed)  # only now: all ranks of a round are of one depth
        rank[order[held]] = group[held] + 1
        active = np.concatenate(left)
        depth *= 2
    if len(active):
        tied = group[active].astype(np.uint64) << np.uint64(32) | order[active].astype(np.uint64)
        tied.sort()
        order[active] = (tied & np.uint64(0xFFFFFFFF)).astype(np.int32)
    return order[order < count].astype(np.int64)


def _bits(largest: int) -> int:
    return max(1, largest.bit_length())


def _changes(key: NDArray) -> NDArray[np.bool_]:
    """Where a value differs from the one before it."""
    first = np.ones(len(key), bool)
    np.not_equal(key[1:], key[:-1], out=first[1:])
    return first


def _shared(first: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which members belong to a group of more than one; `first` marks where groups begin."""
    alone = first.copy()
    alone[:-1] &= first[1:]
    return ~alone


def _chunks(group: NDArray[np.int32]) -> list[tuple[int, int]]:
    """Whole groups, some million members at a time, or one group that is larger: what fits into keys of 64 bits."""
    starts = np.flatnonzero(_changes(group))
    cuts = [0]
    while cuts[-1] < len(group):
        wanted = cuts[-1] + _SORTED_AT_ONCE
        if wanted >= len(group):
            cut = len(group)
        else:
            cut = int(starts[np.searchsorted(starts, wanted, side="right") - 1])
            if cut <= cuts[-1]:
                following = np.searchsorted(starts, cuts[-1], side="right")
                cut = int(starts[following]) if following < len(starts) else len(group)
        cuts.append(cut)
    return list(pairwise(cuts))


@dataclass(frozen=True)
class Found:
    """What the longest matches of a question are, for each of its T places and each of the P parts.

    Attributes:
        lengths: how many symbols from there on stand somewhere in the part, [T, P].
        places: where the rest of the question would be sorted into `order`, [T, P].
    """

    lengths: Ints
    places: Ints

    @property
    def longest(self) -> Ints:
        """The longest match at each place, [T]."""
        return self.lengths.max(axis=1)


class SuffixArray:
    """A sorted text that can be asked. It only reads, so threads may share it.

    Args:
        text: the symbols, with a 0 after each document and `PAD` zeros at the end.
        order: the starts, part after part.
        part: how many starts each part has; the last may have fewer.
        reach: by how many symbols they are sorted.
    """

    def __init__(self, text: NDArray, order: NDArray, part: int, reach: int = REACH) -> None:
        self.text, self.order, self.reach = np.asarray(text), np.asarray(order), reach
        edges = np.arange(0, len(self.order) + part, part).clip(max=len(self.order))
        self.begins, self.ends = edges[:-1].astype(np.int64), edges[1:].astype(np.int64)

    @classmethod
    def of(cls, documents: list[Ints], part: int | None = None, reach: int = REACH) -> SuffixArray:
        """Made in memory, of documents whose symbols are 1 or more."""
        pieces = [piece for document in documents for piece in (document, np.zeros(1, np.int64))]
        text = np.concatenate([*pieces, np.zeros(PAD, np.int64)]).astype(np.uint32)
        count = len(text) - PAD
        part = part or max(1, count)
        parts = [
            at + sort_suffixes(text[at : min(at + part + reach, count)], min(part, count - at), reach)
            for at in range(0, count, part)
        ]
        return cls(text, np.concatenate([np.empty(0, np.int64), *parts]), part, reach)

    def match(self, question: Ints) -> Found:
        """The longest matches of a question of at most `reach` symbols, at each of its places."""
        places, parts = len(question), len(self.begins)
        at = np.repeat(np.arange(places), parts)
        begin, end = np.tile(self.begins, places), np.tile(self.ends, places)
        found, lengths = self._search(question, at, places - at, begin, end, np.zeros(len(at), bool))
        return Found(lengths.reshape(places, parts), found.reshape(places, parts))

    def ranges(self, question: Ints, found: Found, at: Ints, length: Ints) -> tuple[Ints, Ints]:
        """Where in `order` the starts stand that begin with `question[at : at + length]`.

        Args:
            at, length: [R]; no longer than the longest match there.

        Returns:
            Begins and ends, [R, P]; equal in a part that has none.
        """
        has = found.lengths[at] >= length[:, None]  # [R, P]
        row, part = np.nonzero(has)
        middle = found.places[at[row], part]
        count = len(row)
        places, _ = self._search(
            question,
            np.tile(at[row], 2),
            np.tile(length[row], 2),
            np.concatenate([self.begins[part], middle]),
            np.concatenate([middle, self.ends[part]]),
            np.repeat([False, True], count),
        )
        begins, ends = np.zeros(has.shape, np.int64), np.zeros(has.shape, np.int64)
        begins[has], ends[has] = places[:count], places[count:]
        return begins, ends

    def starts(self, begins: Ints, ends: Ints, most: int) -> Ints:
        """The first `most` places of the text among ranges of `order`, [P] each, in the text's order."""
        taken: list[Ints] = []
        for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):  # parts follow one another as the text does
            if begin < end and most > 0:
                places = self.order[begin:end].astype(np.int64)
                if len(places) > most:
                    places = np.partition(places, most - 1)[:most]
                places.sort()
                taken.append(places)
                most -= len(places)
        return np.concatenate([np.empty(0, np.int64), *taken])

    def _search(
        self, question: Ints, at: Ints, length: Ints, low: Ints, high: Ints, above: NDArray[np.bool_]
    ) -> tuple[Ints, Ints]:
        """Binary searches, all at once: for each row the first place between `low` and `high` whose start is not less
        than `question[at : at + length]` (`above`: greater than all that begin with it), and the longest match with one
        of the two beside it. What both ends of a range share with the question is not compared again (Manber and
        Myers, section 2)."""
        padded = np.concatenate([question, np.full(PAD, UNKNOWN - 1)])
        blocks = [slice(begin, begin + _ROWS) for begin in range(0, len(at), _ROWS)]
        found = [self._search_block(padded, at[b], length[b], low[b], high[b], above[b]) for b in blocks]
        none = np.empty(0, np.int64)
        return np.concatenate([none, *(f for f, _ in found)]), np.concatenate([none, *(n for _, n in found)])

    def _search_block(
        self, padded: Ints, at: Ints, length: Ints, low: Ints, high: Ints, above: NDArray[np.bool_]
    ) -> tuple[Ints, Ints]:
        low, high = low.copy(), high.copy()
        known_low, known_high = np.zeros_like(low), np.zeros_like(low)
        rows = np.flatnonzero(low < high)
        while len(rows):
            middle = (low[rows] + high[rows]) // 2
            begin = self.order[middle].astype(np.int64)
            known = np.minimum(known_low[rows], known_high[rows])
            equal, less = self._compare(padded, at[rows], length[rows], begin, known)
            whole = equal >= length[rows]
            less = np.where(whole, above[rows], less)
            up, down = rows[less], rows[~less]
            low[up], known_low[up] = middle[less] + 1, equal[less]
            high[down], known_high[down] = middle[~less], equal[~less]
            rows = rows[low[rows] < high[rows]]
        return low, np.maximum(known_low, known_high)

    def _compare(
        self, padded: Ints, at: Ints, length: Ints, begin: Ints, known: Ints
    ) -> tuple[Ints, NDArray[np.bool_]]:
        """How many symbols from `begin` on equal the question's, up to `length`, and whether the next one is less."""
        equal, less = known.copy(), np.zeros(len(at), bool)
        rows, width = np.arange(len(at)), _FIRST
        while len(rows):
            step = np.arange(width)
            ours = self.text[(begin[rows] + equal[rows])[:, None] + step].astype(np.int64)
            theirs = padded[(at[rows] + equal[rows])[:, None] + step]
            differs = ours != theirs
            first = differs.argmax(axis=1)
            some = differs[np.arange(len(rows)), first]
            less[rows] = ours[np.arange(len(rows)), first] < theirs[np.arange(len(rows)), first]
            equal[rows] += np.where(some, first, width)
            rows = rows[~some & (equal[rows] < length[rows])]
            width = min(2 * width, PAD)
        return np.minimum(equal, length), less
