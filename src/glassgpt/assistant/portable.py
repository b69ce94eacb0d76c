"""Conversations that leave the store and come back: JSON, which keeps everything, and how any file is read safely.

export_json(store, "conversations.json")
import_file(store, "conversations.json")     # ours, Markdown, or an export of ChatGPT's (.zip or .json)
"""

from __future__ import annotations

import json
import math
import os
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from glassgpt.assistant.portable_chatgpt import read_chatgpt
from glassgpt.assistant.portable_markdown import read_markdown
from glassgpt.assistant.store import Store
from glassgpt.assistant.store_rows import (
    INTERRUPTED,
    MAX_MESSAGES,
    MAX_NAME,
    MAX_NOTE,
    MAX_PAGE,
    STATES,
    WRITING,
    Conversation,
    Feedback,
    Message,
    checked_role,
    checked_text,
    checked_title,
    is_id,
    new_id,
    to_json,
)
from glassgpt.core.errors import FormatError, GlassError, InputError, NotFoundError
from glassgpt.core.files import refusing_disk, umask
from glassgpt.core.words import Sentence

FORMAT, VERSION = "glassgpt-conversations", 1
MAX_FILE = 256 << 20  # bytes, unpacked
MAX_ENTRIES = 100_000  # files in a zip
_MAX_RATIO = 200  # unpacked to packed; texts reach 20


@dataclass
class Imported:
    """What came in: ids of new conversations, how many messages; and what did not, and why, by title."""

    conversations: list[str] = field(default_factory=list)
    messages: int = 0
    there_already: int = 0
    problems: list[tuple[str, Sentence]] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)  # what could not be kept, and how often; see `core.words`


@dataclass(frozen=True)
class Whole:
    """A conversation with its messages in the order in which they came, and the feedback on them."""

    conversation: Conversation
    messages: list[Message]
    feedback: list[Feedback]


def all_ids(store: Store) -> Iterator[str]:
    """The ids of all conversations, the one changed last first."""
    after = ""
    while True:
        page = store.conversations(MAX_PAGE, after)
        yield from (c.id for c in page.conversations)
        after = page.next
        if not after:
            return


def whole(store: Store, id: str) -> Whole:
    """A conversation as it leaves the store; a reply that is still written counts as interrupted. Raises
    NotFoundError."""
    messages = [replace(m, state=INTERRUPTED) if m.state == WRITING else m for m in store.tree(id)]
    return Whole(store.conversation(id), messages, store.feedback(id))


def json_chunks(store: Store, ids: Iterable[str] | None = None) -> Iterator[str]:
    """Conversations as JSON, in parts that make one file; all of them unless `ids` says which."""
    yield f'{{"format": {json.dumps(FORMAT)}, "version": {VERSION}, "conversations": ['
    comma = "\n"
    for id in all_ids(store) if ids is None else ids:
        try:
            given = whole(store, id)
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
    """Writes conversations as one JSON file, whole or not at all; raises GlassError where the disk refuses."""
    write_chunks(Path(path), json_chunks(store, ids))


def write_chunks(path: Path, chunks: Iterable[str]) -> None:
    """A file of parts that need not fit into memory together; the old one stays until the new one is whole."""
    with refusing_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
                Path(name).chmod(0o666 & ~umask())
                file.writelines(chunks)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        finally:
            Path(name).unlink(missing_ok=True)


