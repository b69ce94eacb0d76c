"""A conversation of a ChatGPT export: a tree of nodes, some without a message, some hidden, some more than text.

What a reader of that page saw is kept. What is no text (pictures, sound, files) is named in its place, "[image]", and
counted; hidden messages are left out, and what follows them follows what was before.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from typing import Any

from glassgpt.assistant.store_rows import (
    DONE,
    INTERRUPTED,
    MAX_MESSAGES,
    MAX_NAME,
    MAX_TITLE,
    UNSTORABLE,
    Conversation,
    Message,
    is_id,
)
from glassgpt.core.errors import FormatError

_MAX_NODES = 5 * MAX_MESSAGES
_HIDDEN = ("model_editable_context", "user_editable_context", "thoughts", "reasoning_recap", "app_pairing_content")
_LANGUAGE = re.compile(r"[\w+#.-]{1,20}")
_CITATION = re.compile("\ue200[^\ue200\ue201]{0,2000}\ue201")  # marks that the page shows as links
_UNFINISHED = ("in_progress",)
_IMAGE, _SOUND, _VIDEO, _FILE = "images left out", "sound left out", "videos left out", "files left out"
_KINDS = {
    "image_asset_pointer": (_IMAGE, "[image]"),
    "audio_asset_pointer": (_SOUND, "[sound]"),
    "real_time_user_audio_video_asset_pointer": (_SOUND, "[sound]"),
    "video_container_asset_pointer": (_VIDEO, "[video]"),
}


def read_chatgpt(record: Any) -> tuple[Conversation, list[Message], Counter[str]]:
    """A conversation, its messages (parents first), and what of them could not be kept: {what: how often}.

    Raises:
        FormatError: it has no tree of messages.
    """
    mapping = record.get("mapping") if isinstance(record, dict) else None
    if not isinstance(mapping, dict) or len(mapping) > _MAX_NODES:
        raise FormatError("it does not have the fields of a conversation")
    notes: Counter[str] = Counter()
    given = record.get("conversation_id") or record.get("id")
    # Without an id of its own, the same conversation has the same one whenever it comes.
    id = given if is_id(given) else hashlib.sha256(repr(sorted(mapping)).encode("utf-8", "replace")).hexdigest()[:32]
    begun = _time(record.get("create_time"), 0.0)
    messages: list[Message] = []
    kept: dict[str, str | None] = {}  # a node: the last message at or above it that is kept
    for name, node in _downwards(mapping):
        parent = node.get("parent")
        above = kept.get(parent) if isinstance(parent, str) else None
        message = _message(node.get("message"), name, id, above, begun, notes)
        kept[name] = above if message is None else message.id
        if message is not None:
            messages.append(message)
    if not messages:
        raise FormatError("there is no message in it")
    title = _clean(record.get("title") if isinstance(record.get("title"), str) else "", notes)
    title = " ".join(title.split())
    if len(title) > MAX_TITLE:
        notes["titles cut"] += 1
        title = title[: MAX_TITLE - 1] + "…"
    current = record.get("current_node")
    head = kept.get(current) if isinstance(current, str) else None
    model = record.get("default_model_slug")
    about = Conversation(
        id, title, begun, _time(record.get("update_time"), begun),
        model=_clean(model, notes)[:MAX_NAME] if isinstance(model, str) else "", head=head or messages[-1].id,
    )  # fmt: skip
    return about, messages, notes


def _downwards(mapping: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The nodes, each after its parent. A circle is broken off: what is in it hangs on nothing."""
    children: dict[str | None, list[str]] = {}
    for name, node in mapping.items():
        if not isinstance(node, dict):
            raise FormatError("it does not have the fields of a conversation")
        parent = node.get("parent")
        known = isinstance(parent, str) and parent in mapping
        children.setdefault(parent if known else None, []).append(name)
    order: list[str] = []
    waiting = children.get(None, [])[::-1]
    while waiting:
        name = waiting.pop()
        order.append(name)
        waiting += children.get(name, [])[::-1]
    if len(order) != len(mapping):
        raise FormatError("its messages do not form a tree")
    return [(name, mapping[name]) for name in order]


def _message(value: Any, node: str, conversation: str, parent: str | None, begun: float,
             notes: Counter[str]) -> Message | None:  # fmt: skip
    if not isinstance(value, dict):
        return None  # the root, or a place that never came to be
    author, metadata, content = (_object(value.get(k)) for k in ("author", "metadata", "content"))
    role, kind = author.get("role"), str(content.get("content_type", "text"))
    if role not in ("system", "user", "assistant", "tool"):
        notes["messages of unknown roles left out"] += 1
        return None
    if metadata.get("is_visually_hidden_from_conversation") or kind in _HIDDEN:
        notes["hidden messages left out"] += 1
        return None
    text, citations = _CITATION.subn("", _clean(_text(content, kind, notes), notes))
    if citations:
        notes["citations left out"] += citations
    if not text.strip():
        return None
    extras: dict[str, Any] = {"from": "chatgpt"}
    for name, said in (
        ("model", metadata.get("model_slug")),
        ("tool", author.get("name")),
        ("to", value.get("recipient")),
    ):
        if isinstance(said, str) and said and said != "all":
            extras[name] = said[:MAX_NAME]
    if kind not in ("text", "multimodal_text"):
        extras["kind"] = kind[:MAX_NAME]
    id = value.get("id") if is_id(value.get("id")) else node
    id = id if is_id(id) else hashlib.sha256(f"{conversation} {node}".encode("utf-8", "replace")).hexdigest()[:32]
    state = INTERRUPTED if value.get("status") in _UNFINISHED else DONE
    return Message(str(id), conversation, parent, role, text, _time(value.get("create_time"), begun), state, extras)


def _text(content: dict[str, Any], kind: str, notes: Counter[str]) -> str:
    """What was shown, as Markdown."""
    said = [_part(part, notes) for part in content["parts"]] if isinstance(content.get("parts"), list) else []
    said += [content[k] for k in ("text", "result") if isinstance(content.get(k), str)]
    text = "\n\n".join(part for part in said if part)
    if kind in ("code", "execution_output") and text:
        fence = "```"
        while fence in text:
            fence += "`"
        language = str(content.get("language") or "") if kind == "code" else ""
        known = language != "unknown" and _LANGUAGE.fullmatch(language)
        text = f"{fence}{language if known else ''}\n{text}\n{fence}"
    return text


def _part(part: Any, notes: Counter[str]) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, dict):
        if isinstance(part.get("text"), str):  # what was spoken
            return part["text"]
        note, name = _KINDS.get(str(part.get("content_type")), (_FILE, "[file]"))
        notes[note] += 1
        return name
    if part is not None:
        notes["parts that are no text left out"] += 1
    return ""


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _clean(text: str, notes: Counter[str]) -> str:
    clean, count = UNSTORABLE.subn("\ufffd", text)
    if count:
        notes["characters replaced that are none"] += count
    return clean


def _time(value: Any, other: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e15 or math.isnan(value):
        return other
    return float(value)
