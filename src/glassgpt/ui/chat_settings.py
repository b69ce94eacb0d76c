"""Which model or assistant answers, and how: the bar above the conversation and its dialog."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nicegui import ui
from nicegui.events import GenericEventArguments

from glassgpt.core.errors import InputError
from glassgpt.core.html import Html, element
from glassgpt.ui.desk import PRECISIONS
from glassgpt.ui.window import Field, Window


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
            self.picker = ui.html("", tag="span", sanitize=False)
            self.picker.on("change", self.window.safely(self._picked), js_handler="(e) => emit(e.target.value)")
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
        entries = [e for e in self.desk.hub.entries.values() if e.precision is None]
        models = [e.name for e in entries if e.assistant is None]
        assistants = [e.name for e in entries if e.assistant is not None]
        groups = []
        for label, names in ((self.window.words("Models"), models), (self.window.words("Assistants"), assistants)):
            groups.append(element("optgroup", *(option(name, name, name == self.model) for name in names), label=label))
        label = self.window.words("Who answers")
        self.picker.set_content(element("select", *groups, class_="gg-select", aria_label=label))

    def _picked(self, event: GenericEventArguments) -> None:
        if event.args in self.desk.hub.entries:
            self.choose(event.args)

    def _open(self) -> None:
        words, chosen = self.window.words, self.desk.settings

        def keep() -> None:
            self.desk.change(
                temperature=_number(temperature, float), top_p=_number(top_p, float), seed=_number(seed, int),
                max_new_tokens=_number(most, int), system=system.value, precision=self._precision,
            )  # fmt: skip
            dialog.close()

        with self.window.dialog(words("Settings")) as dialog:
            system = Field(words("What the model is told before the conversation"), chosen.system, "textarea",
                           maxlength="20000")  # fmt: skip
            with ui.element("div").classes("gg-row gg-top"):
                temperature = Field(words("Temperature"), _text(chosen.temperature), "number",
                                    words("0 takes the likeliest word; higher is more varied"), min="0", max="2",
                                    step="0.1")  # fmt: skip
                top_p = Field(words("Top-p"), _text(chosen.top_p), "number",
                              words("Only the likeliest words that reach this probability"), min="0.05", max="1",
                              step="0.05")  # fmt: skip
            with ui.element("div").classes("gg-row gg-top"):
                seed = Field(words("Seed"), _text(chosen.seed), "number", words("The same seed gives the same reply"),
                             min="0", step="1")  # fmt: skip
                most = Field(words("Longest reply, in tokens"), _text(chosen.max_new_tokens), "number",
                             words("A token is about a word, or a Chinese character"), min="1", step="1")  # fmt: skip
            with ui.element("label").classes("gg-labelled"):
                self.window.text(words("Precision of the weights"), tag="span")
                names = {name: words("As the server chose") if name == "auto" else name for name in PRECISIONS}
                self._precision = chosen.precision
                options = [option(name, label, name == chosen.precision) for name, label in names.items()]
                picked = ui.html(element("select", *options, class_="gg-select"), tag="span", sanitize=False)
                picked.on("change", lambda e: setattr(self, "_precision", str(e.args)),
                          js_handler="(e) => emit(e.target.value)")  # fmt: skip
            self.window.text(words("An empty field leaves it to the model or the assistant."), "gg-faint")
            with ui.element("div").classes("gg-row"):
                self.window.button(words("Keep"), keep, "main")
                self.window.button(words("Cancel"), dialog.close)


def option(value: str, label: str, chosen: bool) -> Html:
    """One choice of a select."""
    return element("option", label, value=value, selected="" if chosen else None)


def _text(value: Any) -> str:
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _number(field: Field, kind: type[int] | type[float]) -> Any:
    if not field.value.strip():
        return None
    try:
        return kind(field.value)
    except ValueError:
        raise InputError("{given} is no number", hint="Type one, or leave the field empty.",
                         given=repr(field.value[:20])) from None  # fmt: skip
