"""A server with its page whose model says what a test tells it to: run as a program, `page_child.py FOLDER PORT`, and
`slow` where what it reads from its database shall arrive late, `network` where a small network with random weights
shall answer, which can be looked into.

The scripted model answers `say:TEXT` with TEXT, `long:N` with N words at 100 words/s, and anything else with
"You said:" and the message. The real engine is tested elsewhere.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from glassgpt.assistant.assistant import Assistant
from glassgpt.assistant.knowledge import Knowledge
from glassgpt.assistant.persona import load_persona
from glassgpt.assistant.store import Message, Store
from glassgpt.engine.language_model import LanguageModel
from glassgpt.engine.receipt import files_hash
from glassgpt.engine.request import Piece
from glassgpt.inside.tuned import TunedLens, lens_file
from glassgpt.model.config import ModelConfig
from glassgpt.model.gpt import GPT
from glassgpt.server.app import make_app
from glassgpt.server.door import Door
from glassgpt.server.hub import Entry, Hub
from glassgpt.server.keys import Keys, key_of
from glassgpt.server.wire import listen, log_to_stderr, run
from glassgpt.text.bpe import train_bpe
from glassgpt.text.template import get_template
from glassgpt.ui.builds import Builds
from glassgpt.ui.desk import Desk, page_secret
from glassgpt.ui.page import make_page
from glassgpt.ui.shelf import Shelf

KEY = "a-key-for-the-tests"
_LAST = re.compile(r"user\n(.*?)(?:<\|im_end\|>|$)", re.DOTALL)


class Scripted:
    """What `Chat` needs of a model."""

    context_length = 32_768

    def __init__(self, entry: Entry) -> None:
        self.name, self.precision, self.loop = entry.name, entry.precision or "int8", SimpleNamespace()
        self.tokenizer = train_bpe(["a text to begin with"] * 3, vocab_size=300)
        self.template = get_template("chatml")
        self.seen: list[str] = []

    def stream_pieces(self, ids: list[int], **settings: Any) -> Iterator[Piece]:
        said = _LAST.findall(self.tokenizer.decode(ids, show_control=True))[-1]
        self.seen.append(said)
        kind, _, rest = said.partition(":")
        if kind == "long":
            for number in range(int(rest)):
                time.sleep(0.01)
                yield Piece(f"word{number} " if number % 40 else f"\n\nword{number} ", number)
        elif kind == "fail":
            raise ValueError("a mistake of the model")
        else:
            text = rest if kind == "say" else f"You said: {said}"
            for at in range(0, len(text), 7):
                yield Piece(text[at : at + 7], at)
        yield Piece("", finish_reason="stop")


def small_network(entry: Entry) -> LanguageModel:
    """A network of three layers, whose replies mean nothing."""
    text = "The boat went out to sea, and the sea was calm. 小船出海，海很平静，鱼儿游来游去。"
    tokenizer = train_bpe([text] * 3, 400)
    torch.manual_seed(3)
    config = ModelConfig.modern(vocab_size=tokenizer.vocab_size, n_layer=3, n_head=4, n_embd=32, context_length=512)
    network = GPT(config).eval().requires_grad_(False)
    for name, weights in network.named_parameters():
        weights.copy_(torch.randn_like(weights) * 0.12 + ("norm" in name))
    bytes_alone = [i for i in range(tokenizer.vocab_size) if len(tokenizer.token_bytes(i)) < 2]
    network.embed.weight[bytes_alone] *= 0.2  # so that words are likelier than halves of characters
    return LanguageModel(entry.name, network, tokenizer, "float32", get_template("chatml"))


def small_lens(model: LanguageModel) -> TunedLens:
    """Some tuned lens of the small network; its maps mean nothing either."""
    layers, width = model.config.n_layer, model.config.n_embd
    random = torch.Generator().manual_seed(5)
    weight = torch.randn(layers, width, width, generator=random) * 0.3
    assert model.path is not None
    return TunedLens(weight, torch.zeros(layers, width), model.config.vocab_size, (2.0, 1.0), files_hash(model.path))


def saved(entry: Entry, folder: Path) -> LanguageModel:
    """The small network in files, with a tuned lens beside them."""
    model = small_network(entry)
    model.save(folder)
    model.path = folder
    small_lens(model).save(lens_file(model))
    return model


class SlowStore(Store):
    """A busy disk: what is read of a conversation arrives late, each second time very late."""

    late = False

    def tree(self, conversation: str) -> list[Message]:
        found = super().tree(conversation)
        self.late = not self.late
        time.sleep(0.8 if self.late else 0.1)
        return found


def main() -> None:
    folder, port = Path(sys.argv[1]), int(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    hub = Hub(["scripted"], Scripted)  # type: ignore[arg-type]
    if "network" in sys.argv:
        hub = Hub(["small"], lambda entry: saved(entry, folder / "small"))
    shelf = Shelf(folder / "knowledge.db", lambda path, fetching: Knowledge(path))
    persona = load_persona("customer-service")
    hub.add_assistant("customer-service", lambda model: Assistant(model, persona, shelf))
    keys = Keys([key_of(KEY)])
    store = SlowStore if "slow" in sys.argv else Store
    desk = Desk(hub, store(folder / "conversations.db"), shelf, Builds(folder / "runs", machine=folder), folder)
    socket = listen("127.0.0.1", port)
    log_to_stderr()
    app = make_app(hub, keys, None, Door(keys, page_secret(folder)), make_page(desk), lambda error: None)
    print(f"http://localhost:{socket.getsockname()[1]}", flush=True)
    run(app, socket)


if __name__ == "__main__":
    main()
