"""Cleaning: rows in, clean rows out, and an account of every row that was changed or left out.

Two passes. In the first each row goes alone through the chain of `filters`, in as many processes as are given, and
what is left is written to a temporary file. In the second the duplicates are found from the rows' fingerprints and
the file is copied without them. Rows are worked on in the same groups whatever the number of processes, so the
result is the same.
"""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import shutil
import signal
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from glassgpt.core.errors import ConfigError
from glassgpt.core.words import Sentence, say
from glassgpt.data.clean_report import LENGTH_BINS, UNREADABLE, Census, CleanReport
from glassgpt.data.duplicates import Duplicate, Prints, find_duplicates, fingerprints
from glassgpt.data.filters import Chain, CleanSettings, Drop, FilterCount, excerpt
from glassgpt.data.report import Problem
from glassgpt.data.rows import Row
from glassgpt.data.which_language import LANGUAGES, language_of

ROWS_AT_ONCE, CHARACTERS_AT_ONCE = 1000, 1_000_000
_GROUPS_WITHOUT_POOL = 8  # starting processes takes longer than this much work
_SPREADSHEET_CELL = 32_767  # characters; Excel refuses more
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
Progress = Callable[[int], None]


@dataclass(slots=True)
class _Work:
    """What one group of rows became; the arrays have one entry for each kept row.

    Attributes:
        lines: the kept rows as JSON, one after the other; `sizes` are their bytes.
        bins, languages: where each is counted in `Census.lengths` and `LANGUAGES`.
        touched: whether a repair changed it.
    """

    rows_in: int
    rows: list[Row]
    lines: bytes
    sizes: NDArray[np.int64]
    bins: NDArray[np.uint8]
    languages: NDArray[np.uint8]
    touched: NDArray[np.bool_]
    prints: Prints
    drops: list[Drop]
    before: Census
    counts: dict[str, FilterCount]
    personal: dict[str, int]


def clean(
    rows: Iterable[Row],
    out: Path,
    *,
    settings: CleanSettings | None = None,
    processes: int | None = None,
    problems: list[Problem] | None = None,
    progress: Progress | None = None,
    language: str = "en",
) -> CleanReport:
    """Cleans rows into a new folder: clean.jsonl, rejects.csv, report.json and report.html.

    Args:
        rows: read once, a thousand at a time.
        out: must not exist, or be empty. It appears when all is written; a run that fails leaves nothing.
        processes: how many work at the same time; by default one. More need the usual `if __name__ == "__main__":`
            in a script.
        problems: the list that the reader of `rows` puts unreadable records in; it is emptied into rejects.csv.
        progress: called with the number of rows done.
        language: of the reasons in rejects.csv and of the page, "en" or "zh".

    Raises:
        ConfigError: `out` holds something or cannot be written, or a wrong number of processes.
    """
    settings = settings or CleanSettings()
    began = time.perf_counter()
    with _new_folder(out) as folder, (folder / "kept.part").open("w+b") as store:
        report = CleanReport(_plain(settings), out=str(out))
        with (folder / "rejects.csv").open("w", encoding="utf-8-sig", errors="backslashreplace", newline="") as file:
            rejects = csv.writer(file)
            rejects.writerow(("source", "row", "filter", "reason", "text"))
            works = []
            for work in _works(rows, settings, processes):
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

            dropped = _duplicates(works, settings, lambda at: _texts(json.loads(line(at))))
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
    works = list(_works(rows, settings, 1))
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


# ---- the first pass: rows one at a time -----------------------------------------------------------------------------
def _works(rows: Iterable[Row], settings: CleanSettings, processes: int | None) -> Iterator[_Work]:
    """The rows' groups, worked on and in order."""
    processes = 1 if processes is None else processes
    if processes < 1:
        raise ConfigError(
            "{given} processes were asked for", hint="Give 1 or more; the computer has {cores} cores.", given=processes,
            cores=os.cpu_count() or 1,
        )  # fmt: skip
    groups = _groups(rows)
    if processes > 1:
        first = list(islice(groups, _GROUPS_WITHOUT_POOL))
        for group in first:
            yield _work(settings, group)
    if processes == 1 or len(first) < _GROUPS_WITHOUT_POOL:
        for group in groups:
            yield _work(settings, group)
        return
    # A fresh process has no threads and locks of this one, and works the same on every system.
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(processes, context, initializer=_leave_interrupts_to_the_parent) as pool:
            waiting: deque[Future[_Work]] = deque()
            for group in groups:
                waiting.append(pool.submit(_work_elsewhere, settings, [_pack(row) for row in group]))
                if len(waiting) > 2 * processes:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
    except BrokenProcessPool:
        raise ConfigError(
            "a process that cleans rows ended early",
            hint='Memory may have run out, or the script lacks `if __name__ == "__main__":`. Try one process.',
        ) from None


