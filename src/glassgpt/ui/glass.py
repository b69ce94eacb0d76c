"""A reply that is looked into, as an element of the page; what it looks like and does is in `glass.js`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nicegui import ui
from nicegui.events import GenericEventArguments

from glassgpt.core.words import Sentence

# What the script says, by the names that it uses.
WORDS = {
    "text": Sentence("What the model read and wrote, token by token"),
    "read": Sentence("what it was given"),
    "sure": Sentence("sure"),
    "unsure": Sentence("unsure"),
    "views": Sentence("What to look at"),
    "choices": Sentence("Choices"),
    "attention": Sentence("Attention"),
    "layers": Sentence("Layers"),
    "influence": Sentence("Influence"),
    "switches": Sentence("Switches"),
    "origins": Sentence("Origins"),
    "token": Sentence("Token"),
    "probability": Sentence("Probability"),
    "after": Sentence("With these settings"),
    "goOn": Sentence("Go on from here"),
    "temperature": Sentence("Temperature"),
    "topP": Sentence("Top-p"),
    "layer": Sentence("Layer"),
    "head": Sentence("Head"),
    "matrix": Sentence("Each row is a token that reads, each column one that is read from"),
    "readers": Sentence("Heads that read the most here"),
    "from": Sentence("What it read from"),
    "off": Sentence("off"),
    "mlp": Sentence("MLP"),
    "allAttention": Sentence("Attention"),
    "answer": Sentence("Answer again"),
    "allOn": Sentence("All on"),
    "exactly": Sentence("More exactly, by gradients: up to 20 seconds"),
    "computing": Sentence("Computing"),
    "svg": Sentence("Save as SVG"),
    "png": Sentence("Save as PNG"),
    "json": Sentence("Save the numbers"),
    "before": Sentence("Before"),
    "now": Sentence("Now"),
    "tuned": Sentence("Tuned lens"),
    "likeliest": Sentence("the likeliest tokens of each layer, the last at the top"),
}


class Glass(ui.element, component="glass.js"):
    """A reply token by token, and the views of one of its tokens.

    Args:
        language: of its labels.
    """

    def __init__(self, language: str) -> None:
        super().__init__()
        self._props["words"] = {name: sentence.text(language) for name, sentence in WORDS.items()}

    def when(self, event: str, handler: Callable[[dict[str, Any]], Any]) -> None:
        """Calls the handler with what the script tells of an event: wanted (a view), goon."""

        async def told(given: GenericEventArguments) -> None:
            await handler(given.args if isinstance(given.args, dict) else {})

        self.on(event, told)

    def show(self, about: dict[str, Any]) -> None:
        """Another reply: tokens, the place of its first, the place that is looked at, layers and heads."""
        self.run_method("show", about)

    def put(self, view: str, about: dict[str, Any], number: object) -> None:
        """What is seen in a view, and the number under which the script asked for it: it has asked for more since, or
        waits for this."""
        self.run_method("put", view, about, number)

    def refuse(self, number: object, why: str) -> None:
        """What was asked for under that number cannot be seen, and why."""
        self.run_method("refuse", number, why)

    def forget(self) -> None:
        """No reply."""
        self.run_method("clear")
