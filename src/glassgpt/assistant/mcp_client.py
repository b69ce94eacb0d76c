"""Tools of MCP servers: programs that the user's own configuration names, spoken to over their standard streams.

The official `mcp` package speaks the protocol. It is asynchronous; here it lives in one thread with an event loop of
its own, so that anyone can call. A server that ends, hangs or answers nonsense costs the call that met it. A later
call starts it again, once: it has to answer before it may be started another time.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import logging
import re
import threading
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from glassgpt.assistant.mcp_connection import Connection, Listed
from glassgpt.assistant.tool import MAX_DESCRIPTION, Tool, wrong_arguments
from glassgpt.core.errors import ConfigError, GlassError, nearest
from glassgpt.core.words import Sentence
from glassgpt.engine.json_schema import compilable

MAX_SERVERS, MAX_TOOLS = 16, 64
TIMEOUT_S, START_S = 10.0, 20.0
CLOSE_S = 10.0  # a server is asked to end, then told to, then killed
_GRACE = 0.5  # s in which a limit that has passed becomes an answer
_FIELDS = ("command", "args", "env")


@dataclass(frozen=True)
class ServerSettings:
    """How a server is started: a program, its arguments, and what is added to a bare environment."""

    name: str
    command: str
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)


class McpServers:
    """MCP servers that run until `close`, and their tools.

    Args:
        config: {name: {"command": ..., "args": [...], "env": {...}}}, from a local file and never from the network:
            whoever writes it can start any program.
        timeout_s: the limit of one call, in seconds; starting the server again is part of it.
        start_s: the limit of a start, in seconds.
        taken: names of other tools, which none of these may have.

    Attributes:
        tools: what the servers offer, under names of their own; of two with one name, both get their server's before.
        problems: servers that did not start, and tools that were left out or shortened, each with the reason.

    Raises:
        ConfigError: the configuration cannot be used, or the package `mcp` is missing.
    """

    def __init__(
        self, config: Mapping[str, Any], *, timeout_s: float = TIMEOUT_S, start_s: float = START_S,
        taken: Collection[str] = (),
    ) -> None:  # fmt: skip
        settings = server_settings(config)
        _require()
        self.problems: list[GlassError] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="mcp", daemon=True)
        self._thread.start()
        atexit.register(self.close)
        self._servers = [_Server(one, self._loop, timeout_s, start_s) for one in settings]
        starts = [asyncio.run_coroutine_threadsafe(one.connection(), self._loop) for one in self._servers]
        for start in starts:
            try:
                start.result(start_s + CLOSE_S)
            except GlassError as error:
                self.problems.append(error)
            except BaseException:  # Ctrl-C: no program is left behind
                self.close()
                raise
        self.tools: tuple[Tool[..., Any], ...] = tuple(self._all_tools(taken))

    def __enter__(self) -> McpServers:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends all servers; a call that comes later fails."""
        atexit.unregister(self.close)
        if self._loop.is_closed():
            return
        if self._thread.is_alive():
            ending = [asyncio.run_coroutine_threadsafe(one.close(), self._loop) for one in self._servers]
            for one in ending:
                try:
                    one.result(CLOSE_S)
                except TimeoutError:
                    logging.getLogger("glassgpt.assistant").warning("an MCP server did not end")
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(CLOSE_S)
        if not self._loop.is_running():
            self._loop.close()

    def _all_tools(self, taken: Collection[str]) -> list[Tool[..., Any]]:
        found: list[tuple[_Server, Listed, str]] = []
        for server in self._servers:
            listed = server.listed
            if len(listed) > MAX_TOOLS:
                self.problems.append(_left_out(server.name, f"{len(listed) - MAX_TOOLS} tools", f"> {MAX_TOOLS}"))
            found += [(server, one, re.sub("[^a-zA-Z0-9_-]", "_", one.name)) for one in listed[:MAX_TOOLS]]
        count = Counter([*taken, *(name for _, _, name in found)])
        names = set(taken)
        tools = []
        for server, one, plain in found:
            name = plain if count[plain] == 1 else f"{server.name}_{plain}"
            try:
                tools.append(self._tool(server, one, name, names))
                names.add(name)
            except GlassError as error:
                self.problems.append(_left_out(server.name, one.name, error.sentence()))
        return tools

    def _tool(self, server: _Server, one: Listed, name: str, names: Collection[str]) -> Tool[..., Any]:
        if name in names:
            raise ConfigError("another tool is called {name!r}", name=name)
        about = one.description.strip()
        if len(about) > MAX_DESCRIPTION:
            self.problems.append(
                GlassError(
                    "the description of {tool} of the MCP server {server} has {count} characters; the first {limit} are"
                    " told to the model",
                    tool=repr(one.name),
                    server=server.name,
                    count=len(about),
                    limit=MAX_DESCRIPTION,
                )
            )
            about = about[: MAX_DESCRIPTION - 4] + " ..."

        def call(**arguments: Any) -> str:
            return server.call(one.name, arguments)

        return Tool(name, about, one.schema, call, min(server.timeout_s + _GRACE, 600), accept_by(name, one.schema))


