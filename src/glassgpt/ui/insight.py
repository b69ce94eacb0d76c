"""Replies that are looked into: opened once, kept while they are looked at, and asked one thing at a time.

No page library here. Everything is computed in one thread of its own, so that whoever chats meanwhile notices little.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from glassgpt.assistant.store import Message, Store
from glassgpt.core.errors import GlassError, InputError
from glassgpt.core.threads import thread_budget
from glassgpt.engine.language_model import LanguageModel
from glassgpt.engine.packing import BITS
from glassgpt.server.hub import Hub
from glassgpt.server.problems import Problem
from glassgpt.ui.talks import Options, Talks

if TYPE_CHECKING:  # torch is imported when something is looked into, not when the server starts
    from glassgpt.inside.attribute import Attribution
    from glassgpt.inside.opened import Opened
    from glassgpt.inside.steps import Step

KEPT = 2  # replies that stay open: each holds some 100 MB for a text of 500 tokens
PREPARED_S = 0.7  # after which an open reply is read by the network in torch, asked for or not
CONTEXT = 40  # letters around a word that was clicked on, by which it is found
MOST_TOKENS = 2048  # attention step by step takes memory with their square: 150 MB for nine heads
T = TypeVar("T")


@dataclass
class Reply:
    """A reply that is open.

    Attributes:
        message: what the store has of it.
        start: the place of its first token; before it stands what the model was given.
        steps: what the model thought of its tokens.
        model_name: as the hub calls what wrote it.
        sampling: today's settings of a reply by that model.
        going: whether whoever asked still wants to know: long computations ask.
        computed: by place, what took long.
    """

    message: Message
    opened: Opened
    start: int
    steps: list[Step]
    model_name: str
    sampling: dict[str, Any]
    going: Callable[[], bool] = lambda: True
    computed: dict[int, Attribution] = field(default_factory=dict)

    def place_of(self, character: int) -> int:
        """The place of the token that the reply's character of that number stands in."""
        at = 0
        tokenizer = self.opened.model.tokenizer
        raw = len(self.message.text[:character].encode())
        for place in range(self.start, len(self.opened.ids)):
            at += len(tokenizer.token_bytes(self.opened.ids[place]))
            if at > raw:
                return place
        return len(self.opened.ids) - 1


