"""What the store keeps, as plain values, and the limits of each."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from glassgpt.core.errors import InputError
from glassgpt.data.rows import MESSAGE_ROLES

MAX_TEXT = 1_000_000  # characters of one message
MAX_TITLE = 200  # characters
MAX_NAME = 200  # characters of a persona's or a model's name
MAX_EXTRAS = 1 << 20  # bytes of a message's extras as JSON
MAX_DEPTH = 50  # of lists and objects in each other in a message's extras
MAX_MESSAGES = 10_000  # of one conversation, all branches together
MAX_QUERY = 200  # characters of a search
MAX_PAGE = 200  # conversations or hits at a time
MAX_NOTE = 10_000  # characters of a note on a message

WRITING, DONE, INTERRUPTED, FAILED = "writing", "done", "interrupted", "failed"
STATES = (WRITING, DONE, INTERRUPTED, FAILED)

# A database of text takes neither a zero character nor half of one.
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


@dataclass(frozen=True)
class Message:
    """One message of the tree.

    Attributes:
        parent: the message it answers or follows; None: the first of its conversation.
        created: seconds since 1970.
        state: "writing", "done", "interrupted" (what was written so far) or "failed" (extras["failure"] says why).
        extras: what belongs to it besides, as JSON has it: sources, a receipt.
    """

    id: str
    conversation: str
    parent: str | None
    role: str
    text: str
    created: float
    state: str = DONE
    extras: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Conversation:
    """A conversation without its messages. `head` is the last message of the branch that is shown; times are seconds
    since 1970."""

    id: str
    title: str
    created: float
    updated: float
    persona: str = ""
    model: str = ""
    head: str | None = None


@dataclass(frozen=True)
class Page:
    """Some conversations, the one changed last first; `next` asks for those after them, "" where none are left."""

    conversations: tuple[Conversation, ...]
    next: str


@dataclass(frozen=True)
class Hit:
    """What a search found: a message with the words around the place, or a conversation by its title (no message)."""

    conversation: Conversation
    message: Message | None
    excerpt: str


@dataclass(frozen=True)
class Feedback:
    """What a user thinks of a reply: thumb 1 (up), -1 (down) or 0; the answer that would have been right; a note."""

    message: str
    created: float
    thumb: int = 0
    correction: str | None = None
    note: str | None = None


@dataclass(frozen=True)
class Whole:
    """A conversation with its messages in the order in which they came, and the feedback on them."""

    conversation: Conversation
    messages: list[Message]
    feedback: list[Feedback]


def to_conversation(row: Any) -> Conversation:
    """A conversation from its row."""
    return Conversation(row.id, row.title, row.created, row.updated, row.persona, row.model, row.head)


def to_message(row: Any) -> Message:
    """A message from its row."""
    return Message(row.id, row.conversation, row.parent, row.role, row.text, row.created, row.state,
                   json.loads(row.extras))  # fmt: skip


def new_id() -> str:
    """An id that nothing else has."""
    return uuid.uuid4().hex


def is_id(value: Any) -> bool:
    """Whether it can be an id: up to 64 letters, digits and marks of ASCII."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def checked_text(text: Any, limit: int = MAX_TEXT) -> str:
    """The text as it is.

    Raises:
        InputError: it is no text, too long, or holds zero characters or halves of characters.
    """
    if not isinstance(text, str):
        raise InputError("a text is expected, not {given}", given=type(text).__name__)
    if len(text) > limit:
        raise InputError("a text has {given} characters; {limit} are allowed", given=len(text), limit=limit,
                         hint="Shorten it, or say it in parts.")  # fmt: skip
    if UNSTORABLE.search(text):
        raise InputError("a text holds zero characters or halves of characters", hint="Send it as UTF-8.")
    return text


def checked_title(title: Any, limit: int = MAX_TITLE) -> str:
    """A title or name on one line; raises InputError as `checked_text` does."""
    return " ".join(checked_text(title, limit).split())


def checked_role(role: Any) -> str:
    """The role; raises InputError if it is none of the four."""
    if role not in MESSAGE_ROLES:
        raise InputError("there is no role {role}", hint="The roles are {roles}.", role=repr(role)[:40],
                         roles=", ".join(MESSAGE_ROLES))  # fmt: skip
    return str(role)


def checked_limit(limit: int) -> None:
    """Raises InputError where so many cannot be shown at a time."""
    if not 1 <= limit <= MAX_PAGE:
        raise InputError("{given} at a time cannot be shown", given=limit, limit=MAX_PAGE,
                         hint="Ask for 1 to {limit}.")  # fmt: skip


def checked_feedback(given: Feedback) -> Feedback:
    """The feedback as it is; raises InputError where something is out of range."""
    if type(given.thumb) is not int or given.thumb not in (-1, 0, 1):
        raise InputError("a thumb is {given}", given=repr(given.thumb)[:40], hint="It can be 1, 0 or -1.")
    if given.correction is not None:
        checked_text(given.correction)
    if given.note is not None:
        checked_text(given.note, MAX_NOTE)
    return given


def to_json(extras: Mapping[str, Any] | None) -> str:
    """Extras as they are stored; raises InputError if they are no object of JSON, nested too deep, or too large."""
    try:
        text = json.dumps(extras or {}, allow_nan=False, separators=(",", ":"))
        if not text.startswith("{") or _deeper(extras or {}, MAX_DEPTH):
            raise ValueError
    except (TypeError, ValueError, RecursionError):
        raise InputError(
            "what belongs to a message is not JSON", hint="Give texts, numbers, lists and objects."
        ) from None
    if len(text) > MAX_EXTRAS:
        raise InputError("what belongs to a message has {given} bytes as JSON; {limit} are allowed", given=len(text),
                         limit=MAX_EXTRAS, hint="Keep large things elsewhere and their names here.")  # fmt: skip
    return text


def _deeper(value: Any, limit: int) -> bool:
    """Whether lists and objects stand in each other deeper than that: whoever reads them may have little room."""
    if not isinstance(value, dict | list | tuple):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return limit == 0 or any(_deeper(v, limit - 1) for v in inner)
