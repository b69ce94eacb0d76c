"""Keys that stand in a page: what each may do, from where, and how often each visitor may ask."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving import KEY, Running, serve, tiny_model

from glassgpt.core.errors import ConfigError
from glassgpt.server.ask import Ask, Turn
from glassgpt.server.door import Door
from glassgpt.server.guard import Guard, Limits
from glassgpt.server.keys import Keys, key_of, read_keys
from glassgpt.server.problems import Problem
from glassgpt.server.restricted import CHAT, MOST_BODY, Restriction, Visitors, within

SHOP, SHOPS_KEY = "https://shop.example", "the-key-of-the-shop."
TABLE = f'[[key]]\nname = "shop"\nkey = "{SHOPS_KEY}"\n'


def test_a_file_of_keys_tells_what_a_key_in_a_page_may(tmp_path: Path):
    path = tmp_path / "keys.toml"
    path.write_text(TABLE + f'models = ["m"]\norigins = ["{SHOP}", "http://[::1]:81"]\n')
    found = read_keys(path)[0].restriction
    assert found is not None
    assert list(found.origins) == [SHOP, "http://[::1]:81"]
    assert (found.visitor_per_minute, found.max_tokens) == (10, 512)
    path.write_text(TABLE + f'models = ["m"]\norigins = ["{SHOP}"]\nvisitor_per_minute = 3\nmax_tokens = 64\n'
                    'proxies = ["10.0.0.1"]\nper_minute = 100\n')  # fmt: skip
    key = read_keys(path)[0]
    assert key.per_minute == 100 and key.restriction is not None
    assert (key.restriction.visitor_per_minute, key.restriction.max_tokens) == (3, 64)
    assert Keys([key, key_of(KEY)]).origins == {SHOP}
    assert Door(Keys([key]), b"s" * 32).cookie("h", SHOPS_KEY) is None  # it opens no page


@pytest.mark.parametrize(
    "lines",
    [
        f'origins = ["{SHOP}"]', f'models = []\norigins = ["{SHOP}"]', 'models = ["m"]\norigins = []',
        'models = ["m"]\nvisitor_per_minute = 3', 'models = ["m"]\nmax_tokens = 3', 'models = ["m"]\nproxies = []',
        f'models = ["m"]\norigins = "{SHOP}"', 'models = ["m"]\norigins = [1]',
        f'models = ["m"]\norigins = ["{SHOP}"]\nvisitor_per_minute = 0',
        f'models = ["m"]\norigins = ["{SHOP}"]\nmax_tokens = -1',
        f'models = ["m"]\norigins = ["{SHOP}"]\nmax_tokens = true',
        f'models = ["m"]\norigins = ["{SHOP}"]\nproxies = ["proxy.example"]',
    ],
)  # fmt: skip
def test_a_table_that_is_at_odds_with_itself_is_refused(tmp_path: Path, lines: str):
    path = tmp_path / "keys.toml"
    path.write_text(TABLE + lines + "\n")
    with pytest.raises(ConfigError):
        read_keys(path)


@pytest.mark.parametrize(
    "origin",
    ["*", "null", "", "shop.example", "https://shop.example/", "https://Shop.example", "https://shop.example:443",
     "https://shop.example/page", "https://me@shop.example", "ftp://shop.example", "https://书包.example",
     "https://shop.example:x", "https://", "https://shop.example?a"],
)  # fmt: skip
def test_only_an_origin_as_browsers_write_it_is_one(origin: str):
    with pytest.raises(ConfigError):
        Restriction([origin])


def test_a_visitor_may_ask_so_often_in_a_minute_and_others_as_often():
    visitors = Visitors(3)
    assert [visitors.spend("a", 100.0) for _ in range(3)] == [0, 0, 0]
    assert visitors.spend("a", 100.0) == pytest.approx(20) and visitors.spend("b", 100.0) == 0
    assert visitors.spend("a", 110.0) == pytest.approx(10)  # being refused costs nothing
    assert visitors.spend("a", 120.1) == 0 and visitors.spend("a", 120.2) > 0
    assert [visitors.spend("a", 1000.0) > 0 for _ in range(4)] == [False, False, False, True]


@given(st.lists(st.tuples(st.integers(0, 30), st.floats(0, 20)), max_size=200), st.integers(1, 5))
def test_no_order_of_visitors_lets_one_ask_more_or_fills_the_memory(asked: list[tuple[int, float]], rate: int):
    """However they come: in any minute nobody is let through more than twice the rate (a full bucket, and what flows
    into it), unless the table was full; and it never holds more than it may."""
    roomy, small, now = Visitors(rate), Visitors(rate, most=4), 0.0
    passed: dict[int, list[float]] = {}
    for visitor, pause in asked:
        now += pause
        if not roomy.spend(str(visitor), now):
            passed.setdefault(visitor, []).append(now)
        small.spend(str(visitor), now)
        assert len(small.seen) <= 4
    for times in passed.values():
        assert all(sum(start <= t < start + 60 for t in times) <= 2 * rate for start in times)
    roomy.spend("later", now + 61)
    assert list(roomy.seen) == ["later"]  # whoever has not asked for a minute is nobody new


def test_a_visitor_is_an_address_or_a_network_of_them_or_what_our_proxy_says():
    plain, behind = Restriction([SHOP]), Restriction([SHOP], proxies=["10.0.0.1", "::1"])
    assert plain.visitor("1.2.3.4", "5.6.7.8") == "1.2.3.4"  # nobody's word is taken for it
    assert plain.visitor("2001:db8::1", "") == plain.visitor("2001:db8::ffff:1", "") == "2001:db8::/64"
    assert plain.visitor("2001:db8:0:1::1", "") != plain.visitor("2001:db8::1", "")
    assert plain.visitor("::ffff:1.2.3.4", "") == "1.2.3.4"
    assert behind.visitor("10.0.0.1", "6.6.6.6, 5.6.7.8") == "5.6.7.8"  # what stands before is the visitor's claim
    assert behind.visitor("10.0.0.1", "5.6.7.8, ::1") == "5.6.7.8"
    assert behind.visitor("1.2.3.4", "5.6.7.8") == "1.2.3.4"
    assert behind.visitor("10.0.0.1", "") == behind.visitor("10.0.0.1", "nonsense") == "10.0.0.1"
    assert behind.visitor("10.0.0.1", "9.9.9.9, unreadable") == "10.0.0.1"  # what stands before it is no proxy's word
    assert behind.visitor("10.0.0.1", "9.9.9.9, 5.6.7.8:5678") == "5.6.7.8"
    assert behind.visitor("10.0.0.1", "9.9.9.9, [2001:db8::1]:5678") == "2001:db8::/64"
    assert plain.visitor("", "") == plain.visitor("unix:", "")


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"turns": (Turn("system", "do as I say"),)}, "messages"), ({"turns": (Turn("tool", "x"),)}, "messages"),
        ({"tools": ("a tool",)}, "tools"), ({"count": 2}, "n"), ({"alternatives": 0}, "logprobs"),
        ({"format": object()}, "response_format"), ({"most": 513}, "max_tokens"),
    ],
)  # fmt: skip
def test_what_a_key_in_a_page_may_not_ask_for(more: dict[str, Any], param: str):
    ask = Ask(**({"turns": (Turn("user", "hello"),)} | more))
    with pytest.raises(Problem) as error:
        within(Restriction([SHOP]), ask)
    assert error.value.param == param and error.value.status == (400 if param == "max_tokens" else 403)
    assert within(None, ask) is ask


def test_a_reply_is_as_long_as_was_asked_for_or_as_the_key_allows():
    said = (Turn("user", "hello"), Turn("assistant", "hello"), Turn("user", "and now?"))
    limited = Restriction([SHOP], max_tokens=100)
    assert within(limited, Ask(turns=said)).usual == 100
    assert within(limited, Ask(turns=said, most=100)).most == 100


# ---- The guard


async def _echo(scope: Any, receive: Any, send: Any) -> None:
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"cache-control", b"public")]})
    await send({"type": "http.response.body", "body": b"%d" % size})


class Gate:
    """A guard with one key of a shop, one of another and one for everything; its clock is the test's."""

    def __init__(self, **settings: Any) -> None:
        self.now = 1000.0
        key, other = key_of(SHOPS_KEY, "shop", ["m"]), key_of("the-key-of-another..", "other", ["m"])
        key.restriction = Restriction([SHOP], clock=lambda: self.now, **({"visitor_per_minute": 2} | settings))
        other.restriction = Restriction(["https://other.example"])
        self.key = key
        self.guard = Guard(_echo, Keys([key, other, key_of(KEY)]), ["localhost"], ["https://allowed.example"], Limits())

    def ask(self, origin: str | None = SHOP, key: str | None = SHOPS_KEY, *, path: str = CHAT, method: str = "POST",
            body: bytes = b"", client: str = "1.2.3.4",
            **headers: str) -> tuple[int, dict[str, str], bytes]:  # fmt: skip
        given = {"host": "localhost", "origin": origin, "authorization": key and f"Bearer {key}", **headers}
        sent: list[Any] = []
        raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in given.items() if value]
        scope = {"type": "http", "method": method, "path": path, "headers": raw, "scheme": "http",
                 "client": (client, 50_000)}  # fmt: skip

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        asyncio.run(self.guard(scope, receive, send))
        found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return sent[0]["status"], found, b"".join(m.get("body", b"") for m in sent[1:])


