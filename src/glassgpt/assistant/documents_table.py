"""Tables and records: a row of question and answer is a passage with both cells, word for word.

Files are read as `data` reads them (encodings, delimiters, quotes, which column is what); what is added is the row's
number as a spreadsheet counts it, which is where a person looks it up.
"""

from __future__ import annotations

import csv
import html
import re
import unicodedata
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

from glassgpt.assistant.documents_text import check_size, tell_encoding
from glassgpt.assistant.outline import Reading
from glassgpt.assistant.split_text import spans
from glassgpt.core.errors import InputError
from glassgpt.core.words import Sentence
from glassgpt.data.columns import fold, recognise
from glassgpt.data.dialect import is_number
from glassgpt.data.filters import MISSING
from glassgpt.data.reading import TextFile
from glassgpt.data.report import Problem, SourceReport
from glassgpt.data.sources import read_rows
from glassgpt.data.tables import Record, Table, Trouble

MAX_ROW = 8_000  # characters of a row; one that is longer becomes several passages and cannot be quoted whole
_SHOWN = 5  # rows that are named in a note


def read_table(
    path: Path, reading: Reading, columns: Mapping[str, str] | None = None, encoding: str | None = None
) -> None:
    """The passages of a CSV or other table.

    Args:
        columns: {"prompt": a column, "response": a column} where they have other names than the usual ones.

    Raises:
        InputError: it is empty, or no row holds anything.
        FormatError: it is no text, or damaged.
        ConfigError: `columns` names one that is not there.
    """
    file = TextFile(path, reading.name, encoding=encoding)
    table = _CountedTable(file, frozenset(fold(c) for c in (columns or {}).values()))
    roles = _roles(table, columns or {})
    used = [table.header.index(c) for c in roles] if roles else []
    row, size = table.rows_above(), 0
    without: list[int] = []
    broken = [0] * len(table.preamble)
    for record in chain.from_iterable(table.records()):
        row += 1
        if isinstance(record, Trouble):
            broken.append(row)
            continue
        size += sum(map(len, record))
        check_size(reading, size)
        if all(is_nothing(cell) for cell in record):
            continue
        if not used:
            add_row(reading, _written_out(table.header, record), f"row {row}")
        elif not add_pair(reading, record[used[0]], record[used[1]], f"row {row}"):
            without.append(row)
    _tell_rows(reading, without, broken)
    if roles:
        ignored = [name or str(i + 1) for i, name in enumerate(table.header) if i not in used]
        _tell_columns(reading, roles, [name for name in ignored if name])
    tell_encoding(file, reading)
    if table.repaired:
        reading.note(
            Sentence(
                "records with broken quotes, which were read as ordinary characters: {count}", count=table.repaired
            )
        )
    if not reading.passages:
        raise InputError("{name} holds no row with an answer", hint="Give a file that holds some text.",
                         name=reading.name)  # fmt: skip


def read_records(
    path: Path, reading: Reading, columns: Mapping[str, str] | None = None, encoding: str | None = None
) -> None:
    """The passages of JSON or JSON Lines: questions and answers, or texts; raises as `read_rows` does."""
    troubles: list[Problem] = []
    reports: list[SourceReport] = []
    without: list[int] = []
    size = 0
    for row in read_rows(
        path, columns=dict(columns or {}), encoding=encoding, report=reports, problems=troubles.append
    ):
        place = f"record {row.number}"
        size += sum(map(len, row.texts))
        check_size(reading, size)
        if row.kind == "text":
            if not is_nothing(row.texts[0]):
                add_row(reading, row.texts[0].strip(), place)
            continue
        pairs = list(zip(row.roles, row.texts, strict=True))
        said = [text for role, text in pairs if role == "user"]
        answers = [text for role, text in pairs if role in ("assistant", "chosen")]
        if len(said) == len(answers) == 1:
            if not add_pair(reading, said[0], answers[0], place):
                without.append(row.number)
        else:  # a conversation: its answers need what was said before them
            add_row(reading, "\n".join(text.strip() for role, text in pairs if role != "rejected"), place)
    _tell_rows(reading, without, [problem.number for problem in troubles])
    for note in chain.from_iterable(report.sentences() for report in reports):
        reading.note(note)
    if not reading.passages:
        raise InputError("{name} holds no row with an answer", hint="Give a file that holds some text.",
                         name=reading.name)  # fmt: skip


