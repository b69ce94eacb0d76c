"""The store: conversations that outlive the program, in SQLite or PostgreSQL.

    store = Store("conversations.db")
    conversation = store.create("Shoes")
    store.add(conversation.id, "user", "Can I return them?")
    with store.begin_reply(conversation.id) as reply:
        for piece in chat.stream(...):
            reply.append(piece)

What is reported as saved is committed, and the disk was asked to hold it. A reply that streams is committed at least
every quarter of a second, so that a process that is killed loses no more than the last moment of it.
"""

from __future__ import annotations

import atexit
import time
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, delete, func, insert, select, update

from glassgpt.assistant import store_schema as schema
from glassgpt.assistant.store_database import Database
from glassgpt.assistant.store_owner import Owner
from glassgpt.assistant.store_queries import (
    HEAD,
    add_message,
    all_feedback,
    all_messages,
    last_below,
    no_conversation,
    no_message,
    one_conversation,
    one_message,
    page,
    path_to,
    put_conversation,
    put_whole,
    siblings_of,
)
from glassgpt.assistant.store_reply import ReplyInProgress
from glassgpt.assistant.store_rows import (
    DONE,
    INTERRUPTED,
    MAX_NAME,
    STATES,
    WRITING,
    Conversation,
    Feedback,
    Hit,
    Message,
    Page,
    Whole,
    checked_feedback,
    checked_limit,
    checked_role,
    checked_text,
    checked_title,
    new_id,
    to_json,
    to_message,
)
from glassgpt.assistant.store_search import Query, find, forget
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
        checked_limit(limit)
        with self.database.read() as connection:
            return page(connection, limit, after)

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
            beside = self.message(instead_of)
            if beside.conversation != conversation:
                raise no_message(instead_of)
            parent = beside.parent
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
            return path_to(connection, conversation, message)

    def tree(self, conversation: str) -> list[Message]:
        """All messages of all branches, in the order in which they came; raises NotFoundError."""
        with self.database.read() as connection:
            one_conversation(connection, conversation)
            return all_messages(connection, conversation)

    def siblings(self, message: str) -> list[str]:
        """The ids of a message and of those beside it, in the order in which they came."""
        with self.database.read() as connection:
            return siblings_of(connection, message)

    def choose(self, message: str) -> Conversation:
        """Shows the branch that a message is in, down to what came last below it."""

        def work(connection: Connection) -> Conversation:
            it = one_message(connection, message)
            head = last_below(connection, it)
            connection.execute(update(schema.conversations).where(_conversations.id == it.conversation)
                               .values(head=head))  # fmt: skip
            return one_conversation(connection, it.conversation)

        return self._writer.do(work)

    def search(self, query: str, limit: int = 50) -> list[Hit]:
        """What was said (the newest first) after conversations whose titles have it; raises InputError."""
        wanted = Query(query)
        checked_limit(limit)
        with self.database.read() as connection:
            return find(connection, wanted, limit)

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
        new = checked_feedback(Feedback(message, time.time(), thumb, _none_if_blank(correction), _none_if_blank(note)))

        def work(connection: Connection) -> Feedback | None:
            if one_message(connection, message).role != "assistant":
                raise InputError("only replies of the assistant are judged", hint="Choose one of its messages.")
            connection.execute(delete(schema.feedback).where(_feedback.message == message))
            if not new.thumb and new.correction is None and new.note is None:
                return None
            connection.execute(insert(schema.feedback).values(**vars(new)))
            return new

        return self._writer.do(work)

    def feedback(self, conversation: str | None = None) -> list[Feedback]:
        """All feedback, or that of one conversation, in the order of the messages."""
        with self.database.read() as connection:
            return all_feedback(connection, conversation)

    def judged(self) -> list[str]:
        """The ids of the conversations that have feedback, in the order in which they began."""
        first = func.min(_messages.number)
        query = select(_messages.conversation).join(schema.feedback, _messages.id == _feedback.message)
        with self.database.read() as connection:
            found = connection.execute(query.group_by(_messages.conversation).order_by(first))
            return [id for (id,) in found]

    # Whole conversations

    def take(self, id: str) -> Whole:
        """A conversation with all that belongs to it, as it is at one moment; raises NotFoundError."""
        with self.database.read() as connection:
            return Whole(one_conversation(connection, id), all_messages(connection, id), all_feedback(connection, id))

    def put(self, given: Whole) -> bool:
        """A whole conversation from elsewhere, checked by whoever calls; False where its id is taken already.

        Raises:
            InputError: one of the messages has an id that is taken.
        """
        tried: list[bool] = []  # if only the answer to the commit is lost, it is there at the second try

        def work(connection: Connection) -> bool:
            if connection.execute(select(_conversations.id).where(_conversations.id == given.conversation.id)).first():
                return bool(tried)
            put_whole(connection, given)
            tried.append(True)
            return True

        return self._writer.do(work, sum(len(m.text) for m in given.messages))

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


def _none_if_blank(text: str | None) -> str | None:
    return None if text is None or (isinstance(text, str) and not text.strip()) else text


__all__ = ["HEAD", "STATES", "Conversation", "Feedback", "Hit", "Message", "Page", "ReplyInProgress", "Store"]