ALLOWED = "access-control-allow-origin"


def test_a_shops_page_may_ask_with_its_key_and_read_the_answer():
    status, headers, _ = Gate().ask()
    assert status == 200 and headers[ALLOWED] == SHOP and headers["vary"] == "Origin"
    assert headers["access-control-expose-headers"] == "retry-after"


@pytest.mark.parametrize("origin", [None, "null", "https://evil.example", "https://other.example", "http://localhost",
                                    "https://allowed.example", "https://shop.example.evil",
                                    "http://shop.example"])  # fmt: skip
def test_a_shops_key_is_of_use_to_nobody_elses_page(origin: str | None):
    status, _, body = Gate().ask(origin)
    assert status == 403 and json.loads(body)["error"]["code"] == "origin_not_allowed"


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/models"), ("GET", "/metrics"), ("POST", "/v1/completions"), ("POST", "/v1/messages"),
     ("POST", "/v1/embeddings"), ("GET", CHAT), ("POST", CHAT + "/"), ("GET", "/openapi.json"), ("OPTIONS", CHAT)],
)  # fmt: skip
@pytest.mark.parametrize("origin", [SHOP, None])
def test_a_shops_key_opens_one_path_alone(method: str, path: str, origin: str | None):
    status, headers, _ = Gate().ask(origin, method=method, path=path)
    assert status == 403 and (path == CHAT or ALLOWED not in headers)


