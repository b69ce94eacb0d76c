"""A file's tables, records or text become rows, with everything found on the way written into its report."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from glassgpt.core.errors import ConfigError, FormatError, InputError
from glassgpt.core.words import Sentence
from glassgpt.data.columns import fold, recognise, unrecognised
from glassgpt.data.dialect import is_number
from glassgpt.data.languages import MARK
from glassgpt.data.reading import MAX_LINE, TextFile
from glassgpt.data.report import SHOWN, Job, TextUnit
from glassgpt.data.rows import Row
from glassgpt.data.shapes import row_of
from glassgpt.data.tables import Table, Trouble

_UNRECOGNISED = 100  # records of unknown shape at the beginning after which a file is refused


def tell_encoding(file: TextFile, job: Job) -> None:
    """Writes into the report how the bytes were read."""
    found = file.encoding
    job.report.encoding = found.name
    if found.bom:
        job.note(Sentence("the byte order mark was taken off"))
    if found.found and found.rival:
        job.note(
            Sentence(
                "read as {encoding}, which is a close guess; it may be {rival}", encoding=found.name, rival=found.rival
            )
        )
    elif found.found:
        job.note(Sentence("read as {encoding}, found from its bytes", encoding=found.name))


def recognised_columns(names: list[str], job: Job) -> dict[str, str]:
    """The roles of the columns, written into the report."""
    roles = recognise(names, job.columns)
    if not roles:
        raise unrecognised(job.report.name, names)
    job.report.columns |= {r: c for r, c in roles.items() if r not in job.report.columns}
    job.report.ignored += [n for n in names if n and n not in roles.values() and n not in job.report.ignored]
    return roles


def rows_of_table(file: TextFile, job: Job) -> Iterator[Row]:
    """The rows of a CSV, TSV or other table."""
    given = frozenset(fold(c) for c in job.columns.values() if not c.strip().isdecimal())
    table = Table(file, given)
    report, name = job.report, file.name
    report.delimiter = table.layout.dialect.delimiter
    if table.layout.dialect.escape:
        job.note(Sentence("a backslash takes the meaning of the character after it away, and is taken out"))
    roles = _roles_of_table(table, job)
    wanted = [table.header.index(column) for column in roles.values()]
    plain = {("text",): ("text",), ("prompt", "response"): ("user", "assistant")}.get(tuple(roles))
    for line in table.preamble:
        job.problem(0, line.reason, line.text)
    number = 0
    for records in table.records(wanted):
        for record in records:
            number += 1
            if plain is not None and record.__class__ is not Trouble:
                report.rows += 1
                yield Row(name, number, plain, list(record))  # type: ignore[arg-type]  # not Trouble, as seen above
                continue
            if isinstance(record, Trouble):
                job.problem(number, record.reason, record.text)
                continue
            row = row_of(dict(zip(roles.values(), record, strict=True)), roles, name, number)
            if isinstance(row, Sentence):
                job.problem(number, row, " | ".join(record))
            else:
                report.rows += 1
                yield row
    if not number:
        raise InputError("{name} has a header and no records", hint="Give a file with at least one record.", name=name)
    if table.repaired:
        job.note(
            Sentence(
                "records with broken quotes, which were read as ordinary characters: {count}", count=table.repaired
            )
        )
    if table.padded:
        job.note(Sentence("records with empty cells too many or too few at their end: {count}", count=table.padded))


def _roles_of_table(table: Table, job: Job) -> dict[str, str]:
    """The roles of a table's columns; of one without a header, or with one column, by what stands in them."""
    header = table.header
    if table.named:
        roles = recognise(header, job.columns)
        if not roles and len([n for n in header if n]) == 1:
            roles = {"text": next(n for n in header if n)}
        if not roles:
            raise unrecognised(job.report.name, header)
        job.note(Sentence("the first record names the columns"))
        job.report.columns |= roles
        used = {header.index(column) for column in roles.values()}  # of two columns with one name, the first
        job.report.ignored += [n or str(i + 1) for i, n in enumerate(header) if i not in used]
        return roles
    job.note(Sentence("no header: the first record looks like data, so columns are called by their numbers"))
    if job.columns:
        return recognised_columns(header, job)
    texts = [
        c for i, c in enumerate(header) if not all(is_number(r[i]) or not r[i].strip() for r in table.layout.sample)
    ]
    if len(header) == 1 or len(texts) == 1:
        roles = {"text": (texts or header)[0]}
    elif len(texts) == 2:
        roles = {"prompt": texts[0], "response": texts[1]}
        job.note(Sentence("its two columns of text are taken for questions and answers"))
    else:
        raise unrecognised(job.report.name, header)
    job.report.ignored += [c for c in header if c not in roles.values()]
    job.report.columns |= roles
    return roles


