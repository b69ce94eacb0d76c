"""What one transaction asks of the tables: single rows, and a message put in its place."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, and_, insert, or_, select, update

from glassgpt.assistant import store_schema as schema
from glassgpt.assistant.store_rows import (
    MAX_MESSAGES,
    WRITING,
    Conversation,
    Feedback,
    Message,
    Page,
    Whole,
    to_conversation,
    to_json,
    to_message,
)
from glassgpt.assistant.store_search import remember, remember_all
from glassgpt.assistant.terms import fold
from glassgpt.core.errors import InputError, NotFoundError

HEAD = "head"  # as a parent: the last message of the branch that is shown
_messages, _conversations, _feedback = schema.messages.c, schema.conversations.c, schema.feedback.c


def put_conversation(connection: Connection, new: Conversation, size: int = 0) -> None:
    """A conversation's row, unless it is there."""
    if not connection.execute(select(_conversations.id).where(_conversations.id == new.id)).first():
        connection.execute(insert(schema.conversations).values(**vars(new), folded=fold(new.title), size=size))


def add_message(connection: Connection, new: Message, owner: str | None) -> Message:
    """A message into its conversation, whose head it becomes; `owner`: who goes on writing it."""
    done = connection.execute(select(schema.messages).where(_messages.id == new.id)).one_or_none()
    if done is not None:  # the answer to its commit was lost
        return to_message(done)
    about = connection.execute(select(schema.conversations).where(_conversations.id == new.conversation)).one_or_none()
    if about is None:
        raise no_conversation(new.conversation)
    if about.size >= MAX_MESSAGES:
        raise InputError("the conversation has {count} messages; more do not fit", count=about.size,
                         hint="Begin another one.")  # fmt: skip
    parent = about.head if new.parent == HEAD else new.parent
    if parent is not None and one_message(connection, parent).conversation != new.conversation:
        raise no_message(parent)
    new = Message(**(vars(new) | {"parent": parent}))
    connection.execute(insert(schema.messages).values(**(vars(new) | {"extras": to_json(new.extras)}), owner=owner))
    if owner is None:
        remember(connection, new.id, new.text)
    connection.execute(
        update(schema.conversations).where(_conversations.id == new.conversation)
        .values(head=new.id, updated=new.created, size=_conversations.size + 1)
    )  # fmt: skip
    return new


def save_reply(id: str, text: str, state: str, extras: dict[str, Any], owner: str, connection: Connection) -> None:
    """What there is of a reply by now; raises NotFoundError.

    The whole text each time: adding to what is there would be wrong where a commit's answer was lost.
    """
    row = {"text": text, "state": state, "extras": to_json(extras), "owner": owner if state == WRITING else None}
    if connection.execute(update(schema.messages).where(_messages.id == id).values(**row)).rowcount != 1:
        raise no_message(id)
    if state != WRITING:
        remember(connection, id, text)


def put_whole(connection: Connection, given: Whole) -> None:
    """A conversation with all that belongs to it.

    Raises:
        InputError: one of the messages has an id that is taken.
    """
    messages = given.messages
    for first in range(0, len(messages), 500):
        ids = [m.id for m in messages[first : first + 500]]
        if connection.execute(select(_messages.id).where(_messages.id.in_(ids))).first():
            raise InputError("a message of it is there already, in another conversation")
    put_conversation(connection, given.conversation, len(messages))
    if messages:
        rows = [vars(m) | {"extras": to_json(m.extras), "owner": None} for m in messages]
        connection.execute(insert(schema.messages), rows)
        remember_all(connection, given.conversation.id)
    if given.feedback:
        connection.execute(insert(schema.feedback), [vars(f) for f in given.feedback])


def page(connection: Connection, limit: int, after: str) -> Page:
    """Conversations, the one changed last first; see `Store.conversations`."""
    query = select(schema.conversations).order_by(_conversations.updated.desc(), _conversations.id.desc())
    if after:
        updated, _, id = after.partition("~")
        try:
            place = float(updated)
        except ValueError:
            raise InputError("there is no such page", hint="Begin with the first.") from None
        earlier = and_(_conversations.updated == place, _conversations.id < id)
        query = query.where(or_(_conversations.updated < place, earlier))
    rows = connection.execute(query.limit(limit + 1)).all()
    found = tuple(to_conversation(row) for row in rows[:limit])
    return Page(found, f"{found[-1].updated!r}~{found[-1].id}" if len(rows) > limit else "")


def path_to(connection: Connection, conversation: str, message: str | None) -> list[Message]:
    """The messages from the first to the head, or to `message`; raises NotFoundError."""
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


def siblings_of(connection: Connection, message: str) -> list[str]:
    """The ids of a message and of those beside it, in the order in which they came."""
    it = one_message(connection, message)
    beside = _messages.parent.is_(None) if it.parent is None else _messages.parent == it.parent
    query = select(_messages.id).where(_messages.conversation == it.conversation, beside)
    return [id for (id,) in connection.execute(query.order_by(_messages.number))]


def last_below(connection: Connection, message: Any) -> str:
    """The id of what came last below a message (a row), and last below that, to the end of the branch."""
    query = select(_messages.id, _messages.parent).where(_messages.conversation == message.conversation)
    last = {parent: id for id, parent in connection.execute(query.order_by(_messages.number))}
    head = str(message.id)
    while head in last:
        head = last[head]
    return head


def all_messages(connection: Connection, conversation: str) -> list[Message]:
    """Of all branches, in the order in which they came."""
    query = select(schema.messages).where(_messages.conversation == conversation).order_by(_messages.number)
    return [to_message(row) for row in connection.execute(query)]


def all_feedback(connection: Connection, conversation: str | None) -> list[Feedback]:
    """All there is, or that of one conversation, in the order of the messages."""
    query = select(schema.feedback).join(schema.messages, _messages.id == _feedback.message)
    if conversation is not None:
        query = query.where(_messages.conversation == conversation)
    return [Feedback(**row._mapping) for row in connection.execute(query.order_by(_messages.number))]


def one_conversation(connection: Connection, id: str) -> Conversation:
    """The conversation; raises NotFoundError."""
    row = connection.execute(select(schema.conversations).where(_conversations.id == id)).one_or_none()
    if row is None:
        raise no_conversation(id)
    return to_conversation(row)


def one_message(connection: Connection, id: str) -> Any:
    """The row of a message; raises NotFoundError."""
    row = connection.execute(select(schema.messages).where(_messages.id == id)).one_or_none()
    if row is None:
        raise no_message(id)
    return row


def no_conversation(id: str) -> NotFoundError:
    """The error that it is not there."""
    return NotFoundError("there is no conversation {id}", id=repr(id)[:80], hint="It may have been deleted.")


def no_message(id: str) -> NotFoundError:
    """The error that it is not there."""
    return NotFoundError("there is no message {id}", id=repr(id)[:80], hint="It may have been deleted.")
