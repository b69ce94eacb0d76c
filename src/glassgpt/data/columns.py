"""Which column is what: from its name, in English or Chinese, or because the user says so."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from glassgpt.core.errors import ConfigError, nearest

# Folded names by role, the plainest first; the first that a file has is taken.
NAMES: dict[str, tuple[str, ...]] = {
    "text": (
        *("text", "content", "body", "document", "passage", "article", "paragraphs", "para", "sentence", "story"),
        *("正文", "内容", "內容", "文本", "全文", "文章", "段落", "句子", "原文", "文字", "语料", "語料"),
    ),
    "prompt": (
        *("prompt", "question", "instruction", "query", "user", "human", "ask", "q", "riddle", "problem", "customer"),
        *("问题", "問題", "提问", "提問", "问", "問", "指令", "题目", "題目", "用户", "用戶", "使用者", "客户", "客戶"),
        *("顾客", "顧客", "提示", "提示词", "提示詞", "谜面", "謎面", "上联", "上聯", "问句", "問句"),
    ),
    "response": (
        *("response", "answer", "output", "completion", "reply", "assistant", "bot", "a", "target", "agent"),
        *("答案", "回答", "答", "回复", "回覆", "答复", "答覆", "解答", "客服", "助手", "助理", "输出", "輸出"),
        *("回应", "回應", "谜底", "謎底", "下联", "下聯", "答句"),
    ),
    "input": ("input", "context", "输入", "輸入", "上下文", "背景"),
    "system": ("system", "system_prompt", "system_message", "系统", "系統", "系统提示", "系統提示"),
    "messages": (
        *("messages", "conversations", "conversation", "turns", "dialogue", "dialog", "chat"),
        *("对话", "對話", "消息", "聊天", "会话", "會話"),
    ),
    "chosen": ("chosen", "preferred", "accepted", "较好", "較好", "更好的回答"),
    "rejected": ("rejected", "dispreferred", "较差", "較差", "更差的回答"),
}
GIVEN_ROLES = ("text", "prompt", "response", "system", "messages", "chosen", "rejected")


@lru_cache(maxsize=4096)
def fold(name: str) -> str:
    """A column's name made comparable: without padding, full width, capitals, and with "_" for blanks and hyphens."""
    plain = unicodedata.normalize("NFKC", name).replace("\ufeff", "").strip().strip("\"'").strip().casefold()
    return "_".join(plain.replace("-", " ").replace("_", " ").split())


# Names that only a header has; the others are words that a first record may well hold.
KNOWN_NAMES = frozenset(name for names in NAMES.values() for name in names) - {
    *("q", "a", "ask", "user", "human", "bot", "agent", "customer", "problem", "target", "story", "chat", "query")
}


def recognise(names: Sequence[str], given: Mapping[str, str] | None = None) -> dict[str, str]:
    """The columns that make a row: {role: column}, empty when there is no row in them.

    Args:
        names: the columns that are there.
        given: {role: column} from the user; the other roles are found by name.

    Raises:
        ConfigError: an unknown role, or a column that is not there.
    """
    found = _given(names, given or {})
    taken = set(found.values())
    folded: dict[str, str] = {}
    for name in names:
        if name not in taken:
            folded.setdefault(fold(name), name)
    for role, known in NAMES.items():
        if role not in found:
            column = next((folded[k] for k in known if k in folded), None)
            if column is not None:
                found[role] = column
    if "prompt" not in found and "input" in found:
        found["prompt"] = found.pop("input")
    for shape in _shapes(found, given or {}):
        if all(role in found for role in shape[0]):
            return {role: found[role] for role in (*shape[0], *shape[1]) if role in found}
    return {}


def _shapes(found: Mapping[str, str], given: Mapping[str, str]) -> Iterable[tuple[tuple[str, ...], tuple[str, ...]]]:
    """The roles that a row needs and those it may have besides, in the order they are tried."""
    shapes = [
        (("messages", "chosen", "rejected"), ("system",)),
        (("prompt", "chosen", "rejected"), ("input", "system")),
        (("chosen", "rejected"), ("system",)),
        (("messages",), ("system",)),
        (("prompt", "response"), ("input", "system")),
        (("text",), ()),
    ]
    # What the user named decides: {"text": ...} means texts, though the file has questions and answers too.
    return sorted(shapes, key=lambda shape: -sum(1 for role in given if role in (*shape[0], *shape[1])))


def _given(names: Sequence[str], given: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    folded = {fold(name): name for name in reversed(names)}
    for role, column in given.items():
        if role not in GIVEN_ROLES:
            raise ConfigError(
                "a column cannot be used as {role}",
                hint="The uses are {roles}.",
                role=role,
                roles=", ".join(GIVEN_ROLES),
            )
        actual = column if column in names else folded.get(fold(column))
        if actual is None:
            near = nearest(column, list(names))
            if near:
                raise ConfigError(
                    "there is no column {column}; the columns are {columns}",
                    hint="Did you mean {near}?",
                    column=column,
                    columns=_listed(names),
                    near=near,
                )
            raise ConfigError(
                "there is no column {column}; the columns are {columns}",
                hint="Name one of them.",
                column=column,
                columns=_listed(names),
            )
        found[role] = actual
    return found


def unrecognised(name: str, columns: Sequence[str]) -> ConfigError:
    """The error for a file in whose columns there is no row."""
    named = [column for column in columns if column]
    return ConfigError(
        "none of the columns of {name} is known to hold text or questions and answers; they are {columns}",
        hint="Say which is which, as in --columns prompt={first},response={second} or --columns text={first}.",
        name=name,
        columns=_listed(columns),
        first=named[0] if named else "a",
        second=named[1] if len(named) > 1 else "b",
    )


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(n) for n in names[:30])
    return shown + (" ..." if len(names) > 30 else "")