def server_settings(config: Mapping[str, Any]) -> list[ServerSettings]:
    """Checked settings of all servers; raises ConfigError with the place of what is wrong."""
    if not isinstance(config, Mapping) or len(config) > MAX_SERVERS:
        raise _wrong("mcp", config, Sentence("a table of at most {limit} servers", limit=MAX_SERVERS))
    found = []
    for name, one in config.items():
        if not isinstance(name, str) or not re.fullmatch("[a-zA-Z0-9_-]{1,30}", name):
            raise _wrong("mcp", name, Sentence("names of 1 to 30 letters, digits, _ and -"))
        if not isinstance(one, Mapping):
            raise _wrong(f"mcp.{name}", one, Sentence("a table with command, args and env"))
        for key in one:
            if key not in _FIELDS:
                near = nearest(str(key), list(_FIELDS))
                raise ConfigError(
                    "{place} has an unknown setting {key}",
                    hint="Did you mean {near!r}?" if near else "There are {known}.",
                    place=f"mcp.{name}",
                    key=repr(key)[:60],
                    near=near,
                    known=", ".join(_FIELDS),
                )
        command, args, env = one.get("command"), one.get("args", []), one.get("env", {})
        if not isinstance(command, str) or not command.strip() or "\0" in command:
            raise _wrong(f"mcp.{name}.command", command, Sentence("the name or path of a program"))
        if not isinstance(args, list | tuple) or not all(isinstance(a, str) and "\0" not in a for a in args):
            raise _wrong(f"mcp.{name}.args", args, Sentence("a list of texts"))
        texts = [*env, *env.values()] if isinstance(env, Mapping) else [None]
        if not all(isinstance(text, str) and "\0" not in text for text in texts):
            raise _wrong(f"mcp.{name}.env", "...", Sentence("a table of texts"))  # its values may be secrets
        found.append(ServerSettings(name, command, tuple(args), dict(env)))
    return found


def accept_by(name: str, schema: dict[str, Any]) -> Callable[[str], dict[str, Any]]:
    """What checks a tool's arguments where nothing but a JSON schema tells of them.

    Raises:
        ConfigError: it is no schema of an object, or one that text cannot be held to.
    """
    from jsonschema import Draft202012Validator, SchemaError
    from jsonschema.exceptions import best_match

    if not isinstance(schema, dict) or schema.get("type") != "object":
        raise ConfigError("the parameters of {name} are no object", name=repr(name))
    compilable(schema)
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise ConfigError("the JSON schema is not valid: {why}", why=error.message[:120]) from None
    validator = Draft202012Validator(schema)

    def accept(arguments: str) -> dict[str, Any]:
        try:
            value = json.loads(arguments)
            wrong = best_match(validator.iter_errors(value))
        except (ValueError, RecursionError) as error:
            raise wrong_arguments(name, str(error)[:120] or "JSON") from None
        if wrong is not None:
            where = ".".join(map(str, wrong.absolute_path))
            raise wrong_arguments(name, f"{where}: {wrong.message}" if where else wrong.message)
        return value

    return accept


