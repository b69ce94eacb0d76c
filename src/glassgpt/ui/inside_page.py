"""The tab Inside: a reply token by token, and what can be seen of each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from nicegui import background_tasks, ui

from glassgpt.core.errors import InputError
from glassgpt.ui.glass import Glass
from glassgpt.ui.insight import Reply, character_of
from glassgpt.ui.talks import Options
from glassgpt.ui.window import Window


class InsidePage:
    """One window's tab. `talk` shows a conversation in the tab Chat."""

    def __init__(self, window: Window, talk: Callable[[str], Any]) -> None:
        self.window, self.talk = window, talk
        self.insight = window.desk.insight
        self.message: str | None = None  # the reply that is looked into
        self._opening = self._asked = 0  # by which an answer knows that another was asked for since

    def build(self) -> None:
        """The elements."""
        words = self.window.words
        with ui.element("div").classes("gg-sheet gg-inside"):
            self.window.text(words("Inside"), tag="h2")
            self.note = self.window.text("", "gg-faint")
            self.note.props.update({"role": "status"})
            self.glass = Glass(self.window.language)
        self.glass.when("wanted", self._wanted)
        self.glass.when("goon", self._go_on)
        self._say(words("Click on a word of a reply in the chat to see why the model wrote it."))

    async def open(self, message: str, where: Callable[[Reply], int | None]) -> None:
        """Look into a reply at one of its places; where `where` gives none, at its first."""
        words, language = self.window.words, self.window.language
        self._say(words("Opening the model: the first time this takes some seconds."))
        self.glass.forget()
        self.message = None
        self._opening += 1
        self._asked += 1  # what was asked of another reply is wanted no more
        mine = self._opening

        def seen(reply: Reply) -> tuple[dict[str, Any], str]:
            from glassgpt.ui.inside_views import about

            place = where(reply)
            if place is None or not reply.start <= place < len(reply.opened.ids):
                place = reply.start
            return about(reply, place, language), reply.model_name

        try:
            found = await self.insight.ask(message, self._options, seen, lambda: mine == self._opening, torch=False)
        except Exception as error:
            if mine == self._opening:
                self._say(self.window.line(error))
            return
        if found is None or mine != self._opening:
            return
        self.message = message
        self._say(words("Written by {model}. Click on a token, or use the arrow keys.", model=found[1]))
        self.window.address(inside=message, place=str(found[0]["place"]))
        self.glass.show(found[0])

    def open_word(self, message: str, word: str, number: int, before: str, after: str) -> None:
        """As `open` beside what goes on, at a word that was clicked on (`character_of`)."""

        def where(reply: Reply) -> int | None:
            at = character_of(reply.message.text, word, number, before, after)
            return reply.place_of(at) if word else None

        background_tasks.create(self.open(message, where))

    def open_place(self, message: str, place: int | None) -> None:
        """As `open` beside what goes on, at a place of its tokens."""
        background_tasks.create(self.open(message, lambda reply: place))

    def _options(self, name: str) -> Options:
        """The settings under which a reply by that model is laid out again."""
        return self.window.desk.options(name, self.window.language)

    async def _wanted(self, given: dict[str, Any]) -> None:
        """A view is seen, of one place."""
        from glassgpt.ui.inside_views import VIEWS, WITHOUT_TORCH, check_place

        view, number, message = str(given.get("view")), given.get("number"), self.message
        self._asked += 1
        mine, language = self._asked, self.window.language
        await asyncio.sleep(0.03)  # who walks over the tokens asks for many
        if mine != self._asked or message is None or view not in VIEWS:
            return
        self.window.address(inside=message, place=str(given.get("place"))[:9])
        try:
            found = await self.insight.ask(
                message, self._options,
                lambda reply: VIEWS[view](reply, check_place(reply, given.get("place")), given, language),
                lambda: mine == self._asked and not self.window.client.is_deleted,
                torch=view not in WITHOUT_TORCH,
            )  # fmt: skip
        except Exception as error:
            self.glass.refuse(number, self.window.line(error))
            return
        if found is not None:
            self.glass.put(view, found, number)

    async def _go_on(self, given: dict[str, Any]) -> None:
        """Another token in this place, from which the reply goes on."""
        from glassgpt.ui.inside_views import check_place

        message = self.message
        if message is None:
            return

        def beginning(reply: Reply) -> tuple[Reply, list[int]]:
            place, token, model = check_place(reply, given.get("place")), int(given.get("id", -1)), reply.opened.model
            if not 0 <= token < model.config.vocab_size:
                raise InputError("token id {id} is not in the vocabulary, which has {size} entries", id=token,
                                 size=model.config.vocab_size)  # fmt: skip
            if token in model.template.stop_ids(model.tokenizer):
                raise InputError("this token ends the reply", hint="Choose another.")
            return reply, [*reply.opened.ids[reply.start : place], token]

        try:
            found = await self.insight.ask(message, self._options, beginning, torch=False)
            if found is None:
                return
            reply, ids = found
            await self.insight.talks.go_on(message, ids, self._options(reply.model_name))
            self.talk(reply.message.conversation)
        except Exception as error:
            self.window.tell_error(error)

    def _say(self, text: str) -> None:
        self.note.text = text
