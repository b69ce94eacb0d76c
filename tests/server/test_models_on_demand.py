"""Models that are loaded when they are asked for, and leave when others need their room."""

from __future__ import annotations

import asyncio
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from glassgpt.core.errors import FormatError
from glassgpt.server import hub as hub_module
from glassgpt.server.hub import Entry, Hub
from glassgpt.server.problems import Problem

SIZES = {"a": 40, "b": 50, "c": 30, "big": 200}


@pytest.fixture(autouse=True)
def sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "size_of", lambda model: SIZES[model.name])


class Loads:
    """Makes models and tells which."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.names: list[str] = []
        self.seconds, self.together, self.most = seconds, 0, 0
        self.lock = threading.Lock()

    def __call__(self, entry: Entry) -> Any:
        name = entry.source
        with self.lock:
            self.together += 1
            self.most = max(self.most, self.together)
        time.sleep(self.seconds)
        with self.lock:
            self.together -= 1
        self.names.append(name)
        if name == "broken":
            raise FormatError("it is damaged")
        return SimpleNamespace(name=name, loop=None)


def loaded(hub: Hub) -> set[str]:
    return {e.name for e in hub.entries.values() if e.model is not None}


async def ask(hub: Hub, name: str, seconds: float = 0.0) -> str:
    async with hub.use(name) as model:
        await asyncio.sleep(seconds)
        return model.name


def test_a_model_is_loaded_once_for_all_who_wait():
    loads = Loads(0.05)
    hub = Hub(["a", "b"], loads)

    async def main() -> list[str]:
        return await asyncio.gather(*[ask(hub, "a") for _ in range(5)], ask(hub, "b"))

    assert asyncio.run(main()) == ["a"] * 5 + ["b"] and sorted(loads.names) == ["a", "b"] and loads.most == 1


def test_whoever_goes_away_takes_nothing_from_others():
    loads = Loads(0.1)
    hub = Hub(["a"], loads)

    async def main() -> None:
        first = asyncio.create_task(ask(hub, "a"))
        await asyncio.sleep(0.02)
        second = asyncio.create_task(ask(hub, "a"))
        await asyncio.sleep(0.02)
        first.cancel()
        assert await second == "a"
        third = asyncio.create_task(ask(hub, "a"))
        assert await third == "a"

    asyncio.run(main())
    assert loads.names == ["a"] and hub.entries["a"].users == 0


def test_the_one_used_longest_ago_leaves():
    loads = Loads()
    hub = Hub(["a", "b", "c"], loads, memory=100)

    async def main() -> None:
        for name in ("a", "b", "a", "c"):
            await ask(hub, name)
        assert loaded(hub) == {"a", "c"}  # b was used longest ago
        await ask(hub, "b")
        assert loaded(hub) == {"b", "c"}

    asyncio.run(main())


def test_a_model_that_answers_is_not_taken_away():
    hub = Hub(["a", "b", "big"], Loads(), memory=80)

    async def main() -> None:
        async with hub.use("a"):
            with pytest.raises(Problem) as error:
                await ask(hub, "b")
            assert error.value.status == 503 and error.value.headers["Retry-After"]
            assert loaded(hub) == {"a"}
        assert await ask(hub, "b") == "b" and loaded(hub) == {"b"}
        with pytest.raises(Problem, match="--memory"):
            await ask(hub, "big")
        assert "big" not in loaded(hub)

    asyncio.run(main())


def test_a_model_that_cannot_be_loaded_is_an_error_each_time():
    hub = Hub(["broken"], Loads())
    for _ in range(2):
        with pytest.raises(FormatError):
            asyncio.run(ask(hub, "broken"))
    with pytest.raises(Problem) as error:
        asyncio.run(ask(hub, "brokn"))
    assert error.value.status == 404 and "'broken'" in error.value.message


def test_names_are_the_last_part_of_what_was_given():
    assert list(Hub(["runs/shop", "./a.gguf", "org/name", "other/name"], Loads()).entries) == [
        "shop", "a.gguf", "name", "other/name"]  # fmt: skip
