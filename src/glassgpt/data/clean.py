"""Cleaning: rows in, clean rows out, and an account of every row that was changed or left out.

Two passes. In the first (`clean_pass`) each row goes alone through the chain of `filters`, in as many processes as
are given, and what is left is written to a temporary file. In the second the duplicates are found from the rows'
fingerprints and the file is copied without them. Rows are worked on in the same groups whatever the number of
processes, so the result is the same.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from glassgpt.core.errors import ConfigError
from glassgpt.core.files import new_folder, refusing_disk
from glassgpt.core.words import Sentence, say
from glassgpt.data.clean_pass import Work, works_of
from glassgpt.data.clean_report import LENGTH_BINS, UNREADABLE, CleanReport
from glassgpt.data.duplicates import Duplicate, Prints, find_duplicates
from glassgpt.data.filters import CleanSettings, FilterCount, excerpt
from glassgpt.data.report import Problem
from glassgpt.data.rows import Row
from glassgpt.data.sources import read_rows
from glassgpt.data.which_language import LANGUAGES

_SPREADSHEET_CELL = 32_767  # characters; Excel refuses more
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def clean(
    rows: Iterable[Row],
    out: Path,
    *,
    settings: CleanSettings | None = None,
    processes: int | None = None,
    problems: list[Problem] | None = None,
    progress: Callable[[int], None] | None = None,
    comparing: Callable[[int, int], None] | None = None,
    language: str = "en",
) -> CleanReport:
    """Cleans rows into a new folder: clean.jsonl, rejects.csv, report.json and report.html.

    Args:
        rows: read once, a thousand at a time.
        out: must not exist, or be empty. It appears when all is written; a run that fails leaves nothing.
        processes: how many work at the same time; by default one. More need the usual `if __name__ == "__main__":`
            in a script.
        problems: the list that the reader of `rows` puts unreadable records in; it is emptied into rejects.csv.
        progress: told the number of rows done in the first pass.
        comparing: told (rows compared, rows to compare) in the search for near-duplicates.
        language: of the reasons in rejects.csv and of the page, "en" or "zh".

    Raises:
        ConfigError: `out` holds something, or a wrong number of processes.
        GlassError: `out` cannot be written.
    """
    settings = settings or CleanSettings()
    began = time.perf_counter()
    with _new_folder(out) as folder, (folder / "kept.part").open("w+b") as store:
        report = CleanReport(_plain(settings), out=str(out))
        with (folder / "rejects.csv").open("w", encoding="utf-8-sig", errors="backslashreplace", newline="") as file:
            rejects = csv.writer(file)
            rejects.writerow(("source", "row", "filter", "reason", "text"))
            works = []
            for work in works_of(rows, settings, processes):
                store.write(work.lines)
                for drop in work.drops:
                    _reject(rejects, drop.source, drop.number, drop.filter, drop.reason, drop.texts, language)
                _take(report, work)
                _unreadable(rejects, problems, report, language)
                work.lines, work.drops, work.rows = b"", [], []
                works.append(work)
                if progress:
                    progress(report.rows_in)
            _unreadable(rejects, problems, report, language)

            ends = np.cumsum(_all(works, "sizes"))

            def line(at: int) -> bytes:
                store.seek(int(ends[at - 1]) if at else 0)
                return store.readline()

            dropped = _duplicates(works, settings, lambda at: _texts(json.loads(line(at))), comparing)
            for duplicate in dropped:
                row, of = json.loads(line(duplicate.row)), json.loads(line(duplicate.of))
                name, reason = _count_duplicate(report, duplicate, row, of)
                _reject(rejects, row["source"], row["row"], name, reason, _texts(row), language)
        _finish(report, works, dropped)
        with (folder / "clean.jsonl").open("wb") as file_out:
            _copy_without(store, file_out, ends, dropped)
        store.close()
        (folder / "kept.part").unlink()
        report.seconds = time.perf_counter() - began
        report.write(folder, language)
    return report


def clean_rows(rows: Iterable[Row], settings: CleanSettings | None = None) -> tuple[list[Row], CleanReport]:
    """The same in memory and in this process: the clean rows, and the account. The given rows stay as they are."""
    settings = settings or CleanSettings()
    began = time.perf_counter()
    report = CleanReport(_plain(settings))
    works = list(works_of(rows, settings, 1))
    kept = [row for work in works for row in work.rows]
    for work in works:
        _take(report, work)
    dropped = _duplicates(works, settings, lambda at: _texts(kept[at].to_json()))
    for duplicate in dropped:
        _count_duplicate(report, duplicate, kept[duplicate.row].to_json(), kept[duplicate.of].to_json())
    _finish(report, works, dropped)
    gone = {duplicate.row for duplicate in dropped}
    report.seconds = time.perf_counter() - began
    return [row for at, row in enumerate(kept) if at not in gone], report


def add_rejects(folder: Path, dropped: Iterable[tuple[Row, str, Sentence]], language: str = "en") -> None:
    """Put rows that a later step leaves out into the rejects.csv of a cleaned folder: (row, what refused it, why)."""
    path = folder / "rejects.csv"
    with refusing_disk(path), path.open("a", encoding="utf-8", errors="backslashreplace", newline="") as file:
        for row, name, reason in dropped:
            _reject(csv.writer(file), row.source, row.number, name, reason, row.texts, language)


def read_kept(folder: Path) -> list[Row]:
    """The rows of a cleaned folder, under the names and numbers of the file that they came from."""
    path = folder / "clean.jsonl"
    rows = list(read_rows(path)) if path.stat().st_size else []
    with path.open(encoding="utf-8") as lines:
        for row, line in zip(rows, lines, strict=True):
            origin = json.loads(line)
            row.source, row.number = origin["source"], origin["row"]
    return rows


# ---- duplicates ------------------------------------------------------------------------------------
def _texts(record: Any) -> list[str]:
    """All strings of a row's JSON but its origin, in order: what duplicates are compared by."""
    if isinstance(record, str):
        return [record]
    if isinstance(record, dict):
        record = [value for key, value in record.items() if key not in ("source", "row")]
    return [text for part in record for text in _texts(part)]


