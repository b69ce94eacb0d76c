"""The list of conversations: the last ones, or those in which something was said."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from nicegui import background_tasks, ui
from nicegui.events import GenericEventArguments

from glassgpt.assistant.store import Conversation
from glassgpt.core.html import Html, element
from glassgpt.ui.talks import Change
from glassgpt.ui.window import Window, drawn_button

AT_ONCE = 50  # conversations
_WHICH = """(e) => {
  const button = e.target.closest("[data-do]");
  if (button) emit([button.dataset.do, button.closest("[data-id]")?.dataset.id || "", innerWidth <= 900]);
}"""


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
        self.rows: dict[str, Conversation] = {}

    def build(self, start_new: Callable[[], None], picked: Callable[[bool], None]) -> None:
        """The elements. `picked` is called when one is chosen or begun, with whether the window is narrow."""
        words, self._picked = self.window.words, picked
        with ui.element("nav").classes("gg-drawer") as nav:
            nav.props.update({"aria-label": words("Conversations")})
            new = self.window.button(words("New conversation"), kind="main")

            def begin(event: GenericEventArguments) -> None:
                start_new()
                picked(bool(event.args))

            new.on("click", self.window.safely(begin), js_handler="() => emit(innerWidth <= 900)")
            self.field = ui.element("input").classes("gg-field")
            self.field.props.update({"type": "search", "aria-label": words("Search the conversations"),
                                     "placeholder": words("Search"), "maxlength": "200"})  # fmt: skip
            self.field.on("input", self.window.safely(self._search), js_handler="(e) => emit(e.target.value)",
                          throttle=0.3, leading_events=False)  # fmt: skip
            # One element for all rows: a click on a row that is drawn anew meanwhile still says which it meant.
            self.list = ui.html("", sanitize=False).classes("gg-list")
            self.list.props.update({"role": "list"})
            self.list.on("click", self.window.safely(self._clicked), js_handler=_WHICH)

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
        self.rows = {one.id: one for one, _ in rows}
        inside: list[object] = [self._row(conversation, excerpt) for conversation, excerpt in rows]
        words = self.window.words
        if not rows:
            inside.append(element("p", words("Nothing found." if self.wanted else "No conversation yet."),
                                  class_="gg-faint", role="listitem"))  # fmt: skip
        if more:
            more_button = element("button", words("More"), type="button", class_="gg-button", data_do="more")
            inside.append(element("div", more_button, role="listitem"))
        self.list.set_content("".join(map(str, inside)))

    def _row(self, one: Conversation, excerpt: str) -> Html:
        words, title = self.window.words, one.title or self.window.words("Untitled")
        opens = element("button", element("span", title), *([element("small", excerpt)] if excerpt else []),
                        type="button", class_="gg-open", title=title, data_do="open",
                        aria_current="true" if one.id == self.now else None)  # fmt: skip
        more = (drawn_button("rename", words("Rename {title}", title=title), "rename"),
                drawn_button("delete", words("Delete {title}", title=title), "delete"))  # fmt: skip
        now = " gg-now" if one.id == self.now else ""
        return element("div", opens, *more, class_=f"gg-item{now}", role="listitem", data_id=one.id)

    async def _clicked(self, event: GenericEventArguments) -> None:
        what, id, narrow = event.args if isinstance(event.args, list) and len(event.args) == 3 else ("", "", False)
        if what == "more":
            await self._more()
        elif id in self.rows and what == "open":
            self._picked(bool(narrow))
            await self._open(id)
        elif id in self.rows and what == "rename":
            self._ask_name(self.rows[id])
        elif id in self.rows and what == "delete":
            self._ask(self.rows[id])

    async def _search(self, event: object) -> None:
        self.wanted = str(getattr(event, "args", "")).strip()[:200]
        await self.refresh()

    async def _more(self) -> None:
        self.shown += AT_ONCE
        await self.refresh()

    def _ask(self, one: Conversation) -> None:
        words = self.window.words

        async def delete() -> None:
            await self._delete(one.id)
            await self.refresh()

        self.window.ask(words("Delete “{title}” for good?", title=one.title), words("Delete"), delete)

    def _ask_name(self, one: Conversation) -> None:
        words = self.window.words

        async def done() -> None:
            name = field.value.strip()
            dialog.close()
            if name:
                await asyncio.to_thread(self.window.desk.store.rename, one.id, name)
                self.window.desk.talks.tell(Change("changed", one.id))

        label = words("Name of the conversation")
        with self.window.dialog(label) as dialog:
            field = ui.input(value=one.title).props("maxlength=200 autofocus")
            field.props.update({"aria-label": label})
            with ui.element("div").classes("gg-row"):
                self.window.button(words("Keep"), done, "main")
                self.window.button(words("Cancel"), dialog.close)
