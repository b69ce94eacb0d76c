"""The list of conversations: the last ones, or those in which something was said."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from nicegui import background_tasks, ui

from glassgpt.assistant.store import Conversation
from glassgpt.ui.window import Window

AT_ONCE = 50  # conversations


class ConversationList:
    """The drawer of one window.

    Args:
        open_one: shows a conversation.
        delete: lets one go for good.
    """

    def __init__(self, window: Window, open_one: Callable[[str], Awaitable[None]],
                 delete: Callable[[str], Awaitable[None]]) -> None:  # fmt: skip
        self.window, self._open, self._delete = window, open_one, delete
        self.now: str | None = None
        self.wanted, self.shown = "", AT_ONCE

    def build(self, start_new: Callable[[], None]) -> None:
        """The elements."""
        words = self.window.words
        with ui.element("nav").classes("gg-drawer") as nav:
            nav.props.update({"aria-label": words("Conversations")})
            self.window.button(words("New conversation"), start_new, "main")
            self.field = ui.element("input").classes("gg-field")
            self.field.props.update({"type": "search", "aria-label": words("Search the conversations"),
                                     "placeholder": words("Search"), "maxlength": "200"})  # fmt: skip
            self.field.on("input", self.window.safely(self._search), js_handler="(e) => emit(e.target.value)",
                          throttle=0.3, leading_events=False)  # fmt: skip
            self.list = ui.element("div").classes("gg-list")
            self.list.props.update({"role": "list"})

    def mark(self, conversation: str | None) -> None:
        """The one that is shown."""
        self.now = conversation
        background_tasks.create(self.refresh())

    async def refresh(self) -> None:
        """Reads the list anew."""
        store = self.window.desk.store
        more = False
        rows: list[tuple[Conversation, str]] = []
        if self.wanted:
            hits = await asyncio.to_thread(store.search, self.wanted, AT_ONCE)
            first = {hit.conversation.id: hit for hit in reversed(hits)}  # the first hit of each stays
            seen = dict.fromkeys(hit.conversation.id for hit in hits)
            rows = [(first[id].conversation, first[id].excerpt if first[id].message else "") for id in seen]
        else:
            page = await asyncio.to_thread(store.conversations, min(self.shown, 200))
            rows, more = [(one, "") for one in page.conversations], bool(page.next) and self.shown < 200
        if self.window.client.id not in type(self.window.client).instances:
            return  # the window was closed meanwhile
        self.list.clear()
        with self.list:
            for conversation, excerpt in rows:
                self._row(conversation, excerpt)
            if not rows:
                self.window.text(self.window.words("Nothing found." if self.wanted else "No conversation yet."),
                                 "gg-faint")  # fmt: skip
            if more:
                self.window.button(self.window.words("More"), self._more)

    def _row(self, one: Conversation, excerpt: str) -> None:
        words = self.window.words
        title = one.title or words("Untitled")
        with ui.element("div").classes("gg-item" + (" gg-now" if one.id == self.now else "")) as row:
            row.props.update({"role": "listitem"})
            with ui.element("button").classes("gg-open") as opens:
                opens.props.update({"type": "button", "title": title})
                if one.id == self.now:
                    opens.props.update({"aria-current": "true"})
                self.window.text(title, tag="span")
                if excerpt:
                    self.window.text(excerpt, tag="small")
            opens.on("click", self.window.safely(lambda: self._open(one.id)))
            self.window.icon("rename", words("Rename {title}", title=title), lambda: self._ask_name(one))
            self.window.icon("delete", words("Delete {title}", title=title), lambda: self._ask(one))

    async def _search(self, event: object) -> None:
        self.wanted = str(getattr(event, "args", "")).strip()[:200]
        await self.refresh()

    async def _more(self) -> None:
        self.shown += AT_ONCE
        await self.refresh()

    def _ask(self, one: Conversation) -> None:
        words = self.window.words

        async def gone() -> None:
            dialog.close()
            await self._delete(one.id)
            await self.refresh()

        with self.window.client, ui.dialog() as dialog, ui.card():
            self.window.text(words("Delete “{title}” for good?", title=one.title))
            with ui.element("div").classes("gg-row"):
                self.window.button(words("Delete"), gone, "danger")
                self.window.button(words("Cancel"), dialog.close)
        dialog.on("hide", dialog.delete)
        dialog.open()

    def _ask_name(self, one: Conversation) -> None:
        words = self.window.words

        async def done() -> None:
            name = field.value.strip()
            dialog.close()
            if name:
                await asyncio.to_thread(self.window.desk.store.rename, one.id, name)
                await self.refresh()

        with self.window.client, ui.dialog() as dialog, ui.card():
            field = ui.input(words("Name of the conversation"), value=one.title).props("maxlength=200 autofocus")
            with ui.element("div").classes("gg-row"):
                self.window.button(words("Keep"), done, "main")
                self.window.button(words("Cancel"), dialog.close)
        dialog.on("hide", dialog.delete)
        dialog.open()
