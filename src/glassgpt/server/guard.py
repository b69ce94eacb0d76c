"""What stands before the app: hosts, origins, keys, sizes and times. Plain ASGI, so that streams pass untouched."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from glassgpt.server.door import (
    LONGEST_FORM,
    POLICY,
    SIGN_IN,
    Door,
    is_page_path,
    key_in,
    language_of,
    sign_in_page,
    token_in,
)
from glassgpt.server.keys import Key, Keys, check_rate
from glassgpt.server.problems import Problem, problem_of
from glassgpt.server.restricted import CHAT, MOST_BODY

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

log = logging.getLogger("glassgpt.server")
WIDGET = "/widget.js"  # a script for pages of any origin
_OPEN = {"/health", WIDGET}  # what needs no key
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_UPLOAD = re.compile(r"/upload/\d+\Z")


@dataclass(frozen=True)
class Limits:
    """What a request may take.

    - `body`: bytes of a body.
    - `body_s`: seconds in which it must have come.
    - `send_s`: seconds in which a client must take what is sent to it.
    - `upload`, `upload_s`: as `body` and `body_s`, for a file that is given to the page.
    """

    body: int = 4 << 20
    body_s: float = 30.0
    send_s: float = 30.0
    upload: int = 200 << 20
    upload_s: float = 600.0


@dataclass
class Guard:
    """Lets through what may pass, and tells the log of everything.

    Attributes:
        hosts: names that a `Host` header may have, without ports; anything else is refused (DNS rebinding).
        origins: those of other pages that may ask from a browser.
        door: lets browsers in, where the app has a page.
    """

    app: App
    keys: Keys
    hosts: Sequence[str]
    origins: Sequence[str] = ()
    limits: Limits = field(default_factory=Limits)
    observe: Callable[[str, str, int, float], None] = lambda method, path, status, seconds: None
    door: Door | None = None
    _turnstile: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the app's own beginning and end."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await _Exchange(self, scope, receive, send).run_socket()
            return
        async with self._turnstile:  # many that come at once come in one by one, and others have a turn between them
            await asyncio.sleep(0)
        await _Exchange(self, scope, receive, send).run()


class _Exchange:
    """One request and its response."""

    def __init__(self, guard: Guard, scope: Scope, receive: Receive, send: Send) -> None:
        self.guard, self.scope, self._receive, self._send = guard, scope, receive, send
        self.headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        given = self.headers.get("x-request-id", "")
        self.id = given if _ID.fullmatch(given) else secrets.token_hex(8)
        self.status, self.began, self.size = 0, time.monotonic(), 0
        self.origin = self.headers.get("origin", "")
        # The app's own routing changes the path.
        self.method, self.path = scope.get("method", ""), scope["path"]
        self.for_page = guard.door is not None and is_page_path(scope["path"])
        self.limits = guard.limits
        self.by_key = False  # whether nothing but a restricted key lets this origin ask
        if self.for_page and _UPLOAD.search(scope["path"]):
            self.limits = replace(guard.limits, body=guard.limits.upload, body_s=guard.limits.upload_s)
        self._patience = asyncio.timeout(None)
        self._sending: float | None = None  # since when the client has not taken a piece
        self._timer: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        state: dict[str, Any] = self.scope.setdefault("state", {})
        state["request_id"], state["note"], state["key"] = self.id, {}, None
        try:
            async with self._patience:
                await self._answer(state)
        except (ConnectionError, TimeoutError):
            self.status = self.status or 499
        finally:
            if self._timer is not None:
                self._timer.cancel()
            self._tell(state)

    async def run_socket(self) -> None:
        """A web socket, which only the page has. Browsers open one across origins, so its origin must be our own."""
        scope = self.scope
        state: dict[str, Any] = scope.setdefault("state", {})
        state["request_id"], state["note"], state["key"] = self.id, {}, None
        self.method = "SOCKET"
        try:
            self._check_host()
            if not self.for_page or not self.origin:
                raise Problem(403, "web sockets are the page's alone", code="origin_not_allowed")
            self._check_origin()
            state["key"] = self._visitor()
            self.status = 101
            await self.guard.app(scope, self._receive, self._send)
        except Problem as problem:
            self.status = problem.status
            await self._send({"type": "websocket.close", "code": 1008})
        finally:
            self._tell(state)

    async def _answer(self, state: dict[str, Any]) -> None:
        scope = self.scope
        try:
            self._check_host()
            self._check_origin()
            if scope["method"] == "OPTIONS" and "access-control-request-method" in self.headers:
                await self._preflight()
                return
            if self.for_page:
                if await self._came_in(state):
                    return
            elif scope["path"] not in _OPEN:
                key = self.guard.keys.find(self.headers.get("authorization", ""), self.headers.get("x-api-key", ""))
                self._check_restriction(key)
                check_rate(key)
                state["key"] = key
            self._check_length()
            await self.guard.app(scope, self._receive_limited, self._send_limited)
        except Problem as problem:
            await self._refuse(problem)
        except (ConnectionError, TimeoutError):
            raise
        except Exception as error:
            log.exception("mistake", extra={"fields": {"request_id": self.id}})
            await self._refuse(problem_of(error))

    async def _came_in(self, state: dict[str, Any]) -> bool:
        """Lets a browser in by its cookie; one that brings a key gets a cookie, and one without is asked for a key.
        Gives whether it is answered already."""
        door, path, method = self.guard.door, self.scope["path"], self.scope["method"]
        assert door is not None
        brought = token_in(self.scope.get("query_string", b"")) if path == "/" else None
        if path == SIGN_IN and method == "POST":
            brought = key_in(await self._form())
        if brought is not None:
            cookie = door.cookie(self.headers.get("host", ""), brought, self.scope.get("scheme") == "https")
            if cookie is not None:
                await self._say(303, "", {"location": "/", "set-cookie": cookie})
                return True
        try:
            state["key"] = self._visitor()
            if brought is None and path != SIGN_IN:
                return False
        except Problem:
            if path not in ("/", SIGN_IN) and "text/html" not in self.headers.get("accept", ""):
                raise
        language = language_of(self.headers.get("accept-language", ""))
        await self._say(401, sign_in_page(language, wrong=brought is not None), {})
        return True

    def _visitor(self) -> Key | None:
        assert self.guard.door is not None
        return self.guard.door.key(self.headers.get("host", ""), self.headers.get("cookie", ""))

    async def _form(self) -> bytes:
        found = b""
        while len(found) <= LONGEST_FORM:
            message = await self._receive_limited()
            found += message.get("body", b"")
            if message["type"] != "http.request" or not message.get("more_body", False):
                return found
        raise Problem(413, f"the form has more than {LONGEST_FORM} bytes", code="request_too_large")

    async def _say(self, status: int, html: str, headers: dict[str, str]) -> None:
        body = html.encode()
        given = {"content-type": "text/html; charset=utf-8", "content-length": str(len(body))} | headers
        sent = [(name.encode(), value.encode("latin-1")) for name, value in given.items()]
        await self._send_limited({"type": "http.response.start", "status": status, "headers": sent})
        await self._send_limited({"type": "http.response.body", "body": body})

    def _check_host(self) -> None:
        hosts = [value for name, value in self.scope["headers"] if name.lower() == b"host"]
        host = _name(hosts[0].decode("latin-1")) if len(hosts) == 1 else ""
        if "*" not in self.guard.hosts and host not in self.guard.hosts:
            raise Problem(403, "this Host is not served here; name it with --allow-host", code="host_not_allowed")

    def _check_origin(self) -> None:
        if not self.origin or self.origin in self.guard.origins or self.path == WIDGET:
            return
        scheme = {"ws": "http", "wss": "https"}.get(self.scope["scheme"], self.scope["scheme"])
        own = f"{scheme}://{self.headers.get('host', '')}"
        if self.origin != own:
            # Which key it is comes later, and with a preflight not at all: see _check_restriction.
            self.by_key = self.path == CHAT and self.origin in self.guard.keys.origins
            if not self.by_key:
                raise self._not_allowed()

    @staticmethod
    def _not_allowed() -> Problem:
        return Problem(403, "pages of other origins may not ask; allow one with --allow-origin",
                       code="origin_not_allowed")  # fmt: skip

    def _check_restriction(self, key: Key | None) -> None:
        """A key in a page may do little; and no other key comes from an origin that is not allowed without it."""
        limited = key.restriction if key is not None else None
        if limited is not None:
            forwarded = [value.decode("latin-1") for name, value in self.scope["headers"]
                         if name.lower() == b"x-forwarded-for"]  # fmt: skip
            client = (self.scope.get("client") or ("",))[0]
            limited.admit(self.method, self.path, self.origin, limited.visitor(client, ",".join(forwarded)))
            self.limits = replace(self.limits, body=min(self.limits.body, MOST_BODY))
        elif self.by_key:
            raise self._not_allowed()

    def _check_length(self) -> None:
        length = self.headers.get("content-length")
        if length is not None and (not length.isdigit() or int(length) > self.limits.body):
            raise self._too_large()

    def _too_large(self) -> Problem:
        return Problem(413, f"the body has more than {self.limits.body} bytes", code="request_too_large",
                       headers={"Connection": "close"})  # fmt: skip

    async def _receive_limited(self) -> MutableMapping[str, Any]:
        left = self.limits.body_s - (time.monotonic() - self.began)
        if self.scope.get("_whole"):
            return await self._receive()  # only news of the client's going now
        try:
            async with asyncio.timeout(max(0.001, left)):
                message = await self._receive()
        except TimeoutError:
            raise Problem(408, "the body came too slowly", headers={"Connection": "close"}) from None
        if message["type"] == "http.request":
            self.size += len(message.get("body", b""))
            if self.size > self.limits.body:
                raise self._too_large()
            self.scope["_whole"] = not message.get("more_body", False)
        return message

    async def _send_limited(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", []), *self._own_headers(message.get("headers", []))]
            self._look()
        self._sending = time.monotonic()
        await self._send(message)
        self._sending = None

    def _look(self) -> None:
        """A client that reads nothing holds up nobody: it is cut off. One timer for a response, not one for each piece
        of it."""
        now, most = time.monotonic(), self.limits.send_s
        left = most if self._sending is None else self._sending + most - now
        loop = asyncio.get_running_loop()
        if left <= 0:
            self._patience.reschedule(loop.time())
        else:
            self._timer = loop.call_later(left, self._look)

    def _own_headers(self, given: Iterable[tuple[bytes, bytes]]) -> Iterable[tuple[bytes, bytes]]:
        yield b"x-request-id", self.id.encode()
        yield b"x-content-type-options", b"nosniff"
        if not ((self.for_page or self.path == WIDGET) and any(name.lower() == b"cache-control" for name, _ in given)):
            yield b"cache-control", b"no-store"  # but for scripts, which pages load each time
        if self.for_page:
            yield b"content-security-policy", POLICY.encode()
            yield b"referrer-policy", b"same-origin"  # the address may hold a key
        if self.origin in self.guard.origins or self.by_key:
            yield b"access-control-allow-origin", self.origin.encode("latin-1")
            yield b"access-control-expose-headers", b"retry-after"
            yield b"vary", b"Origin"

    async def _preflight(self) -> None:
        names = b"authorization, content-type" + (b"" if self.by_key else b", x-api-key, anthropic-version")
        allowed = [
            (b"access-control-allow-methods", b"POST" if self.by_key else b"GET, POST"),
            (b"access-control-max-age", b"600"),
            (b"access-control-allow-headers", names),
        ]
        await self._send_limited({"type": "http.response.start", "status": 204, "headers": allowed})
        await self._send_limited({"type": "http.response.body", "body": b""})

    async def _refuse(self, problem: Problem) -> None:
        if self.status:  # the response has begun: the connection just ends
            return
        shape = problem.anthropic() if self.scope["path"].startswith("/v1/messages") else problem.openai()
        body = json.dumps(shape).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        headers += [(name.lower().encode(), value.encode()) for name, value in problem.headers.items()]
        await self._send_limited({"type": "http.response.start", "status": problem.status, "headers": headers})
        await self._send_limited({"type": "http.response.body", "body": body})

    def _tell(self, state: dict[str, Any]) -> None:
        seconds = time.monotonic() - self.began
        key = state["key"]
        if self.scope["type"] == "http":  # a web socket stays open for as long as its window
            self.guard.observe(self.method, self.path, self.status, seconds)
        log.info("request", extra={"fields": {
            "request_id": self.id, "method": self.method, "path": self.path[:200],
            "status": self.status, "ms": round(1000 * seconds, 1), "key": key.name if key else None, **state["note"],
        }})  # fmt: skip


def _name(host: str) -> str:
    """A host without its port, in lower case."""
    try:
        return (urlsplit("//" + host).hostname or "").lower()
    except ValueError:
        return ""
