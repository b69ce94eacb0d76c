"""The tab Inside: a reply token by token, and what can be seen of each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from nicegui import background_tasks, ui

from glassgpt.core.errors import InputError
from glassgpt.ui.glass import Glass
from glassgpt.ui.inside_views import VIEWS, about, check_place
from glassgpt.ui.insight import Reply, character_of
from glassgpt.ui.talks import Options
from glassgpt.ui.window import Window


class InsidePage:
    """One window's tab. `talk` shows a conversation in the tab Chat."""

    def __init__(self, window: Window, talk: Callable[[str], Any]) -> None:
        self.window, self.talk = window, talk
        self.insight = window.desk.insight
        self.reply: Reply | None = None
        self._asked = 0  # by which an answer knows that another was asked for since

    def build(self) -> None:
        """The elements."""
        words = self.window.words
        with ui.element("div").classes("gg-sheet gg-inside"):
            self.window.text(words("Inside"), tag="h2")
            self.note = self.window.text("", "gg-faint")
            self.note.props.update({"role": "status"})
            self.glass = Glass(self.window.language)
        self.glass.when("wanted", self._telling(self._wanted))
        self.glass.when("goon", self._telling(self._go_on))
        self._say(words("Click on a word of a reply in the chat to see why the model wrote it."))

    async def open(self, message: str, word: str = "", number: int = 0, place: int | None = None) -> None:
        """Look into a reply at a word that stands in it, or at a place of its tokens."""
        words = self.window.words
        self._say(words("Opening the model: the first time this takes some seconds."))
        self.glass.forget()
        try:
            self.reply = reply = await self.insight.open(message, self._options)
        except Exception as error:
            self._say(self.window.line(error))
            return
        if place is None or not reply.start <= place < len(reply.opened.ids):
            place = reply.place_of(character_of(reply.message.text, word, number)) if word else reply.start
        self._say(words("Written by {model}. Click on a token, or use the arrow keys.", model=reply.model_name))
        self.window.address(inside=message, place=str(place))
        self.glass.show(about(reply, place, self.window.language))

    def _options(self, name: str) -> Options:
        """The settings under which a reply by that model is laid out again."""
        return self.window.desk.options(name, self.window.language)

    async def _wanted(self, given: dict[str, Any]) -> None:
        """A view is seen, of one place."""
        view, reply = str(given.get("view")), self.reply
        if reply is None or view not in VIEWS:
            return
        place = check_place(reply, given.get("place"))
        self.window.address(inside=reply.message.id, place=str(place))
        self._asked += 1
        mine, language = self._asked, self.window.language
        await asyncio.sleep(0.03)  # who walks over the tokens asks for many
        if mine != self._asked:
            return
        found = await self.insight.ask(reply, lambda reply: VIEWS[view](reply, place, given, language))
        if self.reply is reply:
            self.glass.put(view, found)

    async def _go_on(self, given: dict[str, Any]) -> None:
        """Another token in this place, from which the reply goes on."""
        reply = self.reply
        if reply is None:
            return
        place, token = check_place(reply, given.get("place")), int(given.get("id", -1))
        model = reply.opened.model
        if not 0 <= token < model.config.vocab_size:
            raise InputError("token id {id} is not in the vocabulary, which has {size} entries", id=token,
                             size=model.config.vocab_size)  # fmt: skip
        if token in model.template.stop_ids(model.tokenizer):
            raise InputError("this token ends the reply", hint="Choose another.")
        beginning = [*reply.opened.ids[reply.start : place], token]
        await self.insight.talks.go_on(reply.message.id, beginning, self._options(reply.model_name))
        self.talk(reply.message.conversation)

    def _telling(self, handler: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], Any]:
        """The handler; what it refuses is told."""

        async def run(given: dict[str, Any]) -> None:
            try:
                await handler(given)
            except Exception as error:
                self.window.tell_error(error)

        return run

    def _say(self, text: str) -> None:
        self.note.text = text

    def open_soon(self, message: str, word: str = "", number: int = 0, place: int | None = None) -> None:
        """As `open`, beside what goes on."""
        background_tasks.create(self.open(message, word, number, place))
