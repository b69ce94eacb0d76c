"""One connection to one MCP server: from the start of its program to its end, in a task of its own."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from glassgpt.core.errors import GlassError
from glassgpt.core.words import Sentence, say

MAX_PAGES = 20  # of a list of tools
MAX_WORDS = 200  # characters of a server's own words in an error


@dataclass(frozen=True)
class Listed:
    """A tool as its server describes it."""

    name: str
    description: str
    schema: dict[str, Any]


class Connection:
    """Belongs to one event loop. The library wants a connection to be opened and closed by the same task, so a task
    holds it open until it is told to end."""

    def __init__(self, server: str, command: str, args: Sequence[str], env: Mapping[str, str]) -> None:
        self.server, self.broken = server, False
        self._start = command, list(args), dict(env)
        self._client: Any = None
        self._stop = asyncio.Event()
        self._ready: asyncio.Future[list[Listed]] = asyncio.get_running_loop().create_future()
        self._task: asyncio.Task[None] | None = None
        self._calls, self._retired = 0, False
        self._last_words: deque[str] = deque(maxlen=20)

    async def open(self, limit: float, ended: Callable[[], object]) -> list[Listed]:
        """Starts the server and asks for its tools; raises GlassError where it does not answer in `limit` seconds.
        `ended` is called when nothing of the server is left."""
        self._task = asyncio.ensure_future(self._hold())
        self._task.add_done_callback(lambda task: task.cancelled() or task.exception())  # told by the calls
        self._task.add_done_callback(lambda task: ended())
        try:
            either: list[asyncio.Future[Any]] = [self._task, self._ready]
            await asyncio.wait(either, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if self._ready.done():
                return self._ready.result()
            if self._task.done():
                raise self._failed(self._task.exception())
            raise GlassError(
                "the MCP server {server} did not start in {limit:g} s",
                hint="Run its command by hand to see what it waits for.",
                server=self.server,
                limit=limit,
            )
        finally:
            if not self._ready.done():
                self._task.cancel()

    async def call(self, name: str, arguments: dict[str, Any]) -> str:
        """What a tool gives, as text; raises GlassError where it gives nothing. `broken` says whether the server can
        still be used."""
        from mcp import MCPError
        from mcp.types import CONNECTION_CLOSED

        self._calls += 1
        try:
            result = await self._client.call_tool(name, arguments)
        except MCPError as error:
            if error.code == CONNECTION_CLOSED:
                self.broken = True
                for _ in range(25):  # what it wrote last may still be on its way
                    if self._last_words:
                        break
                    await asyncio.sleep(0.02)
                raise self._failed(None) from None
            raise self._refused(name, str(error)) from None
        except Exception as error:  # whatever the library makes of an answer that is none
            self.broken = True
            raise GlassError(
                "the MCP server {server} gave {tool} an answer that cannot be used ({why})",
                hint="Tell the makers of the server.",
                server=self.server,
                tool=name,
                why=short(f"{type(error).__name__}: {error}"),
            ) from None
        finally:
            self._calls -= 1
            self._end_if_unused()
        text = _text(result)
        if result.is_error:
            raise self._refused(name, text)
        return text

    def retire(self) -> None:
        """No new calls come; ends when the last one has its answer."""
        self._retired = True
        self._end_if_unused()

    async def close(self) -> None:
        """Ends now, and waits for the program's end, which the library bounds to some seconds."""
        self._stop.set()
        if self._task is not None:
            await asyncio.wait({self._task})

    def _end_if_unused(self) -> None:
        if self._retired and self._calls == 0:
            self._stop.set()

    async def _hold(self) -> None:
        from mcp import Client, StdioServerParameters, stdio_client

        command, args, env = self._start
        listen, speak = os.pipe()
        threading.Thread(target=self._keep, args=(listen,), daemon=True).start()
        with os.fdopen(speak, "w") as errlog:
            parameters = StdioServerParameters(command=command, args=args, env=env)
            async with Client(stdio_client(parameters, errlog=errlog)) as self._client:
                self._ready.set_result(await self._list())
                await self._stop.wait()

    async def _list(self) -> list[Listed]:
        found: list[Listed] = []
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            page = await self._client.list_tools(cursor=cursor)
            found += [Listed(one.name, one.description or "", one.input_schema) for one in page.tools]
            cursor = page.next_cursor
            if cursor is None:
                return found
        raise GlassError(
            "the MCP server {server} lists its tools on more than {limit} pages", server=self.server, limit=MAX_PAGES
        )

    def _keep(self, listen: int) -> None:
        """In a thread: the last of what the server writes to its error stream, which nobody else sees."""
        with os.fdopen(listen, encoding="utf-8", errors="replace") as errors:
            while line := errors.readline(1_000):
                if line.strip():
                    self._last_words.append(line.strip())

    def _failed(self, error: BaseException | None) -> GlassError:
        """That the server ended, or could not be started."""
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if isinstance(error, GlassError):
            return error
        if isinstance(error, OSError | ValueError):
            return GlassError(
                "the MCP server {server} could not be started ({why})",
                hint="Check its command: {command}.",
                server=self.server,
                why=short(error.strerror or str(error)) if isinstance(error, OSError) else short(str(error)),
                command=self._start[0],
            )
        words = self._last_words[-1] if self._last_words else ""
        return GlassError(
            "the MCP server {server} has ended{words}",
            hint="Run its command by hand to see why.",
            server=self.server,
            words=Sentence(", and its last words were: {words}", words=short(words)) if words else "",
        )

    def _refused(self, name: str, why: str) -> GlassError:
        return GlassError(
            "{tool} of the MCP server {server} failed ({why})",
            hint="Check what it was asked for, or do without it.",
            tool=name,
            server=self.server,
            why=short(why),
        )


def _text(result: Any) -> str:
    """The texts of a result; what is none (a picture, a sound) is named."""
    from pydantic_core import to_json

    parts = []
    for block in result.content:
        if block.type == "text":
            parts.append(block.text)
        elif block.type == "resource" and hasattr(block.resource, "text"):
            parts.append(block.resource.text)
        else:
            parts.append(say("[{kind}, which is no text, is left out]", "en", kind=block.type))
    if not parts and result.structured_content is not None:
        parts.append(to_json(result.structured_content, inf_nan_mode="constants").decode())
    return "\n".join(parts)


def short(text: str) -> str:
    """On one line, and not longer than an error's words may be."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_WORDS else line[: MAX_WORDS - 3] + "..."
