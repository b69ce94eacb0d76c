"""One training as it goes on, or as it ended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import quote

from nicegui import ui

from glassgpt.core.errors import GlassError
from glassgpt.ui.build_info import BuildInfo, Pair
from glassgpt.ui.build_view import answers_html, facts_html, losses_html
from glassgpt.ui.run_facts import Losses
from glassgpt.ui.window import Window

SAMPLES = 3
LOG_LINES = 60


class BuildRun:
    """The card of a training in one window.

    Args:
        talk: talks to its model.
        changed: called when it was stopped.
    """

    def __init__(self, window: Window, talk: Callable[[str], None], changed: Callable[[], Awaitable[None]]) -> None:
        self.window, self.builds, self._talk, self._changed = window, window.desk.builds, talk, changed
        self.name: str | None = None
        self._drawn: dict[str, str] = {}

    def build(self) -> None:
        """The elements, which are hidden until there is something to show."""
        words = self.window.words
        self.card = ui.element("section").classes("gg-card")
        self.card.visible = False
        self.card.props.update({"aria-label": words("The training")})
        with self.card:
            with ui.element("div").classes("gg-row"):
                self.title = self.window.text("", tag="h2")
                ui.element("div").classes("gg-space")
                self.stop = self.window.button(words("Stop the training"), self._stop, "danger")
                self.talk = self.window.button(words("Talk to it"), lambda: self._talk(self.name or ""), "main")
                self.report = ui.html("", tag="span", sanitize=False)
                self.window.icon("close", words("Close"), self._close)
            self.facts = self._part(status=True)
            self.plot = self._part()
            self.answers_title = self.window.text(
                words("Before and after, on questions that it has not seen"), tag="h3"
            )
            self.answers = self._part()
            with ui.element("details") as self.samples_box:
                self.window.text(words("Latest samples"), tag="summary")
                self.samples = ui.element("div")
            with ui.element("details"):
                self.window.text(words("What it says"), tag="summary")
                self.log = self.window.text("", "gg-log-lines", "pre")
                self.log.props.update({"tabindex": "0"})

    async def show(self, name: str) -> None:
        """Another training, or None of them."""
        self.name, self._drawn = name, {}
        await self._changed()

    async def refresh(self, infos: Sequence[BuildInfo]) -> None:
        """What has changed of it; the one that runs is shown where none was chosen."""
        if self.name is None:
            self.name = next((info.name for info in infos if info.running), None)
        info = next((one for one in infos if one.name == self.name), None)
        self.card.visible = info is not None
        if info is None:
            return
        try:
            losses, (_, samples), pairs, log = await asyncio.to_thread(self._read, info.name)
        except GlassError:  # such as that it was deleted meanwhile
            return
        language = self.window.language
        self.title.set_text(info.name)
        self.stop.visible = info.running and info.status != "stopping"
        self.talk.visible = info.has_model and not info.running
        self._draw(self.facts, "facts", facts_html(info, language))
        self._draw(self.plot, "plot", losses_html(info.name, losses, language))
        self.answers_title.visible = self.answers.visible = bool(pairs)
        self._draw(self.answers, "answers", answers_html(pairs, language) if pairs else "")
        has_report = self.builds.report_path(info.name) is not None
        link = (
            f'<a class="gg-button" href="/builds/{quote(info.name)}/report.html" target="_blank">' if has_report else ""
        )
        self._draw(self.report, "report", f"{link}{self.window.words('Report')}</a>" if has_report else "")
        self.samples_box.visible = bool(samples)
        if self._drawn.get("samples") != repr(samples):
            self._drawn["samples"] = repr(samples)
            self.samples.clear()
            with self.samples:
                for text in samples[:SAMPLES]:
                    self.window.text(text, "gg-sample", "blockquote")
        self.log.set_text("\n".join(log))

    def _read(self, name: str) -> tuple[Losses, tuple[int, list[str]], list[Pair], list[str]]:
        return (self.builds.losses(name), self.builds.samples(name), self.builds.answers(name),
                self.builds.log(name, LOG_LINES))  # fmt: skip

    def _part(self, status: bool = False) -> ui.html:
        found = ui.html("", sanitize=False)
        if status:
            found.props.update({"role": "status"})
        return found

    def _draw(self, where: ui.html, name: str, html: str) -> None:
        if self._drawn.get(name) != html:
            self._drawn[name] = html
            where.set_content(html)

    async def _stop(self) -> None:
        await asyncio.to_thread(self.builds.stop, self.name or "")
        await self._changed()

    def _close(self) -> None:
        self.card.visible = False
        self.name = ""