def rows_of_records(records: Iterator[Any], job: Job) -> Iterator[Row]:
    """The rows of records of named values; which name is what is found for each set of names."""
    report = job.report
    shapes: dict[tuple[str, ...], dict[str, str]] = {}
    unknown: list[list[str]] = []
    number = 0
    for record in records:
        number += 1
        if isinstance(record, Trouble):
            job.problem(number, record.reason, record.text)
            continue
        if isinstance(record, str) and not job.columns:
            record = {"text": record}
        if not isinstance(record, dict):
            job.problem(number, Sentence("it is not an object with named values"), repr(record)[:SHOWN])
            continue
        names = tuple(record)
        roles = shapes.get(names)
        if roles is None:
            try:
                roles = recognised_columns(list(names), job)
            except ConfigError:
                if job.columns and report.rows == 0:  # a column that the user named is not there
                    raise
                roles = {}
            if len(shapes) < 10_000:
                shapes[names] = roles
        if not roles:
            if not report.rows:
                unknown.append(list(names))
                if len(unknown) >= _UNRECOGNISED:
                    raise unrecognised(report.name, unknown[0])
            job.problem(number, Sentence("none of its names is known to hold text"), repr(record)[:SHOWN])
            continue
        row = row_of(record, roles, report.name, number)
        if isinstance(row, Sentence):
            job.problem(number, row, repr(record)[:SHOWN])
        else:
            report.rows += 1
            yield row
    if not number:
        raise InputError("{name} is empty", hint="Give a file with at least one record.", name=report.name)
    if unknown and not report.rows:
        raise unrecognised(report.name, unknown[0])


def rows_of_text(file: TextFile, job: Job) -> Iterator[Row]:
    """The rows of a plain text."""
    text = ""
    for number, text in _units(file, job.text_unit):
        if not file.encoding.whole and MARK.search(text):
            reason = Sentence("it holds bytes that {encoding} does not explain", encoding=file.encoding.name)
            job.problem(number, reason, text)
        else:
            job.report.rows += 1
            yield Row(file.name, number, ("text",), [text])
    if job.text_unit == "paragraph" and job.report.rows == 1 and "\n" in text:
        job.note(Sentence("there is no blank line in it, so that the whole file is one row; lines may be meant"))
    if not job.report.rows and not job.report.problems:
        raise InputError("{name} is empty", hint="Give a file with at least one record.", name=file.name)


def _units(file: TextFile, unit: TextUnit) -> Iterator[tuple[int, str]]:
    """The files, paragraphs or lines that hold anything, with the number of their first line."""
    held: list[str] = []
    number, first, size = 0, 1, 0
    for lines in file.lines():
        for line in lines:
            number += 1
            text = line.rstrip("\r\n")
            blank = not text.strip()
            if unit == "line":
                if not blank:
                    yield number, text
                continue
            if blank and unit == "paragraph":
                if held:
                    yield first, "\n".join(held)
                size, held = 0, []
                continue
            if not held:
                first = number
            held.append(text)
            size += len(text)
            if size > MAX_LINE:
                raise FormatError(
                    "{name} has a text of more than {limit} characters in one piece",
                    hint="Read it by paragraphs or lines (text_unit).",
                    name=file.name,
                    limit=MAX_LINE,
                )
    if any(line.strip() for line in held):
        yield first if unit == "paragraph" else 1, "\n".join(held)
