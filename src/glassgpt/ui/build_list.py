"""The list of trainings, and some of them beside each other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from nicegui import ui
from nicegui.events import GenericEventArguments

from glassgpt.core.errors import GlassError
from glassgpt.ui.build_info import BuildInfo
from glassgpt.ui.build_view import compared_html, list_html
from glassgpt.ui.run_facts import Losses
from glassgpt.ui.window import Window

_WHICH = """(e) => {
  const does = e.target.closest("[data-do]");
  if (does) emit([does.dataset.do, does.closest("[data-id]").dataset.id]);
}"""


class BuildList:
    """Of one window.

    Args:
        show: shows one of them.
        talk: talks to its model.
        changed: called when one was deleted or goes on.
    """

    def __init__(self, window: Window, show: Callable[[str], Awaitable[None]], talk: Callable[[str], None],
                 changed: Callable[[], Awaitable[None]]) -> None:  # fmt: skip
        self.window, self.builds = window, window.desk.builds
        self._show, self._talk, self._changed = show, talk, changed
        self.chosen: set[str] = set()
        self._drawn = self._compared = ""

    def build(self) -> None:
        """The elements."""
        self.title = self.window.text(self.window.words("Your trainings"), tag="h2")
        self.table = ui.html("", sanitize=False)
        self.table.on("click", self.window.safely(self._clicked), js_handler=_WHICH)
        self.comparison = ui.html("", sanitize=False)

    async def refresh(self, infos: Sequence[BuildInfo]) -> None:
        """The list as it is now; nothing is drawn anew that is as it was."""
        self.chosen &= {info.name for info in infos}
        self.title.visible = bool(infos)
        html = list_html(infos, self.chosen, None, self.window.language) if infos else ""
        if html != self._drawn:
            self._drawn = html
            self.table.set_content(html)
        runs = await asyncio.to_thread(self._losses) if len(self.chosen) > 1 else []
        compared = compared_html(runs, self.window.language) if runs else ""
        if compared != self._compared:
            self._compared = compared
            self.comparison.set_content(compared)

    def _losses(self) -> list[tuple[str, Losses]]:
        found = []
        for name in sorted(self.chosen):
            try:
                found.append((name, self.builds.losses(name)))
            except GlassError:  # deleted meanwhile
                continue
        return found

    async def _clicked(self, event: GenericEventArguments) -> None:
        what, name = event.args if isinstance(event.args, list) and len(event.args) == 2 else ("", "")
        name = str(name)
        if what == "compare":
            self.chosen ^= {name}
            await self._changed()
        elif what == "show":
            await self._show(name)
        elif what == "talk":
            self._talk(name)
        elif what == "resume":
            await asyncio.to_thread(self.builds.resume, name, self.window.language)
            await self._show(name)
        elif what == "delete":
            self._ask(name)

    def _ask(self, name: str) -> None:
        words = self.window.words

        async def delete() -> None:
            await asyncio.to_thread(self.builds.delete, name)
            await self._changed()

        self.window.ask(words("Delete “{title}” for good?", title=name), words("Delete"), delete)
