"""Rows that say the same: equal, equal but for case, spacing and punctuation, or nearly equal.

Each row leaves only numbers behind: 17 bytes, and 128 more for the near-duplicate search, whatever its length. When
all rows are read the numbers are sorted, which brings equal ones together; so a million rows need about 0.15 GB.

Nearly equal is the Jaccard similarity of the sets of character shingles (Broder 1997). MinHash with bands (Leskovec,
Rajaraman and Ullman, "Mining of Massive Datasets", section 3.4) finds pairs that could be; each is then compared in
full, so a pair that is not similar is never dropped, while one in a thousand of the similar ones may be missed.
Rows whose numbers differ are no duplicates ("12 + 13" and "12 + 14"), so the numbers are part of every bucket's key:
a million answers from one template, each about another order, are not compared with one another.
"""

from __future__ import annotations

import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash

from glassgpt.data.personal import KINDS, mask_personal
from glassgpt.data.rows import Row

SIMILARITY = 0.85
BANDS, PER_BAND = 16, 5
_SHARED_BANDS = 2  # that two rows must have in common to be compared; one alone is too often chance
SHINGLE, CHINESE_SHINGLE = 5, 3  # characters; a Chinese character says as much as a short word
_FIRST_CHINESE = 0x2E80
LONGEST = 200_000  # of a longer text, the beginning is compared
_MOST_IN_BUCKET = 100  # rows that later ones are compared with
_MOST_COMPARED = 20  # rows that one row is compared with, those with the most buckets in common
_REMEMBERED = 1_000_000  # characters of rows whose shingles are kept for the next comparison
_BETWEEN = "\x1e"

# Prose punctuation only: `5!`, `!x`, `1.5`, `a-b` and brackets mean something.
_PUNCTUATION = re.compile(r"[?;…“”\"，。！？；：、（）《》「」～·—]+|(?<!\d)[.,:]|[.,:](?!\d)|(?<!\d)!(?![\w(=])")
_MASKS = re.compile(rf"\[(?:{'|'.join(KINDS)})\]")
_CHINESE_SPACES = re.compile("(?<=[\u2e80-\u9fff]) | (?=[\u2e80-\u9fff])")
_NUMBERS = re.compile(r"\d+(?:[.,:]\d+)*")


@dataclass(slots=True)
class Prints:
    """What is remembered of N rows: `exact` and `folded` are uint64 (N), `form` uint8 (N), the less the better it is
    written, `bands` uint64 (N, BANDS). Without the near-duplicate search, all but `exact` have no rows."""

    exact: NDArray[np.uint64]
    folded: NDArray[np.uint64]
    form: NDArray[np.uint8]
    bands: NDArray[np.uint64]

    @staticmethod
    def join(parts: Sequence[Prints]) -> Prints:
        """The prints of all parts, one after the other."""
        parts = parts or [_prints([], [], [])]
        names = ("exact", "folded", "form", "bands")
        return Prints(*(np.concatenate([getattr(p, name) for p in parts]) for name in names))


@dataclass(slots=True)
class Duplicate:
    """Row `row` repeats row `of`; both are positions. `similarity` is 1.0 where only the form differs."""

    row: int
    of: int
    exact: bool
    similarity: float


def fold(text: str) -> str:
    """The text without what does not change its meaning: case, spacing, punctuation, whom to call or write to."""
    text = mask_personal(text)
    if "[" in text:
        text = _MASKS.sub(" ", text)
    text = text.casefold().replace("'", "").replace("’", "")
    text = " ".join(_PUNCTUATION.sub(" ", text).split())
    return _CHINESE_SPACES.sub("", text) if " " in text and not text.isascii() else text


def fingerprints(rows: Sequence[Row], *, near: bool) -> Prints:
    """The prints of rows; without `near` only `exact` is made."""
    exact = [_hash(_BETWEEN.join((*row.roles, *row.texts))) for row in rows]
    if not near:
        return _prints(exact, [], [])
    parts = [[fold(text) for text in row.texts] for row in rows]
    texts = [_BETWEEN.join(part) for part in parts]
    folded = [_hash(_BETWEEN.join((*row.roles, text))) for row, text in zip(rows, texts, strict=True)]
    prints = _prints(exact, folded, [_form(row.texts) for row in rows])
    numbers = np.array([_hash(repr(found)) if any(found := numbers_in(part)) else 0 for part in parts], np.uint64)
    prints.bands = _mix(band_hashes(texts) ^ numbers[:, None])
    return prints


