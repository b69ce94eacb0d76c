"""The conversation as an element of the page; what it looks like and does is in `transcript.js`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nicegui import ui
from nicegui.events import GenericEventArguments

from glassgpt.core.words import Sentence

# What the script says, by the names that it uses.
WORDS = {
    "conversation": Sentence("Conversation"),
    "latest": Sentence("To the latest message"),
    "say": Sentence("Say something"),
    "send": Sentence("Send"),
    "stop": Sentence("Stop"),
    "you": Sentence("You"),
    "assistant": Sentence("Assistant"),
    "thinking": Sentence("Reading"),
    "actions": Sentence("What to do with it"),
    "previous": Sentence("The version before"),
    "next": Sentence("The version after"),
    "copy": Sentence("Copy"),
    "copied": Sentence("Copied"),
    "copyCode": Sentence("Copy the code"),
    "edit": Sentence("Edit"),
    "editing": Sentence("Say this instead"),
    "sendAgain": Sentence("Send"),
    "again": Sentence("Write again"),
    "good": Sentence("Good reply"),
    "bad": Sentence("Bad reply"),
    "correct": Sentence("Correct it"),
    "correcting": Sentence("What would have been the right answer?"),
    "corrected": Sentence("Your correction:"),
    "keep": Sentence("Keep"),
    "cancel": Sentence("Cancel"),
    "table": Sentence("Table"),
    "inside": Sentence("Look inside"),
}


class Transcript(ui.element, component="transcript.js"):
    """Messages, the field below them, and what the user does with them.

    Args:
        language: of its labels.
        start: what is shown first, as `show` takes it.
    """

    def __init__(self, language: str, start: dict[str, Any] | None = None) -> None:
        super().__init__()
        self._props["words"] = {name: sentence.text(language) for name, sentence in WORDS.items()}
        self._props["start"] = start

    def when(self, event: str, handler: Callable[[dict[str, Any]], Any]) -> None:
        """Calls the handler with what the script tells of an event: said, stopped, edited, again, chosen, judged,
        corrected, looked."""

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
