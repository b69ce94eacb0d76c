"""Searching what was said: English by the stems of words, Chinese by what is contained, in whichever way it is written.

The words of a message (`terms`) are kept beside it: in full-text search of SQLite's or an array that PostgreSQL
indexes. A Chinese word of two characters is one of them, so it is found at once; whether a longer one is there as it
stands is looked up in the message itself.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Select, delete, insert, select, text

from glassgpt.assistant import store_schema as schema
from glassgpt.assistant.store_rows import MAX_QUERY, Conversation, Hit, checked_text, to_conversation, to_message
from glassgpt.assistant.terms import fold, terms
from glassgpt.core.errors import InputError

_SEARCHED = ("user", "assistant")
_CHUNK = 400  # messages that are looked into at a time
_AROUND = 60  # characters before and after what was found
_RUNS = re.compile(r"[\u3400-\u9fff\U00020000-\U0003ffff]{3,}")
# SQLite takes other characters for marks between words, or does not know them yet.
_ODD = re.compile("[^0-9a-z\u3400-\u4db5\u4e00-\u9fa5]")
_TERM = 200  # characters; a longer word is found by its beginning

_messages, _conversations = schema.messages.c, schema.conversations.c


class Query:
    """What is searched for.

    Raises:
        InputError: it is too long, or there is no word in it.
    """

    def __init__(self, query: str) -> None:
        checked_text(query, MAX_QUERY)
        self.folded = fold(query)
        self.terms = _written(query)
        self.runs = list(dict.fromkeys(_RUNS.findall(self.folded)))
        self.words = self.folded.split()
        if not self.terms:
            raise InputError("there is no word to search for", hint="Type a word or a part of a Chinese sentence.")
        # A pair of characters holds both of them.
        pairs = [t for t in self.terms if len(t) == 2 and not t.isascii()]
        covered = {c for pair in pairs for c in pair}
        self.terms = [t for t in self.terms if t not in covered]

    def holds(self, said: str) -> bool:
        """Whether a text that has all the terms has the longer Chinese words as they stand."""
        if not self.runs:
            return True
        folded = fold(said)
        return all(run in folded for run in self.runs)

    def excerpt(self, said: str) -> str:
        """The words around the first place where something of it stands."""
        plain = "".join(map(_plain, said))
        at = -1
        if len(plain) == len(said):
            places = [plain.find(word) for word in (*self.runs, *self.words, *self.terms)]
            at = min((place for place in places if place >= 0), default=-1)
        start = max(0, at - _AROUND)
        shown = " ".join(said[start : max(at, 0) + 2 * _AROUND].split())
        return ("…" if start else "") + shown + ("…" if max(at, 0) + 2 * _AROUND < len(said) else "")


def remember(connection: Connection, message: str, said: str) -> None:
    """Makes a message findable, or findable anew."""
    if connection.dialect.name not in ("sqlite", "postgresql"):
        return
    found = connection.execute(select(_messages.number, _messages.role).where(_messages.id == message)).one_or_none()
    if found is None or found.role not in _SEARCHED:
        return
    if connection.dialect.name == "sqlite":
        connection.execute(text(f"DELETE FROM {schema.SEARCH} WHERE rowid = :number"), {"number": found.number})
    else:
        connection.execute(delete(schema.search).where(schema.search.c.number == found.number))
    _insert(connection, [(found.number, _written(said))])


def remember_all(connection: Connection, conversation: str) -> None:
    """Makes the messages of a new conversation findable."""
    if connection.dialect.name in ("sqlite", "postgresql"):
        query = select(_messages.number, _messages.text).where(_messages.conversation == conversation)
        rows = connection.execute(query.where(_messages.role.in_(_SEARCHED))).all()
        _insert(connection, [(row.number, _written(row.text)) for row in rows])


def _insert(connection: Connection, rows: list[tuple[int, list[str]]]) -> None:
    if connection.dialect.name == "postgresql" and rows:
        connection.execute(insert(schema.search), [{"number": n, "terms": words} for n, words in rows])
    elif rows:
        connection.execute(text(f"INSERT INTO {schema.SEARCH} (rowid, terms) VALUES (:number, :terms)"),
                           [{"number": n, "terms": " ".join(words)} for n, words in rows])  # fmt: skip


def forget(connection: Connection, conversation: str) -> None:
    """Takes the words of a conversation out, before its messages are deleted."""
    if connection.dialect.name == "sqlite":
        connection.execute(text(f"DELETE FROM {schema.SEARCH} WHERE rowid IN (SELECT number FROM "
                                f"{schema.messages.name} WHERE conversation = :id)"), {"id": conversation})  # fmt: skip
        # Words that are marked as deleted stay in the index until its parts are put together.
        connection.execute(text(f"INSERT INTO {schema.SEARCH} ({schema.SEARCH}) VALUES ('optimize')"))


def matches(connection: Connection, query: Query) -> Iterator[Any]:
    """The messages that have it all, the newest first, as rows of `messages`."""
    before: int | None = None
    while True:
        rows = connection.execute(_page(connection.dialect.name, query, before)).all()
        for row in rows:
            if connection.dialect.name in ("sqlite", "postgresql"):
                if query.holds(row.text):
                    yield row
            elif set(query.terms) <= set(_written(row.text)) and query.holds(row.text):
                yield row
        if len(rows) < _CHUNK:
            return
        before = rows[-1].number


def find(connection: Connection, query: Query, limit: int) -> list[Hit]:
    """Conversations by their titles, then messages, the newest first; `limit` at most."""
    hits = [Hit(to_conversation(row), None, row.title) for row in titles(connection, query, limit)]
    known: dict[str, Conversation] = {}
    for row in matches(connection, query) if len(hits) < limit else ():
        if row.conversation not in known:
            about = connection.execute(select(schema.conversations).where(_conversations.id == row.conversation))
            known[row.conversation] = to_conversation(about.one())
        hits.append(Hit(known[row.conversation], to_message(row), query.excerpt(row.text)))
        if len(hits) == limit:
            break
    return hits


def titles(connection: Connection, query: Query, limit: int) -> list[Any]:
    """Conversations whose titles contain each word as it stands, the one changed last first."""
    found: Select[Any] = select(schema.conversations)
    for word in query.words:
        found = found.where(_conversations.folded.contains(word, autoescape=True))
    return list(connection.execute(found.order_by(_conversations.updated.desc(), _conversations.id).limit(limit)))


def _page(kind: str, query: Query, before: int | None) -> Select[Any]:
    found = select(schema.messages).order_by(_messages.number.desc()).limit(_CHUNK)
    if kind == "sqlite":
        numbers = text(f"SELECT rowid FROM {schema.SEARCH} WHERE {schema.SEARCH} MATCH :terms"
                       + (" AND rowid < :before" if before is not None else "")
                       + f" ORDER BY rowid DESC LIMIT {_CHUNK}")  # fmt: skip
        given: dict[str, Any] = {"terms": " ".join(f'"{t}"' for t in query.terms)}
        given |= {"before": before} if before is not None else {}
        return found.where(
            _messages.number.in_(numbers.bindparams(**given).columns(_messages.number).scalar_subquery())
        )
    if before is not None:
        found = found.where(_messages.number < before)
    if kind == "postgresql":
        inner = select(schema.search.c.number).where(schema.search.c.terms.contains(query.terms))
        if before is not None:
            inner = inner.where(schema.search.c.number < before)
        return found.where(_messages.number.in_(inner.order_by(schema.search.c.number.desc()).limit(_CHUNK)))
    return found.where(_messages.role.in_(_SEARCHED), _messages.state != "writing")


def _written(said: str) -> list[str]:
    """The terms of a text, each once, as the databases keep them."""
    return list(dict.fromkeys(_ODD.sub(lambda c: f"u{ord(c[0]):x}", t[:_TERM]) for t in terms(said)))


@lru_cache(1 << 15)
def _plain(character: str) -> str:
    plain = fold(unicodedata.normalize("NFC", character))
    return plain if len(plain) == 1 else character
