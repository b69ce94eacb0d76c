"""Replies that are being written, whoever watches: they outlive the window that asked for them.

Two windows may watch one conversation, and one that is loaded anew goes on watching. No page library here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Literal

from glassgpt.assistant.assistant import AssistantChat
from glassgpt.assistant.conversation import Chat
from glassgpt.assistant.kept import about_reply, title_of
from glassgpt.assistant.store import Message, ReplyInProgress, Store
from glassgpt.core.errors import GlassError, InputError
from glassgpt.engine.language_model import LanguageModel
from glassgpt.formats.catalog import unlearned
from glassgpt.server.hub import Hub
from glassgpt.server.problems import Problem
from glassgpt.ui.markdown_stream import Stream

FLUSH_S = 0.05  # between two tellings of what was written
_log = logging.getLogger("glassgpt.server")
_THREADS = 16  # replies that are written at a time; the engine has a queue of its own


@dataclass(frozen=True)
class Options:
    """How a reply is to be written: by which model or assistant, and what of its settings was changed."""

    model: str
    system: str | None = None
    sampling: dict[str, Any] = field(default_factory=dict)
    max_new_tokens: int | None = None
    language: str = "en"  # of what is told where it fails


@dataclass(frozen=True)
class Change:
    """What happened in a conversation.

    - "began": the reply `message` is being written; "wrote": its blocks from `first` on are now `blocks`;
      "ended": it is in the store as it stays; "changed": titles, branches or feedback, or it is gone.
    """

    kind: Literal["began", "wrote", "ended", "changed"]
    conversation: str
    message: str = ""
    first: int = 0
    blocks: tuple[str, ...] = ()


@dataclass
class Writing:
    """A reply that is being written."""

    conversation: str
    message: str
    beginning: tuple[int, ...] = ()  # tokens that it begins with
    stream: Stream = field(default_factory=Stream)
    stopped: bool = False
    fresh: deque[str] = field(default_factory=deque)  # written, and not told yet
    task: asyncio.Task[None] | None = None


class Talks:
    """All conversations of a store with the models of a hub. One event loop uses it."""

    def __init__(self, hub: Hub, store: Store) -> None:
        self.hub, self.store = hub, store
        self.writing: dict[str, Writing] = {}  # by conversation
        self._listeners: list[Callable[[Change], None]] = []
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="talk")

    def listen(self, listener: Callable[[Change], None]) -> Callable[[], None]:
        """Be told of all changes, on the event loop; gives what ends it."""
        self._listeners.append(listener)

        def end() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return end

    def tell(self, change: Change) -> None:
        """Tell all who listen."""
        for listener in list(self._listeners):
            listener(change)

    async def say(self, conversation: str | None, text: str, options: Options) -> str:
        """Say something, in a new conversation where none is named; gives its id once the reply has begun.

        Raises:
            InputError: the message is empty or too long, or a reply is being written there.
            Problem, GlassError: there is no such model, or the store refuses it.
        """
        self._check(conversation, text, options)
        if conversation is None:
            entry = self.hub.entry(options.model)
            persona, model = (entry.name, entry.source) if entry.assistant else ("", entry.name)
            made = await self._stored(self.store.create, title_of(text), persona=persona, model=model)
            conversation = made.id
        question = await self._stored(self.store.add, conversation, "user", text)
        await self._begin(conversation, question, None, options)
        return conversation

    async def edit(self, message: str, text: str, options: Options) -> None:
        """Say something else in the place of a message: a branch beside it. Raises as `say`."""
        old = await self._stored(self.store.message, message)
        self._check(old.conversation, text, options)
        question = await self._stored(self.store.edit, message, text)
        await self._begin(old.conversation, question, None, options)

    async def again(self, reply: str, options: Options) -> None:
        """Another reply in the place of one: a branch beside it. Raises as `say`."""
        await self._instead(reply, options, ())

    async def _instead(self, reply: str, options: Options, beginning: tuple[int, ...]) -> None:
        old = await self._stored(self.store.message, reply)
        if old.role != "assistant" or old.parent is None:
            raise InputError("only replies are written again", hint="Choose one of the assistant's messages.")
        question = await self._stored(self.store.message, old.parent)
        self._check(old.conversation, question.text, options)
        await self._begin(old.conversation, question, reply, options, beginning)

    async def go_on(self, reply: str, beginning: Sequence[int], options: Options) -> None:
        """Another reply in the place of one, which begins with these tokens. Raises as `say`."""
        await self._instead(reply, options, tuple(beginning))

    def stop(self, conversation: str) -> None:
        """End the reply that is being written; what was written stays. The model's place is free with its next
        token."""
        if conversation in self.writing:
            self.writing[conversation].stopped = True

    async def delete(self, conversation: str) -> None:
        """A conversation is gone for good; a reply that is being written is stopped before. Raises NotFoundError."""
        writing = self.writing.get(conversation)
        if writing is not None and writing.task is not None:
            writing.stopped = True
            await asyncio.wait([writing.task], timeout=10)
        await self._stored(self.store.delete, conversation)
        self.tell(Change("changed", conversation))

    async def close(self) -> None:
        """Stops what is being written."""
        tasks = [w.task for w in self.writing.values() if w.task is not None]
        for writing in self.writing.values():
            writing.stopped = True
        if tasks:
            await asyncio.wait(tasks, timeout=10)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _check(self, conversation: str | None, text: str, options: Options) -> None:
        self.hub.entry(options.model)
        if not text.strip():
            raise InputError("the message is empty", hint="Type something to say.")
        if conversation in self.writing:
            raise InputError("a reply is being written in this conversation", hint="Wait for it, or stop it.")

    async def _stored(self, work: Callable[..., Any], *given: Any, **named: Any) -> Any:
        return await asyncio.to_thread(work, *given, **named)

    async def _begin(self, conversation: str, question: Message, instead_of: str | None, options: Options,
                     beginning: tuple[int, ...] = ()) -> None:  # fmt: skip
        if conversation in self.writing:  # while the store was busy
            raise InputError("a reply is being written in this conversation", hint="Wait for it, or stop it.")
        writing = self.writing[conversation] = Writing(conversation, "", beginning)
        try:
            where = {"instead_of": instead_of} if instead_of else {"parent": question.id}
            reply = await self._stored(self.store.begin_reply, conversation, extras={"model": options.model}, **where)
        except BaseException:
            del self.writing[conversation]
            raise
        writing.message = reply.id
        self.tell(Change("began", conversation, reply.id))
        writing.task = asyncio.create_task(self._answer(writing, question, reply, options))

    async def _answer(self, writing: Writing, question: Message, reply: ReplyInProgress, options: Options) -> None:
        loop = asyncio.get_running_loop()
        teller = asyncio.create_task(self._tell_on(writing))
        try:
            async with self.hub.use(options.model) as model:
                await loop.run_in_executor(self._pool, self._write, writing, question, reply, model, options)
        except Exception as error:
            if not isinstance(error, GlassError | Problem):
                _log.exception("mistake")
                error = GlassError("the reply failed", hint="The log of the server has more.")
            why = error.line(options.language) if isinstance(error, GlassError) else error.message
            with contextlib.suppress(GlassError):  # such as that the conversation was deleted
                await self._stored(reply.fail, why)
        finally:
            teller.cancel()
            self._flush(writing, last=True)
            del self.writing[writing.conversation]
            self.tell(Change("ended", writing.conversation, writing.message))

    def _write(self, writing: Writing, question: Message, reply: ReplyInProgress, model: LanguageModel,
               options: Options) -> None:  # fmt: skip
        """In a thread: the model's reply, into the store and to whoever watches."""
        chat = self.chat(model, options)
        before = self.store.path(question.conversation, question.parent) if question.parent else []
        chat.messages = [{"role": m.role, "content": m.text} for m in before
                         if m.role in ("user", "assistant") and m.text.strip()]  # fmt: skip
        with closing(chat.stream(question.text, writing.beginning)) as stream:  # type: ignore[type-var]
            for piece in stream:
                reply.append(piece)
                writing.fresh.append(piece)
                if writing.stopped:
                    break
        about = about_reply(chat) | {"model": options.model, "precision": model.precision}
        if about.get("kind", "model") in ("model", "summarised") and unlearned(model.name, question.text):
            about["unlearned"] = model.name
        (reply.interrupt if writing.stopped else reply.finish)(about)

    def chat(self, model: LanguageModel, options: Options) -> Chat:
        """A conversation with a model or assistant under these settings."""
        entry = self.hub.entry(options.model)
        given: dict[str, Any] = {"max_new_tokens": options.max_new_tokens, **options.sampling}
        if entry.assistant is None:
            return Chat(model, options.system, **given)
        chat = AssistantChat(entry.assistant(model), **given)
        chat.set_system(options.system)
        return chat

    async def _tell_on(self, writing: Writing) -> None:
        took = 0.0
        while True:
            await asyncio.sleep(max(FLUSH_S, 5 * took))  # a long list is read anew each time: others have their turn
            began = time.perf_counter()
            self._flush(writing)
            took = time.perf_counter() - began

    def _flush(self, writing: Writing, last: bool = False) -> None:
        fresh = ""
        while writing.fresh:  # which a thread goes on filling
            fresh += writing.fresh.popleft()
        for first, blocks in ([writing.stream.push(fresh)] if fresh else []) + ([writing.stream.end()] if last else []):
            if blocks:
                self.tell(Change("wrote", writing.conversation, writing.message, first, tuple(blocks)))
