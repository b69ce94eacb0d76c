"""The branch of a conversation that is shown, as Markdown to read, and back.

Each message stands under a heading, with a comment before it that says what it is, so that headings in a message are
not taken for the next one. Files without these comments, written by hand, are parted at the headings that name a
speaker.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from glassgpt.assistant.store_rows import DONE, INTERRUPTED, MAX_TITLE, WRITING, Conversation, Message, new_id
from glassgpt.core.errors import FormatError

_HEADINGS = {"user": "User", "assistant": "Assistant", "system": "System", "tool": "Tool"}
_SPEAKERS = {
    **dict.fromkeys(("user", "you", "human", "用户", "用戶", "我", "你"), "user"),
    **dict.fromkeys(("assistant", "ai", "bot", "chatgpt", "glassgpt", "助手", "客服"), "assistant"),
    **dict.fromkeys(("system", "系统", "系統"), "system"),
    **dict.fromkeys(("tool", "工具"), "tool"),
}
_MARK = re.compile(
    r"<!-- glassgpt: (user|assistant|system|tool) (-?[0-9]{1,20}(?:\.[0-9]{1,20})?(?:e[+-]?[0-9]{1,3})?)"
    r"(?: (interrupted|failed))? -->"
)
_MARKED = re.compile(r"(\\*)<!-- glassgpt: ")
_HEADING = re.compile(r"#{1,4} +(?:\*\*)?([^:：#*]{1,20})(?:\*\*)?[:：]?\s*")


def markdown_chunks(conversation: Conversation, path: Sequence[Message]) -> Iterator[str]:
    """A conversation along `path` (from `Store.path`) as Markdown, in parts."""
    yield f"# {conversation.title or '…'}\n"
    for message in path:
        when = datetime.fromtimestamp(message.created, UTC).strftime("%Y-%m-%d %H:%M UTC")
        state = INTERRUPTED if message.state == WRITING else message.state
        yield f"\n<!-- glassgpt: {message.role} {message.created!r}{'' if state == DONE else f' {state}'} -->\n"
        yield f"## {_HEADINGS[message.role]} · {when}{'' if state == DONE else f' ({state})'}\n\n"
        lines = message.text.split("\n")
        yield "\n".join("\\" + line if _MARKED.match(line) else line for line in lines) + "\n"


def read_markdown(text: str, name: str) -> tuple[str, list[Message]]:
    """The title and the messages of a conversation in Markdown; `name` is the title where there is none.

    Raises:
        FormatError: no message was found.
    """
    lines = text.split("\n")
    if not any(_MARK.fullmatch(line) for line in lines):  # another program may have ended its lines in its own way
        lines = text.replace("\r\n", "\n").split("\n")
    title = next((line[2:].strip() for line in lines[:1] if line.startswith("# ")), "") or name
    marked = any(_MARK.fullmatch(line) for line in lines)
    messages = _marked(lines) if marked else _by_hand(lines)
    if not messages:
        raise FormatError("there is no message in it")
    title = " ".join(title.split())
    return title if len(title) <= MAX_TITLE else title[: MAX_TITLE - 1] + "…", messages


def _marked(lines: list[str]) -> list[Message]:
    found: list[tuple[str, float, str, list[str]]] = []
    for line in lines:
        mark = _MARK.fullmatch(line)
        if mark:
            found.append((mark[1], float(mark[2]), mark[3] or DONE, []))
        elif found:
            found[-1][3].append(line[1:] if _MARKED.match(line) and line.startswith("\\") else line)
    # Of each: a heading and an empty line before, and an empty line (the last: the end of the file) after.
    return _chain([(role, when, state, "\n".join(said[2:-1])) for role, when, state, said in found])


def _by_hand(lines: list[str]) -> list[Message]:
    found: list[tuple[str, list[str]]] = []
    fenced = False
    for line in lines:
        fenced ^= line.startswith("```")
        heading = None if fenced else _HEADING.fullmatch(line)
        role = _SPEAKERS.get(heading[1].strip().casefold()) if heading else None
        if role:
            found.append((role, []))
        elif found:
            found[-1][1].append(line)
    now = time.time()
    return _chain([(role, now, DONE, "\n".join(said).strip()) for role, said in found])


def _chain(found: list[tuple[str, float, str, str]]) -> list[Message]:
    messages: list[Message] = []
    for role, when, state, text in found:
        parent = messages[-1].id if messages else None
        messages.append(Message(new_id(), "", parent, role, text, when, state))
    return messages