def _duplicates(
    works: list[Work],
    settings: CleanSettings,
    texts_of: Callable[[int], list[str]],
    progress: Callable[[int, int], None] | None = None,
) -> list[Duplicate]:
    return find_duplicates(
        Prints.join([work.prints for work in works]),
        texts_of,
        exact="duplicates" in settings.active,
        near="near-duplicates" in settings.active,
        at_least=settings.similarity,
        progress=progress,
    )


def _count_duplicate(
    report: CleanReport, duplicate: Duplicate, row: dict[str, Any], of: dict[str, Any]
) -> tuple[str, Sentence]:
    name = "duplicates" if duplicate.exact else "near-duplicates"
    counted = report.filters.setdefault(name, FilterCount())
    example = excerpt(row["source"], row["row"], " | ".join(_texts(row)), " | ".join(_texts(of)))
    counted.add(FilterCount(dropped=1, examples=[example]))
    facts = {"source": of["source"], "row": of["row"]}
    if duplicate.exact:
        return name, Sentence("the same as row {row} of {source}", **facts)
    if duplicate.similarity == 1:
        return name, Sentence(
            "as row {row} of {source}, but for case, spacing, punctuation or contact details", **facts
        )
    return name, Sentence("{share:.0%} like row {row} of {source}", share=duplicate.similarity, **facts)


def _copy_without(store: BinaryIO, out: BinaryIO, ends: NDArray[np.int64], dropped: list[Duplicate]) -> None:
    """Everything in `store` but the dropped rows' lines."""
    store.seek(0)
    for duplicate in dropped:
        _copy(store, out, (int(ends[duplicate.row - 1]) if duplicate.row else 0) - store.tell())
        store.seek(int(ends[duplicate.row]))
    _copy(store, out, (int(ends[-1]) if len(ends) else 0) - store.tell())


def _copy(store: BinaryIO, out: BinaryIO, size: int) -> None:
    while size > 0:
        size -= out.write(store.read(min(size, 1 << 20)))


# ---- the account ----------------------------------------------------------------------------------------------------
def _plain(settings: CleanSettings) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(settings).items() if k != "active"}


def _take(report: CleanReport, work: Work) -> None:
    report.rows_in += work.rows_in
    report.before.add(work.before)
    for name, counted in work.counts.items():
        report.filters.setdefault(name, FilterCount()).add(counted)
    for kind, number in work.personal.items():
        report.personal[kind] = report.personal.get(kind, 0) + number


def _finish(report: CleanReport, works: list[Work], dropped: list[Duplicate]) -> None:
    """Counts of what is kept in the end."""
    keep = np.ones(sum(len(work.sizes) for work in works), bool)
    keep[[duplicate.row for duplicate in dropped]] = False
    report.kept = int(keep.sum())
    report.changed = int((_all(works, "touched").astype(bool) & keep).sum())
    report.after.lengths = np.bincount(_all(works, "bins")[keep], minlength=len(LENGTH_BINS) + 1).tolist()
    languages = np.bincount(_all(works, "languages")[keep], minlength=len(LANGUAGES)).tolist()
    report.after.languages = dict(zip(LANGUAGES, languages, strict=True))


def _all(works: list[Work], name: str) -> NDArray[np.int64]:
    return np.concatenate([np.empty(0, np.int64), *(getattr(work, name) for work in works)]).astype(np.int64)


def _reject(
    rejects: Any, source: str, number: int, name: str, reason: Sentence, texts: list[str], language: str
) -> None:
    text = "\n".join(texts)
    if len(text) > _SPREADSHEET_CELL:
        more = say("… ({count} characters in all)", language, count=len(text))
        text = text[: _SPREADSHEET_CELL - len(more)] + more
    rejects.writerow([_harmless(cell) for cell in (source, str(number), name, reason.text(language), text)])


def _harmless(cell: str) -> str:
    """A cell that a spreadsheet shows and does not calculate."""
    return "'" + cell[: _SPREADSHEET_CELL - 1] if cell.startswith(_FORMULA) else cell


def _unreadable(rejects: Any, problems: list[Problem] | None, report: CleanReport, language: str) -> None:
    for problem in problems or ():
        _reject(rejects, problem.source, problem.number, UNREADABLE, problem.reason, [problem.text], language)
        report.rows_in += 1
        report.unreadable += 1
    if problems:
        problems.clear()


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """A folder to write in, whose files become those of `out` at the end; when something fails nothing is left."""
    with refusing_disk(out):
        there = os.path.lexists(out)
        if there and (not out.is_dir() or any(out.iterdir())):
            raise ConfigError(
                "{out} already exists and is not an empty folder",
                hint="Choose another name; nothing is overwritten.",
                out=out,
            )
        if not there:
            with new_folder(out) as folder:
                yield folder
            return
        # An empty folder is filled, not replaced: it may be a disk of its own, or the one the user stands in.
        folder = Path(tempfile.mkdtemp(prefix=".", dir=out))
        try:
            yield folder
            for file in folder.iterdir():
                file.rename(out / file.name)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
