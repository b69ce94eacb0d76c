"""The index of what an assistant knows: passages in an SQLite file, with their vectors; what is searched is in memory.

The file is the truth and is written in one transaction for each source. The arrays are made from it when it is opened,
and follow it when another process adds or removes a source.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassgpt.assistant.bm25 import BEST, Bm25
from glassgpt.assistant.passage import Passage
from glassgpt.assistant.terms import terms
from glassgpt.core.errors import FormatError, GlassError

Floats = NDArray[np.float32]
_APPLICATION, _VERSION = 0x676C6B6E, 1  # "glkn"
# No id is given twice: who follows the file tells a new content from the old one by it.
_SCHEMA = """
CREATE TABLE sources (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, sha256 TEXT NOT NULL,
                      added REAL NOT NULL, notes TEXT NOT NULL, encoder TEXT NOT NULL) STRICT;
CREATE TABLE passages (id INTEGER PRIMARY KEY AUTOINCREMENT,
                       source INTEGER NOT NULL REFERENCES sources ON DELETE CASCADE, number INTEGER NOT NULL,
                       place TEXT NOT NULL, text TEXT NOT NULL, question TEXT, answer TEXT,
                       search TEXT NOT NULL, encoder INTEGER NOT NULL, vector BLOB, UNIQUE (source, number)) STRICT;
