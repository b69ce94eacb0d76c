"""Server-sent events, and clients that go away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, MutableMapping
from contextlib import AsyncExitStack
from typing import Any, Protocol, TypeVar

from pydantic_core import to_json
from starlette.responses import Response

from glassgpt.server.answer import Event
from glassgpt.server.problems import problem_of

T = TypeVar("T")
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class ClientGone(ConnectionError):  # noqa: N818  # it is no mistake
    """Nobody waits for the answer any more."""


async def until_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """What `work` gives; it is cancelled when the client goes away, and ClientGone raised."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone("the client went away")
        return task.result()
    finally:
        gone.cancel()
        if not task.done():
            task.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class Writer(Protocol):
    """Puts the events of an answer into the form of one API.

    - `named`: whether each value of a stream bears its `type` as a name.
    - `last`: what is sent at the very end of a stream.
    - `error`: the form of an error that comes in the middle.
    """

    named: bool
    last: str
    error: str

    def push(self, event: Event) -> Iterable[dict[str, Any]]:
        """The values of a stream for one event."""
        ...

    def end(self) -> Iterable[dict[str, Any]]:
        """The values after the last event."""
        ...

    def whole(self, events: Iterable[Event]) -> dict[str, Any]:
        """All at once."""
        ...


class EventStream(Response):
    """An answer as server-sent events.

    Args:
        events: what is told. The first are waited for before the response begins, by `ready`, so that what is wrong
            with a request is an error with a status.
        held: what ends with the stream.
    """

    def __init__(self, events: AsyncIterator[list[Event]], writer: Writer, held: AsyncExitStack) -> None:
        super().__init__(media_type="text/event-stream")
        self.events, self.writer, self.held = events, writer, held
        self._first: list[Event] = []

    async def ready(self, receive: Receive) -> EventStream:
        """Waits for the first events; raises what goes wrong until then."""

        async def first() -> list[Event]:
            return await anext(self.events)

        self._first = await until_gone(receive, first())
        return self

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """As an ASGI app."""
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"x-accel-buffering", b"no")]
        async with self.held:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await until_gone(receive, self._pump(send))

    async def _pump(self, send: Any) -> None:
        """Sends what comes together in one piece."""
        try:
            await send(self._body(self._values(self._first)))
            async for events in self.events:
                await send(self._body(self._values(events)))
        except (ConnectionError, TimeoutError):
            raise
        except Exception as error:  # the status is sent already: the stream tells it
            problem = problem_of(error)
            shape = problem.anthropic() if self.writer.error == "anthropic" else problem.openai()
            end = self._message({"type": "error", **shape})
        else:
            end = b"".join(map(self._message, self.writer.end()))
            end += b"data: %b\n\n" % self.writer.last.encode() if self.writer.last else b""
        await send(self._body(end, more=False))

    def _values(self, events: Iterable[Event]) -> bytes:
        return b"".join([self._message(value) for event in events for value in self.writer.push(event)])

    def _message(self, value: dict[str, Any]) -> bytes:
        name = b"event: %b\n" % value["type"].encode() if self.writer.named and "type" in value else b""
        return b"%bdata: %b\n\n" % (name, _as_json(value))

    @staticmethod
    def _body(content: bytes, more: bool = True) -> dict[str, Any]:
        return {"type": "http.response.body", "body": content, "more_body": more}


def _as_json(value: dict[str, Any]) -> bytes:
    try:
        return to_json(value)  # pydantic's, several times as fast as the standard library's
    except ValueError:  # halves of surrogate pairs, which a model may write in the arguments of a call
        return json.dumps(value, separators=(",", ":")).encode()
