"""A long text in pieces that can be found and read: whole paragraphs where they fit, else whole sentences.

Nothing is changed and nothing is lost: a piece is a slice of the text, and between two pieces stands only white space.
The work grows with the length of the text and with nothing else, since the text comes from outside.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Sequence

LEAST, MOST = 300, 600  # characters of a piece, where the text allows
SPARE = 100  # a rest this much longer than a piece stays with it: better than a crumb of its own
WHOLE = 4_000  # characters up to which a table or a block of code is kept together

_PARAGRAPH = re.compile(r"(?:\r\n|\r(?!\n)|\n)[ \t\u3000]*(?:\r\n|\r|\n)")
_SENTENCE = re.compile(r"[。！？…]+|[.!?]+[\"'”’)\]]{0,4}(?=\s)|\r\n?|\n")
_CLAUSE = re.compile(r"[；，、：]|[;,:](?=\s)")
_SPACE = re.compile(r"\s")
_CLOSING = "”’」』）】》〉\"'"  # belong to the sentence that ends before them
_ABBREVIATION = re.compile(
    r"(?:^|[\s(])(?:[A-Za-z]|[Mm]rs?|[Mm]s|[Dd]r|[Pp]rof|[Ss]t|[Nn]o|[Nn]os|[Vv]s|[Ee]tc|[Ee]\.g|[Ii]\.e|[Aa]pprox|[Ff]ig|[Vv]ol|pp)\.$"
)
_JOINED = ("\u200d", "\ufe0e", "\ufe0f")  # characters that make one sign with their neighbour

Span = tuple[int, int]


def spans(text: str, start: int = 0, end: int | None = None, whole: Sequence[Span] = ()) -> Iterator[Span]:
    """Where the pieces of `text[start:end]` begin and end.

    Args:
        whole: parts that are not cut, in order and apart from each other; one longer than `WHOLE` is cut all the same.
    """
    end = len(text) if end is None else end
    kept = [span for span in whole if span[1] - span[0] <= WHOLE and span[1] > start and span[0] < end]
    starts = [span[0] for span in kept]
    position = _begin(text, start, end)
    while position < end:
        if end - position <= MOST + SPARE:
            cut = end
        else:
            cut = _cut(text, position, end, kept, starts)
        last = cut
        while last > position and text[last - 1].isspace():
            last -= 1
        if last > position:
            yield position, last
        position = _begin(text, cut, end)


def _begin(text: str, position: int, end: int) -> int:
    """The next line that holds something: with its indentation, which means something in code."""
    first = position
    while first < end and text[first].isspace():
        first += 1
    if first == end:
        return end
    line = max(text.rfind("\n", position, first), text.rfind("\r", position, first)) + 1
    return line if line > 0 else first


def _cut(text: str, position: int, end: int, kept: Sequence[Span], starts: Sequence[int]) -> int:
    """Where the piece that begins at `position` ends best."""
    low, high = position + LEAST, position + MOST

    def around(place: int) -> Span | None:
        at = bisect_right(starts, place - 1) - 1
        return kept[at] if at >= 0 and kept[at][0] < place < kept[at][1] else None

    for border in (_PARAGRAPH, _SENTENCE, _CLAUSE, _SPACE):
        best = 0
        for match in border.finditer(text, low, high):
            place = match.end()
            if around(place) is None and not (border is _SENTENCE and _abbreviated(text, match.start(), place)):
                best = place
        if best:
            while best < end and best < high + 4 and text[best] in _CLOSING:
                best += 1
            return best
    there = around(high)
    if there is not None:
        return there[0] if there[0] - position >= LEAST else there[1]
    cut = high
    while cut > low and (unicodedata.combining(text[cut]) or text[cut] in _JOINED or text[cut - 1] == "\u200d"):
        cut -= 1
    return cut


def _abbreviated(text: str, start: int, end: int) -> bool:
    return text[start] == "." and _ABBREVIATION.search(text[max(0, start - 8) : start + 1]) is not None
