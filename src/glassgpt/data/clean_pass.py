"""The first pass of cleaning: rows in groups, each row alone through the chain of filters, in one process or several.

What comes back from a group is what the second pass needs: the kept rows as lines, their fingerprints and counts.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from glassgpt.core.errors import ConfigError
from glassgpt.data.clean_report import LENGTH_BINS, Census
from glassgpt.data.duplicates import Prints, fingerprints
from glassgpt.data.filters import Chain, CleanSettings, Drop, FilterCount
from glassgpt.data.rows import Row
from glassgpt.data.which_language import LANGUAGES, language_of

ROWS_AT_ONCE, CHARACTERS_AT_ONCE = 1000, 1_000_000
GROUPS_WITHOUT_POOL = 8  # starting processes takes longer than this much work


@dataclass(slots=True)
class Work:
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


def works_of(rows: Iterable[Row], settings: CleanSettings, processes: int | None) -> Iterator[Work]:
    """The rows' groups, worked on and in order."""
    processes = 1 if processes is None else processes
    if processes < 1:
        raise ConfigError(
            "{given} processes were asked for", hint="Give 1 or more; the computer has {cores} cores.", given=processes,
            cores=os.cpu_count() or 1,
        )  # fmt: skip
    groups = _groups(rows)
    if processes > 1:
        first = list(islice(groups, GROUPS_WITHOUT_POOL))
        for group in first:
            yield _work(settings, group)
    if processes == 1 or len(first) < GROUPS_WITHOUT_POOL:
        for group in groups:
            yield _work(settings, group)
        return
    # A fresh process has no threads and locks of this one, and works the same on every system.
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(processes, context, initializer=_begin) as pool:
            waiting: deque[Future[Work]] = deque()
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


def _begin() -> None:
    """In a new process: Ctrl-C is the parent's to answer, and when the parent is gone, however it ended, so is this."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _pack(row: Row) -> tuple[str, int, tuple[str, ...], list[str]]:
    """A tuple travels between processes at half the cost of a `Row`."""
    return row.source, row.number, row.roles, row.texts


def _work_elsewhere(settings: CleanSettings, packed: list[tuple[str, int, tuple[str, ...], list[str]]]) -> Work:
    work = _work(settings, [Row(*values) for values in packed])
    work.rows = []
    return work


def _work(settings: CleanSettings, group: list[Row]) -> Work:
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
    return Work(
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
