"""Which model or assistant answers, and how: the bar above the conversation and its dialog."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any

from nicegui import ui
from nicegui.events import GenericEventArguments

from glassgpt.ui.desk import PRECISIONS
from glassgpt.ui.window import Window


class ChatSettings:
    """Of one window. `model` answers in it; another that is chosen answers first in windows to come, too, and `changed`
    is called. All else holds for all windows."""

    def __init__(self, window: Window, changed: Callable[[], None]) -> None:
        self.window, self.desk, self._changed = window, window.desk, changed
        self.model = window.desk.model

    def build_bar(self, start_new: Callable[[], None]) -> None:
        """The elements."""
        words = self.window.words
        with ui.element("div").classes("gg-bar"):
            self.bar = ui.element("span")
            self._fill()
            ui.element("div").classes("gg-space")
            self.window.icon("new", words("New conversation"), start_new)
            self.window.icon("settings", words("Settings"), self._open)

    def choose(self, name: str) -> None:
        """Another model from now on."""
        self.desk.change(model=name)
        self.show(name)
        self._changed()

    def show(self, name: str) -> None:
        """The model of the conversation that is shown, where it is still there."""
        if name in self.desk.hub.entries:
            self.model = name
            self._fill()

    def _fill(self) -> None:
        self.bar.clear()
        entries = [e for e in self.desk.hub.entries.values() if e.precision is None]
        kinds = {False: self.window.words("Models"), True: self.window.words("Assistants")}
        groups = ""
        for assistants, label in kinds.items():
            names = [e.name for e in entries if (e.assistant is not None) == assistants]
            options = "".join(f'<option value="{escape(n)}"{" selected" if n == self.model else ""}>{escape(n)}'
                              "</option>" for n in names)  # fmt: skip
            groups += f'<optgroup label="{escape(label)}">{options}</optgroup>' if names else ""
        with self.bar:
            label = escape(self.window.words("Who answers"))
            found = ui.html(
                f'<select class="gg-select" aria-label="{label}">{groups}</select>', tag="span", sanitize=False
            )
        found.on("change", self.window.safely(self._picked), js_handler="(e) => emit(e.target.value)")

    def _picked(self, event: GenericEventArguments) -> None:
        if event.args in self.desk.hub.entries:
            self.choose(event.args)

    def _open(self) -> None:
        words, chosen = self.window.words, self.desk.settings

        def number(label: str, value: Any, hint: str, **more: Any) -> ui.number:
            return ui.number(label, value=value, **more).props("clearable dense hide-bottom-space").tooltip(hint)

        def keep() -> None:
            self.desk.change(
                temperature=temperature.value, top_p=top_p.value,
                seed=None if seed.value is None else int(seed.value),
                max_new_tokens=None if most.value is None else int(most.value),
                system=system.value or "", precision=precision.value,
            )  # fmt: skip
            dialog.close()

        with self.window.dialog(words("Settings")) as dialog:
            system = ui.textarea(words("What the model is told before the conversation"), value=chosen.system)
            system.props("autogrow outlined maxlength=20000").classes("w-full")
            with ui.element("div").classes("gg-row"):
                hint = words("0 takes the likeliest word; higher is more varied")
                temperature = number(words("Temperature"), chosen.temperature, hint, min=0, max=2, step=0.1)
                hint = words("Only the likeliest words that reach this probability")
                top_p = number(words("Top-p"), chosen.top_p, hint, min=0.05, max=1, step=0.05)
                hint = words("The same seed gives the same reply")
                seed = number(words("Seed"), chosen.seed, hint, min=0, precision=0)
                hint = words("A token is about a word, or a Chinese character")
                most = number(words("Longest reply, in tokens"), chosen.max_new_tokens, hint, min=1, precision=0)
            names = {name: words("As the server chose") if name == "auto" else name for name in PRECISIONS}
            precision = ui.select(names, value=chosen.precision, label=words("Precision of the weights")).classes(
                "w-full"
            )
            self.window.text(words("An empty field leaves it to the model or the assistant."), "gg-faint")
            with ui.element("div").classes("gg-row"):
                self.window.button(words("Keep"), keep, "main")
                self.window.button(words("Cancel"), dialog.close)
