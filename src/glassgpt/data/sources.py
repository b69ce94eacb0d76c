"""The one door: any file, folder or named data set of the user becomes rows.

    for row in read_rows("data/"): ...

What a file is comes from its name, how it is written from its bytes. Nothing is dropped silently: a record that could
not become a row is a `Problem`, and what was found, assumed or repaired stands in the `SourceReport`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from glassgpt.core.errors import ConfigError, FormatError, GlassError, InputError, NotFoundError, nearest
from glassgpt.core.words import Sentence
from glassgpt.data.convert import recognised_columns, rows_of_records, rows_of_table, rows_of_text, tell_encoding
from glassgpt.data.python_docs import NAME, python_docs
from glassgpt.data.reading import TextFile, cannot_open
from glassgpt.data.records import hub_records, json_records, jsonl_records, parquet_records, spans_lines
from glassgpt.data.report import Job, Problem, SourceReport, TextUnit
from glassgpt.data.rows import Row

SUFFIXES = {
    **dict.fromkeys((".csv", ".tsv", ".psv", ".ssv", ".tab"), "table"),
    **dict.fromkeys((".jsonl", ".ndjson"), "jsonl"),
    ".json": "json",
    ".parquet": "parquet",
    **dict.fromkeys((".txt", ".md", ".markdown", ".text"), "text"),
}

# Data sets that need no file, by the name a user gives: each is told its report and gives its rows.
BUILT_IN: dict[str, Callable[[SourceReport], Iterator[Row]]] = {NAME: python_docs}


def read_rows(
    path: str | Path,
    *,
    columns: dict[str, str] | None = None,
    text_unit: TextUnit = "paragraph",
    encoding: str | None = None,
    report: list[SourceReport] | None = None,
    problems: Callable[[Problem], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Row]:
    """The rows of a file, a folder of files, `hf:owner/name[:split]`, or a built-in data set, one at a time.

    Args:
        columns: which column is used as what, {"prompt": "Frage", "response": "Antwort"}; the uses are text, prompt,
            response, system, messages, chosen and rejected. Those not named are found by their usual names.
        text_unit: what one row of a .txt or .md file is. Paragraphs are parted by blank lines; a row's number is then
            that of its first line. Line ends become "\\n".
        encoding: of text files, where what is found is wrong.
        report: a `SourceReport` for each file is put here when its reading begins.
        problems: told each record that could not become a row.
        progress: told (bytes read, bytes in all) now and then.

    Raises:
        NotFoundError: there is nothing at `path`.
        ConfigError: `columns` names a column that is not there, no column is recognised, or a library is missing.
        FormatError: a file is damaged, no text, or of an unsupported kind. In a folder that is a problem (number 0)
            of that file, and an error only when no file could be read.
        InputError: a file is empty.
    """
    if text_unit not in ("file", "paragraph", "line"):
        raise ConfigError("text_unit is {given}", hint="It can be file, paragraph or line.", given=repr(text_unit))
    name = str(path)
    reports = [] if report is None else report

    def job(about: SourceReport, advance: Callable[[int], None] | None = None) -> Job:
        reports.append(about)
        return Job(about, columns or {}, text_unit, problems, encoding, advance)

    if name in BUILT_IN:
        about = SourceReport(name, "built-in")
        reports.append(about)
        return _counted(BUILT_IN[name](about), about)
    if name.startswith("hf:"):
        hub = job(SourceReport(name, "hub"))
        return rows_of_records(hub_records(name), hub)
    path = Path(path)
    try:
        mode, size = path.stat().st_mode, path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        raise _not_there(path) from None
    except (OSError, ValueError) as error:  # a locked folder, a name too long, a zero character in it
        raise cannot_open(name, error) from None
    if stat.S_ISDIR(mode):
        return _read_folder(path, job, progress)
    if not stat.S_ISREG(mode):
        raise FormatError("{name} is neither a file nor a folder", hint="Give a file.", name=name)
    kind = _kind(path)
    if kind is None:
        raise _unsupported(path.name)
    return _read_file(path, job(SourceReport(path.name, kind), _counter(size, progress)))


def _counter(total: int, progress: Callable[[int, int], None] | None) -> Callable[[int], None] | None:
    if progress is None:
        return None
    done = 0

    def advance(more: int) -> None:
        nonlocal done
        done += more
        progress(done, total)

    return advance


def _not_there(path: Path) -> NotFoundError:
    try:
        siblings = [p.name for p in path.parent.iterdir() if p.exists()]
    except OSError:
        siblings = []
    near = nearest(path.name, [*siblings, *BUILT_IN])
    if near:
        return NotFoundError("there is no file {name}", hint="Did you mean {near}?", name=str(path), near=near)
    return NotFoundError(
        "there is no file {name}",
        hint="Give a file, a folder, or hf:owner/name for a data set of the Hugging Face hub.",
        name=str(path),
    )


def _kind(path: Path) -> str | None:
    """The format that a file's name tells, with or without .gz."""
    suffixes = [s.lower() for s in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    return SUFFIXES.get(suffixes[-1]) if suffixes else None


def _unsupported(name: str) -> FormatError:
    return FormatError(
        "{name} is of a kind that is not read",
        hint="The kinds are {kinds}, and each of them packed as .gz. Spreadsheets can be saved as CSV.",
        name=name,
        kinds=" ".join(SUFFIXES),
    )


def _read_folder(folder: Path, job: Callable[..., Job], progress: Callable[[int, int], None] | None) -> Iterator[Row]:
    """The files of a folder and its folders, in the order of their names."""
    files: list[tuple[str, Path]] = []
    locked: list[OSError] = []
    for where, folders, names in os.walk(folder, onerror=locked.append):
        apart = [f for f in folders if f.startswith(".") or (Path(where) / f).is_symlink()]
        folders[:] = sorted(f for f in folders if f not in apart)
        files += [((Path(where) / n).relative_to(folder).as_posix(), Path(where) / n) for n in names + apart]
    files.sort()
    total = sum(path.stat().st_size for _, path in files if _kind(path) and path.is_file() and path.name[0] != ".")
    advance = _counter(total, progress)
    read = 0
    first_error: GlassError | None = cannot_open(locked[0].filename, locked[0]) if locked else None
    for error in locked:
        reason = Sentence("skipped: it cannot be opened ({reason})", reason=error.strerror)
        job(SourceReport(Path(error.filename).relative_to(folder).as_posix(), "skipped")).note(reason)
    for name, path in files:
        kind = _kind(path)
        if path.name.startswith("."):
            job(SourceReport(name, "skipped")).note(Sentence("skipped: its name begins with a full stop"))
        elif path.is_dir():
            job(SourceReport(name, "skipped")).note(Sentence("skipped: it is a link to a folder"))
        elif not path.is_file():
            job(SourceReport(name, "skipped")).note(Sentence("skipped: it is no file, or a link to nothing"))
        elif kind is None:
            job(SourceReport(name, "skipped")).note(Sentence("skipped: its kind is not read"))
        else:
            this = job(SourceReport(name, kind), advance)
            try:
                yield from _read_file(path, this)
                read += 1
            except GlassError as error:
                first_error = first_error or error
                this.problem(0, error.sentence(), "")
                this.note(Sentence("not read to its end: {error}", error=error.sentence()))
    if not read:
        if first_error:
            raise first_error
        raise InputError(
            "the folder {name} holds no file that can be read",
            hint="The kinds are {kinds}, and each of them packed as .gz.",
            name=str(folder),
            kinds=" ".join(SUFFIXES),
        )


def _counted(rows: Iterator[Row], report: SourceReport) -> Iterator[Row]:
    for row in rows:
        report.rows += 1
        yield row


def _read_file(path: Path, job: Job) -> Iterator[Row]:
    """The rows of one file, counted in its report."""
    name, kind = job.report.name, job.report.format
    if kind == "parquet":

        def needed(names: list[str]) -> list[str]:
            roles = recognised_columns(names, job)
            return [*dict.fromkeys(roles.values()), *(n for n in names if n == "label" and "messages" in roles)]

        yield from rows_of_records(parquet_records(path, name, needed, job.advance), job)
        return
    file = TextFile(path, name, encoding=job.encoding, advance=job.advance)
    tell_encoding(file, job)
    if kind == "table":
        yield from rows_of_table(file, job)
    elif kind == "text":
        yield from rows_of_text(file, job)
    elif kind == "jsonl" and not spans_lines(file):
        yield from rows_of_records(jsonl_records(file), job)
    else:
        if kind == "jsonl":
            job.note(Sentence("its lines are no records of their own, so it was read as JSON"))
        yield from rows_of_records(json_records(file), job)
    if file.zeros:
        job.note(Sentence("zero characters taken out: {count}", count=file.zeros))


__all__ = ["BUILT_IN", "Problem", "SourceReport", "read_rows"]
