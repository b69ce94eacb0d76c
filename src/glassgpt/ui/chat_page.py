"""The tab Chat: one conversation, and the list of all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from nicegui import background_tasks, ui

from glassgpt.assistant.store import Conversation, Message
from glassgpt.core.errors import GlassError
from glassgpt.ui.chat_settings import ChatSettings
from glassgpt.ui.conversation_list import ConversationList
from glassgpt.ui.talks import Change
from glassgpt.ui.transcript import Transcript
from glassgpt.ui.views import path_of, siblings_in, view_of
from glassgpt.ui.window import Window

FIRST, MORE = 40, 100  # messages that are shown at once, and those that come before them, at a time
WATCH_S = 0.5  # between two looks at a model that is being loaded


class ChatPage:
    """What one window shows of the conversations."""

    def __init__(
        self, window: Window, conversation: str | None, look: Callable[[str, str, int, str, str], None]
    ) -> None:
        self.window, self.desk = window, window.desk
        self.talks, self.store = window.desk.talks, window.desk.store
        self.conversation = conversation
        self.list = ConversationList(window, self.open, self.delete)
        self.settings = ChatSettings(window, self._chosen)
        self.look = look  # into a reply, at a word in it
        self._showing = asyncio.Lock()  # what was read first is shown first: an older state must not come last
        self._shown = 0  # how often: by which what comes in parts knows that it was shown anew meanwhile

    def build(self) -> None:
        """The elements."""
        with ui.element("div").classes("gg-stack gg-main-page"):
            self.settings.build_bar(self.start_new)
            self.progress = self.window.text("", "gg-progress", "div")
            self.progress.props.update({"role": "status"})
            self.progress.visible = False
            self.view = Transcript(self.window.language, self._greeting())
        for event, handler in {"said": self._said, "edited": self._edited, "again": self._again, "chosen": self._branch,
                               "judged": self._judged, "corrected": self._corrected,
                               "looked": self._looked}.items():  # fmt: skip
            self.view.when(event, self._telling(handler))
        self.view.when("stopped", self._stopped)
        end = self.talks.listen(self._changed)
        self.window.client.on_delete(end)
        self.timer = ui.timer(WATCH_S, self._look)
        if self.conversation:
            background_tasks.create(self.open(self.conversation))

    def build_list(self, picked: Callable[[bool], None]) -> None:
        """The elements of the drawer. `picked` is called when a conversation is chosen there, with whether the window
        is narrow."""
        self.list.build(self.start_new, picked)
        background_tasks.create(self.list.refresh())

    def choose_model(self, name: str) -> None:
        """Talk to another model from now on."""
        self.settings.choose(name)
        self.start_new()

    # Showing

    async def open(self, conversation: str) -> None:
        """Show a conversation; tells why where it cannot be shown."""
        try:
            await self._show(conversation)
        except GlassError as error:
            self.window.tell_error(error)
            self.start_new()

    async def _show(self, conversation: str) -> None:
        async with self._showing:
            about, path, siblings, feedback = await asyncio.to_thread(self._read, conversation)
            self.conversation = conversation
            self.settings.show(about.persona or about.model)
            self.window.address(chat=conversation)
            self.list.mark(conversation)
            last = await asyncio.to_thread(self._views, path[-FIRST:], siblings, feedback)
            self._shown += 1
            mine = self._shown
            self.view.show({"conversation": conversation, "messages": self._up_to_date(last), "note": self._note()})
        until = len(path) - FIRST
        while until > 0:
            part = path[max(0, until - MORE) : until]
            earlier = await asyncio.to_thread(self._views, part, siblings, feedback)
            if mine != self._shown:
                return
            self.view.earlier(conversation, earlier)
            until -= MORE
            await asyncio.sleep(0.05)

    def start_new(self) -> None:
        """Show no conversation; the next message begins one."""
        self.conversation = None
        self._shown += 1
        self.window.address(chat=None)
        self.list.mark(None)
        self.view.show(self._greeting())
        self.view.run_method("focus")

    async def delete(self, conversation: str) -> None:
        """A conversation is gone for good."""
        was_seen = self.conversation == conversation
        if was_seen:  # before it is told that it changed, which would open it anew
            self.conversation = None
        try:
            await self.talks.delete(conversation)
        finally:
            if was_seen:
                self.start_new()

    def _read(self, id: str) -> tuple[Conversation, list[Message], dict[str | None, list[str]], dict[str, Any]]:
        """In a thread: what is shown of a conversation."""
        about, tree = self.store.conversation(id), self.store.tree(id)
        feedback = {one.message: one for one in self.store.feedback(id)}
        return about, path_of(tree, about.head), siblings_in(tree), feedback

    def _views(self, path: list[Message], siblings: dict[str | None, list[str]],
               feedback: dict[str, Any]) -> list[dict[str, Any]]:  # fmt: skip
        return [self._view(m, siblings[m.parent], feedback.get(m.id)) for m in path if m.role in ("user", "assistant")]

    def _view(self, message: Message, siblings: list[str], feedback: Any) -> dict[str, Any]:
        writing = self.talks.writing.get(message.conversation)
        its = writing if writing is not None and writing.message == message.id else None
        return view_of(message, siblings, feedback, its, self.window.language)

    async def _put(self, message: str) -> None:
        """Show one message anew."""
        async with self._showing:
            one = await asyncio.to_thread(self.store.message, message)
            siblings = await asyncio.to_thread(self.store.siblings, message)
            feedback = await asyncio.to_thread(self.store.feedback, one.conversation)
            if one.conversation == self.conversation:
                own = next((f for f in feedback if f.message == message), None)
                self.view.put(*self._up_to_date([self._view(one, siblings, own)]))

    def _up_to_date(self, views: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """With all that the reply in progress has by now, so that what is told of it next follows on it."""
        writing = self.talks.writing.get(self.conversation or "")
        for view in views:
            if writing is not None and view["id"] == writing.message:
                view["blocks"] = list(writing.stream.blocks)
        return views

    def _greeting(self) -> dict[str, Any]:
        words, entry = self.window.words, self.desk.hub.entry(self.settings.model)
        text = words("It runs on this computer alone: nothing that you say leaves it.")
        offers = [
            words("What can you do?"),
            words("Write a haiku about the sea."),
            words("Explain a transformer in one sentence."),
        ]
        if entry.assistant is not None:
            offers = [words("What can you do?"), words("How do I return something?"), words("When will my order come?")]
        greeting = {"title": words("What shall we talk about?"), "text": text, "offers": offers}
        return {"conversation": "", "messages": [], "greeting": greeting, "note": self._note()}

    def _note(self) -> str:
        return self.window.words("{model} answers, and may be wrong.", model=self.settings.model)

    # What the user does

    def _telling(self, handler: Any) -> Any:
        """The handler; what it refuses is told, and what was typed stays."""

        async def run(given: dict[str, Any]) -> None:
            try:
                await handler(given)
                self.view.taken(True) if handler == self._said else None
            except Exception as error:
                self.view.taken(False)
                self.window.tell_error(error)

        return run

    async def _said(self, given: dict[str, Any]) -> None:
        new = self.conversation is None
        conversation = await self.talks.say(self.conversation, str(given.get("text", "")), self._options())
        if new:  # else it was shown anew when the reply began
            self.conversation = conversation
            self.window.address(chat=conversation)
            await self.open(conversation)

    async def _edited(self, given: dict[str, Any]) -> None:
        await self.talks.edit(str(given.get("id")), str(given.get("text", "")), self._options())

    async def _again(self, given: dict[str, Any]) -> None:
        await self.talks.again(str(given.get("id")), self._options())

    async def _stopped(self, given: dict[str, Any]) -> None:
        if self.conversation:
            self.talks.stop(self.conversation)

    async def _branch(self, given: dict[str, Any]) -> None:
        found = await asyncio.to_thread(self.store.choose, str(given.get("id")))
        self.talks.tell(Change("changed", found.id))

    async def _judged(self, given: dict[str, Any]) -> None:
        await self._judge(str(given.get("id")), thumb=int(given.get("thumb", 0)))

    async def _looked(self, given: dict[str, Any]) -> None:
        number = given.get("number", 0)
        before, after = str(given.get("before", ""))[-200:], str(given.get("after", ""))[:200]
        self.look(str(given.get("id")), str(given.get("word", ""))[:200], number if isinstance(number, int) else 0,
                  before, after)  # fmt: skip

    async def _corrected(self, given: dict[str, Any]) -> None:
        await self._judge(str(given.get("id")), correction=str(given.get("text", "")))
        self.window.tell(self.window.words("Kept; `glassgpt conversations lessons` makes training data of it."))

    async def _judge(self, message: str, **changes: Any) -> None:
        """Thumb and correction stand beside each other: what is not given stays."""
        one = await asyncio.to_thread(self.store.message, message)
        known = await asyncio.to_thread(self.store.feedback, one.conversation)
        old = next((f for f in known if f.message == message), None)
        given = {"thumb": old.thumb if old else 0, "correction": old.correction if old else None} | changes
        await asyncio.to_thread(lambda: self.store.give_feedback(message, **given))
        self.talks.tell(Change("changed", one.conversation, message))

    def _options(self) -> Any:
        return self.desk.options(self.settings.model, self.window.language)

    def _chosen(self) -> None:
        if self.conversation is None:
            self.view.show(self._greeting())

    # What happens elsewhere

    def _changed(self, change: Change) -> None:
        """From `Talks`, for whichever conversation."""
        if change.kind != "wrote":
            background_tasks.create(self.list.refresh())
        if change.conversation != self.conversation:
            return
        if change.kind == "wrote":
            self.view.write(change.message, change.first, list(change.blocks))
        elif change.kind == "ended" or (change.kind == "changed" and change.message):
            background_tasks.create(self._quietly(self._put(change.message)))
        else:
            background_tasks.create(self._quietly(self._show(change.conversation)))

    async def _quietly(self, work: Any) -> None:
        try:
            await work
        except GlassError:  # such as that it was deleted meanwhile
            self.start_new()

    def _look(self) -> None:
        """Whether the model is there yet."""
        name = self._options().model
        entry = self.desk.hub.entry(name)
        entry = self.desk.hub.entry(entry.source) if entry.assistant is not None else entry
        words, shelf = self.window.words, self.desk.shelf
        said = ""
        fetching = entry.fetching or shelf.fetching
        if fetching is not None:
            what, done, total = fetching
            said = words("Fetching {what}, once: {done:.0f} of {total:.0f} MB", what=what, done=done / 1e6,
                         total=total / 1e6)  # fmt: skip
        elif entry.loading is not None:
            said = words("Loading {model}; you can write already.", model=entry.name)
        if said != self.progress.text:
            self.progress.set_text(said)
            self.progress.visible = bool(said)
