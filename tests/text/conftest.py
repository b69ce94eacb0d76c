"""Tokenizers that several files test with, each built once."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from glassgpt.formats.gguf import read_gguf
from glassgpt.text.tokenizer import Tokenizer, TokenizerLists

# Control tokens of all families, added to SmolLM2's vocabulary so that every template can be compared.
EXTRA = [
    *("<bos>", "</s>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|im_sep|>", "<|end|>"),
    *("<start_of_turn>", "<end_of_turn>", "<|user|>", "<|assistant|>", "<|system|>"),
    *("<think>", "</think>", "<tool_response>", "</tool_response>"),
]

SAMPLES = [
    "The quick brown fox, isn't it? It's 12345 + 67.8%",
    "你好，世界！今天天气很好。第42章",
    "👩‍👩‍👧‍👦 🇨🇳 naïve café e\u0301 한국어 العربية",
    "def f(x):\n\treturn x ** 2  # ok\n\n\n    if a<b: pass\n",
    "  leading and trailing   \n\n \t mixed\r\n",
    "<div><table>\n\n  x\t\t</div>",
    "a",
    "",
]


@pytest.fixture(params=SAMPLES)
def sample(request: pytest.FixtureRequest) -> str:
    """One text after another: English, Chinese, emoji, code, white space."""
    return request.param


@pytest.fixture(scope="session")
def samples() -> list[str]:
    """All of them."""
    return SAMPLES


@pytest.fixture(scope="session")
def smollm2_lists(smollm2_path: Path) -> TokenizerLists:
    """What the packaged GGUF file of SmolLM2 holds."""
    return read_gguf(smollm2_path).tokenizer_lists()


@pytest.fixture(scope="session")
def smollm2(smollm2_lists: TokenizerLists) -> Tokenizer:
    """SmolLM2's own tokenizer (byte-level)."""
    return Tokenizer.from_lists(smollm2_lists)


@pytest.fixture(scope="session")
def gemma_lists(gemma_path: Path) -> TokenizerLists:
    """What the packaged GGUF file of Gemma 3 holds."""
    return read_gguf(gemma_path).tokenizer_lists()


@pytest.fixture(scope="session")
def gemma(gemma_lists: TokenizerLists) -> Tokenizer:
    """Gemma 3's own tokenizer (SentencePiece, 262,144 entries)."""
    return Tokenizer.from_lists(gemma_lists)


@pytest.fixture(scope="session")
def gpt2(shared_data: Path) -> Tokenizer:
    """GPT-2's tokenizer, from OpenAI's vocabulary and merges."""
    folder = shared_data / "peers" / "tokenizer"
    vocabulary = json.loads((folder / "gpt2_vocab.json").read_text(encoding="utf-8"))
    merges = (folder / "gpt2_merges.txt").read_text(encoding="utf-8").splitlines()
    tokens = sorted(vocabulary, key=vocabulary.get)
    types = [3 if t == "<|endoftext|>" else 1 for t in tokens]
    end = vocabulary["<|endoftext|>"]
    return Tokenizer.from_lists(
        TokenizerLists("gpt2", "gpt-2", tokens, None, types, merges, end, end, None, None, False, False)
    )


@pytest.fixture(scope="session")
def chat_twins(
    smollm2_lists: TokenizerLists, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[Tokenizer, Any]]:
    """For a pre-tokenizer: our tokenizer with every family's control tokens, and transformers' from the files
    that ours wrote."""
    from transformers import PreTrainedTokenizerFast

    made: dict[str, tuple[Tokenizer, Any]] = {}
    size = len(smollm2_lists.tokens)

    def twins(pre: str) -> tuple[Tokenizer, Any]:
        if pre not in made:
            lists = dataclasses.replace(
                smollm2_lists,
                pre=pre,
                tokens=smollm2_lists.tokens + EXTRA,
                types=(smollm2_lists.types or []) + [3] * len(EXTRA),
                bos_id=size + EXTRA.index("<bos>"),
                eos_id=size + EXTRA.index("</s>"),
            )
            ours, folder = Tokenizer.from_lists(lists), tmp_path_factory.mktemp(pre)
            ours.save(folder)
            made[pre] = ours, PreTrainedTokenizerFast.from_pretrained(folder)
        return made[pre]

    return twins
