"""A tiny model and files of questions that its training takes a moment for."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from glassgpt.engine.language_model import LanguageModel
from glassgpt.model.config import ModelConfig
from glassgpt.model.gpt import GPT
from glassgpt.text.bpe import train_bpe
from glassgpt.text.template import get_template
from glassgpt.ui.build_info import BuildInfo
from glassgpt.ui.builds import Builds


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory) -> str:
    """The path of a model with random weights and the chatml template."""
    torch.manual_seed(0)
    tokenizer = train_bpe(["what does part cost? it costs yuan 零件多少钱？元 " * 20], 360)
    config = ModelConfig.modern(vocab_size=tokenizer.vocab_size, n_layer=1, n_head=2, n_embd=16, context_length=512)
    folder: Path = tmp_path_factory.mktemp("models") / "tiny"
    network = GPT(config).eval().requires_grad_(False)
    LanguageModel("tiny", network, tokenizer, "float32", get_template("chatml")).save(folder)
    return str(folder)


def questions(path: Path, rows: int = 24) -> Path:
    """So many questions in two languages, and four rows that cleaning changes or drops."""
    lines = ["问题,答案"]
    for n in range(rows):
        part = n * 7919
        lines.append(
            f"零件{part}多少钱？,{n * 104729}元" if n % 2 else f"what does part {part} cost?,{n * 104729} yuan"
        )
    lines += [lines[1], "还有吗？,", "<b>is it</b> open?,yes &amp; no", "call me?,138 0013 8000"]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def wait_until(builds: Builds, name: str, reached, seconds: float = 120) -> BuildInfo:
    """The training once `reached` says so of it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        info = builds.open(name)
        if reached(info):
            return info
        time.sleep(0.05)
    raise AssertionError(f"{info}\n" + "\n".join(builds.log(name)))