def _prints(exact: list[int], folded: list[int], form: list[int]) -> Prints:
    none = np.empty((0, BANDS), np.uint64)
    return Prints(np.array(exact, np.uint64), np.array(folded, np.uint64), np.array(form, np.uint8), none)


def _form(texts: Sequence[str]) -> int:
    """How badly a row is written, for the choice between rows that say the same: capitals only is worse than small
    letters only; both worse than a sentence's own mixture."""
    return min(sum(2 * text.isupper() + text.islower() for text in texts), 255)


def numbers_in(texts: Sequence[str]) -> list[list[str]]:
    """The numbers in each of a row's folded texts."""
    return [_NUMBERS.findall(text) for text in texts]


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def shingles(text: str) -> set[str]:
    """Every stretch of five characters, or three where it begins with a Chinese one; the end is filled up."""
    text = text[:LONGEST]
    filled = text + "\0" * (SHINGLE - 1)
    return {
        filled[at : at + (CHINESE_SHINGLE if ord(c) >= _FIRST_CHINESE else SHINGLE)] for at, c in enumerate(text)
    } or {""}


def band_hashes(texts: Sequence[str]) -> NDArray[np.uint64]:
    """(N, BANDS): two texts that share a number in the same column could be near-duplicates."""
    if not texts:
        return np.empty((0, BANDS), np.uint64)
    pad = "\0" * (SHINGLE - 1)
    cut = [text[:LONGEST] + pad for text in texts]
    codes = np.frombuffer("".join(cut).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    hashes = _shingle_hashes(codes)
    lengths = np.array([len(text) - len(pad) for text in cut])
    starts = np.cumsum([0, *(lengths + len(pad))])
    inside = np.arange(len(codes)) - np.repeat(starts[:-1], lengths + len(pad)) < np.repeat(lengths, lengths + len(pad))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.uint64)
    minima = RMinHash.digest_matrix_from_flat_token_hashes(hashes[inside], offsets, BANDS * PER_BAND, 1).to_rows()
    parts = np.array(minima, np.uint64).reshape(len(texts), BANDS, PER_BAND)
    mixed = np.zeros((len(texts), BANDS), np.uint64)
    for at in range(PER_BAND):
        mixed = _mix(mixed ^ parts[:, :, at])
    return mixed


