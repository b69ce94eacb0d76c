"""Whose replies are being written: what a dead process left half written is marked, and nothing of a living one.

Several processes and machines may share a database. Each store has a row that says which process of which machine it
is, and renews the time in it while replies are being written. A process of the same machine is asked after; of another
one there is the time alone, by the database's clock.
"""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path

from sqlalchemy import Connection, delete, insert, select, update

from glassgpt.assistant import store_schema as schema
from glassgpt.assistant.store_database import Database
from glassgpt.assistant.store_rows import INTERRUPTED, new_id
from glassgpt.assistant.store_search import remember

SILENT = 30.0  # seconds without a sign after which a writer counts as dead
_messages, _writers = schema.messages.c, schema.writers.c


class Owner:
    """One open store among those that share a database."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.id = new_id()

    def sign(self, connection: Connection) -> None:
        """Says that this store is alive."""
        now = self.database.now()
        if not connection.execute(update(schema.writers).where(_writers.id == self.id).values(seen=now)).rowcount:
            connection.execute(insert(schema.writers).values(id=self.id, machine=machine()[:200],
                                                             process=process(os.getpid()), seen=now))  # fmt: skip

    def sweep(self, connection: Connection) -> int:
        """Marks what dead writers left as interrupted, with what was written; gives how many."""
        marked = 0
        for owner in self._others(connection):
            if self._lives(connection, owner):
                continue
            marked += interrupt(connection, owner)
            connection.execute(delete(schema.writers).where(_writers.id == owner))
        return marked

    def unswept(self, connection: Connection) -> bool:
        """Whether a dead writer left something; only reads."""
        return any(not self._lives(connection, owner) for owner in self._others(connection))

    def leave(self, connection: Connection) -> None:
        """The last words of a store."""
        interrupt(connection, self.id)
        connection.execute(delete(schema.writers).where(_writers.id == self.id))

    def _others(self, connection: Connection) -> list[str]:
        owners = select(_messages.owner).where(_messages.owner.is_not(None), _messages.owner != self.id).distinct()
        return [owner for (owner,) in connection.execute(owners)]

    def _lives(self, connection: Connection, owner: str) -> bool:
        row = connection.execute(select(schema.writers).where(_writers.id == owner)).one_or_none()
        if row is None:
            return False
        now = float(connection.execute(select(self.database.now())).scalar_one())
        if now - row.seen > SILENT:
            return False
        here = row.machine == machine()
        return not here or process(int(row.process.split(":")[0])) == row.process


def interrupt(connection: Connection, owner: str) -> int:
    """Ends what an owner was writing; gives how many messages."""
    left = connection.execute(select(_messages.id, _messages.text).where(_messages.owner == owner)).all()
    for id, text in left:
        connection.execute(update(schema.messages).where(_messages.id == id).values(state=INTERRUPTED, owner=None))
        remember(connection, id, text)
    return len(left)


@cache
def machine() -> str:
    """This machine, or the container whose processes are seen from here, since it was started."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return f"{platform.node()} {os.name}"


def process(number: int) -> str:
    """A process as one that has its number later is not: "number:when it began"; another text where there is none."""
    try:
        stat = Path(f"/proc/{number}/stat").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return f"{number}:gone"
    except OSError:
        pass
    else:
        fields = stat.rpartition(")")[2].split()
        return f"{number}:gone" if fields[0] in "ZX" else f"{number}:{fields[19]}"
    if os.name == "posix":
        try:
            os.kill(number, 0)
        except ProcessLookupError:
            return f"{number}:gone"
        except OSError:
            pass
    return f"{number}:?"  # elsewhere the time alone tells
