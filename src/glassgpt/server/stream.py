"""Server-sent events, and clients that go away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, MutableMapping
from contextlib import AsyncExitStack
from typing import Any, TypeVar

from starlette.responses import Response

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


class EventStream(Response):
    """A stream of JSON values as server-sent events.

    Args:
        values: what is sent. The first is waited for before the response begins, by `ready`, so that what is wrong
            with a request is an error with a status.
        named: whether each event bears its `type` as a name.
        last: what is sent at the very end.
        error: the form of an error that comes in the middle.
        held: what ends with the stream.
    """

    def __init__(self, values: AsyncIterator[dict[str, Any]], held: AsyncExitStack, *, named: bool = False,
                 last: str = "", error: str = "openai") -> None:  # fmt: skip
        super().__init__(media_type="text/event-stream")
        self.values, self.held, self.named, self.last, self.error = values, held, named, last, error
        self._first: dict[str, Any] | None = None

    async def ready(self, receive: Receive) -> EventStream:
        """Waits for the first value; raises what goes wrong until then."""

        async def first() -> dict[str, Any]:
            return await anext(self.values)

        self._first = await until_gone(receive, first())
        return self

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """As an ASGI app."""
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"x-accel-buffering", b"no")]
        async with self.held:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await until_gone(receive, self._pump(send))

    async def _pump(self, send: Any) -> None:
        try:
            if self._first is not None:
                await send(self._message(self._first))
            async for value in self.values:
                await send(self._message(value))
        except ConnectionError:
            raise
        except Exception as error:  # the status is sent already: the stream tells it
            if isinstance(error, TimeoutError):
                raise
            problem = problem_of(error)
            shape = problem.anthropic() if self.error == "anthropic" else problem.openai()
            await send(self._message({"type": "error", **shape}))
        else:
            if self.last:
                await send(self._body(f"data: {self.last}\n\n"))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _message(self, value: dict[str, Any]) -> dict[str, Any]:
        name = f"event: {value['type']}\n" if self.named and "type" in value else ""
        return self._body(f"{name}data: {json.dumps(value, ensure_ascii=False, separators=(',', ':'))}\n\n")

    @staticmethod
    def _body(text: str) -> dict[str, Any]:
        return {"type": "http.response.body", "body": text.encode("utf-8", "replace"), "more_body": True}
