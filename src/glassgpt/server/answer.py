"""Answering an `Ask`: the engine's pieces become texts, calls and ends, which each API writes in its own form.

A model that may call functions writes freely until it begins a call; from there on only a call can come whose
arguments fit the function's schema.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

from glassgpt.assistant.calling import CALL, ToolCall, calls_format, read_call
from glassgpt.engine.engine import Engine
from glassgpt.engine.request import Piece, Request
from glassgpt.engine.scheduler import QueueFull
from glassgpt.server.ask import Prepared

_FEW = 1024  # tokens, which are handed in at once and not in a thread
_PAUSE = 0.02  # s until a call that found no room is handed in again


@dataclass(frozen=True)
class Token:
    """One token of a reply: its bytes (`raw`), its log-probability, and the likeliest with theirs."""

    raw: bytes
    logprob: float
    alternatives: tuple[tuple[bytes, float], ...] = ()


@dataclass(frozen=True)
class Words:
    """More text of one reply."""

    index: int
    text: str
    tokens: tuple[Token, ...] = ()


@dataclass(frozen=True)
class Called:
    """A reply asks for a function."""

    index: int
    call: ToolCall


@dataclass(frozen=True)
class Ended:
    """A reply is whole. `reason`: "stop", "length" or "tool_calls"; `stop`: the client's stop string that came."""

    index: int
    reason: str
    tokens: int
    stop: str | None = None


Event = Words | Called | Ended


class Answer:
    """The events of all replies to one request, as they come. Close it to cancel what is not written yet."""

    def __init__(self, prepared: Prepared) -> None:
        self.prepared = prepared
        self.prompt_tokens = prepared.prompt_tokens
        self.completion_tokens = 0
        self.count: Callable[[], None] = lambda: None  # called for each token
        self._engine: Engine = prepared.model.loop  # type: ignore[assignment]
        self._lines: Sequence[Any] = ()

    async def events(self) -> AsyncGenerator[list[Event], None]:
        """All events, those together that come together. What is wrong with the request is raised before the first.

        Raises:
            GlassError: it does not fit, or too many are waiting.
        """
        requests = self.prepared.requests
        async with aclosing(pieces(self._engine, requests, self._note)) as stream:
            writers = [_Writer(self, index) for index in range(len(requests))]
            async for batch in stream:
                found = [event for index, piece in batch for event in writers[index].push(piece)]
                self._count(found)
                if found:
                    yield found
                for index, piece in batch:
                    if piece.finish_reason and writers[index].begins_call(piece):
                        found = await writers[index].call()
                        self._count(found)
                        yield found

    def _count(self, events: list[Event]) -> None:
        self.completion_tokens += sum(event.tokens for event in events if isinstance(event, Ended))

    def _note(self, lines: Sequence[Any]) -> None:
        self._lines = lines

    @property
    def cached_tokens(self) -> int:
        """How many tokens of the prompt had been computed before."""
        return min((line.reused for line in self._lines), default=0)


class _Writer:
    """Turns the pieces of one reply into events."""

    def __init__(self, answer: Answer, index: int) -> None:
        self.answer, self.index = answer, index
        self.prepared = answer.prepared
        self.request: Request = self.prepared.requests[index]
        self.text, self.count, self.spaces = "", 0, ""
        ask = self.prepared.ask
        self.calling = bool(ask.tools) and ask.choice not in ("none", "auto")

    def push(self, piece: Piece) -> list[Event]:
        """What a piece brings; not the call that may begin with it."""
        if piece.token is not None:
            self.count += 1
            self.answer.count()
        self.text += piece.text
        found: list[Event] = []
        if not self.calling:
            tokens = self._tokens(piece)
            text = self._shown(piece.text)
            if text or tokens:
                found.append(Words(self.index, text, tokens))
        if piece.finish_reason and self.calling:
            found += self._called(self.text, piece.finish_reason)
        elif piece.finish_reason and not self.begins_call(piece):
            stop = piece.stop if piece.stop in self.prepared.ask.stops else None
            found.append(Ended(self.index, piece.finish_reason, self.count, stop))
        return found

    def begins_call(self, piece: Piece) -> bool:
        """Whether the model, free to write anything, has chosen to call a function."""
        return not self.calling and piece.stop == CALL and CALL not in self.prepared.ask.stops

    async def call(self) -> list[Event]:
        """The call that the model has begun: from there on it can write nothing else."""
        tokenizer, request = self.prepared.model.tokenizer, self.request
        ids = request.prompt + tokenizer.encode_segment(f"{self.text}{CALL}\n", after="text")
        room = min(request.limit - self.count, self.prepared.model.context_length - len(ids))
        if room < 1:
            return [Ended(self.index, "length", self.count)]
        ask = self.prepared.ask
        format = await asyncio.to_thread(calls_format, ask.tools, ask.choice)
        then = replace(request, prompt=ids, limit=room, format=format, stops=(), alternatives=0)
        written, reason = "", "length"
        async with aclosing(pieces(self.answer._engine, [then], lambda lines: None, wait=True)) as stream:
            async for batch in stream:
                for _, piece in batch:
                    written += piece.text
                    self.count += piece.token is not None
                    reason = piece.finish_reason or reason
        return self._called(written, reason)

    def _called(self, written: str, reason: str) -> list[Event]:
        call = read_call(written)
        if call is None:  # the limit of tokens came first
            return [Ended(self.index, reason, self.count)]
        return [Called(self.index, call), Ended(self.index, "tool_calls", self.count)]

    def _tokens(self, piece: Piece) -> tuple[Token, ...]:
        if self.prepared.ask.alternatives is None or piece.token is None or piece.token in self.request.ends:
            return ()
        of = self.prepared.model.tokenizer.token_bytes
        others = tuple((of(token), logprob) for token, logprob in piece.alternatives)
        return (Token(of(piece.token), piece.logprob or 0.0, others),)

    def _shown(self, text: str) -> str:
        """Without the white space around a reply, where that is no part of it."""
        if not self.prepared.strips:
            return text
        text = self.spaces + text
        if self.spaces == "" and not self.text[: len(self.text) - len(text)].strip():
            text = text.lstrip()
        shown = text.rstrip()
        self.spaces = text[len(shown) :]
        return shown


