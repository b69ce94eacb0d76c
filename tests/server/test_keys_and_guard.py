"""Keys, hosts, origins, sizes and times, without a model."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import KEY, Running, serve

from glassgpt.core.errors import ConfigError, NotFoundError
from glassgpt.server import wire
from glassgpt.server.app import ServerSettings
from glassgpt.server.guard import Guard, Limits
from glassgpt.server.keys import Key, Keys, check_model, check_rate, key_of, read_keys
from glassgpt.server.problems import Problem
from glassgpt.server.wire import Lines


def test_a_key_is_found_and_nothing_else_is():
    keys = Keys([key_of("a" * 20, "one"), key_of("b" * 20, "two")])
    assert keys.find("Bearer " + "b" * 20, "").name == "two" and keys.find("", "a" * 20).name == "one"
    assert keys.find("bearer " + "a" * 20, "").name == "one"
    for given in ("", "Bearer", "Bearer ", "Basic " + "a" * 20, "Bearer " + "a" * 19, "Bearer " + "é" * 20):
        with pytest.raises(Problem) as error:
            keys.find(given, "")
        assert error.value.status == 401 and "a" * 19 not in error.value.message
    assert Keys([]).find("", "") is None
    assert "a" * 20 not in repr(keys.keys)


@pytest.mark.parametrize(
    "text", ["", "short", "with a space in it ....", "ключ-ключ-ключ-ключ", "x" * 15, "a" * 20 + "\n"]
)
def test_a_key_that_is_none_is_refused(text: str):
    with pytest.raises(ConfigError):
        key_of(text)


def test_a_rate_lets_through_so_many_in_a_minute():
    key = Key("k", b"", per_minute=3)
    assert [key.spend(100.0) for _ in range(3)] == [0, 0, 0]
    assert key.spend(100.0) == pytest.approx(20)
    assert key.spend(119.0) > 0 and key.spend(120.1) == 0 and key.spend(120.2) > 0
    assert [key.spend(1000.0) for _ in range(4)][:3] == [0, 0, 0]  # no more than a minute's is saved
    with pytest.raises(Problem) as error:
        check_rate(Key("k", b"", per_minute=1, tokens=0, filled_at=time.monotonic()))
    assert error.value.status == 429 and int(error.value.headers["Retry-After"]) >= 1


def test_a_file_of_keys(tmp_path: Path):
    path = tmp_path / "keys.toml"
    path.write_text('[[key]]\nname = "shop"\nkey = "0123456789abcdef"\nmodels = ["m"]\nper_minute = 5\n'
                    '[[key]]\nkey = "fedcba9876543210"\n')  # fmt: skip
    shop, other = read_keys(path)
    assert (shop.name, shop.models, shop.per_minute) == ("shop", ("m",), 5)
    assert (other.name, other.models, other.per_minute) == ("key 2", None, 0)
    path.write_text('[[key]]\nkey = "0123456789abcdef"\nper_minute = -1\n')
    with pytest.raises(ConfigError, match="per_minute -1; expected 0"):
        read_keys(path)  # else it would mean any number
    check_model(other, "x")
    with pytest.raises(Problem):
        check_model(shop, "x")
    for text in ("", "x", "[key]\n", '[[key]]\nname="a"\n', '[[key]]\nkey="0123456789abcdef"\nrate=3\n',
                 '[[key]]\nkey="short"\n', '[[key]]\nkey=5\n'):  # fmt: skip
        path.write_text(text)
        with pytest.raises(ConfigError):
            read_keys(path)
    with pytest.raises(NotFoundError):
        read_keys(tmp_path / "none")


async def _echo(scope: Any, receive: Any, send: Any) -> None:
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d" % len(body)})


def ask(guard: Guard, headers: dict[str, str], parts: list[bytes] = [b""], path: str = "/x", method: str = "POST",  # noqa: B006
        delay: float = 0, stuck: bool = False) -> tuple[int, dict[str, str], bytes]:  # fmt: skip
    """One request by ASGI: status, headers, body."""
    sent: list[Any] = []
    left = list(parts)

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(delay)
        part = left.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(left)}

    async def send(message: Any) -> None:
        if stuck:
            await asyncio.sleep(100)
        sent.append(message)

    raw = [
        (k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in ({"Host": "localhost:1"} | headers).items() if v
    ]
    scope = {"type": "http", "method": method, "path": path, "headers": raw, "scheme": "http"}
    asyncio.run(guard(scope, receive, send))
    if not sent:
        return 0, {}, b""
    found = {k.decode(): v.decode() for k, v in sent[0]["headers"]}
    return sent[0]["status"], found, b"".join(m.get("body", b"") for m in sent[1:])


@pytest.fixture
def guard() -> Guard:
    return Guard(_echo, Keys([key_of(KEY)]), ["localhost", "::1", "example.org"], ["https://shop.example"],
                 Limits(body=1000, body_s=0.3, send_s=0.2))  # fmt: skip


AUTH = {"Authorization": f"Bearer {KEY}"}


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost", 200), ("LOCALHOST:80", 200), ("[::1]:8000", 200), ("example.org", 200), ("evil.example", 403),
     ("localhost.evil.example", 403), ("", 403), ("localhost@evil.example", 403), ("evil.example#localhost", 403),
     ("127.0.0.1", 403), ("[::1", 403)],
)  # fmt: skip
def test_only_hosts_that_are_ours_are_served(guard: Guard, host: str, status: int):
    assert ask(guard, AUTH | {"Host": host})[0] == status


@pytest.mark.parametrize(
    ("origin", "status"),
    [("https://shop.example", 200), ("http://localhost:1", 200), ("http://localhost:2", 403), ("null", 403),
     ("https://localhost:1", 403), ("https://shop.example.evil", 403), ("https://evil.example", 403)],
)  # fmt: skip
def test_only_origins_that_are_ours_may_ask(guard: Guard, origin: str, status: int):
    got, headers, _ = ask(guard, AUTH | {"Origin": origin})
    assert got == status
    assert headers.get("access-control-allow-origin") == (
        "https://shop.example" if origin[8:] == "shop.example" else None
    )


def test_a_preflight_needs_no_key_and_an_allowed_origin(guard: Guard):
    asked = {"Access-Control-Request-Method": "POST", "Origin": "https://shop.example"}
    status, headers, _ = ask(guard, asked, method="OPTIONS")
    assert status == 204 and headers["access-control-allow-origin"] == "https://shop.example"
    assert ask(guard, asked | {"Origin": "https://evil.example"}, method="OPTIONS")[0] == 403


def test_without_a_key_nothing_but_health_is_told(guard: Guard):
    assert ask(guard, {})[0] == 401 and ask(guard, {}, path="/metrics")[0] == 401
    assert ask(guard, {}, path="/health")[0] == 200
    assert ask(guard, {"x-api-key": KEY})[0] == 200


def test_bodies_are_counted_as_they_come(guard: Guard):
    assert ask(guard, AUTH, [b"x" * 500, b"y" * 500])[2] == b"1000"
    assert ask(guard, AUTH, [b"x" * 500, b"y" * 501])[0] == 413
    for length in ("1001", "9" * 30, "-1", "1e3", "x"):
        assert ask(guard, AUTH | {"Content-Length": length})[0] == 413
    assert ask(guard, AUTH, [b"x"] * 20, delay=0.05)[0] == 408


def test_a_client_that_takes_nothing_is_cut_off(guard: Guard):
    began = time.monotonic()
    assert ask(guard, AUTH, stuck=True)[0] == 0
    assert time.monotonic() - began < 5


def test_the_log_has_ids_and_no_text_and_no_keys(guard: Guard, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, "glassgpt.server"):
        status, headers, _ = ask(guard, AUTH | {"X-Request-Id": "mine-1"}, [b"a secret"])
        ask(guard, AUTH | {"X-Request-Id": "bad id\u00ff"})
    lines = [json.loads(Lines().format(record)) for record in caplog.records]
    assert headers["x-request-id"] == lines[0]["request_id"] == "mine-1" and lines[0]["status"] == status == 200
    assert lines[1]["request_id"] != "bad id\u00ff" and lines[0]["key"] == "key"
    assert "secret" not in json.dumps(lines) and KEY not in json.dumps(lines)


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    """A server without models, in a hurry."""
    monkeypatch.setattr(wire, "HEADER_S", 0.5)
    yield from serve({"none": None}, settings=ServerSettings(limits=Limits(body_s=0.5)))  # type: ignore[dict-item]


@pytest.mark.parametrize("sent", [b"", b"GET", b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: ", b"\r\n\r\n"])
def test_a_request_that_does_not_come_ends_the_connection(bare: Running, sent: bytes):
    with socket.create_connection(("127.0.0.1", int(bare.url.rsplit(":", 1)[1])), timeout=5) as client:
        client.sendall(sent)
        began = time.monotonic()
        while client.recv(1000):
            pass
        assert time.monotonic() - began < 3


def test_a_second_request_may_not_stop_in_the_middle_either(bare: Running):
    with socket.create_connection(("127.0.0.1", int(bare.url.rsplit(":", 1)[1])), timeout=5) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200 OK" in client.recv(1000)
        client.sendall(b"GET /health HT")
        began = time.monotonic()
        while client.recv(1000):
            pass
        assert time.monotonic() - began < 3


def test_two_requests_on_one_connection_are_both_answered(bare: Running):
    with bare.client() as client:
        for _ in range(2):
            assert client.get("/health").json() == {"status": "ok"}
            time.sleep(0.7)  # idle, which is no crime


def test_what_is_not_there_is_told_in_the_shape_of_the_api(bare: Running):
    with bare.client() as client:
        assert client.get("/nothing").json()["error"]["type"] == "not_found_error"
        got = client.get("/v1/chat/completions")
        assert got.status_code == 405 and "error" in got.json()
        assert client.post("/v1/messages", content=b"{").json()["type"] == "error"
        assert client.post("/v1/chat/completions", json={"model": "x", "messages": []}).status_code == 400
        assert client.get("/v1/models").json()["data"][0]["id"] == "none"
        assert "glassgpt_requests_total" in client.get("/metrics").text
        assert client.get("/openapi.json").json()["paths"]["/v1/chat/completions"]


def test_small_packets_do_not_wait(bare: Running, monkeypatch: pytest.MonkeyPatch):
    seen: list[int] = []
    made = wire.Impatient.connection_made

    def look(protocol: wire.Impatient, transport: Any) -> None:
        made(protocol, transport)
        seen.append(transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    monkeypatch.setattr(wire.Impatient, "connection_made", look)
    with bare.client() as client:
        client.get("/health")
    assert seen == [1]


def test_a_port_in_use_is_a_named_error():
    with wire.listen("127.0.0.1", 0) as taken, pytest.raises(ConfigError, match="cannot listen"):
        wire.listen("127.0.0.1", taken.getsockname()[1])
