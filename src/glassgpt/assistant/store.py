"""The store: conversations that outlive the program, in SQLite or PostgreSQL.

    store = Store("conversations.db")
    conversation = store.create("Shoes")
    store.add(conversation.id, "user", "Can I return them?")
    with store.begin_reply(conversation.id) as reply:
        for piece in chat.stream(...):
            reply.append(piece)

What is reported as saved is committed. A reply that streams is committed at least every quarter of a second, so that
a process that is killed loses no more than the last moment of it. (SQLite's log is not flushed to the disk at each
commit: a power cut can take the last seconds, never the rest.)
"""

from __future__ import annotations

import atexit
import time
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, and_, delete, insert, or_, select, update

from glassgpt.assistant import store_schema as schema
from glassgpt.assistant.store_database import Database
from glassgpt.assistant.store_owner import Owner
from glassgpt.assistant.store_queries import (
    HEAD,
    add_message,
    no_conversation,
    no_message,
    one_conversation,
    one_message,
    put_conversation,
    to_conversation,
    to_message,
)
from glassgpt.assistant.store_reply import ReplyInProgress
from glassgpt.assistant.store_rows import (
    DONE,
    INTERRUPTED,
    MAX_NAME,
    MAX_NOTE,
    MAX_PAGE,
    STATES,
    WRITING,
    Conversation,
    Feedback,
    Hit,
    Message,
    Page,
    checked_role,
    checked_text,
    checked_title,
    new_id,
    to_json,
)
from glassgpt.assistant.store_search import Query, forget, matches, remember, titles
from glassgpt.assistant.store_writer import INTERVAL, PATIENCE, Writer
from glassgpt.assistant.terms import fold
from glassgpt.core.errors import InputError

_messages, _conversations, _feedback = schema.messages.c, schema.conversations.c, schema.feedback.c


