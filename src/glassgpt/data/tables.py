"""CSV, TSV and other tables, read in blocks.

pandas reads the blocks that hold no quote, which is most of most files. It is not right for the others: it gives a
short record and one with an empty last cell as the same, and a quote that is never closed swallows the rest of the
file. Blocks with quotes, and those whose delimiters do not add up, go through `csv`, whose strict reader says where a
quote is broken; the line where it was opened is then read literally, and the next line begins a new record.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any

from glassgpt.core.errors import FormatError, InputError
from glassgpt.core.words import Sentence
from glassgpt.data.columns import KNOWN_NAMES, fold
from glassgpt.data.dialect import SAMPLE_LINES, Dialect, Layout, find_layout
from glassgpt.data.languages import MARK
from glassgpt.data.reading import MAX_LINE, TextFile

MAX_COLUMNS = 10_000
MAX_QUOTED = 4 << 20  # characters of one record that spans lines; a quote open for longer was never closed


@dataclass(frozen=True)
class Trouble:
    """A record that is none: why, and what stood there."""

    reason: Sentence
    text: str


Record = Sequence[str] | Trouble


class Table:
    """A table in a text file.

    Args:
        file: the text.
        names: further names that only a header has, folded (those the user gave).

    Attributes:
        header: the columns' names; "1", "2", ... where the table names none.
        named: the table has a header of its own.
        layout: how it is written.
        preamble: lines that stand before it.
        repaired: records whose broken quotes were read literally, so far.
        padded: records without the cells of nameless last columns, or with empty cells too many, so far.

    Raises:
        InputError: it holds nothing.
        FormatError: it has more columns than a table may have.
    """

    def __init__(self, file: TextFile, names: frozenset[str] = frozenset()) -> None:
        self.file, self.repaired, self.padded = file, 0, 0
        self._blocks = file.lines()
        self._first: list[str] = []
        for lines in self._blocks:
            self._first += lines
            if len(self._first) > SAMPLE_LINES or sum(map(len, self._first)) > MAX_QUOTED:
                break
        if not any(line.strip() for line in self._first):
            raise InputError("{name} is empty", hint="Give a file with at least one record.", name=file.name)
        suffix = next((s for s in map(str.lower, file.path.suffixes[::-1]) if s != ".gz"), "")
        self.layout: Layout = find_layout(self._first, suffix, KNOWN_NAMES | names, fold)
        self.named = self.layout.header is not None
        self.header = self.layout.header or [str(i + 1) for i in range(self.layout.width)]
        reason = Sentence("it stands before the table and has not its {width} cells", width=self.layout.width)
        self.preamble = [Trouble(reason, line) for line in self.layout.preamble]
        self._required = max((i + 1 for i, name in enumerate(self.header) if name), default=1)
        if self.layout.width > MAX_COLUMNS:
            raise FormatError(
                "{name} has {width} columns; a table may have {limit}",
                hint="Is it a table with one record a line?",
                name=file.name,
                width=self.layout.width,
                limit=MAX_COLUMNS,
            )
        csv.field_size_limit(MAX_LINE)  # one setting for the whole process; 131,072 unless told

    def records(self, wanted: Sequence[int] | None = None) -> Iterator[list[Record]]:
        """The records in order, in lists, without the header. Reads the file once.

        Args:
            wanted: the columns to give, in the order to give them; all of them unless told.
        """
        pick = _picker(wanted)
        lines, self._first = self._first[self.layout.skip :], []
        for following in chain(self._blocks, [None]):
            records = self._by_pandas(lines, wanted)
            rest: list[str] = []
            if records is None:
                records, rest = self._by_csv(lines, pick, last=following is None)
            yield records
            lines = rest + (following or [])

    def _by_pandas(self, lines: list[str], wanted: Sequence[int] | None) -> list[Record] | None:
        """The records of a block of whole lines that pandas is sure to read as `csv` does; None where it is not."""
        import pandas as pd  # a third of a second, which who reads a plain text need not wait

        dialect, width = self.layout.dialect, self.layout.width
        if width < 2 or dialect.escape or dialect.spaces or not lines:
            return None
        if lines[0].startswith("\ufeff"):  # pandas would take it for a byte order mark, wherever the block begins
            return None
        text = "".join(lines)
        if dialect.quote in text or lines[0].count(dialect.delimiter) != width - 1 or self._marked(text):
            return None
        columns = range(width) if wanted is None else wanted
        try:
            frame: Any = pd.read_csv(
                io.StringIO(text),
                sep=dialect.delimiter,
                header=None,
                names=range(width),
                index_col=False,  # and no usecols: with it, a record with too many cells is cut without a word
                dtype=object,
                na_filter=False,
                quoting=csv.QUOTE_NONE,
            )
        except (pd.errors.ParserError, pd.errors.EmptyDataError):  # a record with too many cells, or blank lines only
            return None
        if text.count(dialect.delimiter) != (width - 1) * len(frame):  # a record with too few
            return None
        return list(zip(*(frame[i].tolist() for i in columns), strict=True))

    def _marked(self, text: str) -> bool:
        """Whether bytes stand in the text that the encoding does not explain."""
        return not self.file.encoding.whole and MARK.search(text) is not None

    def _by_csv(
        self, lines: list[str], pick: Callable[[Sequence[str]], Sequence[str]] | None, *, last: bool
    ) -> tuple[list[Record], list[str]]:
        """The records of the lines, and the lines of a record that may go on in the next block."""
        out: list[Record] = []
        width, settings = self.layout.width, self.layout.dialect.reader_settings()
        check = self._marked("".join(lines))
        start = 0
        while start < len(lines):
            base, broken = start, False
            reader = csv.reader(iter(lines[base:]), **settings)
            try:
                for record in reader:
                    end = base + reader.line_num
                    if len(record) != width or check:
                        kept = self._uneven(record, lines[start:end])
                        if isinstance(kept, Trouble) and end - start > 1 and len(record) != width:
                            broken = True  # the quote was closed by one that was meant to open
                            break
                        if kept is not None:
                            out.append(kept if isinstance(kept, Trouble) or pick is None else pick(kept))
                    else:
                        out.append(record if pick is None else pick(record))
                    start = end
            except csv.Error:
                open_to_the_end = base + reader.line_num >= len(lines)
                if open_to_the_end and not last and sum(map(len, lines[start:])) < MAX_QUOTED:
                    return out, lines[start:]
                broken = True
            if broken:
                literal = self._literally(lines[start])
                out.append(literal if isinstance(literal, Trouble) or pick is None else pick(literal))
                start += 1
        return out, []

    def _uneven(self, record: list[str], lines: list[str]) -> Record | None:
        """What becomes of a record of another width, or with unexplained bytes; None for a blank line."""
        width = self.layout.width
        if not any(cell.strip() for cell in record) and len(record) <= 1:
            return None
        text = "".join(lines).rstrip("\r\n")
        if MARK.search(text):
            return Trouble(
                Sentence("it holds bytes that {encoding} does not explain", encoding=self.file.encoding.name), text
            )
        if len(record) == width:
            return record
        if len(record) > width and not any(cell.strip() for cell in record[width:]):
            self.padded += 1
            return record[:width]
        if self._required <= len(record) < width:
            self.padded += 1
            return record + [""] * (width - len(record))
        return Trouble(
            Sentence("it has {count} cells; the table has {width} columns", count=len(record), width=width), text
        )

    def _literally(self, line: str) -> Record:
        """A line whose quotes are broken, read as if they were ordinary characters."""
        text = line.rstrip("\r\n")
        delimiter = self.layout.dialect.delimiter
        record = text.split(delimiter) if delimiter else [text]
        kept = self._uneven(record, [line])
        if isinstance(kept, Trouble) or kept is None:
            return Trouble(Sentence("a quote in it is opened and never closed, or closed too early"), text)
        self.repaired += 1
        return kept


def _picker(wanted: Sequence[int] | None) -> Callable[[Sequence[str]], Sequence[str]] | None:
    if wanted is None:
        return None
    if len(wanted) == 1:
        only = wanted[0]
        return lambda record: (record[only],)
    return itemgetter(*wanted)


def read_table(
    path: str | Path, *, encoding: str | None = None, troubles: Callable[[Trouble], None] | None = None
) -> tuple[list[str], Iterator[list[str]]]:
    """Any table, whatever its columns are: the header, and the records one by one.

    The header is "1", "2", ... where the first record looks like data. A record that could not be read is given to
    `troubles`, and stops the reading where there is none.

    Raises:
        FormatError, InputError: as `TextFile` and `Table` do, or a record could not be read.
    """
    path = Path(path)
    table = Table(TextFile(path, path.name, encoding=encoding))

    def all_records() -> Iterator[list[str]]:
        for number, record in enumerate(chain(table.preamble, chain.from_iterable(table.records())), start=1):
            if not isinstance(record, Trouble):
                yield list(record)
            elif troubles is not None:
                troubles(record)
            else:
                raise FormatError(
                    "record {number} of {name} could not be read: {reason}",
                    hint="Correct the record in the file.",
                    number=number,
                    name=path.name,
                    reason=record.reason,
                )

    return table.header, all_records()


__all__ = ["Dialect", "Record", "Table", "Trouble", "read_table"]
