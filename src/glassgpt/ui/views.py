"""Messages as the page shows them: what a window is sent of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from html import escape
from typing import Any

from glassgpt.assistant.passage import place_text
from glassgpt.assistant.store import Feedback, Message
from glassgpt.core.words import Sentence, say
from glassgpt.formats.catalog import unlearned_note
from glassgpt.ui.markdown import blocks_of
from glassgpt.ui.talks import Writing

# What each kind of reply is, where the reply has no line of its own about its sources.
_MODES = {
    "handover": Sentence("Handed over to a person"),
    "refused": Sentence("Declined by the persona"),
    "reply": Sentence("Said by the persona"),
    "unknown": Sentence("Not found in the files"),
    "model": Sentence("From the model alone, which may be wrong"),
}


def path_of(tree: Sequence[Message], head: str | None) -> list[Message]:
    """The messages from the first to `head`, of all those of a conversation."""
    by_id = {message.id: message for message in tree}
    path: list[Message] = []
    while head is not None and head in by_id:
        path.append(by_id[head])
        head = by_id[head].parent
    return path[::-1]


def siblings_in(tree: Sequence[Message]) -> dict[str | None, list[str]]:
    """The ids of the messages below each message, in the order in which they came."""
    found: dict[str | None, list[str]] = {}
    for message in tree:
        found.setdefault(message.parent, []).append(message.id)
    return found


def view_of(message: Message, siblings: Sequence[str], feedback: Feedback | None, writing: Writing | None,
            language: str) -> dict[str, Any]:  # fmt: skip
    """A message for `transcript.js`.

    Args:
        siblings: the ids of the messages in its place, its own among them.
        writing: the reply itself, where it is being written.
    """
    blocks = plain_blocks(message.text) if message.role == "user" else list(drawn(message.text))
    return {
        "id": message.id,
        "role": "user" if message.role == "user" else "assistant",
        "state": "writing" if writing is not None else message.state,
        "text": message.text,
        "blocks": blocks if writing is None else list(writing.stream.blocks),
        "siblings": list(siblings),
        "banners": [] if writing is not None else banners_of(message, language),
        "mode": mode_of(message.extras, language),
        "sources": [source_of(source, language) for source in _dicts(message.extras.get("sources"))],
        "thumb": feedback.thumb if feedback else 0,
        "correction": (feedback.correction or "") if feedback else "",
    }


def plain_blocks(text: str) -> list[str]:
    """What a user wrote: shown as it was typed."""
    return [f'<p class="gg-plain">{escape(text)}</p>']


@lru_cache(maxsize=2048)
def drawn(text: str) -> tuple[str, ...]:
    """A reply's blocks as safe HTML."""
    return tuple(blocks_of(text))


def banners_of(message: Message, language: str) -> list[str]:
    """What the user must know of a message: turns left out, a reply cut off, a failure."""
    extras, found = message.extras, []
    if message.state == "failed":
        found.append(say("This reply failed: {why}", language, why=extras.get("failure", "?")))
    if message.state == "interrupted":
        found.append(say("Stopped here.", language))
    elif extras.get("finish_reason") == "length":
        found.append(say("Cut off after {count} tokens; the settings allow more.", language,
                         count=extras.get("tokens", "?")))  # fmt: skip
    if extras.get("unlearned"):
        found.append(unlearned_note(str(extras["unlearned"])).text(language))
    left = extras.get("left_out")
    if isinstance(left, Mapping):
        found.append(say("The conversation has outgrown the model's memory: its first {count} messages, from “{first}” "
                         "on, were left out for this reply.", language, count=left.get("count"),
                         first=left.get("first")))  # fmt: skip
    if extras.get("replaced_characters"):
        found.append(say("Characters that cannot be kept were replaced: {count}", language,
                         count=extras["replaced_characters"]))  # fmt: skip
    return found


def mode_of(extras: Mapping[str, Any], language: str) -> str:
    """How a reply came about, on one line; "" where nothing need be said."""
    if isinstance(extras.get("footer"), str):
        return str(extras["footer"]).strip("()（）")
    kind = extras.get("kind")
    return _MODES[kind].text(language) if isinstance(kind, str) and kind in _MODES else ""


def source_of(source: Mapping[str, Any], language: str) -> dict[str, Any]:
    """What a reply was taken from."""
    place = place_text(str(source.get("place", "")), language)
    question = str(source.get("question") or "")
    return {"place": f"{source.get('source', '')}, {place}", "question": question,
            "text": answer_alone(str(source.get("text", "")), question)}  # fmt: skip


def answer_alone(text: str, question: str) -> str:
    """A row's text without the question that it begins with, which is shown above it."""
    return text.removeprefix(question).lstrip("\n") or text if question else text


def _dicts(given: Any) -> list[Mapping[str, Any]]:
    return [one for one in given if isinstance(one, Mapping)] if isinstance(given, list) else []
