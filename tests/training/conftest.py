"""Trainings small enough to be repeated many times: runs made by the real stages, and a bare stage for the loop."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from glassgpt.core.runs import Run
from glassgpt.data.batches import Batch
from glassgpt.data.rows import Row
from glassgpt.engine.language_model import LanguageModel
from glassgpt.model.config import ModelConfig
from glassgpt.model.gpt import GPT
from glassgpt.text.bpe import train_bpe
from glassgpt.text.template import get_template
from glassgpt.training.loop import Stage
from glassgpt.training.optim import AdamW, Optimizer
from glassgpt.training.pretrain import prepare, tensors_of
from glassgpt.training.settings import DataSettings, LoraSettings, Recipe, TrainSettings
from glassgpt.training.sft import ANSWERS, FineTuneSettings, finetune, prepare_finetune
from glassgpt.training.state import save_tensors

WORDS = [
    "the",
    "sea",
    "was",
    "calm",
    "and",
    "a",
    "small",
    "boat",
    "went",
    "out",
    "to",
    "look",
    "for",
    *"海很平静小船找鱼",
]


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """Two workers, whatever machine the tests run on."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def words(count: int, seed: int) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=count))


@pytest.fixture(scope="session")
def answer_rows() -> list[Row]:
    """Sixty questions with answers that can be learned."""
    roles = ("user", "assistant")
    return [Row("qa.csv", n + 1, roles, [f"where is the {words(2, n)}?", f"it is {words(4, n)}"]) for n in range(60)]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory, answer_rows) -> str:
    """A model with random weights of the Llama kind, saved in our own format with a chat template."""
    tokenizer = train_bpe([" ".join(row.texts) for row in answer_rows] * 3, 400)
    torch.manual_seed(11)
    config = ModelConfig(vocab_size=tokenizer.vocab_size, n_layer=2, n_head=4, n_kv_head=2, n_embd=32,
                         context_length=128, family="llama")  # fmt: skip
    folder = tmp_path_factory.mktemp("models") / "tiny"
    network = GPT(config).eval().requires_grad_(False)
    LanguageModel("tiny", network, tokenizer, "float32", get_template("chatml")).save(folder)
    return str(folder)


TINY = {"batch": 4, "precision": "float32", "sample_tokens": 0, "checkpoint_every": 2, "evaluate_every": 4}


@pytest.fixture
def text_run(tmp_path) -> Callable[..., Run]:
    """A prepared pre-training with dropout; keywords change the settings of the loop."""

    def make(name: str = "run", **train: Any) -> Run:
        run = Run.create(tmp_path / name, {"data": "sea.txt"})
        model = {"n_layer": 2, "n_head": 2, "n_embd": 32, "dropout": 0.1}
        settings = TrainSettings(**(TINY | {"steps": 12, "context": 32} | train))
        rows = [Row("sea.txt", 1, ("text",), [words(900, 1)])]
        prepare(run, rows, Recipe(model=model, data=DataSettings(tokenizer="characters"), train=settings))
        return run

    return make


@pytest.fixture
def answer_run(tmp_path, tiny_model, answer_rows) -> Callable[..., Run]:
    """A prepared fine-tuning of the tiny model, by LoRA with dropout unless `rank=0`."""

    def make(name: str = "run", rank: int = 4, epochs: float = 1.0, **train: Any) -> Run:
        run = Run.create(tmp_path / name, {"data": "qa.csv"})
        settings = FineTuneSettings(
            base=tiny_model, epochs=epochs, lora=LoraSettings(rank=rank, alpha=8.0, dropout=0.1 if rank else 0.0),
            train=TrainSettings(**(ANSWERS | TINY | {"lr": 0.01} | train)),
        )  # fmt: skip
        prepare_finetune(run, answer_rows[:50], answer_rows[50:], settings)
        return run

    return make


@pytest.fixture
def forgetting_run(tmp_path, answer_run, answer_rows) -> Callable[..., Run]:
    """A prepared fine-tuning whose held-out loss rises from the first evaluation on, whatever a machine rounds: a model
    that knows the answers is taught others, and measured on those that it knew."""

    def make(rank: int) -> Run:
        base = answer_run("base", rank=0, epochs=3.0)
        finetune(base)
        run = Run.create(tmp_path / "forgetting", {"data": "qa.csv"})
        train = TrainSettings(**(ANSWERS | TINY | {"lr": 0.01, "schedule": "constant"}))
        lora = LoraSettings(rank=rank, alpha=8.0, dropout=0.1 if rank else 0.0)
        others = [replace(row, texts=[row.texts[0], "XQJ ZKV XQJ ZKV"]) for row in answer_rows[:50]]
        prepare_finetune(run, others, answer_rows[:10],
                         FineTuneSettings(base=str(base.folder), epochs=3.0, lora=lora, train=train))  # fmt: skip
        return run

    return make


def text_loss(network: GPT, batch: Batch) -> Tensor:
    """The textbook loss of a batch, in whatever type the network has."""
    ids, targets, segments = tensors_of(batch, network.embed.weight.device)
    logits = network(ids, segments=segments)
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100, reduction="sum")


@pytest.fixture
def bare_stage() -> Callable[..., Stage]:
    """A stage whose every part can be replaced, on a network of two small layers."""

    def make(
        batches: Callable[[int], list[Batch]], *, dropout: float = 0.0, dtype: torch.dtype = torch.float32,
        optimizers: Callable[[GPT], list[Optimizer]] | None = None, **parts: Any,
    ) -> Stage:  # fmt: skip
        torch.manual_seed(2)
        config = ModelConfig.modern(vocab_size=50, n_layer=2, n_head=2, n_embd=16, context_length=64, dropout=dropout)
        network = GPT(config).to(dtype).train()
        named = dict(network.named_parameters())
        made = optimizers(network) if optimizers else [AdamW(named, 0.01)]

        def save(folder: Path) -> None:
            save_tensors(named, folder / "weights.safetensors")

        def load(folder: Path) -> None:
            from glassgpt.training.state import load_tensors

            with torch.no_grad():
                for name, saved in load_tensors(folder / "weights.safetensors").items():
                    named[name].copy_(saved)

        standard = {"loss": text_loss, "evaluate": lambda workers: 1.0, "save": save, "load": load}
        return Stage(network=network, optimizers=made, batches=batches, **(standard | parts))

    return make
