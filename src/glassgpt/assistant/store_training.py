"""From use back to training: what users thought of replies becomes rows that `glassgpt build` takes.

A reply with a thumb up, or in whose place a user wrote the right answer, is a conversation to learn from. The right
answer beside the one that was given, and a reply with a thumb up beside one of the same question with a thumb down, are
preferences. Nothing else is taken, and what is left out is counted with its reason.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from glassgpt.assistant.portable_files import write_chunks
from glassgpt.assistant.store import Store
from glassgpt.assistant.store_rows import DONE, Feedback, Message
from glassgpt.core.errors import NotFoundError

Turns = list[dict[str, str]]


@dataclass
class Lessons:
    """Rows of feedback.

    Attributes:
        conversations: {"messages": [...]}, which end with the answer to learn.
        preferences: {"prompt": [...], "chosen": ..., "rejected": ...}.
        left_out: {reason: how many}, of messages with feedback.
    """

    conversations: list[dict[str, Any]] = field(default_factory=list)
    preferences: list[dict[str, Any]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def lessons(store: Store) -> Lessons:
    """All feedback of a store as rows."""
    found = Lessons()
    for id in store.judged():
        try:
            given = store.take(id)
        except NotFoundError:
            continue  # deleted meanwhile
        tree = {m.id: m for m in given.messages}
        judged = {f.message: f for f in given.feedback}
        beside: dict[str | None, list[Feedback]] = {}
        for opinion in given.feedback:
            beside.setdefault(tree[opinion.message].parent, []).append(opinion)
        for parent, opinions in beside.items():
            _learn(opinions, _before(parent, tree, judged), tree, found)
    return found


def export_lessons(store: Store, folder: str | Path) -> Lessons:
    """Writes `conversations.jsonl` and `preferences.jsonl` into a folder; gives what is in them.

    `glassgpt build` learns from the first. Of preferences it learns the chosen answers alone, so that with both files
    right answers are learned twice.

    Raises GlassError where the disk refuses.
    """
    found = lessons(store)
    for name, rows in (("conversations", found.conversations), ("preferences", found.preferences)):
        write_chunks(Path(folder) / f"{name}.jsonl", _lines(rows))
    return found


def _lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    for row in rows:
        yield json.dumps(row, ensure_ascii=False) + "\n"


def _learn(opinions: list[Feedback], before: Turns | str, tree: dict[str, Message], found: Lessons) -> None:
    """The rows of the replies to one question, which stand beside each other."""
    good: list[str] = []
    bad: list[str] = []
    for opinion in opinions:
        reply = tree[opinion.message]
        if not opinion.thumb and opinion.correction is None:
            found.left_out["a note alone"] += 1
        elif isinstance(before, str):
            found.left_out[before] += 1
        elif opinion.correction is not None:
            found.conversations.append({"messages": [*before, _turn("assistant", opinion.correction)]})
            if reply.text.strip() and reply.text != opinion.correction:
                found.preferences.append(_preference(before, opinion.correction, reply.text))
        elif opinion.thumb < 0:
            bad.append(reply.text)
        elif reply.state != DONE or not reply.text.strip():
            found.left_out["the reply is not whole"] += 1
        else:
            found.conversations.append({"messages": [*before, _turn("assistant", reply.text)]})
            good.append(reply.text)
    for worse in bad:
        better = [text for text in good if text != worse and worse.strip()]
        assert not isinstance(before, str)
        found.preferences += [_preference(before, text, worse) for text in better]
        if not better:
            found.left_out["a thumb down without the right answer"] += 1


def _before(parent: str | None, tree: dict[str, Message], judged: dict[str, Feedback]) -> Turns | str:
    """What was said before a reply, or why there is no row. Earlier replies are learned with it, so those that users
    found wrong must not be among them: the right answer stands in their place, or there is no row."""
    turns: Turns = []
    while parent is not None:
        message, opinion = tree[parent], judged.get(parent)
        text = message.text
        if opinion is not None and opinion.correction is not None:
            text = opinion.correction
        elif opinion is not None and opinion.thumb < 0:
            return "an earlier reply has a thumb down"
        if text.strip():
            turns.append(_turn(message.role, text))
        parent = message.parent
    if not any(turn["role"] == "user" for turn in turns):
        return "nobody asked before it"
    return turns[::-1]


def _preference(before: Turns, chosen: str, rejected: str) -> dict[str, Any]:
    return {"prompt": before, "chosen": chosen, "rejected": rejected}


def _turn(role: str, text: str) -> dict[str, str]:
    return {"role": role, "content": text}
