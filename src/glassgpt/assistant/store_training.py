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

from glassgpt.assistant.portable import write_chunks
from glassgpt.assistant.store import Store
from glassgpt.assistant.store_rows import DONE, Feedback, Message

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
    judged = {f.message: f for f in store.feedback()}
    trees: dict[str, dict[str, Message]] = {}
    pairs: dict[tuple[str, str | None], list[tuple[Message, Feedback]]] = {}
    for opinion in judged.values():
        reply = store.message(opinion.message)
        if reply.conversation not in trees:
            trees = {reply.conversation: {m.id: m for m in store.tree(reply.conversation)}}  # feedback comes in order
        if not opinion.thumb and opinion.correction is None:
            found.left_out["a note alone"] += 1
            continue
        before = _before(reply, trees[reply.conversation], judged, found)
        if before is None:
            continue
        pairs.setdefault((reply.conversation, reply.parent), []).append((reply, opinion))
        _learn(reply, opinion, before, found)
    for beside in pairs.values():
        _compare(beside, store, judged, found)
    return found


def export_lessons(store: Store, folder: str | Path) -> Lessons:
    """Writes `conversations.jsonl` and `preferences.jsonl` into a folder, for `glassgpt build`; gives what is in them.

    Raises GlassError where the disk refuses.
    """
    found = lessons(store)
    for name, rows in (("conversations", found.conversations), ("preferences", found.preferences)):
        write_chunks(Path(folder) / f"{name}.jsonl", _lines(rows))
    return found


def _lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    for row in rows:
        yield json.dumps(row, ensure_ascii=False) + "\n"


def _learn(reply: Message, opinion: Feedback, before: Turns, found: Lessons) -> None:
    if opinion.correction is not None:
        found.conversations.append({"messages": [*before, _turn("assistant", opinion.correction)]})
        if reply.text.strip() and reply.text != opinion.correction:
            found.preferences.append({"prompt": before, "chosen": opinion.correction, "rejected": reply.text})
    elif opinion.thumb > 0 and reply.state == DONE and reply.text.strip():
        found.conversations.append({"messages": [*before, _turn("assistant", reply.text)]})
    elif opinion.thumb > 0:
        found.left_out["the reply is not whole"] += 1
    else:
        found.left_out["a thumb down without the right answer"] += 1


def _compare(beside: list[tuple[Message, Feedback]], store: Store, judged: dict[str, Feedback], found: Lessons) -> None:
    good = [m for m, f in beside if f.thumb > 0 and f.correction is None and m.state == DONE and m.text.strip()]
    bad = [m for m, f in beside if f.thumb < 0 and f.correction is None and m.text.strip()]
    if not good or not bad:
        return
    path = {m.id: m for m in store.path(good[0].conversation, good[0].id)}
    before = _before(good[0], path, judged, Lessons())
    for better in good if before is not None else ():
        for worse in bad:
            if better.text != worse.text:
                found.preferences.append({"prompt": before, "chosen": better.text, "rejected": worse.text})
                found.left_out["a thumb down without the right answer"] -= 1
    found.left_out = +found.left_out


def _before(reply: Message, tree: dict[str, Message], judged: dict[str, Feedback], found: Lessons) -> Turns | None:
    """What was said before a reply. Earlier replies are learned with it, so those that users found wrong must not be
    among them: the right answer stands in their place, or there is no row."""
    turns: Turns = []
    at = reply.parent
    while at is not None:
        message = tree[at]
        opinion = judged.get(at)
        text = message.text
        if opinion is not None and opinion.correction is not None:
            text = opinion.correction
        elif opinion is not None and opinion.thumb < 0:
            found.left_out["an earlier reply has a thumb down"] += 1
            return None
        if text.strip():
            turns.append(_turn(message.role, text))
        at = message.parent
    if not any(turn["role"] == "user" for turn in turns):
        found.left_out["nobody asked before it"] += 1
        return None
    return turns[::-1]


def _turn(role: str, text: str) -> dict[str, str]:
    return {"role": role, "content": text}
