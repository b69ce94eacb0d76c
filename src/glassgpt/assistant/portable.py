"""Conversations that leave the store and come back: JSON, which keeps everything, and Markdown.

export_json(store, "conversations.json")
import_file(store, "conversations.json")     # ours, Markdown, or an export of ChatGPT's (.zip or .json)
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from glassgpt.assistant.portable_chatgpt import read_chatgpt
from glassgpt.assistant.portable_files import conversations_in_zip, decoded, is_zip, parsed, read_limited, write_chunks
from glassgpt.assistant.portable_markdown import markdown_chunks, read_markdown
from glassgpt.assistant.store import Store
from glassgpt.assistant.store_rows import (
    INTERRUPTED,
    MAX_MESSAGES,
    MAX_NAME,
    MAX_PAGE,
    STATES,
    WRITING,
    Conversation,
    Feedback,
    Message,
    Whole,
    checked_feedback,
    checked_role,
    checked_text,
    checked_title,
    is_id,
    new_id,
    to_json,
)
from glassgpt.core.errors import FormatError, InputError, NotFoundError
from glassgpt.core.words import Sentence

FORMAT, VERSION = "glassgpt-conversations", 1
Notes = Counter[str]


@dataclass
class Imported:
    """What came in: ids of new conversations, how many messages; and what did not, and why, by title."""

    conversations: list[str] = field(default_factory=list)
    messages: int = 0
    there_already: int = 0
    problems: list[tuple[str, Sentence]] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)  # what could not be kept, and how often; see `core.words`


def all_ids(store: Store) -> Iterator[str]:
    """The ids of all conversations, the one changed last first."""
    after = ""
    while True:
        page = store.conversations(MAX_PAGE, after)
        yield from (c.id for c in page.conversations)
        after = page.next
        if not after:
            return


def json_chunks(store: Store, ids: Iterable[str] | None = None) -> Iterator[str]:
    """Conversations as JSON, in parts that make one file; all of them unless `ids` says which.

    A reply that is still written counts as interrupted.
    """
    yield f'{{"format": {json.dumps(FORMAT)}, "version": {VERSION}, "conversations": ['
    comma = "\n"
    for id in all_ids(store) if ids is None else ids:
        try:
            given = store.take(id)
        except NotFoundError:
            if ids is not None:
                raise
            continue  # deleted meanwhile
        yield comma + json.dumps(_to_record(given), ensure_ascii=False, allow_nan=False).translate(_HALVES)
        comma = ",\n"
    yield "\n]}\n"


# Halves of characters may stand in extras; UTF-8 has none.
_HALVES = {code: f"\\u{code:04x}" for code in range(0xD800, 0xE000)}


def export_json(store: Store, path: str | Path, ids: Iterable[str] | None = None) -> None:
    """Writes conversations as one JSON file, whole or not at all.

    Raises:
        NotFoundError: one of the ids is not there.
        GlassError: the disk refuses.
    """
    write_chunks(Path(path), json_chunks(store, ids))


def export_markdown(store: Store, path: str | Path, id: str, message: str | None = None) -> None:
    """Writes the branch of a conversation that is shown (or that ends with `message`) as Markdown.

    Its other branches, extras and feedback are in the JSON alone. Raises as `export_json`.
    """
    write_chunks(Path(path), markdown_chunks(store.conversation(id), store.path(id, message)))


def import_file(store: Store, path: str | Path) -> Imported:
    """Conversations from a file: our JSON, Markdown (.md), or an export of ChatGPT's (its .zip, or conversations.json).

    A conversation whose id is in the store already is left as it is, so the same file can be given again (Markdown has
    no id: it comes in each time). One that cannot be read is a problem of its own; the others come in.

    Raises:
        NotFoundError: there is no such file.
        FormatError: it is none of these, damaged, encrypted, or too large.
        GlassError: it could not be saved.
    """
    path = Path(path)
    if not path.is_file():
        raise NotFoundError("there is no file {name}", name=path, hint="Give the path of an exported file.")
    imported = Imported()
    try:
        if is_zip(path):
            for content in conversations_in_zip(path):
                _import_json(store, imported, content, path.name)
        elif path.suffix.lower() in (".md", ".markdown"):
            text = decoded(read_limited(path), path.name)
            _take(store, imported, path.stem, partial(_from_markdown, text, path.stem))
        else:
            _import_json(store, imported, read_limited(path), path.name)
    except OSError as error:
        raise FormatError("{name} cannot be read ({reason})", name=path.name, reason=error.strerror or str(error),
                          hint="Give another file.") from error  # fmt: skip
    return imported


def _import_json(store: Store, imported: Imported, content: bytes, name: str) -> None:
    data = parsed(content, name)
    read: Callable[[Any], tuple[Whole, Notes]] = _from_chatgpt
    if isinstance(data, dict) and data.get("format") == FORMAT:
        if data.get("version") != VERSION or not isinstance(data.get("conversations"), list):
            raise FormatError("{name} is of version {version}; this glassgpt knows {known}", name=name,
                              version=repr(data.get("version"))[:20], known=VERSION,
                              hint="Update glassgpt.")  # fmt: skip
        data, read = data["conversations"], _from_record
    elif isinstance(data, dict) and isinstance(data.get("mapping"), dict):
        data = [data]
    elif not isinstance(data, list) or not any(isinstance(d, dict) and "mapping" in d for d in data):
        raise FormatError("{name} holds no conversations that are known", name=name,
                          hint="Give an export of glassgpt's or ChatGPT's, or Markdown.")  # fmt: skip
    for record in data:
        title = str(record.get("title", ""))[:80] if isinstance(record, dict) else "?"
        _take(store, imported, title, partial(read, record))


def _take(store: Store, imported: Imported, title: str, read: Callable[[], tuple[Whole, Notes]]) -> None:
    """One conversation into the store; what is wrong with it is told and keeps no other one out."""
    try:
        given, notes = read()
        given = checked(given)
    except (InputError, FormatError) as error:
        imported.problems.append((title, error.sentence()))
        return
    try:
        new = store.put(given)
    except InputError:
        given = _renamed(given)
        new = store.put(given)
    if new:
        imported.conversations.append(given.conversation.id)
        imported.messages += len(given.messages)
        imported.notes.update(notes)
    else:
        imported.there_already += 1


def checked(given: Whole) -> Whole:
    """A conversation from outside, its titles on one line.

    Raises:
        InputError: it is none, or beyond the limits in `store_rows`.
    """
    about, messages = given.conversation, given.messages
    if len(messages) > MAX_MESSAGES:
        raise InputError("it has {count} messages; {limit} are allowed", count=len(messages), limit=MAX_MESSAGES)
    about = replace(about, title=checked_title(about.title), persona=checked_title(about.persona, MAX_NAME),
                    model=checked_title(about.model, MAX_NAME))  # fmt: skip
    ids: set[str] = set()
    for message in messages:
        # A parent comes before its children, so nothing goes round in circles.
        if not is_id(message.id) or message.id in ids or not _among(message.parent, ids):
            raise InputError("its messages do not form a tree")
        ids.add(message.id)
        checked_role(message.role), checked_text(message.text), to_json(message.extras)
        if message.state not in STATES or message.state == WRITING:
            raise InputError("one of its messages is in the state {state}", state=repr(message.state)[:40])
    if not is_id(about.id) or not _among(about.head, ids):
        raise InputError("its messages do not form a tree")
    times = [about.created, about.updated, *(m.created for m in messages), *(f.created for f in given.feedback)]
    if any(not isinstance(t, float) or not math.isfinite(t) for t in times):
        raise InputError("one of its times is no number of seconds")
    judged = [f.message for f in given.feedback]
    replies = {m.id for m in messages if m.role == "assistant"}
    if not all(is_id(id) and id in replies for id in judged) or len(set(judged)) != len(judged):
        raise InputError("its feedback is not on its replies")
    for opinion in given.feedback:
        checked_feedback(opinion)
    return replace(given, conversation=about)


def _among(id: Any, ids: set[str]) -> bool:
    return id is None or (is_id(id) and id in ids)


def _to_record(given: Whole) -> dict[str, Any]:
    messages = [replace(m, state=INTERRUPTED) if m.state == WRITING else m for m in given.messages]
    return asdict(given.conversation) | {
        "messages": [{k: v for k, v in asdict(m).items() if k != "conversation"} for m in messages],
        "feedback": [asdict(f) for f in given.feedback],
    }


def _from_record(record: Any) -> tuple[Whole, Notes]:
    try:
        parts = dict(record)
        messages, feedback = parts.pop("messages"), parts.pop("feedback")
        about = Conversation(**parts)
        given = Whole(
            _timed(about, "created", "updated"),
            [_timed(Message(conversation=about.id, **m), "created") for m in messages],
            [_timed(Feedback(**f), "created") for f in feedback],
        )
    except (TypeError, KeyError, ValueError, AttributeError):
        raise FormatError("it does not have the fields of a conversation") from None
    return given, Notes()


def _timed(row: Any, *names: str) -> Any:
    """Times as floats, where they are whole numbers in the file."""
    whole = {n: float(v) for n in names if type(v := getattr(row, n)) is int and abs(v) < 1e15}
    return replace(row, **whole)


def _renamed(given: Whole) -> Whole:
    """The same with other ids."""
    ids = {m.id: new_id() for m in given.messages}
    return Whole(
        replace(given.conversation, head=ids.get(given.conversation.head or "")),
        [replace(m, id=ids[m.id], parent=ids.get(m.parent or "")) for m in given.messages],
        [replace(f, message=ids[f.message]) for f in given.feedback],
    )


def _from_chatgpt(record: Any) -> tuple[Whole, Notes]:
    conversation, messages, notes = read_chatgpt(record)
    return Whole(conversation, messages, []), notes


def _from_markdown(text: str, name: str) -> tuple[Whole, Notes]:
    title, messages = read_markdown(text, name)
    id = new_id()
    about = Conversation(id, title, messages[0].created, messages[-1].created, head=messages[-1].id)
    return Whole(about, [replace(m, conversation=id) for m in messages], []), Notes()
