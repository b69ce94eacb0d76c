"""The index of what an assistant knows: passages in an SQLite file, with their vectors; what is searched is in memory.

The file is the truth and is written in one transaction for each source; the arrays are made from it when it is opened.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassgpt.assistant.bm25 import Bm25
from glassgpt.assistant.passage import Passage
from glassgpt.assistant.terms import terms
from glassgpt.core.errors import FormatError, GlassError

Floats = NDArray[np.float32]
_APPLICATION, _VERSION = 0x676C6B6E, 1  # "glkn"
_SCHEMA = """
CREATE TABLE sources (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, sha256 TEXT NOT NULL, added REAL NOT NULL,
                      notes TEXT NOT NULL) STRICT;
CREATE TABLE passages (id INTEGER PRIMARY KEY, source INTEGER NOT NULL REFERENCES sources ON DELETE CASCADE,
                       number INTEGER NOT NULL, place TEXT NOT NULL, text TEXT NOT NULL, question TEXT, answer TEXT,
                       vector BLOB, UNIQUE (source, number)) STRICT;
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
"""
_ENCODER = "encoder"


@dataclass(frozen=True)
class Source:
    """A file that was added: its name, the hash of its content, when, how many passages, and what was told of it."""

    name: str
    sha256: str
    added: float
    passages: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Stored:
    """A passage and the file it stands in."""

    source: str
    passage: Passage


class Index:
    """Passages by number. Safe to use from several threads.

    Args:
        path: the SQLite file; made where there is none. None: in memory alone.
        encoder: what the vectors were made with; they are thrown away, and made anew by whoever adds, where it is
            another one.
        width: how many numbers a vector has; 0: there are none.

    Raises:
        FormatError: the file is damaged, of something else, or of a later version.
        GlassError: it cannot be opened.
    """

    def __init__(self, path: Path | None, encoder: str = "", width: int = 0) -> None:
        self.path, self.encoder, self.width = path, encoder, width
        self._lock = threading.RLock()
        with self._telling():
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path or ":memory:", check_same_thread=False, isolation_level=None)
            self._prepare()
        self._words, self._ids, self._numbers = Bm25(), list[int](), dict[int, int]()
        self._vectors: NDArray[Any] = np.zeros((0, width), np.float32)
        self._there: NDArray[Any] = np.zeros(0, np.bool_)
        with self._telling():
            self._load()

    # What is in it

    def sources(self) -> list[Source]:
        """The files, in the order in which they were added."""
        with self._lock, self._telling():
            rows = self._db.execute(
                "SELECT name, sha256, added, (SELECT count(*) FROM passages WHERE source = s.id), notes FROM sources s "
                "ORDER BY id"
            ).fetchall()
        return [Source(name, sha, added, count, tuple(json.loads(notes))) for name, sha, added, count, notes in rows]

    def __len__(self) -> int:
        return len(self._words)

    def stored(self, number: int) -> Stored:
        """The passage of a number that `match` gave."""
        with self._lock, self._telling():
            row = self._db.execute(
                "SELECT s.name, p.text, p.question, p.answer, p.place, p.number FROM passages p JOIN sources s "
                "ON s.id = p.source WHERE p.id = ?", (self._ids[number],)
            ).fetchone()  # fmt: skip
        return Stored(row[0], Passage(*row[1:]))

    # Changing it

    def put(self, name: str, sha256: str, passages: Sequence[Passage], vectors: Floats | None,
            notes: Sequence[str] = ()) -> None:  # fmt: skip
        """Add a file, or take a new content of it for the old one: all of it or nothing.

        Args:
            vectors: of the passages, [N, width], where there are any.
        """
        with self._lock, self._telling():
            halves = None if vectors is None else vectors.astype(np.float16)
            with self._transaction():
                old = self._delete(name)
                source = self._db.execute("INSERT INTO sources (name, sha256, added, notes) VALUES (?, ?, ?, ?)",
                                          (name, sha256, time.time(), json.dumps(list(notes)))).lastrowid  # fmt: skip
                first = self._db.execute("SELECT coalesce(max(id), 0) FROM passages").fetchone()[0] + 1
                self._db.executemany(
                    "INSERT INTO passages VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    ((first + at, source, p.number, p.place, p.text, p.question, p.answer,
                      None if halves is None else halves[at].tobytes()) for at, p in enumerate(passages)),
                )  # fmt: skip
            self._forget(old)
            for at, passage in enumerate(passages):
                vector = None if halves is None else halves[at].astype(np.float32)
                self._remember(first + at, passage.text, passage.question, vector)

    def drop(self, name: str) -> bool:
        """Take a file out; gives whether it was there."""
        with self._lock, self._telling():
            known = self._db.execute("SELECT 1 FROM sources WHERE name = ?", (name,)).fetchone()
            with self._transaction():
                old = self._delete(name)
            self._forget(old)
        return known is not None

    def close(self) -> None:
        """Lets the file go."""
        with self._lock:
            self._db.close()

    # Searching it

    def match(self, words: Sequence[str], vector: Floats | None) -> tuple[Floats, Floats, NDArray[Any]]:
        """How well every passage fits, by number: the share of a question's words that it has, weighed by how rare they
        are; the cosine of its vector (0 where it has none); and whether it is still there."""
        with self._lock:
            scores, whole = self._words.score(words)
            shares = scores / np.float32(max(whole * 2.2, 1e-6))
            cosines = np.zeros(len(scores), np.float32)
            if vector is not None and self.width:
                cosines = self._vectors[: len(scores)] @ vector
            return shares, cosines, self._there[: len(scores)].copy()

    def _remember(self, id: int, text: str, question: str | None, vector: Floats | None) -> None:
        number = self._words.add(terms(question if question is not None else text))
        if number >= len(self._there):
            grown = max(256, 2 * len(self._there))
            self._vectors = _grown(self._vectors, grown)
            self._there = _grown(self._there, grown)
        self._ids.append(id)
        self._numbers[id] = number
        self._there[number] = True
        if vector is not None and self.width:
            self._vectors[number] = vector / max(1e-6, float(np.linalg.norm(vector)))

    def _forget(self, ids: Sequence[int]) -> None:
        for id in ids:
            number = self._numbers.pop(id)
            self._words.remove(number)
            self._there[number] = False
            self._vectors[number] = 0

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
        known = db.execute("SELECT value FROM facts WHERE name = ?", (_ENCODER,)).fetchone()
        if (known[0] if known else "") != self.encoder:
            with self._transaction():
                db.execute("UPDATE passages SET vector = NULL")
                db.execute("UPDATE sources SET sha256 = ''")  # so that adding the files again makes new ones
                db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (_ENCODER, self.encoder))

    def _load(self) -> None:
        for id, text, question, vector in self._db.execute(
            "SELECT id, text, question, vector FROM passages ORDER BY id"
        ):
            if vector is not None and len(vector) != 2 * self.width:
                raise sqlite3.DatabaseError("a vector has another length")
            numbers = None if vector is None else np.frombuffer(vector, np.float16).astype(np.float32)
            self._remember(id, text, question, numbers)

    def _delete(self, name: str) -> list[int]:
        ids = [id for (id,) in self._db.execute(
            "SELECT p.id FROM passages p JOIN sources s ON s.id = p.source WHERE s.name = ?", (name,))]  # fmt: skip
        self._db.execute("DELETE FROM sources WHERE name = ?", (name,))
        return ids

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
            raise GlassError(
                "the index {file} cannot be used ({reason})",
                hint="See that the disk has room and the file may be written; nothing was changed.",
                file=self._name,
                reason=str(error),
            ) from None
        except (sqlite3.DatabaseError, ValueError) as error:
            raise FormatError(
                "the index {file} is damaged ({reason})",
                hint="Move it away and add your files again; they are untouched.",
                file=self._name,
                reason=str(error),
            ) from None


def _grown(array: NDArray[Any], rows: int) -> NDArray[Any]:
    out = np.zeros((rows, *array.shape[1:]), array.dtype)
    out[: len(array)] = array
    return out
