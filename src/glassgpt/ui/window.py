"""One window of a browser: its language, what it says to its user, and what goes wrong in it."""

from __future__ import annotations

import functools
import inspect
import json
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from nicegui import Client, context, ui
from nicegui.elements.mixins.text_element import TextElement
from nicegui.events import GenericEventArguments

from glassgpt.core.errors import GlassError
from glassgpt.core.html import Html, element
from glassgpt.core.words import say
from glassgpt.server.problems import Problem
from glassgpt.ui.desk import Desk

_log = logging.getLogger("glassgpt.server")
# Own drawings, 24 wide, so that no font of symbols is loaded.
ICONS = {
    "menu": "M4 6h16M4 12h16M4 18h16", "contrast": "M12 4a8 8 0 1 0 0 16zM12 4a8 8 0 0 1 0 16",
    "new": "M12 5v14M5 12h14", "settings": "M4 7h9M17 7h3M4 17h3M11 17h9M15 5v4M9 15v4",
    "delete": "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
    "rename": "M4 20l1-5L16 4l4 4L9 19z", "close": "M6 6l12 12M18 6L6 18",
}  # fmt: skip


def drawing(name: str) -> Html:
    """One of our drawings."""
    return element("svg", element("path", d=ICONS[name]), viewBox="0 0 24 24", aria_hidden="true")


def drawn_button(name: str, label: str, does: str) -> Html:
    """A button with a drawing, as markup; `does` is told by whoever listens to clicks around it."""
    return element("button", drawing(name), type="button", class_="gg-icon", aria_label=label, title=label,
                   data_do=does)  # fmt: skip


class Text(TextElement):
    """An element that holds text, and never markup."""

    def __init__(self, text: str, tag: str) -> None:
        super().__init__(tag=tag, text=text)


class Field:
    """A field with its label above it; `value` is what is typed there, "" for nothing.

    Args:
        kind: of HTML: "text", "number", ...; "textarea" for several lines.
        more: attributes, such as min and max.
    """

    def __init__(self, label: str, value: str = "", kind: str = "text", hint: str = "", **more: str) -> None:
        self.value = value
        with ui.element("label").classes("gg-labelled"):
            Text(label, "span")
            self.element = ui.element("textarea" if kind == "textarea" else "input").classes("gg-field")
            given = {"rows": "4"} if kind == "textarea" else {"type": kind}
            self.element.props.update({**given, "value": value, **more})
            if hint:
                Text(hint, "span").classes("gg-faint")
        self.element.on("input", self._typed, js_handler="(e) => emit(e.target.value)")

    def _typed(self, event: GenericEventArguments) -> None:
        self.value = str(event.args)


class Window:
    """What the parts of a page share."""

    def __init__(self, desk: Desk, language: str) -> None:
        self.desk, self.language = desk, language
        self.client: Client = context.client
        self.seen = ""  # the tab that is shown
        self._address: dict[str, str] = {}

    def words(self, template: str, **facts: Any) -> str:
        """A sentence in the window's language."""
        return say(template, self.language, **facts)

    def icon(self, name: str, label: str, on_click: str | Callable[..., Any] | None = None) -> ui.element:
        """A button with a drawing. `on_click`: a script of ours, or a handler."""
        with ui.element("button").classes("gg-icon") as found:
            ui.html(drawing(name), tag="span", sanitize=False)
        found.props.update({"type": "button", "aria-label": label, "title": label})
        if isinstance(on_click, str):
            found.on("click", js_handler=f"() => {on_click}")
        elif on_click is not None:
            found.on("click", self.safely(on_click))
        return found

    def button(self, label: str, on_click: Callable[..., Any] | None = None, kind: str = "") -> ui.element:
        """A button with a label. `kind`: "main" or "danger"."""
        with ui.element("button").classes(f"gg-button {f'gg-{kind}' if kind else ''}").props('type="button"') as found:
            Text(label, "span")
        if on_click is not None:
            found.on("click", self.safely(on_click))
        return found

    @contextmanager
    def dialog(self, title: str) -> Iterator[ui.dialog]:
        """A dialog that opens when what stands in it is there, and is gone when it was closed."""
        with self.client, ui.dialog() as found, ui.card().classes("gg-dialog"):
            found.props.update({"aria-label": title})
            self.text(title, tag="h2")
            yield found
        found.on("hide", found.delete)
        found.open()

    def ask(self, question: str, does: str, act: Callable[[], Awaitable[None]]) -> None:
        """Asks before something is done that cannot be undone."""
        with self.dialog(question) as dialog:

            async def agreed() -> None:
                dialog.close()
                await act()

            with ui.element("div").classes("gg-row"):
                self.button(does, agreed, "danger")
                self.button(self.words("Cancel"), dialog.close)

    def text(self, text: str, classes: str = "", tag: str = "p") -> Text:
        """Text as it is: nothing in it is markup."""
        return Text(text, tag).classes(classes)

    def safely(self, handler: Callable[..., Any]) -> Callable[..., Awaitable[None]]:
        """The handler, whose errors are told to the user in one line."""
        takes = bool(inspect.signature(handler).parameters)

        @functools.wraps(handler)
        async def run(*given: Any) -> None:
            try:
                result = handler(*given) if takes else handler()
                if inspect.iscoroutine(result):  # a dialog can be awaited too, and opens then
                    await result
            except Exception as error:
                self.tell_error(error)

        return run

    def tell_error(self, error: Exception) -> None:
        """Show what went wrong."""
        self.tell(self.line(error), bad=True)

    def line(self, error: Exception) -> str:
        """An error in one line of the window's language; what is no user's mistake goes into the log."""
        if isinstance(error, GlassError):
            return error.line(self.language)
        if isinstance(error, Problem):
            return error.message
        _log.error("mistake", exc_info=error)
        return self.words("Something went wrong here; the server's log has more.")

    def tell(self, text: str, bad: bool = False) -> None:
        """A line that goes by itself, or stays until it is closed where something went wrong."""
        with self.client:
            ui.notify(text, type="negative" if bad else "info", position="top", multi_line=True,
                      timeout=0 if bad else 4000, close_button=self.words("Close") if bad else False)  # fmt: skip

    def keep_address(self, parts: dict[str, str]) -> None:
        """What the address said when the window was opened."""
        self._address = dict(parts)

    def address(self, **parts: str | None) -> None:
        """What the address of the window says, so that it can be loaded anew or kept."""
        for name, value in parts.items():
            if value is None:
                self._address.pop(name, None)
            else:
                self._address[name] = value
        with self.client:
            ui.run_javascript(
                f"const p = new URLSearchParams({json.dumps(self._address)}).toString();"
                "history.replaceState(null, '', location.pathname + (p ? '?' + p : ''));"
            )
