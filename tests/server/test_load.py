"""Many clients at once: nothing is lost, mixed up or left behind, and nobody waits for the slow ones."""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from test_serve import Served, start

import glassgpt
from glassgpt.server.ask import prepare
from glassgpt.server.chat import ChatRequest

pytestmark = pytest.mark.slow
KINDS = 24
TOPICS = ["a cat", "the sea", "北京的天气", "a shop's return policy", "numbers", "一首诗", "trains", "🙂"]


@pytest.fixture
def served(smollm2_path: Path, tmp_path: Path) -> Iterator[Served]:
    yield from start(tmp_path, "--model", "smollm2")


def bodies() -> list[dict[str, Any]]:
    chance = random.Random(7)
    return [
        {"model": "smollm2", "seed": number, "max_tokens": chance.randint(1, 40), "temperature": chance.choice([0, 1]),
         "messages": [{"role": "user", "content": f"Tell me about {chance.choice(TOPICS)}, {number}."}]}
        for number in range(KINDS)
    ]  # fmt: skip


class Crowd:
    """Clients that ask again and again, and check what they get."""

    def __init__(self, served: Served, expected: list[str], seconds: float) -> None:
        self.served, self.expected, self.until = served, expected, time.monotonic() + seconds
        self.bodies, self.seen, self.wrong = bodies(), Counter[str](), list[str]()
        self.headers = {"Authorization": f"Bearer {served.token}"}

    async def run(self, number: int, client: httpx.AsyncClient) -> None:
        """One client: of ten one reads slowly and one hangs up."""
        chance = random.Random(number)
        manner = {0: "slow", 1: "gone"}.get(number % 10, "plain")
        while time.monotonic() < self.until:
            which = chance.randrange(KINDS)
            body = self.bodies[which] | {"stream": manner != "plain" or chance.random() < 0.5}
            async with client.stream("POST", "/chat/completions", json=body, headers=self.headers) as response:
                if response.status_code == 429:
                    assert int(response.headers["Retry-After"]) >= 1
                    self.seen["429"] += 1
                    await response.aread()
                    await asyncio.sleep(chance.uniform(0.2, 1.0))
                    continue
                if response.status_code != 200:
                    self.wrong.append(f"{response.status_code} {(await response.aread())[:200]!r}")
                    continue
                text, ended = await self.text_of(response, manner, chance)
            if manner == "gone":
                self.seen["gone"] += 1
                if not self.expected[which].startswith(text):
                    self.wrong.append(f"{which}: {text!r} does not begin {self.expected[which]!r}")
                continue
            self.seen[manner] += 1
            if text != self.expected[which] or not ended:
                self.wrong.append(f"{which}: {text!r} is not {self.expected[which]!r}")

    async def text_of(self, response: httpx.Response, manner: str, chance: random.Random) -> tuple[str, bool]:
        if "text/event-stream" not in response.headers["content-type"]:
            return json.loads(await response.aread())["choices"][0]["message"]["content"], True
        text, count = "", 0
        async for line in response.aiter_lines():
            if line == "data: [DONE]":
                return text, True
            if line.startswith("data: "):
                for choice in json.loads(line[6:])["choices"]:
                    text += choice["delta"].get("content") or ""
                count += 1
                if manner == "slow":
                    await asyncio.sleep(0.02)
                if manner == "gone" and count > chance.randint(1, 5):
                    return text, False
        return text, False


async def crowd(served: Served, expected: list[str], clients: int, seconds: float) -> Crowd:
    found = Crowd(served, expected, seconds)
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=served.url, timeout=60, trust_env=False, limits=limits) as client:
        await asyncio.gather(*[found.run(number, client) for number in range(clients)])
    return found


def gauge(served: Served, name: str) -> float:
    text = httpx.get(served.url.removesuffix("/v1") + "/metrics", trust_env=False,
                     headers={"Authorization": f"Bearer {served.token}"}).text  # fmt: skip
    found = re.search(rf"^{name}(?:{{[^}}]*}})? ([0-9.e+-]+)$", text, re.M)
    assert found, text
    return float(found[1])


def examine(served: Served, clients: int, seconds: float) -> None:
    model = glassgpt.load("smollm2")
    expected = []
    for body in bodies():
        prepared = prepare(model, ChatRequest.model_validate(body).ask())
        expected.append(model.repeat(prepared.requests[0]).text)
    process = psutil.Process(served.process.pid)
    asyncio.run(crowd(served, expected, clients, min(10.0, seconds / 4)))  # everything has been in use once
    before = process.memory_info().rss
    found = asyncio.run(crowd(served, expected, clients, seconds))
    grown = process.memory_info().rss - before
    print(f"{dict(found.seen)}, grown by {grown / 1e6:.1f} MB, blocked at most "
          f"{1000 * gauge(served, 'glassgpt_loop_blocked_seconds'):.0f} ms")  # fmt: skip
    assert found.wrong == [] and found.seen["plain"] > 10 and found.seen["slow"] and found.seen["gone"]
    assert grown < 30e6
    assert gauge(served, "glassgpt_loop_blocked_seconds") < 0.1
    deadline = time.monotonic() + 2
    while gauge(served, "glassgpt_engine_running") and time.monotonic() < deadline:
        time.sleep(0.02)
    assert gauge(served, "glassgpt_engine_running") == gauge(served, "glassgpt_engine_waiting") == 0


def test_a_crowd_for_some_seconds(served: Served):
    examine(served, 24, 8)


@pytest.mark.full
def test_a_crowd_for_two_minutes(served: Served):
    examine(served, 64, 120)


def test_who_goes_away_leaves_the_slot_within_100_ms(served: Served):
    with served.client() as client:
        asked: dict[str, Any] = dict(model="smollm2", max_tokens=2000, stream=True, logit_bias={"2": -100},
                                     messages=[{"role": "user", "content": "A long story."}])  # fmt: skip
        waits = []
        for _ in range(5):
            stream = client.chat.completions.create(**asked)
            for _ in range(5):
                next(iter(stream))
            assert gauge(served, "glassgpt_engine_running") == 1
            began = time.monotonic()
            stream.close()
            while gauge(served, "glassgpt_engine_running"):
                assert time.monotonic() - began < 5
            waits.append(time.monotonic() - began)
        print(f"free after {[round(1000 * w) for w in waits]} ms")
        assert sorted(waits)[2] < 0.1