def test_no_other_key_comes_from_a_shops_page_though_one_does_from_an_origin_that_is_allowed():
    gate = Gate()
    assert gate.ask(key=KEY)[0] == 403 and gate.ask(key="the-key-of-another..")[0] == 403
    status, headers, _ = gate.ask(key=None)
    assert status == 401 and headers[ALLOWED] == SHOP  # so that the widget can tell what is wrong
    assert gate.ask("https://allowed.example", KEY)[0] == 200 and gate.ask(None, KEY, path="/v1/models")[0] == 200


def test_a_preflight_of_a_shops_page_allows_what_its_key_may():
    asked = {"access_control_request_method": "POST"}
    status, headers, _ = Gate().ask(key=None, method="OPTIONS", **asked)
    assert status == 204 and headers[ALLOWED] == SHOP and headers["access-control-allow-methods"] == "POST"
    assert headers["access-control-allow-headers"] == "authorization, content-type"
    assert Gate().ask(key=None, method="OPTIONS", path="/v1/models", **asked)[0] == 403
    assert Gate().ask("https://evil.example", None, method="OPTIONS", **asked)[0] == 403


def test_each_visitor_has_a_rate_of_their_own_and_is_told_when_to_come_again():
    gate = Gate()
    assert [gate.ask()[0] for _ in range(3)] == [200, 200, 429]
    assert gate.ask(client="1.2.3.5")[0] == 200
    status, headers, _ = gate.ask()
    assert status == 429 and headers[ALLOWED] == SHOP and 30 <= int(headers["retry-after"]) <= 31
    gate.now += int(headers["retry-after"])
    assert gate.ask()[0] == 200
    assert gate.ask(x_forwarded_for="9.9.9.9")[0] == 429  # no proxy of ours said so


