"""Who gets in by a browser: keys, cookies, origins and web sockets, at the guard itself."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glassgpt.server.door import Door, is_page_path, key_in, language_of, sign_in_page, token_in
from glassgpt.server.guard import Guard, Limits
from glassgpt.server.keys import Keys, key_of
from glassgpt.server.problems import Problem

KEY, OTHER, FEW = "the-key-of-the-owner", "another-key-of-all", "a-key-for-one-model"
HOST = "localhost:8000"


def door(now: float = 1000.0, secret: bytes = b"s" * 32, keys: list[Any] | None = None) -> Door:
    given = keys if keys is not None else [key_of(KEY, "owner"), key_of(OTHER, "other"), key_of(FEW, "few", ["m"])]
    return Door(Keys(given), secret, ("lasting",), lambda: now)


def brought(cookie: str | None) -> str:
    assert cookie is not None
    return cookie.split(";")[0]


def test_a_cookie_opens_for_as_long_as_it_holds_and_nothing_else_does():
    cookie = door().cookie(HOST, KEY)
    assert cookie is not None and "HttpOnly" in cookie and "SameSite=Lax" in cookie and KEY not in cookie
    found = door().key(HOST, brought(cookie))
    assert found is not None and found.name == "owner"
    with pytest.raises(Problem):
        door(now=1000.0 + 31 * 24 * 3600).key(HOST, brought(cookie))
    with pytest.raises(Problem):
        door(secret=b"t" * 32).key(HOST, brought(cookie))
    with pytest.raises(Problem):
        door(keys=[key_of("a-new-key-instead", "owner")]).key(HOST, brought(cookie))  # the key was changed


def test_a_key_that_is_made_anew_at_each_start_keeps_its_cookies():
    before, after = (door(keys=[key_of(text, "lasting")]) for text in ("one-random-key-xx", "the-next-random-key"))
    assert after.key(HOST, brought(before.cookie(HOST, "one-random-key-xx"))) is not None


def test_a_key_of_few_models_opens_no_page():
    assert door().cookie(HOST, FEW) is None
    assert door().cookie(HOST, "no-key-at-all-here") is None


def test_two_servers_of_one_computer_keep_their_cookies_apart():
    cookie = brought(door().cookie(HOST, KEY))
    with pytest.raises(Problem):
        door().key("localhost:8001", cookie)


@given(st.text(max_size=200))
def test_no_other_cookie_opens(text: str):
    for cookie in (text, f"glassgpt-8000={text}"):
        with pytest.raises(Problem):
            door().key(HOST, cookie)


@given(st.integers(0, 200), st.characters(codec="ascii"))
def test_a_cookie_that_was_changed_does_not_open(at: int, character: str):
    cookie = brought(door().cookie(HOST, KEY))
    name, _, value = cookie.partition("=")
    at %= len(value)
    if value[at] == character:
        return
    with pytest.raises(Problem):
        door().key(HOST, f"{name}={value[:at]}{character}{value[at + 1 :]}")


@pytest.mark.parametrize(
    ("accepted", "language"),
    [("zh-CN,zh;q=0.9,en;q=0.8", "zh"), ("en-US,en;q=0.9,zh;q=0.1", "en"), ("de,fr", "en"), ("", "en"), ("zh-TW", "zh"),
     ("de;q=1,zh;q=0.5", "zh"), (";q=x,zh;q=nonsense", "zh")],
)  # fmt: skip
def test_the_language_is_the_browsers(accepted: str, language: str):
    assert language_of(accepted) == language


def test_what_is_asked_for_the_key_can_do_nothing_else():
    page = sign_in_page("zh", wrong=True)
    assert "default-src 'none'" in page and "<script" not in page and "打不开" not in page and "不能打开网页" in page
    assert token_in(b"token=a%20b&x=1") == "a b" and token_in(b"x=1") is None
    assert key_in(b"key=+abc+") == "abc" and key_in(b"") == ""


class Asked:
    """One request to a guard over an app that notes what reaches it."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.reached: list[str] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            self.reached.append(scope["path"])
            if scope["type"] == "websocket":
                await send({"type": "websocket.accept"})
                return
            while (await receive()).get("more_body"):
                pass
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"the page"})

        self.door = Door(Keys([key_of(KEY, "owner")]), b"s" * 32)
        self.guard = Guard(app, self.door.keys, ["localhost"], [], limits or Limits(), door=self.door)
        self.cookie = brought(self.door.cookie(HOST, KEY))

    def __call__(self, path: str, kind: str = "http", method: str = "GET", body: bytes = b"",
                 **headers: str) -> list[dict[str, Any]]:  # fmt: skip
        sent: list[dict[str, Any]] = []
        path, _, query = path.partition("?")
        given = {"host": HOST} | {name.replace("_", "-"): value for name, value in headers.items()}
        scope = {"type": kind, "path": path, "method": method, "query_string": query.encode(),
                 "scheme": "ws" if kind == "websocket" else "http",
                 "headers": [(name.encode(), value.encode()) for name, value in given.items()]}  # fmt: skip
        parts = [body[at : at + 1000] for at in range(0, len(body), 1000)] or [b""]
        messages = [
            {"type": "http.request", "body": part, "more_body": n + 1 < len(parts)} for n, part in enumerate(parts)
        ]

        async def receive() -> dict[str, Any]:
            return messages.pop(0) if messages else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        asyncio.run(self.guard(scope, receive, send))
        return sent


