"""A record of named values becomes a row: text, question and answer, conversation, or preference."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from glassgpt.core.words import Sentence
from glassgpt.data.columns import fold
from glassgpt.data.languages import MARK
from glassgpt.data.rows import CHOSEN, MESSAGE_ROLES, REJECTED, TEXT, Row

MAX_MESSAGES = 10_000  # of one conversation

_SPEAKERS = {
    **dict.fromkeys(("user", "human", "prompter", "customer", "用户", "用戶", "客户", "客戶", "问", "問"), "user"),
    **dict.fromkeys(("assistant", "gpt", "bot", "model", "chatgpt", "function_call", "tool_call"), "assistant"),
    **dict.fromkeys(("agent", "助手", "客服", "答"), "assistant"),
    **dict.fromkeys(("system", "developer", "系统", "系統"), "system"),
    **dict.fromkeys(("tool", "function", "observation", "function_response", "tool_response", "工具"), "tool"),
}
Messages = list[tuple[str, str]]


class _NoRow(Exception):  # noqa: N818 - a way out of nested shapes, never seen outside this file
    def __init__(self, reason: Sentence) -> None:
        self.reason = reason


def row_of(record: Mapping[str, Any], roles: Mapping[str, str], source: str, number: int) -> Row | Sentence:
    """The row in a record, or the reason why there is none.

    Args:
        record: values by column: texts, or lists and objects as JSON has them (also written as JSON in a text).
        roles: {role: column}, from `columns.recognise`.
    """
    try:
        pairs = _pairs(record, roles)
    except _NoRow as none:
        return none.reason
    texts = [text for _, text in pairs]
    if any(not t.isascii() and MARK.search(t) for t in texts):
        return Sentence("it holds bytes or halves of characters that are no text")
    return Row(source, number, tuple(role for role, _ in pairs), texts)


def _pairs(record: Mapping[str, Any], roles: Mapping[str, str]) -> Messages:
    """What was said, and by whom."""

    def value(role: str) -> Any:
        return record.get(roles[role]) if role in roles else None

    if TEXT in roles:
        return [(TEXT, _text(value(TEXT), lines=True))]
    system = _text(value("system"))
    start: Messages = [("system", system)] if system.strip() else []
    if CHOSEN in roles:
        return start + _preference(value, roles)
    if "messages" in roles:
        if record.get("label") is False:
            raise _NoRow(Sentence("it is marked as a bad answer (label false)"))
        said = _messages(value("messages"))
        if not any(role == "assistant" for role, _ in said):
            raise _NoRow(Sentence("nobody answers in it"))
        return said if said[0][0] == "system" else start + said
    answer = ("assistant", _text(value("response")))
    if isinstance(value("prompt"), list) and len(value("prompt")) > 1:
        return [*start, *_messages(value("prompt")), answer]
    return [*start, ("user", _prompt(value)), answer]


def _preference(value: Any, roles: Mapping[str, str]) -> Messages:
    chosen, rejected = _answer(value(CHOSEN)), _answer(value(REJECTED))
    if "messages" in roles:
        prompt = _messages(value("messages"))
    elif "prompt" in roles:
        given = value("prompt")
        prompt = _messages(given) if isinstance(given, list) else [("user", _prompt(value))]
    else:
        prompt = chosen[:-1]
        if not prompt or prompt != rejected[:-1]:
            raise _NoRow(Sentence("its two answers do not follow the same question"))
    return [*prompt, (CHOSEN, chosen[-1][1]), (REJECTED, rejected[-1][1])]


def _answer(value: Any) -> Messages:
    """An answer as a text, one message, or a conversation that ends with it."""
    if isinstance(value, dict):
        value = [value]
    if isinstance(value, list):
        said = _messages(value)
        if said[-1][0] != "assistant":
            raise _NoRow(Sentence("an answer to choose from is not the assistant's"))
        return said
    return [("assistant", _text(value))]


def _prompt(value: Any) -> str:
    """The question, with the material it is about below it after a blank line."""
    prompt, more = _text(value("prompt")), _text(value("input"))
    return f"{prompt}\n\n{more}" if prompt.strip() and more.strip() else prompt if not more.strip() else more


def _messages(value: Any) -> Messages:
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise _NoRow(Sentence("its conversation is not valid JSON")) from None
    if not isinstance(value, list) or not value:
        raise _NoRow(Sentence("its conversation is not a list of messages"))
    if len(value) > MAX_MESSAGES:
        raise _NoRow(
            Sentence("its conversation has {count} messages; {limit} are allowed", count=len(value), limit=MAX_MESSAGES)
        )
    if all(isinstance(v, str) for v in value):  # two speakers in turns
        return [(("user", "assistant")[i % 2], text) for i, text in enumerate(value)]
    return [_message(v) for v in value]


def _message(value: Any) -> tuple[str, str]:
    if not isinstance(value, dict):
        raise _NoRow(Sentence("one of its messages is not an object with role and content"))
    speaker = value.get("role", value.get("from", value.get("speaker")))
    said = value.get("content", value.get("value", value.get("text")))
    role = _SPEAKERS.get(fold(speaker)) if isinstance(speaker, str) else None
    if role is None or role not in MESSAGE_ROLES:
        raise _NoRow(Sentence("one of its messages is by {speaker}, who is unknown", speaker=str(speaker)[:40]))
    if isinstance(said, list):  # OpenAI's list of parts
        found = [part.get("text") for part in said if isinstance(part, dict) and part.get("type", "text") == "text"]
        parts = [text for text in found if isinstance(text, str)]
        if len(parts) < len(said):
            raise _NoRow(Sentence("one of its messages holds more than text"))
        said = "\n".join(parts)
    if said is None and value.get("tool_calls"):
        raise _NoRow(Sentence("one of its messages holds more than text"))
    return role, _text(said)


def _text(value: Any, *, lines: bool = False) -> str:
    """A value as text. A list of texts is lines where `lines` is set; a list of one is that one."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    if isinstance(value, list) and all(isinstance(v, str) for v in value) and (lines or len(value) == 1):
        return "\n".join(value)
    raise _NoRow(Sentence("it holds a list or an object where a text should be"))