def test_what_is_refused_for_a_visitor_does_not_use_up_the_minute_of_all():
    gate = Gate()
    gate.key.per_minute = 4
    assert [gate.ask()[0] for _ in range(9)] == [200, 200] + [429] * 7
    assert [gate.ask(client="1.2.3.5")[0] for _ in range(2)] == [200, 200]
    assert gate.ask(client="1.2.3.6")[0] == 429  # now all of the key's is used up


def test_behind_a_proxy_of_ours_visitors_are_told_apart():
    gate = Gate(proxies=["10.0.0.1"])
    who = [("x_forwarded_for", f"9.9.9.{number}") for number in range(3)]
    assert [gate.ask(client="10.0.0.1", **dict([one]))[0] for one in who * 2] == [200] * 6
    assert gate.ask(client="10.0.0.1", **dict([who[0]]))[0] == 429


def test_a_shops_page_sends_small_bodies():
    gate = Gate(visitor_per_minute=100)
    assert gate.ask(body=b"x" * MOST_BODY)[0] == 200
    assert gate.ask(body=b"x" * (MOST_BODY + 1))[0] == 413
    assert gate.ask(content_length=str(MOST_BODY + 1))[0] == 413
    assert gate.ask(None, KEY, body=b"x" * (MOST_BODY + 1))[0] == 200


def test_the_script_of_the_widget_is_for_all_and_may_be_kept():
    for origin in (None, SHOP, "https://anyone.example", "null"):
        status, headers, _ = Gate().ask(origin, None, method="GET", path="/widget.js")
        assert status == 200 and headers["cache-control"] == "public"
    assert Gate().ask(None, None, path="/widget.js", host="evil.example")[0] == 403


# ---- A whole server


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    key = key_of(SHOPS_KEY, "shop", ["tiny"])
    key.restriction = Restriction([SHOP], visitor_per_minute=100, max_tokens=12)
    yield from serve({"tiny": tiny_model(), "other": None}, [key, key_of(KEY)])  # type: ignore[dict-item]


def test_a_server_answers_a_shops_page_and_keeps_to_what_its_key_allows(server: Running):
    hello = [{"role": "user", "content": "the cat"}]
    never_ends = {str(number): -100 for number in range(3)}
    with server.client(SHOPS_KEY) as client:
        client.headers["Origin"] = SHOP

        def ask(**more: Any) -> httpx.Response:
            return client.post(CHAT, json={"model": "tiny", "messages": hello, "seed": 1} | more)

        got = ask(logit_bias=never_ends)
        assert got.status_code == 200 and got.headers[ALLOWED] == SHOP
        assert got.json()["usage"]["completion_tokens"] <= 12
        assert ask(max_tokens=4).json()["usage"]["completion_tokens"] <= 4
        for more, status, param in (
            ({"model": "other"}, 403, "model"), ({"max_tokens": 13}, 400, "max_tokens"),
            ({"max_completion_tokens": 13}, 400, "max_tokens"), ({"n": 2}, 403, "n"),
            ({"logprobs": True}, 403, "logprobs"),
            ({"messages": [{"role": "developer", "content": "x"}, *hello]}, 403, "messages"),
            ({"response_format": {"type": "json_object"}}, 403, "response_format"),
            ({"tools": [{"type": "function", "function": {"name": "f"}}]}, 403, "tools"),
        ):  # fmt: skip
            refused = ask(**more)
            assert (refused.status_code, refused.json()["error"]["param"]) == (status, param), refused.text
            assert "\n" not in refused.json()["error"]["message"]
    with server.client() as client:  # another key is not bound by any of it
        got = client.post(CHAT, json={"model": "tiny", "messages": hello, "max_tokens": 13, "n": 2})
        assert got.status_code == 200
