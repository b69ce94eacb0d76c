"""What is too much: requests, texts, bodies."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from serving import Running, serve, tiny_model

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def narrow() -> Iterator[Running]:
    """Answers one request at a time; one more may wait."""
    yield from serve({"tiny": tiny_model(context=4096, max_running=1, max_waiting=1)})


def chat(**more: Any) -> dict[str, Any]:
    return {"model": "tiny", "messages": [{"role": "user", "content": "the cat"}], "max_tokens": 4, "seed": 1} | more


def test_a_full_queue_is_429_and_what_waits_is_answered(narrow: Running):
    ends = {str(i): -100 for i in range(3)}
    long = chat(max_tokens=2500, logit_bias=ends)
    with (
        narrow.client() as client,
        client.stream("POST", "/v1/chat/completions", json=long | {"stream": True}) as first,
    ):
        lines = first.iter_lines()
        next(lines)
        waiting: list[httpx.Response] = []
        thread = threading.Thread(target=lambda: waiting.append(client.post("/v1/chat/completions", json=chat())))
        thread.start()
        engine = narrow.models["tiny"].loop
        while not engine.counters().waiting:  # type: ignore[union-attr]
            pass
        refused = client.post("/v1/chat/completions", json=chat())
        assert refused.status_code == 429 and int(refused.headers["Retry-After"]) >= 1
        assert refused.json()["error"]["code"] == "queue_full"
        shape = client.post("/v1/messages", json={k: v for k, v in chat().items() if k != "seed"}).json()
        assert shape["error"]["type"] == "rate_limit_error"
        first.close()
        thread.join(30)
    assert waiting[0].status_code == 200


def test_a_text_that_does_not_fit_is_refused_with_the_counts(narrow: Running):
    said = [{"role": "user", "content": "the cat " * 5000}]
    with narrow.client() as client:
        for path, body in {
            "/v1/chat/completions": chat(messages=said), "/v1/messages": chat(messages=said),
            "/v1/completions": {"model": "tiny", "prompt": "the cat " * 5000},
            "/v1/responses": {"model": "tiny", "input": "the cat " * 5000},
            "/v1/embeddings": {"model": "tiny", "input": "the cat " * 5000},
        }.items():  # fmt: skip
            body.pop("seed", None)
            got = client.post(path, json=body)
            assert got.status_code == 400 and "4096" in got.text.replace(",", ""), (path, got.text)


def test_the_largest_bodies_hold_nobody_up(narrow: Running, caplog: pytest.LogCaptureFixture):
    """Of as many values as fit, and of one long text."""
    narrow.blocked.clear()
    values = json.dumps(chat(x=[{}] * 1_000_000)).encode()
    text = json.dumps(chat(messages=[{"role": "user", "content": "语" * 1_300_000}]), ensure_ascii=False).encode()
    with narrow.client() as client:
        for body in (values, text):
            assert 3_500_000 < len(body) < 4 << 20
            assert client.post("/v1/chat/completions", content=body).status_code == 400
    print(f"blocked at most {1000 * max(narrow.blocked):.0f} ms")
    assert max(narrow.blocked) < 1  # it was ten seconds where the tokenizer let no other thread run
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []  # a refusal is no mistake
