"""The conversation as an element of the page; what it looks like and does is in `transcript.js`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nicegui import ui
from nicegui.events import GenericEventArguments

# What the script says, by the names that it uses.
WORDS = {
    "conversation": "Conversation", "latest": "To the latest message", "say": "Say something", "send": "Send",
    "stop": "Stop", "you": "You", "assistant": "Assistant", "thinking": "Reading", "actions": "What to do with it",
    "previous": "The version before", "next": "The version after", "copy": "Copy", "copied": "Copied",
    "copyCode": "Copy the code", "edit": "Edit", "editing": "Say this instead", "sendAgain": "Send",
    "again": "Write again", "good": "Good reply", "bad": "Bad reply", "correct": "Correct it",
    "correcting": "What would have been the right answer?", "corrected": "Your correction:", "keep": "Keep",
    "cancel": "Cancel", "table": "Table",
}  # fmt: skip


class Transcript(ui.element, component="transcript.js"):
    """Messages, the field below them, and what the user does with them.

    Args:
        words: says a sentence in the window's language.
        start: what is shown first, as `show` takes it.
    """

    def __init__(self, words: Callable[[str], str], start: dict[str, Any] | None = None) -> None:
        super().__init__()
        self._props["words"] = {name: words(template) for name, template in WORDS.items()}
        self._props["start"] = start

    def when(self, event: str, handler: Callable[[dict[str, Any]], Any]) -> None:
        """Calls the handler with what the script tells of an event: said, stopped, edited, again, chosen, judged,
        corrected."""

        async def told(given: GenericEventArguments) -> None:
            await handler(given.args if isinstance(given.args, dict) else {})

        self.on(event, told)

    def show(self, about: dict[str, Any]) -> None:
        """Another conversation, or the same anew."""
        self.run_method("show", about)

    def earlier(self, conversation: str, messages: list[dict[str, Any]]) -> None:
        """Messages before those that are shown."""
        self.run_method("earlier", conversation, messages)

    def put(self, message: dict[str, Any]) -> None:
        """A message, new or anew."""
        self.run_method("put", message)

    def write(self, message: str, first: int, blocks: list[str]) -> None:
        """The blocks of a reply from `first` on."""
        self.run_method("write", {"id": message, "first": first, "blocks": blocks})

    def taken(self, well: bool) -> None:
        """What was said was taken, or refused."""
        self.run_method("taken", well)