def _shingle_hashes(codes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """For each character the hash of the shingle that begins there; the last few are not meaningful."""
    total = len(codes) - (SHINGLE - 1)
    short = mixed = np.zeros(total, np.uint64)
    for at in range(SHINGLE):
        mixed = _mix(mixed ^ codes[at : at + total])
        if at == CHINESE_SHINGLE - 1:
            short = mixed
    hashes = np.zeros(len(codes), np.uint64)
    hashes[:total] = np.where(codes[:total] >= _FIRST_CHINESE, short, mixed)
    return hashes


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A one-to-one scrambling of 64 bits (multiply by an odd number, fold the high half in)."""
    values = (values + np.uint64(0x632BE59BD9B4E019)) * np.uint64(0x9E3779B97F4A7C15)
    return values ^ (values >> np.uint64(32))


class Pieces:
    """A row made ready to be compared: its folded texts' lengths, numbers and shingles."""

    def __init__(self, texts: Sequence[str]) -> None:
        folded = [fold(text) for text in texts]
        self.lengths = [len(text) for text in folded]
        self.numbers = numbers_in(folded)
        self.shingles = [shingles(text) for text in folded]


def similarity(one: Pieces, other: Pieces, at_least: float = 0.0) -> float:
    """How alike two rows are: the Jaccard similarity of their least similar texts. 0 when a number differs, for
    "12 + 13" and "12 + 14" are no variants, and 0 early when `at_least` cannot be reached."""
    if one.numbers != other.numbers:  # or there are more texts in one of them
        return 0.0
    if any(min(a, b) < at_least * max(a, b) * 0.9 for a, b in zip(one.lengths, other.lengths, strict=True)):
        return 0.0
    least = 1.0
    for a, b in zip(one.shingles, other.shingles, strict=True):
        shared = len(a & b)
        least = min(least, shared / (len(a) + len(b) - shared))
        if least < at_least:
            return 0.0
    return least


def find_duplicates(
    prints: Prints,
    texts_of: Callable[[int], Sequence[str]],
    *,
    exact: bool = True,
    near: bool = True,
    at_least: float = SIMILARITY,
    progress: Callable[[int, int], None] | None = None,
) -> list[Duplicate]:
    """The rows to drop, in their order. Of equal rows the first stays, of rows that differ in their form the best
    written one, of similar ones the first.

    Args:
        texts_of: the texts of the row at a position; asked only where hashes agree.
        exact, near: which duplicates are looked for.
        at_least: the similarity from which rows count as nearly equal.
        progress: told (rows compared, rows to compare) now and then.
    """
    found: dict[int, Duplicate] = {}
    if exact:
        for row, of in _repeats(prints.exact, np.zeros(len(prints.exact), np.uint8)):
            found[row] = Duplicate(row, of, True, 1.0)
    if near:
        left = np.setdiff1d(np.arange(len(prints.folded)), np.fromiter(found, np.int64, len(found)))
        for row, of in _repeats(prints.folded[left], prints.form[left]):
            found[int(left[row])] = Duplicate(int(left[row]), int(left[of]), False, 1.0)
        left = np.setdiff1d(left, np.fromiter(found, np.int64, len(found)))
        for duplicate in _near(prints.bands, left, texts_of, at_least, progress):
            found[duplicate.row] = duplicate
    return [found[row] for row in sorted(found)]


def _repeats(keys: NDArray[np.uint64], form: NDArray[np.uint8]) -> list[tuple[int, int]]:
    """(position, position of the best, and of those the first, with the same key) of every other one."""
    order = np.lexsort((form, keys))
    ordered = keys[order]
    again = np.flatnonzero(ordered[1:] == ordered[:-1]) + 1
    best = np.searchsorted(ordered, ordered[again])
    return list(zip(order[again].tolist(), order[best].tolist(), strict=True))


def _near(
    bands: NDArray[np.uint64],
    rows: NDArray[np.int64],
    texts_of: Callable[[int], Sequence[str]],
    at_least: float,
    progress: Callable[[int, int], None] | None,
) -> list[Duplicate]:
    """Rows in order, each compared with the kept ones that share buckets with it."""
    members, buckets = _shared_buckets(bands, rows)
    kept: dict[int, list[int]] = {}
    pieces = remembering(texts_of)
    found = []
    ends = np.flatnonzero(np.diff(members, append=-1)) + 1
    start = 0
    for done, end in enumerate(ends.tolist()):
        row, mine = int(members[start]), buckets[start:end].tolist()
        start = end
        shared = Counter(other for bucket in mine for other in kept.get(bucket, ()))
        for other, count in shared.most_common(_MOST_COMPARED):
            if count < _SHARED_BANDS:
                continue
            share = similarity(pieces(other), pieces(row), at_least)
            if share >= at_least:
                found.append(Duplicate(row, other, False, share))
                break
        else:
            for bucket in mine:
                firsts = kept.setdefault(bucket, [])
                if len(firsts) < _MOST_IN_BUCKET:
                    firsts.append(row)
        if progress and done % 1000 == 0:
            progress(done, len(ends))
    return found


def remembering(texts_of: Callable[[int], Sequence[str]]) -> Callable[[int], Pieces]:
    """The pieces of the row at a position; the last ones asked for are kept."""
    recent: OrderedDict[int, Pieces] = OrderedDict()
    size = 0

    def pieces(row: int) -> Pieces:
        nonlocal size
        if row in recent:
            recent.move_to_end(row)
            return recent[row]
        made = recent[row] = Pieces(texts_of(row))
        size += sum(made.lengths)
        while size > _REMEMBERED and len(recent) > 1:
            size -= sum(recent.popitem(last=False)[1].lengths)
        return made

    return pieces


def _shared_buckets(bands: NDArray[np.uint64], rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(row, bucket) of all rows that are not alone in a bucket, by row. A bucket is a number of ours."""
    members, buckets, named = [np.empty(0, np.int64)], [np.empty(0, np.int64)], 0
    for band in range(BANDS):
        keys = bands[rows, band]
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        begins = np.concatenate([[True], ordered[1:] != ordered[:-1]]) if len(ordered) else np.empty(0, bool)
        bucket = np.cumsum(begins) - 1
        shared = np.bincount(bucket)[bucket] > 1 if len(bucket) else np.empty(0, bool)
        members.append(rows[order[shared]])
        buckets.append(bucket[shared] + named)
        named += len(rows)
    member, name = np.concatenate(members), np.concatenate(buckets)
    order = np.argsort(member, kind="stable")
    return member[order], name[order]
