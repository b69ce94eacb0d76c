"""What one transaction asks of the tables: single rows, and a message put in its place."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, insert, select, update

from glassgpt.assistant import store_schema as schema
from glassgpt.assistant.store_rows import MAX_MESSAGES, Conversation, Message, to_json
from glassgpt.assistant.store_search import remember
from glassgpt.assistant.terms import fold
from glassgpt.core.errors import InputError, NotFoundError

HEAD = "head"  # as a parent: the last message of the branch that is shown
_messages, _conversations = schema.messages.c, schema.conversations.c


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


def to_conversation(row: Any) -> Conversation:
    """A conversation from its row."""
    return Conversation(row.id, row.title, row.created, row.updated, row.persona, row.model, row.head)


def to_message(row: Any) -> Message:
    """A message from its row."""
    return Message(row.id, row.conversation, row.parent, row.role, row.text, row.created, row.state,
                   json.loads(row.extras))  # fmt: skip


def no_conversation(id: str) -> NotFoundError:
    """The error that it is not there."""
    return NotFoundError("there is no conversation {id}", id=repr(id)[:80], hint="It may have been deleted.")


def no_message(id: str) -> NotFoundError:
    """The error that it is not there."""
    return NotFoundError("there is no message {id}", id=repr(id)[:80], hint="It may have been deleted.")
