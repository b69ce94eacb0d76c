"""Running the server: the socket, uvicorn, clients that dawdle, and the log."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from glassgpt.core.errors import ConfigError
from glassgpt.server.guard import App

HEADER_S = 10.0  # in which the lines before a body must have come
IDLE_S = 30  # that a connection may stay open without a request
HEADER_BYTES = 32 << 10
SOCKET_BYTES = 4 << 20  # of one message of the page
WAITING, AT_ONCE = 512, 4  # connections that may wait, and those that are let in before others have a turn


class Impatient(H11Protocol):
    """uvicorn's HTTP, which also ends connections whose request does not come."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """A new client."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """More of a request."""
        super().data_received(data)
        if self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
            self._wait()  # the next request has begun, and may not stop in the middle
        elif self.conn.their_state is not h11.IDLE:
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(HEADER_S, self._too_slow)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        if self.transport is not None and not self.transport.is_closing():
            self.transport.close()


class Lines(logging.Formatter):
    """One JSON object to a line."""

    def format(self, record: logging.LogRecord) -> str:
        """A record as JSON."""
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        values = {"time": f"{at}.{int(record.msecs):03d}Z", "level": record.levelname.lower(),
                  "event": record.getMessage(), **getattr(record, "fields", {})}  # fmt: skip
        if record.exc_info:
            values["trace"] = self.formatException(record.exc_info)
        return json.dumps(values, ensure_ascii=False)


def log_to_stderr() -> None:
    """Lets the server's log go to stderr, a JSON object to a line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines())
    for name in ("glassgpt.server", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO if name == "glassgpt.server" else logging.WARNING)


def listen(host: str, port: int) -> socket.socket:
    """A socket that waits for clients.

    Raises:
        ConfigError: the address cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named as TCP, or asyncio does not know it as such and leaves small packets waiting for an answer, 40 ms each.
    found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
        found.listen(WAITING)
    except (OSError, OverflowError) as error:
        found.close()
        raise ConfigError(
            "cannot listen on {host}, port {port}: {why}",
            hint="Another program may use the port; choose one with --port.",
            host=host,
            port=port,
            why=str(error),
        ) from None
    return found


class _Server(uvicorn.Server):
    """uvicorn's, which lets in a few connections at a time, so that others have a turn between them."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        for each in sockets or ():
            each.listen(WAITING)  # asyncio has told the system that as few may wait as come in at once


def server_of(app: App) -> uvicorn.Server:
    """A server for the app."""
    return _Server(
        uvicorn.Config(
            app,
            http=Impatient,
            ws="websockets-sansio",  # the page's; the guard lets no others in
            ws_max_size=SOCKET_BYTES,
            ws_per_message_deflate=False,
            loop="asyncio",
            backlog=AT_ONCE,
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=IDLE_S,
            h11_max_incomplete_event_size=HEADER_BYTES,
        )
    )


def run(app: App, socket: socket.socket, started: Callable[[uvicorn.Server], None] = lambda server: None) -> None:
    """Serve until SIGTERM or Ctrl-C, which let it finish what it has begun; a second one does not. `started` is given
    the server before it begins; its `should_exit` ends it too."""
    server = server_of(app)
    started(server)
    # What is there now stays. Looking through it again and again would hold up everyone, 60 ms each time.
    gc.collect()
    gc.freeze()

    def ended(number: int, frame: object) -> None:
        # uvicorn hands a signal on when it has done what it asked for; one that comes before that ends the program.
        if not server.started:
            sys.exit(0)

    for kind in (signal.SIGTERM, signal.SIGINT):
        signal.signal(kind, ended)
    server.run(sockets=[socket])
