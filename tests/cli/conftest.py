"""A tiny saved model, so that the whole command line runs in moments."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from glassgpt.engine.language_model import LanguageModel
from glassgpt.model.config import ModelConfig
from glassgpt.model.gpt import GPT
from glassgpt.text.bpe import train_bpe
from glassgpt.text.template import get_template


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> str:
    """The path of a checkpoint: 4,000 tokens of context, random weights, the chatml template."""
    torch.manual_seed(0)
    tokenizer = train_bpe(["hello there, how are you? 你好,世界!😀 " * 20], 360)
    config = ModelConfig.modern(vocab_size=tokenizer.vocab_size, n_layer=1, n_head=2, n_embd=16, context_length=4000)
    network = GPT(config).eval().requires_grad_(False)
    folder: Path = tmp_path_factory.mktemp("models") / "tiny"
    LanguageModel("tiny", network, tokenizer, "float32", get_template("chatml")).save(folder)
    return str(folder)