def _groups(rows: Iterable[Row]) -> Iterator[list[Row]]:
    group: list[Row] = []
    characters = 0
    for row in rows:
        group.append(row)
        characters += sum(map(len, row.texts))
        if len(group) == ROWS_AT_ONCE or characters >= CHARACTERS_AT_ONCE:
            yield group
            group, characters = [], 0
    if group:
        yield group


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _pack(row: Row) -> tuple[str, int, tuple[str, ...], list[str]]:
    """A tuple travels between processes at half the cost of a `Row`."""
    return row.source, row.number, row.roles, row.texts


def _work_elsewhere(settings: CleanSettings, packed: list[tuple[str, int, tuple[str, ...], list[str]]]) -> _Work:
    work = _work(settings, [Row(*values) for values in packed])
    work.rows = []
    return work


def _work(settings: CleanSettings, group: list[Row]) -> _Work:
    """The chain over one group of rows."""
    chain, before = Chain(settings), Census()
    kept: list[Row] = []
    drops: list[Drop] = []
    lines: list[bytes] = []
    about: list[tuple[int, int, bool]] = []
    for row in group:
        place = _place(row)
        before.lengths[place[0]] += 1
        before.languages[LANGUAGES[place[1]]] += 1
        result = chain(row)
        if isinstance(result, Drop):
            drops.append(result)
            continue
        kept.append(result)
        lines.append(_line(result))
        about.append((*place, False) if result is row else (*_place(result), True))
    columns = np.array(about, np.int64).reshape(len(about), 3)
    return _Work(
        rows_in=len(group),
        rows=kept,
        lines=b"".join(lines),
        sizes=np.array([len(line) for line in lines], np.int64),
        bins=columns[:, 0].astype(np.uint8),
        languages=columns[:, 1].astype(np.uint8),
        touched=columns[:, 2].astype(bool),
        prints=fingerprints(kept, near="near-duplicates" in settings.active),
        drops=drops,
        before=before,
        counts=chain.counts,
        personal=chain.personal,
    )


def _place(row: Row) -> tuple[int, int]:
    """Where the row is counted: its length's bin and its language."""
    length = sum(map(len, row.texts))
    return bisect_left(LENGTH_BINS, length), LANGUAGES.index(language_of(" ".join(row.texts)))


_encode = json.JSONEncoder(ensure_ascii=False).encode


def _line(row: Row) -> bytes:
    record = row.to_json()
    try:
        return _encode(record).encode() + b"\n"
    except UnicodeEncodeError:  # half of a surrogate pair, which only an escape can write
        return json.dumps(record).encode() + b"\n"


def _texts(record: Any) -> list[str]:
    """All strings of a row's JSON but its origin, in order: what duplicates are compared by."""
    if isinstance(record, str):
        return [record]
    if isinstance(record, dict):
        record = [value for key, value in record.items() if key not in ("source", "row")]
    return [text for part in record for text in _texts(part)]


# ---- the second pass: duplicates ------------------------------------------------------------------------------------
def _duplicates(works: list[_Work], settings: CleanSettings, texts_of: Callable[[int], list[str]]) -> list[Duplicate]:
    return find_duplicates(
        Prints.join([work.prints for work in works]),
        texts_of,
        exact="duplicates" in settings.active,
        near="near-duplicates" in settings.active,
        at_least=settings.similarity,
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
        return name, Sentence("as row {row} of {source}, but for case, spacing or punctuation", **facts)
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


def _take(report: CleanReport, work: _Work) -> None:
    report.rows_in += work.rows_in
    report.before.add(work.before)
    for name, counted in work.counts.items():
        report.filters.setdefault(name, FilterCount()).add(counted)
    for kind, number in work.personal.items():
        report.personal[kind] = report.personal.get(kind, 0) + number


def _finish(report: CleanReport, works: list[_Work], dropped: list[Duplicate]) -> None:
    """Counts of what is kept in the end."""
    keep = np.ones(sum(len(work.sizes) for work in works), bool)
    keep[[duplicate.row for duplicate in dropped]] = False
    report.kept = int(keep.sum())
    report.changed = int((_all(works, "touched").astype(bool) & keep).sum())
    report.after.lengths = np.bincount(_all(works, "bins")[keep], minlength=len(LENGTH_BINS) + 1).tolist()
    languages = np.bincount(_all(works, "languages")[keep], minlength=len(LANGUAGES)).tolist()
    report.after.languages = dict(zip(LANGUAGES, languages, strict=True))


def _all(works: list[_Work], name: str) -> NDArray[np.int64]:
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
    """A folder to write in, which becomes `out` at the end, or is removed when something fails."""
    folder = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ConfigError(
                "{out} already exists and is not an empty folder",
                hint="Choose another name; nothing is overwritten.",
                out=out,
            )
        folder.mkdir(parents=True)
        yield folder
        if out.exists():
            out.rmdir()
        folder.replace(out)
    except OSError as error:
        raise ConfigError(
            "{out} cannot be written ({reason})", hint="Choose another place.", out=out, reason=error.strerror or error
        ) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
