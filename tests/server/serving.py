"""A server that runs in this process, for real clients."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

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
    hub = Hub(list(models), lambda entry: models[entry.source], memory)
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


def tiny_model(context: int = 512, **engine: Any) -> LanguageModel:
    """A model of no size that knows nothing, for tests of everything around it."""
    import torch

    from glassgpt.engine.engine import Engine
    from glassgpt.engine.load import network_tensors
    from glassgpt.engine.network import Network
    from glassgpt.engine.packing import pack
    from glassgpt.model.config import ModelConfig
    from glassgpt.model.gpt import GPT
    from glassgpt.text.bpe import train_bpe
    from glassgpt.text.template import get_template

    tokenizer = train_bpe(["the cat sat on the mat and the dog ran after it. 你好,世界! " * 20], 340)
    config = ModelConfig.modern(vocab_size=tokenizer.vocab_size, n_layer=2, n_head=2, n_embd=64, context_length=context)
    torch.manual_seed(0)
    made = GPT(config)
    with torch.no_grad():
        for p in made.parameters():
            p.add_(torch.randn_like(p) * 0.2)
    network = Network(config, pack(config, network_tensors(made), "int8", "tiny"), "int8")
    settings = EngineSettings(**({"max_running": 8, "max_waiting": 24} | engine))
    return LanguageModel("tiny", made, tokenizer, "int8", get_template("chatml"), config=config,
                         engine=lambda: Engine(network, tokenizer, settings))  # fmt: skip