class _Post:
    """What the engine's thread hands to an event loop, which it wakes once for all that comes together."""

    def __init__(self) -> None:
        self._items: deque[tuple[asyncio.Queue[Any], Any]] = deque()
        self._woken = False

    def send(self, loop: asyncio.AbstractEventLoop, queue: asyncio.Queue[Any], item: Any) -> None:
        """From any thread."""
        self._items.append((queue, item))
        if not self._woken:
            self._woken = True
            loop.call_soon_threadsafe(self._hand_out)

    def _hand_out(self) -> None:
        self._woken = False  # first: what comes from now on wakes the loop again
        while self._items:
            queue, item = self._items.popleft()
            queue.put_nowait(item)


_posts: WeakKeyDictionary[asyncio.AbstractEventLoop, _Post] = WeakKeyDictionary()
Batch = list[tuple[int, Piece]]


async def pieces(
    engine: Engine, requests: Sequence[Request], note: Callable[[Sequence[Any]], None], wait: bool = False
) -> AsyncGenerator[Batch, None]:
    """The pieces of several requests as they come, with the number of their request; those together that are there
    together. Whoever closes this, or is cancelled, cancels what is not written yet.

    `wait`: for room in the queue, where a part of the answer is out already and cannot be refused any more.
    """
    loop = asyncio.get_running_loop()
    post = _posts.setdefault(loop, _Post())
    queue: asyncio.Queue[tuple[int, Piece | Exception]] = asyncio.Queue()

    def deliver(index: int) -> Callable[[Piece | Exception], None]:
        return lambda item: post.send(loop, queue, (index, item))

    lines = await _handed_in(engine, requests, [deliver(index) for index in range(len(requests))], wait)
    note(lines)
    left = len(lines)
    try:
        while left:
            batch: Batch = []
            item: Any = await queue.get()
            while True:
                if isinstance(item[1], Exception):
                    if batch:
                        yield batch
                    raise item[1]
                batch.append(item)
                if queue.empty():
                    break
                item = queue.get_nowait()
            left -= sum(piece.finish_reason is not None for _, piece in batch)
            yield batch
    finally:
        for line in lines:
            engine.cancel(line)


async def _handed_in(engine: Engine, requests: Sequence[Request], deliver: Any, wait: bool) -> list[Any]:
    """The engine's lines for the requests."""
    while True:
        try:
            if sum(len(r.prompt) for r in requests) <= _FEW and not any(r.format for r in requests):
                return engine.submit(requests, deliver)
            # Grammars are compiled there, which takes as long as it takes.
            handed_in = asyncio.ensure_future(asyncio.to_thread(engine.submit, requests, deliver))
            try:
                return await asyncio.shield(handed_in)
            except asyncio.CancelledError:
                handed_in.add_done_callback(lambda done: _cancel_all(engine, done))
                raise
        except QueueFull:
            if not wait:
                raise
            await asyncio.sleep(_PAUSE)


def _cancel_all(engine: Engine, done: asyncio.Future[list[Any]]) -> None:
    if not done.cancelled() and done.exception() is None:
        for line in done.result():
            engine.cancel(line)
