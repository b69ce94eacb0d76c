"""The tables of the store, and how a database of an earlier version becomes one of this version.

A migration is never changed once it has been released: a new one is added to the list. Each runs in a transaction of
its own together with the number that says it has run.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects import mysql, postgresql

# In front of every name: a PostgreSQL database may well hold tables of others.
PREFIX = "glassgpt_"
_META = MetaData()
_TEXT = Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")
_NUMBER = BigInteger().with_variant(Integer(), "sqlite")  # SQLite numbers rows by INTEGER alone

version = Table(f"{PREFIX}schema", _META, Column("version", Integer, nullable=False))
conversations = Table(
    f"{PREFIX}conversations", _META,
    Column("id", String(64), primary_key=True),
    Column("title", _TEXT, nullable=False),
    Column("folded", _TEXT, nullable=False),  # the title as it is searched
    Column("created", Double, nullable=False),
    Column("updated", Double, nullable=False),
    Column("persona", _TEXT, nullable=False),
    Column("model", _TEXT, nullable=False),
    Column("head", String(64)),
    Column("size", Integer, nullable=False),  # how many messages it has
    Index(f"{PREFIX}conversations_updated", "updated", "id"),
)  # fmt: skip
messages = Table(
    f"{PREFIX}messages", _META,
    Column("number", _NUMBER, Identity(), primary_key=True),  # in the order in which they came
    Column("id", String(64), nullable=False, unique=True),
    Column("conversation", String(64), ForeignKey(conversations.c.id, ondelete="CASCADE"), nullable=False),
    Column("parent", String(64)),
    Column("role", String(16), nullable=False),
    Column("text", _TEXT, nullable=False),
    Column("created", Double, nullable=False),
    Column("state", String(16), nullable=False),
    Column("extras", _TEXT, nullable=False),  # JSON in ASCII
    Column("owner", String(64)),  # who writes it, while it is written
    Index(f"{PREFIX}messages_conversation", "conversation", "number"),
    Index(f"{PREFIX}messages_owner", "owner", sqlite_where=text("owner IS NOT NULL"),
          postgresql_where=text("owner IS NOT NULL")),
)  # fmt: skip
writers = Table(
    f"{PREFIX}writers", _META,
    Column("id", String(64), primary_key=True),
    Column("machine", String(200), nullable=False),
    Column("process", String(64), nullable=False),
    Column("seen", Double, nullable=False),  # by the database's clock
)  # fmt: skip
feedback = Table(
    f"{PREFIX}feedback", _META,
    Column("message", String(64), ForeignKey(messages.c.id, ondelete="CASCADE"), primary_key=True),
    Column("created", Double, nullable=False),
    Column("thumb", SmallInteger, nullable=False),
    Column("correction", _TEXT),
    Column("note", _TEXT),
)  # fmt: skip

# The words of a message. On PostgreSQL an array with an index of its own; on SQLite a table of full-text search.
SEARCH = f"{PREFIX}search"
search = Table(
    SEARCH, MetaData(),
    Column("number", BigInteger, ForeignKey(messages.c.number, ondelete="CASCADE"), primary_key=True),
    Column("terms", postgresql.ARRAY(Text), nullable=False),
)  # fmt: skip


def _first(connection: Connection) -> None:
    tables = (conversations, messages, writers, feedback)
    _META.create_all(connection, tables=tables, checkfirst=False)
    if connection.dialect.name == "sqlite":
        # The words come as we made them, parted by blanks; which of them a message has is all that is asked.
        connection.exec_driver_sql(
            f"CREATE VIRTUAL TABLE {SEARCH} USING fts5(terms, detail=none, columnsize=0, "
            "tokenize=\"unicode61 remove_diacritics 0\")"
        )  # fmt: skip
    elif connection.dialect.name == "postgresql":
        connection.exec_driver_sql(
            f"CREATE TABLE {SEARCH} (number BIGINT PRIMARY KEY REFERENCES {PREFIX}messages (number) ON DELETE CASCADE, "
            "terms TEXT[] NOT NULL)"
        )
        connection.exec_driver_sql(f"CREATE INDEX {SEARCH}_terms ON {SEARCH} USING gin (terms)")


MIGRATIONS: tuple[Callable[[Connection], None], ...] = (_first,)
