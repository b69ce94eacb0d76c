"""From matches of tokens to spans of a text: which of its characters stand word for word in the data, and where.

Matches are found by tokens, and a text that is quoted out of the middle of a row may be cut into other tokens at its
two edges: its first word lacks the space before it, and Chinese characters may be cut within. So a match is widened by
bytes, at each place, up to the first difference; in alphabets with spaces never into the middle of a word.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from glassgpt.core.errors import InputError
from glassgpt.inside.asked import MOST_CHARACTERS, Asked
from glassgpt.inside.suffix_array import Found, Ints, SuffixArray
from glassgpt.text.tokenizer import Tokenizer

BITS_PER_BYTE, SURE = 0.8, 7  # see `least_span`
EDGE = 2  # tokens at either end of a span that may be cut otherwise than in the data
LOOKED_AT = 16  # places of a match at which its edges are looked at

Kind = Literal["memorised", "retrieved", "composed"]


@dataclass(frozen=True)
class Place:
    """Where a span stands in the training data: the source, the row in it, and how many tokens stand before the span in
    what was made of the row (`document` counts those). `part` says whether it is in the "question", the "answer" or
    "both", and is None where all is learned. `text` is what the matching tokens say there, `before` and `after` what
    stands around them."""

    source: str
    row: int
    document: int
    offset: int
    part: Literal["question", "answer", "both"] | None
    before: str
    text: str
    after: str


@dataclass(frozen=True)
class Match:
    """A maximal span of the text that stands word for word in the training data.

    Attributes:
        start, end: its characters.
        first, tokens: the first of the text's tokens that match and how many do, before widening.
        count: how often these tokens stand in the data; where only the widening makes it long enough, how many of the
            first `LOOKED_AT` places say all of it.
        places: the first of them, those that say the whole span before those that lack something at its edges; then
            others that say the same letters, but are cut into other tokens at an edge.
    """

    start: int
    end: int
    first: int
    tokens: int
    count: int
    places: tuple[Place, ...]


@dataclass(frozen=True)
class Quote:
    """A span of the text that stands word for word in a passage that was handed in: its characters, the passage's
    number from 0 and its source, and at which of the passage's characters it stands first."""

    start: int
    end: int
    passage: int
    source: str
    offset: int


@dataclass(frozen=True)
class Span:
    """A piece of the text, from character `start` up to `end`. A retrieved one has its `quote`, and in `matches` what
    of it stands in the training data too; a memorised one has its match there; a composed one has neither."""

    start: int
    end: int
    kind: Kind
    matches: tuple[Match, ...] = ()
    quote: Quote | None = None


def least_span(tokens: int, bytes_per_token: float) -> int:
    """How many tokens a span needs to be called memorised, of data with so many.

    A good language model needs some 0.8 bits for a byte of English or Chinese, so text that is as usual as possible
    still has 2^(0.8 b) ways to go on for b bytes. Among so many tokens of data, a span of b bytes stands at a given
    place by chance with at most a probability of tokens / 2^(0.8 b). The span is as long as makes that one in 2^7:
    11 tokens of 4 bytes for 100 million tokens, 33 letters of Shakespeare for a tokenizer of characters.
    """
    return max(2, math.ceil((math.log2(max(2, tokens)) + SURE) / (BITS_PER_BYTE * max(bytes_per_token, 0.1))))


