"""How a table is written: what stands between its cells, how cells are quoted, how wide it is, whether it has a header.

Each candidate reads the first lines; the one under which most records have the same number of cells is taken.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

SAMPLE_LINES, SAMPLE_CHARACTERS = 400, 200_000
_DELIMITERS = ",\t;|^~\x1f\x01"
_BY_SUFFIX = {".tsv": "\t", ".tab": "\t", ".psv": "|", ".ssv": ";"}
_TOLD = re.compile(r'\ufeff?"?sep=(.)"?[\s,;]*', re.IGNORECASE)
_SENTENCE = re.compile(r".*[?!。？！…]|.{20,}[.]", re.DOTALL)
Fold = Callable[[str], str]
_IDENTIFIER = re.compile(r"[a-z]+(_[a-z0-9]+)+|(field|column|col|字段|列)\s*\d+", re.IGNORECASE)
_NUMBER = re.compile(r"\s*[-+]?[\d.,:/%$€¥ -]*\d[\d.,:/%$€¥ -]*\s*")


@dataclass(frozen=True)
class Dialect:
    """Attributes:
    delimiter: one character, or "" for a table of one column.
    quote: the character around cells that hold a delimiter, doubled within them.
    escape: a character that takes a quote's meaning away, or None.
    spaces: blanks after a delimiter do not belong to the cell.
    """

    delimiter: str = ","
    quote: str = '"'
    escape: str | None = None
    spaces: bool = False

    def reader_settings(self) -> dict[str, Any]:
        """The settings for `csv.reader`, which complains about what follows a closing quote and about a missing one."""
        return {
            "delimiter": self.delimiter or "\x00",
            "quotechar": self.quote,
            "escapechar": self.escape,
            "skipinitialspace": self.spaces,
            "strict": True,
        }


@dataclass
class Layout:
    """A table's beginning.

    Attributes:
        width: how many cells its records have.
        header: the names of the columns, or None when the first record is data.
        skip: how many lines the header and what stands before it take.
        preamble: the lines before the table that hold something.
        sample: some of the first records below the header.
    """

    dialect: Dialect
    width: int
    header: list[str] | None
    skip: int
    preamble: list[str]
    sample: list[list[str]]


def sample_records(lines: Sequence[str], dialect: Dialect) -> list[tuple[int, list[str]]]:
    """The records of the lines, each with the number of lines up to its end. A broken quote is read literally."""
    records: list[tuple[int, list[str]]] = []
    start = 0
    while start < len(lines):
        base = start
        reader = csv.reader(iter(lines[base:]), **dialect.reader_settings())
        try:
            for record in reader:
                start = base + reader.line_num
                records.append((start, record))
        except csv.Error:
            record = lines[start].rstrip("\r\n").split(dialect.delimiter) if dialect.delimiter else [lines[start]]
            start += 1
            records.append((start, record))
    return [(end, record) for end, record in records if any(cell.strip() for cell in record) or len(record) > 1]


def find_dialect(
    lines: Sequence[str], suffix: str, known: frozenset[str], fold: Fold, delimiters: str = _DELIMITERS
) -> Dialect:
    """The dialect that reads the first lines of a table most evenly.

    Args:
        suffix: of the file's name, ".tsv" and the like, which decides between equals.
        known: folded names that only a header has; a dialect under which the first record holds one is preferred.
    """
    lines = _beginning(lines)
    text = "".join(lines)
    best, dialect = 0.0, Dialect(delimiter="")
    if {fold(cell) for _, record in sample_records(lines, dialect)[:1] for cell in record} & known:
        return dialect
    for delimiter in (d for d in delimiters if d in text):
        for candidate in _candidates(delimiter, text):
            records = sample_records(lines, candidate)
            score = _evenness(records)
            if records and {fold(cell) for cell in records[0][1]} & known:
                score += 10.0
            if _BY_SUFFIX.get(suffix) == delimiter:
                score *= 1.5
            if score > best * 1.0001:
                best, dialect = score, candidate
    return dialect


def _beginning(lines: Sequence[str]) -> list[str]:
    taken: list[str] = []
    size = 0
    for line in lines[:SAMPLE_LINES]:
        size += len(line)
        if taken and size > SAMPLE_CHARACTERS:
            break
        taken.append(line)
    return taken


def _candidates(delimiter: str, text: str) -> list[Dialect]:
    """The plainest first: a later one must read the table better to be taken."""
    d = re.escape(delimiter)
    found = [Dialect(delimiter)]
    if delimiter != "\t" and re.search(d + ' +"', text):
        found.append(Dialect(delimiter, spaces=True))
    if '\\"' in text or "\\" + delimiter in text:
        found.append(Dialect(delimiter, escape="\\"))
    cells = len(re.findall(rf"(?:^|{d})'[^'\r\n]+'(?={d}|$|\r|\n)", text, re.MULTILINE))
    if cells and cells > text.count('"') and cells >= text.count("'") // 4:
        found.append(Dialect(delimiter, quote="'"))
    return found


def _evenness(records: list[tuple[int, list[str]]]) -> float:
    """0 when the records are no table; more, the more of them have the same number of cells, and the more cells."""
    if not records:
        return 0.0
    counts = Counter(len(record) for _, record in records)
    width, often = counts.most_common(1)[0]
    share = often / len(records)
    if width < 2 or share < 0.6:
        return 0.0
    quotes = sum(1 for _, record in records for cell in record if '"' in cell or cell.startswith("'")) / len(records)
    return share**3 * (1 + min(width, 20) / 40) / (1 + 0.2 * quotes) * (1.0 if len(records[0][1]) == width else 0.7)


def find_layout(
    lines: Sequence[str], suffix: str, known: frozenset[str], fold: Fold, delimiters: str = _DELIMITERS
) -> Layout:
    """The dialect, width and header of a table.

    Args:
        lines: its first lines.
        known: folded names that only a header has.
        fold: makes a column's name comparable.
        delimiters: what may stand between the cells.
    """
    lines = _beginning(lines)
    told = _TOLD.fullmatch(lines[0]) if lines else None
    if told and len(lines) > 1:  # Excel's own way to say what stands between the cells
        layout = find_layout(lines[1:], suffix, known, fold, delimiters=told[1])
        layout.skip += 1
        return layout
    dialect = find_dialect(lines, suffix, known, fold, delimiters)
    records = sample_records(lines, dialect)
    if not records:
        return Layout(dialect, 1, None, 0, [], [])
    width = Counter(len(record) for _, record in records).most_common(1)[0][0]
    if {fold(cell) for cell in records[0][1]} & known:
        width = len(records[0][1])  # a header with known names is the header, whatever comes after it
    first = next(i for i, (_, record) in enumerate(records) if len(record) == width)
    body = [record for _, record in records[first + 1 :] if len(record) == width]
    end, header = records[first]
    if (
        first == 1 and len(records[0][1]) == width - 1
    ):  # as R writes tables: the first column, of row names, has no name
        above = ["", *records[0][1]]
        if looks_like_header(above, [header, *body], known, fold):
            return Layout(dialect, width, [name.strip() for name in above], records[0][0], [], [header, *body])
    start = records[first - 1][0] if first else 0
    preamble = [line.rstrip("\r\n") for line in lines[:start] if line.strip()]
    if looks_like_header(header, body, known, fold):
        return Layout(dialect, width, [name.strip() for name in header], end, preamble, body)
    return Layout(dialect, width, None, start, preamble, [header, *body])


def looks_like_header(first: Sequence[str], body: Sequence[Sequence[str]], known: frozenset[str], fold: Fold) -> bool:
    """Whether the first record names the columns: it holds a known name, or it is unlike what stands below it."""
    if {fold(cell) for cell in first} & known:
        return True
    named = [cell.strip() for cell in first if cell.strip()]
    if not body or not named or len(set(named)) < len(named):
        return False
    if any(_SENTENCE.fullmatch(c) or is_number(c) for c in named):
        return False
    if any(_IDENTIFIER.fullmatch(c) for c in named):
        return True
    for i, cell in enumerate(first):
        below = [record[i].strip() for record in body if record[i].strip()]
        if not below or not cell.strip():
            continue
        if sum(map(is_number, below)) > len(below) // 2:
            return True
        if len(first) == 1:
            return False  # short among longer texts is no sign of a name
        longer = sum(map(len, below)) / len(below) > 2.5 * len(cell.strip())
        if longer and len(cell) <= 40 and cell.strip() not in below:
            return True
    return False


def is_number(cell: str) -> bool:
    """Whether a cell holds a number, date, amount or nothing else that is text."""
    return _NUMBER.fullmatch(cell) is not None
