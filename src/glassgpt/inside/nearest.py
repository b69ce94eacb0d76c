"""The rows of the training data that are nearest to what stands nowhere in them word for word.

At each place of such a text the longest run of tokens that the data has anywhere is looked up, and the rows that have
it are given log2(tokens in the data / times it occurs): the bits that it would take to name one of its places. So what
is rare counts for much, as in inverse document frequency (Sparck Jones 1972), and what is worth under 7 bits for
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glassgpt.inside.asked import Asked
from glassgpt.inside.spans import SURE
from glassgpt.inside.suffix_array import Found, Ints, SuffixArray

OCCURRENCES = 20_000  # read for one text, of the rarest runs first; what is commoner tells rows hardly apart
WINDOW = 256  # tokens; long documents are compared piece by piece


@dataclass(frozen=True)
class Shared:
    """What a text has in common with a row: characters `start` up to `end` of the text, and how often that stands in
    the data."""

    start: int
    end: int
    count: int


@dataclass(frozen=True)
class NearPlace:
    """A document and how near it is: `score` in bits; `symbol` is the first place of the sorted text that says
    something of the text."""

    document: int
    symbol: int
    score: float
    shared: tuple[Shared, ...]


def find_nearest(
    array: SuffixArray, begins: Ints, asked: Asked, found: Found, rest: NDArray[np.bool_], most: int
) -> list[NearPlace]:
    """The `most` nearest documents, the nearest first, and of equal ones the earlier.

    Args:
        begins: at which symbol each document begins, and the end of the last.
        rest: which tokens of the text are asked about, [T].
    """
    ends = np.zeros(len(rest), np.int64)
    end = len(rest)
    for i in range(len(rest) - 1, -1, -1):  # a run never goes on into a span that was found whole
        end = end if rest[i] else i
        ends[i] = end
    length = np.minimum(found.longest, ends - np.arange(len(rest)))
    at = np.flatnonzero(rest & (length > 0))
    if not len(at) or most < 1:
        return []
    low, high = array.ranges(asked.symbols, found, at, length[at])
    counts = (high - low).sum(axis=1)
    rarest = np.lexsort((at, counts))
    rarest = rarest[counts[rarest] << SURE <= len(array.order)]
    rarest = rarest[np.cumsum(counts[rarest]) <= OCCURRENCES]
    stands = [array.starts(low[i], high[i], OCCURRENCES) for i in rarest]
    if not stands:
        return []
    symbol = np.concatenate(stands)
    run = np.repeat(rarest, [len(s) for s in stands])
    document = np.searchsorted(begins, symbol, side="right") - 1
    # Each run counts once for each window of a document.
    window = (symbol - begins[document]) // WINDOW
    order = np.lexsort((symbol, run, window, document))
    symbol, run, document, window = symbol[order], run[order], document[order], window[order]
    new_window = np.ones(len(order), bool)
    new_window[1:] = (document[1:] != document[:-1]) | (window[1:] != window[:-1])
    once = new_window.copy()
    once[1:] |= run[1:] != run[:-1]
    weight = np.log2(len(array.order) / counts)
    edges = np.flatnonzero(new_window)
    scores = np.add.reduceat(np.where(once, weight[run], 0.0), edges)
    best: list[NearPlace] = []
    taken: set[int] = set()
    for i in np.lexsort((edges, -np.round(scores, 6))).tolist():
        here = slice(int(edges[i]), int(edges[i + 1]) if i + 1 < len(edges) else len(order))
        if (doc := int(document[here.start])) in taken:
            continue
        taken.add(doc)
        runs = np.unique(run[here])
        shared = _shared(asked, at[runs], length[at[runs]], counts[runs])
        best.append(NearPlace(doc, int(symbol[here].min()), float(scores[i]), shared))
        if len(best) == most:
            break
    return best


def _shared(asked: Asked, at: Ints, length: Ints, counts: Ints) -> tuple[Shared, ...]:
    """The runs as characters, without those that lie within others."""
    found: list[Shared] = []
    last = -1
    for first, long, count in zip(at.tolist(), length.tolist(), counts.tolist(), strict=True):
        if first + long > last:
            last = first + long
            start = asked.character_from(int(asked.edges[first]))
            end = asked.character_to(int(asked.edges[last]))
            if start < end:
                found.append(Shared(start, end, count))
    return tuple(found)