def import_file(store: Store, path: str | Path) -> Imported:
    """Conversations from a file: our JSON, Markdown (.md), or an export of ChatGPT's (its .zip, or conversations.json).

    A conversation whose id is in the store already is left as it is, so the same file can be given again. One that
    cannot be read is a problem of its own; the others come in.

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
        if path.suffix.lower() in (".md", ".markdown"):
            title, messages = read_markdown(_decoded(_read(path), path.name), path.stem)
            _take(store, imported, title, lambda: _whole(title, messages))
        elif zipfile.is_zipfile(path):
            for content in _zipped(path):
                _import_json(store, imported, content, path.name)
        else:
            _import_json(store, imported, _read(path), path.name)
    except OSError as error:
        raise FormatError("{name} cannot be read ({reason})", name=path.name, reason=error.strerror or str(error),
                          hint="Give another file.") from error  # fmt: skip
    return imported


def _import_json(store: Store, imported: Imported, content: bytes, name: str) -> None:
    try:
        data = json.loads(_decoded(content, name))
    except (ValueError, RecursionError):
        raise FormatError("{name} is not valid JSON", name=name, hint="Export it again.") from None
    if isinstance(data, dict) and data.get("format") == FORMAT:
        if data.get("version") != VERSION or not isinstance(data.get("conversations"), list):
            raise FormatError("{name} is of version {version}; this glassgpt knows {known}", name=name,
                              version=repr(data.get("version"))[:20], known=VERSION,
                              hint="Update glassgpt.")  # fmt: skip
        for record in data["conversations"]:
            title = str(record.get("title", ""))[:80] if isinstance(record, dict) else "?"
            _take(store, imported, title, lambda record=record: _from_record(record))
        return
    if isinstance(data, dict) and isinstance(data.get("mapping"), dict):
        data = [data]
    if not isinstance(data, list) or not any(isinstance(d, dict) and "mapping" in d for d in data):
        raise FormatError("{name} holds no conversations that are known", name=name,
                          hint="Give an export of glassgpt's or ChatGPT's, or Markdown.")  # fmt: skip
    for record in data:
        title = str(record.get("title", ""))[:80] if isinstance(record, dict) else "?"

        def convert(record: Any = record) -> Whole:
            conversation, messages, notes = read_chatgpt(record)
            imported.notes.update(notes)
            return Whole(conversation, messages, [])

        _take(store, imported, title, convert)


def _take(store: Store, imported: Imported, title: str, make: Any) -> None:
    """One conversation into the store; what is wrong with it is told and keeps no other one out."""
    try:
        given = make()
        check(given)
    except (InputError, FormatError) as error:
        imported.problems.append((title, error.sentence()))
        return
    try:
        new = store.put(given.conversation, given.messages, given.feedback)
    except InputError:
        given = _renamed(given)
        new = store.put(given.conversation, given.messages, given.feedback)
    if new:
        imported.conversations.append(given.conversation.id)
        imported.messages += len(given.messages)
    else:
        imported.there_already += 1


def check(given: Whole) -> None:
    """Raises InputError where a conversation from outside is none: see the limits in `store_rows`."""
    about, messages = given.conversation, given.messages
    if len(messages) > MAX_MESSAGES:
        raise InputError("it has {count} messages; {limit} are allowed", count=len(messages), limit=MAX_MESSAGES)
    checked_title(about.title), checked_title(about.persona, MAX_NAME), checked_title(about.model, MAX_NAME)
    ids: set[str] = set()
    for message in messages:
        # A parent comes before its children, so nothing goes round in circles.
        if not is_id(message.id) or message.id in ids or not (message.parent is None or message.parent in ids):
            raise InputError("its messages do not form a tree")
        ids.add(message.id)
        checked_role(message.role), checked_text(message.text), to_json(message.extras)
        if message.state not in STATES or message.state == WRITING:
            raise InputError("one of its messages is in the state {state}", state=repr(message.state)[:40])
    if not is_id(about.id) or not (about.head is None or about.head in ids):
        raise InputError("its messages do not form a tree")
    times = [about.created, about.updated, *(m.created for m in messages), *(f.created for f in given.feedback)]
    if any(isinstance(t, bool) or not isinstance(t, float) or not math.isfinite(t) for t in times):
        raise InputError("one of its times is no number of seconds")
    replies = {m.id for m in messages if m.role == "assistant"}
    if len({f.message for f in given.feedback} & replies) != len(given.feedback):
        raise InputError("its feedback is not on its replies")
    for judged in given.feedback:
        if isinstance(judged.thumb, bool) or judged.thumb not in (-1, 0, 1):
            raise InputError("a thumb is {given}", given=repr(judged.thumb)[:40], hint="It can be 1, 0 or -1.")
        for text, limit in ((judged.correction, None), (judged.note, MAX_NOTE)):
            if text is not None:
                checked_text(text) if limit is None else checked_text(text, limit)


def _to_record(given: Whole) -> dict[str, Any]:
    messages = [{k: v for k, v in asdict(m).items() if k != "conversation"} for m in given.messages]
    return asdict(given.conversation) | {"messages": messages, "feedback": [asdict(f) for f in given.feedback]}


def _from_record(record: Any) -> Whole:
    try:
        parts = dict(record)
        messages, feedback = parts.pop("messages"), parts.pop("feedback")
        about = Conversation(**parts)
        return Whole(
            _timed(about, "created", "updated"),
            [_timed(Message(conversation=about.id, **m), "created") for m in messages],
            [_timed(Feedback(**f), "created") for f in feedback],
        )
    except (TypeError, KeyError, ValueError, AttributeError):
        raise FormatError("it does not have the fields of a conversation") from None


def _timed(row: Any, *names: str) -> Any:
    """Times as floats, where they are whole numbers in the file."""
    whole = {n: float(v) for n in names if isinstance(v := getattr(row, n), int) and abs(v) < 1e15}
    return replace(row, **whole)


def _renamed(given: Whole) -> Whole:
    """The same with other ids."""
    ids = {m.id: new_id() for m in given.messages}
    return Whole(
        replace(given.conversation, head=ids.get(given.conversation.head or "")),
        [replace(m, id=ids[m.id], parent=ids.get(m.parent or "")) for m in given.messages],
        [replace(f, message=ids[f.message]) for f in given.feedback],
    )


def _whole(title: str, messages: list[Message]) -> Whole:
    id = new_id()
    first, last = messages[0], messages[-1]
    about = Conversation(id, title, first.created, last.created, head=last.id)
    return Whole(about, [replace(m, conversation=id) for m in messages], [])


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(MAX_FILE + 1)
    if len(content) > MAX_FILE:
        raise _too_large(path.name)
    return content


def _zipped(path: Path) -> Iterator[bytes]:
    """The conversations in a zip of ChatGPT's: only those files are opened, and none is laid on the disk."""
    try:
        with zipfile.ZipFile(path) as packed:
            if len(packed.infolist()) > MAX_ENTRIES:
                raise _too_large(path.name)
            wanted = [i for i in packed.infolist() if _is_conversations(i.filename)]
            if not wanted:
                raise FormatError("{name} holds no conversations that are known", name=path.name,
                                  hint="Give an export of glassgpt's or ChatGPT's, or Markdown.")  # fmt: skip
            room = MAX_FILE
            for info in wanted:
                if info.flag_bits & 1:
                    raise FormatError("{name} is encrypted; only plain zips are read", name=path.name,
                                      hint="Unpack it first.")  # fmt: skip
                # What the zip says of sizes is checked, and not believed: no more than there is room for is unpacked.
                if info.file_size > min(room, max(1 << 20, _MAX_RATIO * info.compress_size)):
                    raise _too_large(path.name)
                with packed.open(info) as file:
                    content = file.read(room + 1)
                if len(content) > room:
                    raise _too_large(path.name)
                room -= len(content)
                yield content
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise FormatError("{name} is a damaged zip ({reason})", name=path.name, reason=str(error)[:200],
                          hint="Fetch it again.") from error  # fmt: skip


def _is_conversations(name: str) -> bool:
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    return last.startswith("conversations") and last.endswith(".json") and last[13:-5].strip("-_0123456789") == ""


def _too_large(name: str) -> GlassError:
    return FormatError("{name} is larger than {limit} MB unpacked", name=name, limit=MAX_FILE >> 20,
                       hint="Export fewer conversations at a time.")  # fmt: skip


def _decoded(content: bytes, name: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise FormatError("{name} is not UTF-8", name=name, hint="Save it as UTF-8.") from None