class _CountedTable(Table):
    """A table that gives its blank lines too, so that its rows can be counted as a spreadsheet does."""

    def _by_pandas(self, lines: list[str], wanted: Sequence[int] | None) -> None:
        return None  # pandas leaves blank lines out

    def _uneven(self, record: list[str], lines: list[str]) -> Record | None:
        return super()._uneven(record, lines) or [""] * self.layout.width

    def rows_above(self) -> int:
        """How many rows of a spreadsheet stand above the first record; to be asked before the records are."""
        lines = self._first[: self.layout.skip]
        if lines and re.match(r'\ufeff?"?sep=.', lines[0], re.IGNORECASE):  # a spreadsheet does not show it
            lines = lines[1:]
        settings = self.layout.dialect.reader_settings() | {"strict": False}
        return sum(1 for _ in csv.reader(iter(lines), **settings))


def _roles(table: Table, columns: Mapping[str, str]) -> tuple[str, str] | None:
    """The columns of questions and answers, where the table has them."""
    if table.named or columns:
        roles = recognise(table.header, columns)
        if "prompt" in roles and "response" in roles:
            return roles["prompt"], roles["response"]
        return None
    sample = table.layout.sample
    texts = [c for i, c in enumerate(table.header) if not all(is_number(r[i]) or not r[i].strip() for r in sample)]
    return (texts[0], texts[1]) if len(texts) == 2 else None


def is_nothing(cell: str) -> bool:
    """Whether a cell holds nothing that could be read: blanks, invisible characters, or a word for "missing"."""
    if MISSING.fullmatch(cell.strip()):
        return True
    shown = cell if "&" not in cell or len(cell) > 100 else html.unescape(cell)
    return all(c.isspace() or unicodedata.category(c) in ("Cc", "Cf") for c in shown)


def add_pair(reading: Reading, question: str, answer: str, place: str) -> bool:
    """A question with its answer as a passage; False where there is no answer, and so nothing to quote."""
    if is_nothing(answer):
        return False
    question, answer = question.strip(), answer.strip()
    asked = None if is_nothing(question) else question
    text = answer if asked is None else f"{asked}\n{answer}"
    if len(text) <= MAX_ROW:
        reading.add(text, place, asked, answer)
    else:
        add_row(reading, text, place)
    return True


def add_row(reading: Reading, text: str, place: str) -> None:
    """A row as a passage, or as several where it is long."""
    if len(text) <= MAX_ROW:
        reading.add(text, place)
        return
    reading.long.append(place)
    for start, end in spans(text):
        reading.add(text[start:end], place)


def _written_out(header: Sequence[str], record: Sequence[str]) -> str:
    """A row without question and answer: "column: value; column: value"."""
    named = zip(header, record, strict=True)
    return "; ".join(f"{name or i}: {cell.strip()}" for i, (name, cell) in enumerate(named, 1) if cell.strip())


def _listed(rows: Sequence[int | str]) -> str:
    return ", ".join(map(str, rows[:_SHOWN])) + (", …" if len(rows) > _SHOWN else "")


def _tell_rows(reading: Reading, without: Sequence[int], broken: Sequence[int]) -> None:
    if without:
        reading.note(
            Sentence("rows without an answer, left out: {count} ({rows})", count=len(without), rows=_listed(without))
        )
    if broken:
        reading.note(
            Sentence("rows that could not be read, left out: {count} ({rows})", count=len(broken), rows=_listed(broken))
        )
    if reading.long:
        reading.note(
            Sentence(
                "long rows that became several passages: {count} ({rows})",
                count=len(reading.long),
                rows=_listed(reading.long),
            )
        )


def _tell_columns(reading: Reading, roles: tuple[str, str], ignored: Sequence[str]) -> None:
    used = f"prompt={roles[0]}, response={roles[1]}"
    if ignored:
        reading.note(Sentence("columns used: {used}; not used: {ignored}", used=used, ignored=", ".join(ignored[:20])))
    else:
        reading.note(Sentence("columns used: {used}", used=used))
