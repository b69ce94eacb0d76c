"""A database that the store lives in: opening it, its version, transactions, and its complaints in our words."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import URL, Connection, Engine, create_engine, event, insert, inspect, make_url, select, text, update
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from glassgpt.assistant import store_schema as schema
from glassgpt.core.errors import ConfigError, FormatError, GlassError

APPLICATION = 0x676C7374  # "glst": what SQLite's header says of whose file it is
BUSY = 10.0  # seconds that one process waits for another's write
_LOCK = 0x676C7374
_CHECKED_WHOLE = 64 << 20  # bytes; a larger file is not read through when it is opened
_CONNECT = 5  # seconds to reach a server

Trouble = Literal["lost", "busy", "full", "damaged", "other"]


class Database:
    """An open database of the right version.

    Args:
        url: a path, or a URL as SQLAlchemy takes it. A file is made where there is none.

    Raises:
        ConfigError: the URL is wrong, or what it needs is not installed.
        FormatError: the file is damaged, of something else, or of a later version. It is left as it is.
        GlassError: it cannot be opened or reached.
    """

    def __init__(self, url: str | Path | URL) -> None:
        self.url = _url(url)
        self.kind = self.url.get_backend_name()
        self.path = Path(self.url.database or "") if self.kind == "sqlite" else None
        self.where = str(self.path or self.url.render_as_string(hide_password=True))
        if self.path is not None:
            self._look_at(self.path)
        self.engine = self._engine()
        try:
            with self.telling():
                self._migrate()
        except BaseException:
            self.engine.dispose()
            raise

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection to read with: all that is read through it is of one moment (SQLite, PostgreSQL)."""
        with self.telling(), self.engine.connect() as connection:
            if self.kind == "postgresql":
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that writes. What the database complains of comes as it is: see `trouble`."""
        with self.engine.connect() as connection:
            connection = connection.execution_options(glassgpt_writes=True)
            with connection.begin():
                yield connection

    @contextmanager
    def telling(self) -> Iterator[None]:
        """The database's complaints as GlassError."""
        try:
            yield
        except SQLAlchemyError as error:
            raise self.told(error) from error

    def now(self) -> Any:
        """The database's clock, as an expression: seconds since 1970."""
        if self.kind == "postgresql":
            return text("extract(epoch FROM clock_timestamp())")
        if self.kind == "sqlite":
            return text("((julianday('now') - 2440587.5) * 86400.0)")
        return text("unix_timestamp()")

    def wipe(self) -> bool:
        """Takes what was deleted out of SQLite's log, or has PostgreSQL clear it away; gives whether that is done."""
        if self.kind == "postgresql":
            with self.telling(), self.engine.connect() as connection:
                connection = connection.execution_options(isolation_level="AUTOCOMMIT")
                tables = (schema.conversations, schema.messages, schema.feedback, schema.search)
                connection.exec_driver_sql(f"VACUUM {', '.join(t.name for t in tables)}")
        if self.kind != "sqlite":
            return True
        with self.telling():
            raw = self.engine.raw_connection()
            try:
                cursor = raw.cursor()
                cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                busy = cursor.fetchall()[0][0]
            except sqlite3.OperationalError:
                return False
            finally:
                raw.close()
            return not busy

    def close(self) -> None:
        """Lets all connections go."""
        self.engine.dispose()

    def trouble(self, error: BaseException) -> Trouble:
        """What kind of complaint it is: whether to try again, tell the user, or both."""
        if not isinstance(error, DBAPIError):
            return "other"
        said, state = str(error.orig).lower(), str(getattr(error.orig, "sqlstate", None) or "")
        if self.kind == "sqlite":
            if "is locked" in said or "is busy" in said:
                return "busy"
            if "is full" in said or "disk i/o error" in said or "unable to open" in said or "readonly" in said:
                return "full"
            return "damaged" if "malformed" in said or "not a database" in said or "corrupt" in said else "other"
        if state == "53100":
            return "full"
        if state in ("40001", "40P01", "55P03"):
            return "busy"
        if state.startswith("XX"):
            return "damaged"
        if error.connection_invalidated or state.startswith(("08", "57P", "53")):
            return "lost"
        # A connection that never came about has no state of the server's.
        return "lost" if not state and type(error.orig).__name__ == "OperationalError" else "other"

    def told(self, error: BaseException) -> GlassError:
        """The complaint as an error of ours, which names the database and never a password."""
        reason = str(getattr(error, "orig", None) or error).strip().split("\n")[0][:200]
        trouble = self.trouble(error)
        if trouble == "damaged":
            return FormatError("the conversations in {where} are damaged ({reason})", where=self.where, reason=reason,
                               hint="Nothing was changed. Bring back a copy of yours, or move it away and begin anew.",
                               )  # fmt: skip
        if trouble == "full":
            return GlassError("{where} takes nothing more ({reason})", where=self.where, reason=reason,
                              hint="Free some space and see that it may be written; what was saved is still there.",
                              )  # fmt: skip
        if trouble in ("lost", "busy"):
            return GlassError("the database {where} cannot be reached ({reason})", where=self.where, reason=reason,
                              hint="See that it runs; what was saved is still there.")  # fmt: skip
        return GlassError("the database {where} refused ({reason})", where=self.where, reason=reason,
                          hint="What was saved is still there.")  # fmt: skip

    # Opening

    def _look_at(self, path: Path) -> None:
        """Before anything is written: whether the file is ours and whole."""
        if not path.exists() or not path.stat().st_size:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise GlassError("{where} takes nothing more ({reason})", where=path, reason=error.strerror,
                                 hint="Free some space and see that it may be written; what was saved is still there."
                                 ) from error  # fmt: skip
            return
        try:
            with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY)) as db:
                (application,) = db.execute("PRAGMA application_id").fetchone()
                there = db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
                if there and application != APPLICATION:
                    raise FormatError("{where} is a file of another program", where=path, hint="Choose another file.")
                if path.stat().st_size <= _CHECKED_WHOLE:
                    (found,) = db.execute("PRAGMA quick_check(1)").fetchone()
                    if found != "ok":
                        raise sqlite3.DatabaseError(f"malformed: {found}")
        except sqlite3.OperationalError as error:
            raise self.told(DBAPIError("", None, error)) from error
        except sqlite3.DatabaseError as error:
            raise FormatError("the conversations in {where} are damaged ({reason})", where=path,
                              reason=str(error)[:200],
                              hint="Nothing was changed. Bring back a copy of yours, or move it away and begin anew."
                              ) from error  # fmt: skip

    def _engine(self) -> Engine:
        options: dict[str, Any] = {"pool_pre_ping": self.kind != "sqlite", "pool_size": 8, "max_overflow": 24}
        if self.kind == "sqlite":
            options |= {"poolclass": QueuePool, "connect_args": {"timeout": BUSY, "check_same_thread": False}}
        elif self.kind == "postgresql":
            options |= {"connect_args": {"connect_timeout": _CONNECT, "application_name": "glassgpt"}}
        try:
            engine = create_engine(self.url, hide_parameters=True, **options)
        except (NoSuchModuleError, ImportError) as error:
            raise ConfigError("what reads {where} is not installed ({reason})", where=self.where,
                              reason=str(error)[:200],
                              hint="For PostgreSQL: `pip install glassgpt[postgres]`.") from error  # fmt: skip
        if self.kind == "sqlite":
            event.listen(engine, "connect", _prepare)
            event.listen(engine, "begin", _begin)
        return engine

    def _migrate(self) -> None:
        """Runs what is missing; whoever comes meanwhile waits, and finds it done."""
        while True:
            with self.write() as connection:
                if self.kind == "postgresql":
                    connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
                if not inspect(connection).has_table(schema.version.name):
                    if self.kind == "sqlite":
                        connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION}")
                    schema.version.create(connection)
                    connection.execute(insert(schema.version).values(version=0))
                done = connection.execute(select(schema.version.c.version)).scalar_one()
                if done > len(schema.MIGRATIONS):
                    raise FormatError("{where} has version {version}; this glassgpt knows up to {known}",
                                      where=self.where, version=done, known=len(schema.MIGRATIONS),
                                      hint="Update glassgpt.")  # fmt: skip
                if done == len(schema.MIGRATIONS):
                    return
                schema.MIGRATIONS[done](connection)
                connection.execute(update(schema.version).values(version=done + 1))


def _url(given: str | Path | URL) -> URL:
    shown = str(given)
    try:
        if isinstance(given, str) and "://" in given:
            given = make_url(given)
        url = given if isinstance(given, URL) else URL.create("sqlite", database=str(Path(given).expanduser()))
        if url.drivername in ("postgresql", "postgres"):
            url = url.set(drivername="postgresql+psycopg")
        backend = url.get_backend_name()
    except (ArgumentError, ValueError):
        raise ConfigError("the address of a database cannot be read",
                          hint="Give a path, or one like postgresql://user@host/name.") from None  # fmt: skip
    if backend == "sqlite" and (not url.database or url.database == ":memory:" or "mode=memory" in shown):
        raise ConfigError("conversations need a file", hint="Give a path.")
    return url


def _prepare(connection: Any, _record: Any) -> None:
    """SQLite as we need it; transactions begin where we say so (`_begin`)."""
    connection.isolation_level = None
    for setting in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "secure_delete = ON"):
        connection.execute(f"PRAGMA {setting}")


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("glassgpt_writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