def find_matches(
    array: SuffixArray,
    asked: Asked,
    found: Found,
    tokenizer: Tokenizer,
    least: int,
    places: int,
    where: Callable[[int, int], Place],
) -> list[Match]:
    """All maximal spans of at least `least` tokens, in order. `where` tells of a place in the sorted text, and a number
    of tokens from there on, what it is."""
    length = found.longest
    ends = np.arange(len(length)) + length
    maximal = ends > np.concatenate([[0], ends[:-1]])
    short = max(least - 2 * EDGE, (least + 1) // 2)
    at = np.flatnonzero(maximal & (length >= short))
    if not len(at):
        return []
    most = max(places, LOOKED_AT)

    def stands(first: Ints, tokens: Ints) -> tuple[list[list[int]], Ints]:
        """The first places of these tokens, and how many there are."""
        begins, stops = array.ranges(asked.symbols, found, first, tokens)
        return [array.starts(*r, most).tolist() for r in zip(begins, stops, strict=True)], (stops - begins).sum(axis=1)

    all_stands, counts = stands(at, length[at])
    kept: list[tuple[Match, list[tuple[int, int]]]] = []  # each with its places and their tokens
    for first, tokens, here, count in zip(at.tolist(), length[at].tolist(), all_stands, counts.tolist(), strict=True):
        spans = [_widened(array, asked, tokenizer, first, first + tokens, place) for place in here]
        start, end = max(spans, key=lambda span: span[1] - span[0])
        if start >= end:  # bytes of different characters
            continue
        whole = [place for place, span in zip(here, spans, strict=True) if span == (start, end)]
        if tokens < least:
            if _tokens_in(asked, start, end) < least:
                continue
            count, here = len(whole), whole
        shown = [(place, tokens) for place in [*whole, *(place for place in here if place not in whole)]]
        kept.append((Match(start, end, first, tokens, count, ()), shown))
    kept = _outermost(kept)
    # The same letters may be cut into other tokens at an edge.
    few = [(match, shown) for match, shown in kept if len(shown) < places and match.tokens > 2]
    inner = [(*one, skip, drop) for skip, drop in ((1, 0), (0, 1), (1, 1)) for one in few]
    firsts = np.array([match.first + skip for match, _, skip, _ in inner], np.int64)
    lengths = np.array([match.tokens - skip - drop for match, _, skip, drop in inner], np.int64)
    asking = zip(inner, stands(firsts, lengths)[0], firsts.tolist(), lengths.tolist(), strict=True)
    for (match, shown, _, _), here, begin, many in asking:
        known = {place + skip for place, n in shown for skip in range(match.tokens - n + 2)}
        said = asked.text[match.start : match.end]
        letters = match.start + len(said) - len(said.lstrip()), match.end - len(said) + len(said.rstrip())
        for place in here:
            start, end = _widened(array, asked, tokenizer, begin, begin + many, place)
            if place not in known and start <= letters[0] and letters[1] <= end:
                shown.append((place, many))
    return [replace(m, places=tuple(where(*place) for place in shown[:places])) for m, shown in kept]


def find_quotes(text: str, passages: Sequence[tuple[str, str]]) -> list[Quote]:
    """All maximal spans that stand in a passage, (source, text) each, and are too long to do so by chance; by
    characters."""
    total = sum(len(passage.encode("utf-8", "replace")) for _, passage in passages)
    if total > MOST_CHARACTERS:
        raise InputError(
            "the passages have {count:,} bytes; at most {limit:,} can be compared",
            hint="Give those that the reply was written from.", count=total, limit=MOST_CHARACTERS,
        )  # fmt: skip
    if not total:
        return []
    least = least_span(total, 1.0)
    array = SuffixArray.of([_points(passage) for _, passage in passages], reach=max(2, len(text)))
    found = array.match(_points(text))
    length = found.longest
    ends = np.arange(len(length)) + length
    at = np.flatnonzero(ends > np.concatenate([[0], ends[:-1]]))
    begins = np.cumsum([0, *(len(passage) + 1 for _, passage in passages)])
    quotes: list[Quote] = []
    for first in at.tolist():
        start, end = _whole_words(text, first, int(ends[first]), limit=(int(ends[first]), first))
        if len(text[start:end].strip().encode("utf-8", "replace")) < least:
            continue
        low, high = array.ranges(_points(text), found, np.array([first]), length[[first]])
        place = int(array.starts(low[0], high[0], 1)[0])
        passage = int(np.searchsorted(begins, place, side="right")) - 1
        quotes.append(Quote(start, end, passage, passages[passage][0], place - int(begins[passage]) + start - first))
    return quotes


def tile(length: int, matches: Sequence[Match], quotes: Sequence[Quote]) -> list[Span]:
    """A text of `length` characters in spans that cover it, in order. Where two overlap the longer has the characters;
    what was retrieved goes before what was memorised."""
    match_of, quote_of = _owners(length, matches), _owners(length, quotes)
    label = np.where(quote_of >= 0, len(matches) + quote_of, match_of)
    cuts = [0, *(np.flatnonzero(label[1:] != label[:-1]) + 1).tolist(), length]
    spans: list[Span] = []
    for start, end in pairwise(cuts):
        if quote_of[start] >= 0:
            also = tuple(m for m in matches if m.start < end and m.end > start)
            spans.append(Span(start, end, "retrieved", also, quotes[quote_of[start]]))
        elif match_of[start] >= 0:
            spans.append(Span(start, end, "memorised", (matches[match_of[start]],)))
        else:
            spans.append(Span(start, end, "composed"))
    return spans


def _widened(
    array: SuffixArray, asked: Asked, tokenizer: Tokenizer, first: int, last: int, place: int
) -> tuple[int, int]:
    """The characters that tokens `first` up to `last` and the bytes beside them have in common with the text at
    `place`."""
    begin, end = int(asked.edges[first]), int(asked.edges[last])
    start, stop = begin, end
    at = place
    while at > 0 and (piece := _piece(array, tokenizer, at - 1)):
        same = _common(asked.bytes[max(0, start - len(piece)) : start][::-1], piece[::-1])
        start, at = start - same, at - 1
        if same < len(piece):
            break
    at = place + last - first
    while piece := _piece(array, tokenizer, at):
        same = _common(asked.bytes[stop : stop + len(piece)], piece)
        stop, at = stop + same, at + 1
        if same < len(piece):
            break
    core = asked.character_from(begin), asked.character_to(end)
    return _whole_words(asked.text, asked.character_from(start), asked.character_to(stop), limit=core)


def _piece(array: SuffixArray, tokenizer: Tokenizer, place: int) -> bytes:
    """What the symbol at a place says: nothing for the end of a document and for structure."""
    symbol = int(array.text[place])
    return tokenizer.token_bytes(symbol - 1) if symbol else b""


def _common(one: bytes, other: bytes) -> int:
    length = min(len(one), len(other))
    return next((i for i in range(length) if one[i] != other[i]), length)


def _whole_words(text: str, start: int, end: int, limit: tuple[int, int]) -> tuple[int, int]:
    """The span without the parts of words at its edges; it begins no later than the first limit and ends no earlier
    than the second."""
    while start < min(limit[0], end) and _in_word(text, start):
        start += 1
    while end > max(limit[1], start) and _in_word(text, end):
        end -= 1
    return start, end


def _in_word(text: str, at: int) -> bool:
    """Whether a word of letters goes on across this place; Chinese has no such."""
    return 0 < at < len(text) and all(c.isalnum() and ord(c) < 0x2E80 for c in text[at - 1 : at + 1])


def _tokens_in(asked: Asked, start: int, end: int) -> int:
    """How many whole tokens lie between two characters."""
    begin, stop = asked.byte_at(start), asked.byte_at(end)
    return int(((asked.edges[:-1] >= begin) & (asked.edges[1:] <= stop)).sum())


def _outermost(kept: list[tuple[Match, list[tuple[int, int]]]]) -> list[tuple[Match, list[tuple[int, int]]]]:
    """Without those that lie within another; of two that are the same the first stays."""
    left, furthest = [], 0
    for one in sorted(kept, key=lambda one: (one[0].start, -one[0].end)):
        if one[0].end > furthest:
            furthest = one[0].end
            left.append(one)
    return left


def _owners(length: int, spans: Sequence[Match] | Sequence[Quote]) -> NDArray[np.int64]:
    owner = np.full(length, -1, np.int64)
    for i in sorted(range(len(spans)), key=lambda i: spans[i].end - spans[i].start):
        owner[spans[i].start : spans[i].end] = i
    return owner


def _points(text: str) -> Ints:
    """The characters as numbers from 1 on."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4").astype(np.int64) + 1
