"""A server that runs in this process, with the real small model, for real clients."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

import glassgpt
from glassgpt.engine.engine import EngineSettings
from glassgpt.engine.language_model import LanguageModel
from glassgpt.server.app import ServerSettings, make_app
from glassgpt.server.hub import Hub
from glassgpt.server.keys import Key, Keys, key_of
from glassgpt.server.wire import listen, server_of

KEY = "test-key-0123456789abcdef"


@dataclass
class Running:
    """A server on loopback."""

    url: str
    hub: Hub
    models: dict[str, LanguageModel]
    key: str = KEY
    blocked: list[float] = field(default_factory=list)  # how long the event loop could do nothing else, in s

    def client(self, key: str | None = None, **settings: Any) -> httpx.Client:
        headers = {"Authorization": f"Bearer {key or self.key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60, trust_env=False, **settings)


def serve(models: dict[str, LanguageModel], keys: Sequence[Key] | None = None, settings: ServerSettings | None = None,
          memory: int = 0) -> Iterator[Running]:  # fmt: skip
    """Runs a server until the generator goes on."""
    socket = listen("127.0.0.1", 0)
    hub = Hub(list(models), models.__getitem__, memory)
    app = make_app(hub, Keys([key_of(KEY)] if keys is None else keys), settings)
    server = server_of(app)
    running = Running(f"http://127.0.0.1:{socket.getsockname()[1]}", hub, models)

    async def watch() -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.005)
            running.blocked.append(time.perf_counter() - began - 0.005)

    async def main() -> None:
        watching = asyncio.create_task(watch())
        await server.serve(sockets=[socket])
        watching.cancel()

    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield running
    server.should_exit = True
    thread.join(30)
    assert not thread.is_alive()


@pytest.fixture(scope="session")
def smollm2(smollm2_path: Path) -> LanguageModel:
    return glassgpt.load("smollm2", engine=EngineSettings(max_running=8, max_waiting=8))


@pytest.fixture(scope="module")
def server(smollm2_path: Path) -> Iterator[Running]:
    model = glassgpt.load("smollm2", engine=EngineSettings(max_running=8, max_waiting=24))
    yield from serve({"smollm2": model})