class Insight:
    """The replies of a store, with the models of a hub. One event loop uses it."""

    def __init__(self, hub: Hub, store: Store, talks: Talks) -> None:
        self.hub, self.store, self.talks = hub, store, talks
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="inside")
        self._open: OrderedDict[str, Reply] = OrderedDict()
        self._unpacking = asyncio.Lock()
        self.closed = False
        hub.unloading.append(self._forget)

    async def ask(self, message: str, options: Callable[[str], Options], work: Callable[[Reply], T],
                  wanted: Callable[[], bool] = lambda: True, torch: bool = True) -> T | None:  # fmt: skip
        """What `work` makes of a reply, in the thread. One that is not open is opened before: laid out again as it was
        when it was written, with the settings of `options`.

        Args:
            wanted: whether anybody still wants to know. Where nobody does, what waits is not begun, the reply's `going`
                tells `work` so, and the answer is None.
            torch: whether `work` needs the network in torch, which takes seconds the first time, and memory.

        Raises:
            NotFoundError: there is no such message.
            InputError: it is no reply, is not finished, or no model wrote it.
            Problem, GlassError: its model cannot be loaded; or what `work` raises.
        """
        found = await asyncio.to_thread(self.store.message, message)
        name = self._writer_of(found)

        def going() -> bool:
            return wanted() and not self.closed

        async with self.hub.use(name) as model:
            reply = self._open.get(message)
            if reply is None or reply.opened.model is not model or reply.message.text != found.text:
                reply = await self._run(lambda: self._read(found, model, name, options(name)))
                self._open[message] = reply
                # What else is wanted soon is there then; what is wanted first is not held up by it.
                asyncio.get_running_loop().call_later(PREPARED_S, self._prepare, message, options)
            self._open.move_to_end(message)
            while len(self._open) > KEPT:
                self._open.popitem(last=False)
            if torch and going():
                await self._unpack(model)
            asked = replace(reply, going=going)
            answer = await self._run(lambda: work(asked) if going() else None)
            return answer if going() else None

    async def close(self) -> None:
        """Lets everything go."""
        self.closed = True
        self._open.clear()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _writer_of(self, message: Message) -> str:
        """The hub's name for the model that wrote a message; raises InputError."""
        if message.role != "assistant" or message.parent is None:
            raise InputError("only replies can be looked into", hint="Choose one of the assistant's messages.")
        if message.state == "writing":
            raise InputError("the reply is still being written", hint="Wait for it, or stop it.")
        name = str(message.extras.get("model") or "")
        base, _, precision = name.rpartition("@")
        if name not in self.hub.entries and base in self.hub.entries and precision in BITS:
            return self.hub.at_precision(base, precision)  # it was chosen before the server was started anew
        if name not in self.hub.entries:
            raise InputError("the model {name} that wrote this is not here any more", name=name or "?",
                             hint="Start the server with it, or write the reply again.")  # fmt: skip
        return name

    async def _unpack(self, model: LanguageModel) -> None:
        """Makes the network in torch where there is none, when the hub has room for it."""
        async with self._unpacking:  # one at a time, so that none is counted twice
            more = await self._run(lambda: _unpacked_bytes(model))
            if more:
                self.hub.grow(model, more)
                try:
                    await self._run(lambda: _make_network(model))
                except BaseException:
                    self.hub.grow(model, -more)
                    raise

    def _prepare(self, message: str, options: Callable[[str], Options]) -> None:
        async def prepare() -> None:
            with contextlib.suppress(GlassError, Problem, RuntimeError):  # whoever looks is told then
                await self.ask(message, options, lambda reply: reply.opened.prepare(), lambda: message in self._open)

        if not self.closed:
            self._preparing = asyncio.create_task(prepare())

    def _forget(self, model: LanguageModel) -> None:
        """A model is unloaded: what is open of it must not keep it in memory."""
        for message in [message for message, reply in self._open.items() if reply.opened.model is model]:
            del self._open[message]

    def _read(self, message: Message, model: LanguageModel, name: str, options: Options) -> Reply:
        """In the thread: the ids that the model was given and those of its reply, and what it thought of them."""
        from glassgpt.inside.opened import Opened

        before, own, sampling = self.laid_out(message, model, options)
        if len(before) + len(own) > MOST_TOKENS:
            raise InputError(
                "this reply and what stands before it have {count} tokens; up to {most} can be looked into",
                hint="Ask the same in a new conversation.",
                count=len(before) + len(own),
                most=MOST_TOKENS,
            )
        opened = Opened(model, [*before, *own])
        return Reply(message, opened, len(before), opened.steps(len(before)), name, sampling)

    def laid_out(self, message: Message, model: LanguageModel,
                 options: Options) -> tuple[list[int], list[int], dict[str, Any]]:  # fmt: skip
        """The ids of the prompt and of the reply, and the settings of sampling. Raises InputError where no model wrote
        it."""
        assert message.parent is not None
        # Asked before anything is laid out again: to plan such a reply anew may call a tool.
        if message.extras.get("kind", "model") not in ("model", "summarised"):
            raise InputError("no model wrote this reply: it stands in your files or in the persona word for word",
                             hint="Its sources are below it in the conversation.")  # fmt: skip
        path = self.store.path(message.conversation, message.parent)
        said = [{"role": m.role, "content": m.text} for m in path
                if m.role in ("user", "assistant") and m.text.strip()]  # fmt: skip
        chat = self.talks.chat(model, options)
        before = chat.fitted(said).ids
        if not before:
            raise InputError("your files have changed: this would be answered from them now",
                             hint="Write the reply again.")  # fmt: skip
        own = model.tokenizer.encode_segment(message.text, after="text") if message.text else []
        if not own:
            raise InputError("the reply is empty", hint="Write it again.")
        room = model.context_length - len(before)
        return before, own[:room], chat.sampling

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)


def _unpacked_bytes(model: LanguageModel) -> int:
    """Bytes that the network in torch would take where it is not made yet. In the thread: torch is imported."""
    import torch

    from glassgpt.inside.subject import unpacked_bytes

    # It is slow where its threads wait for one another, and others chat.
    torch.set_num_threads(max(1, thread_budget() // 2))
    return unpacked_bytes(model)


def _make_network(model: LanguageModel) -> None:
    from glassgpt.inside.subject import network_of

    network_of(model)


def character_of(text: str, word: str, number: int, before: str = "", after: str = "") -> int:
    """Where in a reply's text the word stands that was clicked on in what is shown of it. What is shown lacks marks of
    Markdown, link addresses and the numbers of lists, and has labels of code; so that place is taken which has the most
    letters in common with what is shown around the word.

    Args:
        number: it is the `number`th, from 0, of those in what is shown that are alike; this decides where others fit as
            well.
        before, after: the letters and digits that are shown before the word and after it.
    """

    def letters(part: str) -> str:
        return "".join(c for c in part if c.isalnum())

    def common(one: str, other: str) -> int:
        return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))

    found = [match.start() for match in re.finditer(re.escape(word), text)] if word else []
    if not found:
        return 0
    reach = 8 * CONTEXT

    def fits(place: int) -> tuple[int, int]:
        at, end = found[place], found[place] + len(word)
        left, right = letters(text[max(0, at - reach) : at]), letters(text[end : end + reach])
        return common(left[::-1], before[-CONTEXT:][::-1]) + common(right, after[:CONTEXT]), -abs(place - number)

    return found[max(range(len(found)), key=fits)]
