"""The known attacks: ours holds against all of them, and a server that lets everything through against none."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from serving import KEY, Running, serve, tiny_model

from glassgpt.core.errors import GlassError
from glassgpt.server.self_test import ATTACKS, attack

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tiny() -> Iterator[Running]:
    yield from serve({"tiny": tiny_model()})


def test_every_attack_is_held(tiny: Running):
    results = attack(tiny.url, KEY)
    assert len(results) == len(ATTACKS) >= 18
    assert [(r.name, r.seen) for r in results if not r.held] == []


class Naive(BaseHTTPRequestHandler):
    """Says yes to everything."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(min(100_000, int(self.headers.get("Content-Length") or 0)))
        body = json.dumps({"data": [{"id": "m"}], "input_tokens": 1}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    do_GET = do_POST  # noqa: N815  # the name that http.server looks for

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_a_server_that_takes_everything_is_found_out(monkeypatch: pytest.MonkeyPatch):
    from glassgpt.server import self_test

    monkeypatch.setattr(self_test, "_PATIENCE", 2.0)
    with ThreadingHTTPServer(("127.0.0.1", 0), Naive) as naive:
        thread = threading.Thread(target=naive.serve_forever, daemon=True)
        thread.start()
        results = {r.name: r.held for r in attack(f"http://127.0.0.1:{naive.server_port}", "k")}
        naive.shutdown()
    # What may be answered in time is held by a server that answers at once, and this one ends each connection.
    quick = {"schemas built to explode", "patterns built to explode", "a body of 32 MB in chunks"}
    assert {name for name, held in results.items() if held} <= quick


def test_no_server_is_a_named_error():
    with pytest.raises(GlassError, match="nothing answers"):
        attack("http://127.0.0.1:9", "k")