class Store:
    """Conversations in a database. Safe to use from several threads; several processes may share one.

    Args:
        url: a path for SQLite, or a URL as SQLAlchemy takes it. PostgreSQL goes through psycopg; databases of other
            kinds should work, are searched slowly and are not tested.
        interval: seconds at most from a piece of a reply to its commit.
        patience: seconds that writes wait in memory for a database that is away.

    Raises:
        ConfigError: the URL is wrong, or what it needs is not installed.
        FormatError: the file is damaged (it is left as it is), of something else, or of a later version.
        GlassError: it cannot be opened or reached. All methods raise it when the database fails them.
    """

    def __init__(self, url: str | Path | URL, *, interval: float = INTERVAL, patience: float = PATIENCE) -> None:
        self.database = Database(url)
        self._owner = Owner(self.database)
        self._closed = False
        self._swept = 0.0
        with self.database.telling(), self.database.write() as connection:
            self.interrupted = self._owner.sweep(connection)
        self._writer = Writer(self.database, self._owner.id, self._tend, interval, patience)
        atexit.register(self.close)

    def close(self) -> None:
        """Saves everything, marks replies that nobody finished as interrupted, and lets the database go.

        Raises:
            GlassError: something could not be saved.
        """
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self.close)
        try:
            self._writer.close(INTERRUPTED)
            with self.database.telling(), self.database.write() as connection:
                self._owner.leave(connection)
        finally:
            self.database.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Conversations

    def create(self, title: str = "", *, persona: str = "", model: str = "") -> Conversation:
        """A new conversation."""
        now = time.time()
        new = Conversation(new_id(), checked_title(title), now, now, checked_title(persona, MAX_NAME),
                           checked_title(model, MAX_NAME))  # fmt: skip
        self._writer.do(lambda c: put_conversation(c, new))
        return new

    def conversation(self, id: str) -> Conversation:
        """One conversation; raises NotFoundError."""
        with self.database.read() as connection:
            return one_conversation(connection, id)

    def conversations(self, limit: int = 50, after: str = "") -> Page:
        """Conversations, the one changed last first. `after`: the `next` of the page before."""
        if not 1 <= limit <= MAX_PAGE:
            raise InputError("{given} at a time cannot be shown", given=limit, limit=MAX_PAGE,
                             hint="Ask for 1 to {limit}.")  # fmt: skip
        query = select(schema.conversations).order_by(_conversations.updated.desc(), _conversations.id.desc())
        if after:
            updated, _, id = after.partition("~")
            try:
                place = float(updated)
            except ValueError:
                raise InputError("there is no such page", hint="Begin with the first.") from None
            earlier = and_(_conversations.updated == place, _conversations.id < id)
            query = query.where(or_(_conversations.updated < place, earlier))
        with self.database.read() as connection:
            rows = connection.execute(query.limit(limit + 1)).all()
        found = tuple(to_conversation(row) for row in rows[:limit])
        return Page(found, f"{found[-1].updated!r}~{found[-1].id}" if len(rows) > limit else "")

    def rename(self, id: str, title: str) -> None:
        """Another title; raises NotFoundError."""
        title = checked_title(title)

        def work(connection: Connection) -> None:
            one_conversation(connection, id)
            connection.execute(update(schema.conversations).where(_conversations.id == id)
                               .values(title=title, folded=fold(title)))  # fmt: skip

        self._writer.do(work)

    def delete(self, id: str) -> None:
        """A conversation is gone for good, with its messages, their feedback and replies that are being written.

        In SQLite its bytes are overwritten in the file and its log. PostgreSQL keeps them, unreachable, until its
        VACUUM, which is asked for, and in what it archives. Raises NotFoundError.
        """

        found: list[str] = []  # if only the answer to the commit is lost, it is gone at the second try

        def work(connection: Connection) -> list[str]:
            ids = [i for (i,) in connection.execute(select(_messages.id).where(_messages.conversation == id))]
            if not connection.execute(select(_conversations.id).where(_conversations.id == id)).first():
                if found:
                    return found[1:]
                raise no_conversation(id)
            found[:] = [id, *ids]
            forget(connection, id)
            messages = select(_messages.id).where(_messages.conversation == id)
            connection.execute(delete(schema.feedback).where(_feedback.message.in_(messages)))
            connection.execute(delete(schema.messages).where(_messages.conversation == id))
            connection.execute(delete(schema.conversations).where(_conversations.id == id))
            return ids

        self._writer.drop(self._writer.do(work))
        self._writer.wipe()

    # Messages

    def add(self, conversation: str, role: str, text: str, *, parent: str | None = HEAD,
            extras: dict[str, Any] | None = None) -> Message:  # fmt: skip
        """A message that is whole; it becomes the head. `parent`: what it follows; None begins the conversation anew.

        Raises:
            NotFoundError: there is no such conversation or parent.
            InputError: a wrong role, a text or extras too large, or the conversation is full.
        """
        to_json(extras)
        new = Message(new_id(), conversation, parent, checked_role(role), checked_text(text), time.time(), DONE,
                      extras or {})  # fmt: skip
        return self._writer.do(lambda c: add_message(c, new, None), len(text))

    def edit(self, message: str, text: str) -> Message:
        """Another text in the place of a message: a branch beside it, which becomes the head. The first one stays."""
        old = self.message(message)
        return self.add(old.conversation, old.role, text, parent=old.parent)

    def begin_reply(self, conversation: str, *, parent: str | None = HEAD, instead_of: str | None = None,
                    extras: dict[str, Any] | None = None) -> ReplyInProgress:  # fmt: skip
        """The assistant begins to write. Its message is in the database when this returns.

        Args:
            instead_of: a reply that is written anew: the new one becomes a branch beside it.

        Raises: as `add`; and GlassError where too many replies are written at a time.
        """
        to_json(extras)
        if instead_of is not None:
            parent = self.message(instead_of).parent
        self._writer.check_draft()
        new = Message(new_id(), conversation, parent, "assistant", "", time.time(), WRITING, extras or {})

        def work(connection: Connection) -> Message:
            self._owner.sign(connection)
            return add_message(connection, new, self._owner.id)

        return ReplyInProgress(self._writer, self._writer.do(work))

    def message(self, id: str) -> Message:
        """One message; raises NotFoundError."""
        with self.database.read() as connection:
            return to_message(one_message(connection, id))

    def path(self, conversation: str, message: str | None = None) -> list[Message]:
        """The messages from the first to the head, or to `message`; raises NotFoundError."""
        with self.database.read() as connection:
            last = message or one_conversation(connection, conversation).head
            if last is None:
                return []
            if one_message(connection, last).conversation != conversation:
                raise no_message(last)
            up = select(_messages.id, _messages.parent).where(_messages.id == last).cte("up", recursive=True)
            above = schema.messages.alias()
            up = up.union(select(above.c.id, above.c.parent).join(up, above.c.id == up.c.parent))
            rows = connection.execute(select(schema.messages).join(up, up.c.id == _messages.id)).all()
        by_id = {row.id: row for row in rows}
        found = []
        while last is not None:
            found.append(to_message(by_id[last]))
            last = by_id[last].parent
        return found[::-1]

    def tree(self, conversation: str) -> list[Message]:
        """All messages of all branches, in the order in which they came; raises NotFoundError."""
        with self.database.read() as connection:
            one_conversation(connection, conversation)
            query = select(schema.messages).where(_messages.conversation == conversation).order_by(_messages.number)
            return [to_message(row) for row in connection.execute(query)]

    def siblings(self, message: str) -> list[str]:
        """The ids of a message and of those beside it, in the order in which they came."""
        with self.database.read() as connection:
            it = one_message(connection, message)
            beside = _messages.parent.is_(None) if it.parent is None else _messages.parent == it.parent
            query = select(_messages.id).where(_messages.conversation == it.conversation, beside)
            return [id for (id,) in connection.execute(query.order_by(_messages.number))]

    def choose(self, message: str) -> Conversation:
        """Shows the branch that a message is in, down to what came last below it."""

        def work(connection: Connection) -> Conversation:
            it = one_message(connection, message)
            query = select(_messages.id, _messages.parent).where(_messages.conversation == it.conversation)
            last = {parent: id for id, parent in connection.execute(query.order_by(_messages.number))}
            head = message
            while head in last:
                head = last[head]
            connection.execute(update(schema.conversations).where(_conversations.id == it.conversation)
                               .values(head=head))  # fmt: skip
            return one_conversation(connection, it.conversation)

        return self._writer.do(work)

    def search(self, query: str, limit: int = 50) -> list[Hit]:
        """What was said (the newest first) after conversations whose titles have it; raises InputError."""
        wanted = Query(query)
        if not 1 <= limit <= MAX_PAGE:
            raise InputError("{given} at a time cannot be shown", given=limit, limit=MAX_PAGE,
                             hint="Ask for 1 to {limit}.")  # fmt: skip
        hits: list[Hit] = []
        known: dict[str, Conversation] = {}
        with self.database.read() as connection:
            for row in titles(connection, wanted, limit):
                hits.append(Hit(to_conversation(row), None, row.title))
            if len(hits) < limit:
                for row in matches(connection, wanted):
                    if row.conversation not in known:
                        known[row.conversation] = one_conversation(connection, row.conversation)
                    hits.append(Hit(known[row.conversation], to_message(row), wanted.excerpt(row.text)))
                    if len(hits) == limit:
                        break
        return hits

    # Feedback

    def give_feedback(self, message: str, *, thumb: int = 0, correction: str | None = None,
                      note: str | None = None) -> Feedback | None:  # fmt: skip
        """What a user thinks of a reply, in place of what was thought before; nothing at all takes it back.

        Args:
            thumb: 1: up, -1: down.
            correction: the answer that would have been right.

        Raises:
            NotFoundError: there is no such message.
            InputError: it is not the assistant's, or something is out of range.
        """
        if thumb not in (-1, 0, 1):
            raise InputError("a thumb is {given}", given=repr(thumb)[:40], hint="It can be 1, 0 or -1.")
        correction = checked_text(correction) if correction else None
        note = checked_text(note, MAX_NOTE) if note else None
        new = Feedback(message, time.time(), thumb, correction, note)

        def work(connection: Connection) -> Feedback | None:
            if one_message(connection, message).role != "assistant":
                raise InputError("only replies of the assistant are judged", hint="Choose one of its messages.")
            connection.execute(delete(schema.feedback).where(_feedback.message == message))
            if not thumb and correction is None and note is None:
                return None
            connection.execute(insert(schema.feedback).values(**vars(new)))
            return new

        return self._writer.do(work)

    def feedback(self, conversation: str | None = None) -> list[Feedback]:
        """All feedback, or that of one conversation, in the order of the messages."""
        query = select(schema.feedback).join(schema.messages, _messages.id == _feedback.message)
        if conversation is not None:
            query = query.where(_messages.conversation == conversation)
        with self.database.read() as connection:
            return [Feedback(**row._mapping) for row in connection.execute(query.order_by(_messages.number))]

    def put(self, conversation: Conversation, messages: list[Message], feedback: list[Feedback]) -> bool:
        """A whole conversation from elsewhere, checked by whoever calls; False where its id is taken already.

        Raises:
            InputError: one of the messages has an id that is taken.
        """

        tried: list[bool] = []  # if only the answer to the commit is lost, it is there at the second try

        def work(connection: Connection) -> bool:
            if connection.execute(select(_conversations.id).where(_conversations.id == conversation.id)).first():
                return bool(tried)
            for first in range(0, len(messages), 500):
                ids = [m.id for m in messages[first : first + 500]]
                if connection.execute(select(_messages.id).where(_messages.id.in_(ids))).first():
                    raise InputError("a message of it is there already, in another conversation")
            tried.append(True)
            put_conversation(connection, conversation, len(messages))
            if messages:
                rows = [vars(m) | {"extras": to_json(m.extras), "owner": None} for m in messages]
                connection.execute(insert(schema.messages), rows)
                for message in messages:
                    remember(connection, message.id, message.text)
            if feedback:
                connection.execute(insert(schema.feedback), [vars(f) for f in feedback])
            return True

        return self._writer.do(work, sum(len(m.text) for m in messages))

    def _tend(self, writing: bool) -> None:
        """In the writer's thread, every few seconds."""
        if writing:
            with self.database.write() as connection:
                self._owner.sign(connection)
        if time.monotonic() - self._swept > 15:
            self._swept = time.monotonic()
            with self.database.read() as connection:
                left = self._owner.unswept(connection)
            if left:
                with self.database.write() as connection:
                    self._owner.sweep(connection)


__all__ = ["HEAD", "STATES", "Conversation", "Feedback", "Hit", "Message", "Page", "ReplyInProgress", "Store"]