class _Server:
    """One server: its present connection, and whether it may be started again."""

    def __init__(
        self, settings: ServerSettings, loop: asyncio.AbstractEventLoop, timeout_s: float, start_s: float
    ) -> None:
        self.settings, self.name = settings, settings.name
        self.timeout_s, self.start_s = timeout_s, start_s
        self.listed: list[Listed] = []
        self._loop, self._lock = loop, asyncio.Lock()
        self._live: Connection | None = None
        self._all: set[Connection] = set()  # and those that are about to end
        self._starts_left = 2  # the first one, and one more

    def call(self, name: str, arguments: dict[str, Any]) -> str:
        """From any thread; raises GlassError where there is no result."""
        asked = self._in_time(name, arguments)
        try:
            return asyncio.run_coroutine_threadsafe(asked, self._loop).result(self.timeout_s + _GRACE)
        except RuntimeError:  # the loop is closed
            asked.close()
            raise GlassError("the MCP server {server} has been closed", server=self.name) from None

    async def connection(self) -> Connection:
        """The present one, or a new one where the server may be started."""
        async with self._lock:
            if self._live is None:
                if not self._starts_left:
                    raise GlassError(
                        "the MCP server {server} failed twice and is not started again",
                        hint="Check its command, then restart the program.",
                        server=self.name,
                    )
                self._starts_left -= 1
                one = self.settings
                connection = Connection(one.name, one.command, one.args, one.env)
                self._all.add(connection)
                self.listed = await connection.open(self.start_s, lambda: self._all.discard(connection))
                self._live = connection
            return self._live

    async def close(self) -> None:
        """Ends the server and what is left of it from before."""
        self._starts_left, self._live = 0, None
        await asyncio.gather(*(one.close() for one in self._all))

    async def _in_time(self, name: str, arguments: dict[str, Any]) -> str:
        task = asyncio.ensure_future(self._answer(name, arguments))
        done, _ = await asyncio.wait({task}, timeout=self.timeout_s)  # not wait_for, which waits for the cancelled task
        if done:
            return task.result()
        task.cancel()
        self._drop()
        raise GlassError(
            "the MCP server {server} gave no answer in {limit:g} s",
            hint="Try once more: it is started again.",
            server=self.name,
            limit=self.timeout_s,
        )

    async def _answer(self, name: str, arguments: dict[str, Any]) -> str:
        connection = await self.connection()
        try:
            text = await connection.call(name, arguments)
        except GlassError:
            if connection.broken and self._live is connection:
                self._drop()
            raise
        self._starts_left = max(self._starts_left, 1)
        return text

    def _drop(self) -> None:
        """The next call finds a new server; the old one ends when nobody waits for it any more."""
        if self._live is not None:
            self._live.retire()
            self._live = None


def _require() -> None:
    try:
        import jsonschema  # noqa: F401
        import mcp  # noqa: F401
    except ImportError:
        raise ConfigError(
            "the package mcp, which MCP servers need, is not installed", hint="Run `pip install 'glassgpt[mcp]'`."
        ) from None
    # The library reports what servers get wrong with tracebacks; here each becomes a sentence of ours.
    for logger in ("mcp", "client"):
        logging.getLogger(logger).addHandler(logging.NullHandler())


def _left_out(server: str, what: str, why: Any) -> GlassError:
    return GlassError("{tool} of the MCP server {server} is left out: {why}", tool=what, server=server, why=why)


def _wrong(place: str, value: Any, expected: Sentence) -> ConfigError:
    return ConfigError(
        "{place} is {value}; expected {expected}", place=place, value=repr(value)[:60], expected=expected
    )