def status(sent: list[dict[str, Any]]) -> int:
    return int(sent[0]["status"])


def test_every_path_of_the_page_needs_the_cookie():
    asked = Asked()
    for path in (
        "/en",
        "/_nicegui/3/static/x.js",
        "/_nicegui_ws/socket.io/",
        "/_nicegui/client/1/upload/2",
        "/builds/a/report.html",
    ):
        assert status(asked(path)) == 401
        assert status(asked(path, authorization=f"Bearer {KEY}")) == 401  # the key alone is the API's
        assert status(asked(path, cookie=asked.cookie)) == 200
    assert not any(path.startswith("/v1") for path in asked.reached)


def test_the_cookie_opens_nothing_of_the_api():
    asked = Asked()
    assert status(asked("/v1/models", cookie=asked.cookie)) == 401
    assert status(asked("/metrics", cookie=asked.cookie)) == 401
    assert is_page_path("/v1") and not is_page_path("/v1/models")


def test_a_key_in_the_address_becomes_a_cookie_and_leaves_the_address():
    asked = Asked()
    sent = asked(f"/?token={KEY}")
    headers = dict(sent[0]["headers"])
    assert status(sent) == 303 and headers[b"location"] == b"/" and b"HttpOnly" in headers[b"set-cookie"]
    assert status(asked("/?token=wrong-key-xxxxxxxxxx")) == 401
    assert asked.reached == []


def test_the_form_takes_a_key_of_this_origin_alone():
    asked = Asked()
    form = f"key={KEY}".encode()
    assert status(asked("/sign-in", method="POST", body=form, origin=f"http://{HOST}")) == 303
    assert status(asked("/sign-in", method="POST", body=form, origin="http://evil.example")) == 403
    assert status(asked("/sign-in", method="POST", body=b"key=" + b"x" * 9000)) == 413


def test_pages_are_told_to_ask_no_other_host():
    asked = Asked()
    headers = dict(asked("/en", cookie=asked.cookie)[0]["headers"])
    policy = headers[b"content-security-policy"].decode()
    assert "default-src 'none'" in policy and "connect-src 'self'" in policy and "frame-ancestors 'none'" in policy
    assert "http:" not in policy and "*" not in policy


def test_a_web_socket_needs_cookie_host_and_its_own_origin():
    asked = Asked()
    path, own = "/_nicegui_ws/socket.io/", f"http://{HOST}"

    def let_in(**headers: str) -> bool:
        return asked(path, "websocket", **headers)[0]["type"] == "websocket.accept"

    assert let_in(cookie=asked.cookie, origin=own)
    assert not let_in(cookie=asked.cookie)  # browsers always say it
    assert not let_in(cookie=asked.cookie, origin="http://evil.example")
    assert not let_in(cookie=asked.cookie, origin="http://localhost:8001")
    assert not let_in(origin=own)
    assert not let_in(cookie=asked.cookie, origin="http://rebound.example", host="rebound.example")
    assert asked("/v1/chat/completions", "websocket", cookie=asked.cookie, origin=own)[0]["type"] == "websocket.close"


def test_an_upload_may_be_larger_than_a_message_and_no_larger_than_its_own_limit():
    asked = Asked(Limits(body=5_000, upload=20_000))
    upload = "/_nicegui/client/abc/upload/7"
    assert status(asked(upload, method="POST", body=b"x" * 15_000, cookie=asked.cookie)) == 200
    assert status(asked(upload, method="POST", body=b"x" * 25_000, cookie=asked.cookie)) == 413
    assert status(asked("/_nicegui_ws/socket.io/", method="POST", body=b"x" * 15_000, cookie=asked.cookie)) == 413
    assert status(asked("/v1/chat/completions/upload/7", method="POST", body=b"x" * 15_000,
                        authorization=f"Bearer {KEY}")) == 413  # fmt: skip