"""
_HOLES = 10_000  # places of removed passages that may be kept


@dataclass(frozen=True)
class Source:
    """A file that was added: its name, the hash of its content, when, how many passages, what was told of it, and what
    its vectors were made with ("": there are none)."""

    name: str
    sha256: str
    added: float
    passages: int
    notes: tuple[str, ...]
    encoder: str


@dataclass(frozen=True)
class Entry:
    """A passage as it is put into the index.

    - `search`: what its words are taken from.
    - `encoder`: which one read it; `vector`: what it gave, [C], or None.
    """

    passage: Passage
    search: str
    encoder: int = 0
    vector: Floats | None = None


@dataclass(frozen=True)
class Match:
    """How well every passage fits, by number.

    - `words`: the share of a question's words that it has, weighed by how rare they are.
    - `cosines`: of its vector and the question's by the same encoder; 0 where there is none.
    - `encoders`: which encoder read it; `is_row`: whether it is a question with its answer; `there`: whether it was not
      removed.
    """

    words: Floats
    cosines: Floats
    encoders: NDArray[Any]
    is_row: NDArray[Any]
    there: NDArray[Any]


@dataclass(frozen=True)
class Stored:
    """A passage and the file it stands in."""

    source: str
    passage: Passage


class Index:
    """Passages by number. Safe to use from several threads.

    Args:
        path: the SQLite file; made where there is none. None: in memory alone.
        encoder: what vectors are made with. Those of another one are not searched, and stay as they are.
        width: how many numbers a vector has; 0: there are none.
        load: whether it will be searched; to list and to remove, it need not be read.

    Raises:
        FormatError: the file is damaged, of something else, or of a later version.
        GlassError: it cannot be opened.
    """

    def __init__(self, path: Path | None, encoder: str = "", width: int = 0, *, load: bool = True) -> None:
        self.path, self.encoder, self.width, self._loads = path, encoder, width, load
        self._lock = threading.RLock()
        with self._telling():
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path or ":memory:", check_same_thread=False, isolation_level=None)
            self._prepare()
        self._clear()
        with self._telling():
            self._follow()

    # What is in it

    def sources(self) -> list[Source]:
        """The files, in the order in which they were added."""
        with self._lock, self._telling():
            self._follow()
            rows = self._db.execute(
                "SELECT name, sha256, added, (SELECT count(*) FROM passages WHERE source = s.id), notes, encoder "
                "FROM sources s ORDER BY id"
            ).fetchall()
        return [
            Source(name, sha256, added, count, tuple(json.loads(notes)), encoder)
            for name, sha256, added, count, notes, encoder in rows
        ]

    def passages(self, name: str) -> list[Passage]:
        """Those of a file, in its order."""
        with self._lock, self._telling():
            rows = self._db.execute(
                "SELECT text, question, answer, place, number FROM passages WHERE source = "
                "(SELECT id FROM sources WHERE name = ?) ORDER BY number", (name,)
            ).fetchall()  # fmt: skip
        return [Passage(*row) for row in rows]

    def __len__(self) -> int:
        return len(self._words)

    def stored(self, number: int) -> Stored | None:
        """The passage of a number that `match` gave; None where another process has just removed it."""
        with self._lock, self._telling():
            row = self._db.execute(
                "SELECT s.name, p.text, p.question, p.answer, p.place, p.number FROM passages p JOIN sources s "
                "ON s.id = p.source WHERE p.id = ?", (self._ids[number],)
            ).fetchone()  # fmt: skip
        return None if row is None else Stored(row[0], Passage(*row[1:]))

    # Changing it

    def put(self, name: str, sha256: str, entries: Sequence[Entry], notes: Sequence[str] = ()) -> None:
        """Add a file, or take a new content of it for the old one: all of it or nothing."""
        with self._lock, self._telling():
            with self._transaction():
                self._db.execute("DELETE FROM sources WHERE name = ?", (name,))
                source = self._db.execute(
                    "INSERT INTO sources (name, sha256, added, notes, encoder) VALUES (?, ?, ?, ?, ?)",
                    (name, sha256, time.time(), json.dumps(list(notes)), self.encoder),
                ).lastrowid
                self._db.executemany(
                    "INSERT INTO passages (source, number, place, text, question, answer, search, encoder, vector) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    ((source, e.passage.number, e.passage.place, e.passage.text, e.passage.question, e.passage.answer,
                      e.search, e.encoder, None if e.vector is None else e.vector.astype(np.float16).tobytes())
                     for e in entries),
                )  # fmt: skip
            self._follow(changed=True)

    def drop(self, name: str) -> bool:
        """Take a file out; gives whether it was there."""
        with self._lock, self._telling():
            with self._transaction():
                there = self._db.execute("DELETE FROM sources WHERE name = ?", (name,)).rowcount > 0
            self._follow(changed=there)
        return there

    def close(self) -> None:
        """Lets the file go."""
        with self._lock:
            self._db.close()

    # Searching it

    def read_by(self) -> list[int]:
        """The encoders whose vectors there are."""
        with self._lock, self._telling():
            self._follow()
            return [encoder for encoder, (numbers, _) in self._read_by.items() if numbers]

    def match(self, words: Sequence[str], vectors: Mapping[int, Floats]) -> Match:
        """How well every passage fits a question's words and its vectors, by encoder."""
        with self._lock:
            with self._telling():
                self._follow()
            scores, whole = self._words.score(words)
            count = len(scores)
            cosines = np.zeros(count, np.float32)
            for encoder, vector in vectors.items():
                numbers, read = self._read_by[encoder]
                if numbers:
                    cosines[np.frombuffer(numbers, np.intc)] = read[: len(numbers)] @ vector
            return Match(scores / np.float32(max(whole * BEST, 1e-6)), cosines, self._encoders[:count].copy(),
                         self._is_row[:count].copy(), self._there[:count].copy())  # fmt: skip

    def _clear(self) -> None:
        self._words, self._ids = Bm25(), array("q")
        self._sources: dict[int, range] = {}
        self._read_by: dict[int, tuple[array[int], Floats]] = {
            encoder: (array("i"), np.zeros((0, self.width), np.float32)) for encoder in (0, 1)
        }
        self._encoders, self._is_row, self._there = np.zeros(0, np.uint8), np.zeros(0, np.bool_), np.zeros(0, np.bool_)
        self._seen = -1

    def _follow(self, changed: bool = False) -> None:
        """Bring the arrays to what the file holds, where this or another process changed it."""
        if not self._loads:
            return
        seen = self._db.execute("PRAGMA data_version").fetchone()[0]
        if seen == self._seen and not changed:
            return
        self._db.execute("BEGIN")  # one state of the file, whoever writes meanwhile
        try:
            now = [id for (id,) in self._db.execute("SELECT id FROM sources ORDER BY id")]
            gone = sorted(self._sources.keys() - set(now))
            for source in gone:
                for number in self._sources.pop(source):
                    self._words.remove(number)
                    self._there[number] = False
            if len(self._ids) > 2 * len(self._words) + _HOLES:
                self._clear()  # rather than to keep the places of what is gone for ever
            for source in now:
                if source not in self._sources:
                    self._load(source)
        finally:
            self._db.execute("ROLLBACK")
        self._seen = seen

    def _load(self, source: int) -> None:
        first = len(self._ids)
        self._sources[source] = range(first, first)
        for id, search, row, encoder, vector in self._db.execute(
            "SELECT p.id, p.search, p.answer IS NOT NULL AND p.question IS NOT NULL, p.encoder, "
            "CASE s.encoder WHEN ? THEN p.vector END FROM passages p JOIN sources s ON s.id = p.source "
            "WHERE s.id = ? ORDER BY p.number", (self.encoder, source)
        ):  # fmt: skip
            number = self._words.add(terms(search))
            if number >= len(self._there):
                grown = max(256, 2 * len(self._there))
                self._encoders, self._is_row = _grown(self._encoders, grown), _grown(self._is_row, grown)
                self._there = _grown(self._there, grown)
            self._ids.append(id)
            self._encoders[number], self._is_row[number], self._there[number] = encoder, row, True
            if vector is not None and self.width:
                if len(vector) != 2 * self.width or encoder not in self._read_by:
                    raise sqlite3.DatabaseError("a vector has another length")
                numbers, read = self._read_by[encoder]
                if len(numbers) >= len(read):
                    read = _grown(read, max(256, 2 * len(read)))
                read[len(numbers)] = np.frombuffer(vector, np.float16)
                numbers.append(number)
                self._read_by[encoder] = numbers, read
            self._sources[source] = range(first, number + 1)

    # The file

    def _prepare(self) -> None:
        db = self._db
        db.execute("PRAGMA foreign_keys = ON")
        (application,), (version,) = (db.execute(f"PRAGMA {name}").fetchone() for name in ("application_id",
                                                                                          "user_version"))  # fmt: skip
        if (application, version) == (0, 0) and not db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
            db.executescript(f"BEGIN;{_SCHEMA}PRAGMA application_id = {_APPLICATION};"
                             f"PRAGMA user_version = {_VERSION};COMMIT;")  # fmt: skip
        elif application != _APPLICATION or version > _VERSION:
            raise FormatError(
                "{file} is no index of this program, or of a later version of it",
                hint="Choose another file, or update glassgpt.",
                file=self._name,
            )
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA secure_delete = ON")  # what is removed is gone

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    @property
    def _name(self) -> str:
        return str(self.path or "memory")

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """What SQLite complains of, in our words; nothing is changed by it."""
        try:
            yield
        except sqlite3.OperationalError as error:
            if "decode" in str(error):  # a text of it is none
                raise self._damaged(error) from None
            raise GlassError(
                "the index {file} cannot be used ({reason})",
                hint="See that the disk has room and the file may be written; nothing was changed.",
                file=self._name,
                reason=str(error),
            ) from None
        except (sqlite3.DatabaseError, ValueError) as error:
            raise self._damaged(error) from None

    def _damaged(self, error: Exception) -> FormatError:
        return FormatError(
            "the index {file} is damaged ({reason})",
            hint="Move it away and add your files again; they are untouched.",
            file=self._name,
            reason=str(error)[:80],
        )


def _grown(array: NDArray[Any], rows: int) -> NDArray[Any]:
    out = np.zeros((rows, *array.shape[1:]), array.dtype)
    out[: len(array)] = array
    return out
