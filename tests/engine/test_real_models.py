"""The packaged models against transformers on the same files: the same tokens, the same perplexity.

Greedy generation is checked in one pass: transformers reads the prompt together with what we generated, and at
every position its likeliest token must be the one we chose. By induction that is what its own `generate` gives;
`-m full` runs that `generate` itself as well.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
import transformers

import glassgpt
from glassgpt.engine.language_model import LanguageModel

pytestmark = pytest.mark.slow

PROMPTS = [
    "Once upon a time",
    "The capital of France is",
    "def fibonacci(n):",
    "Q: What is the largest planet?\nA:",
    "To make a good cup of tea, you",
    "The three laws of thermodynamics are",
    "1, 1, 2, 3, 5, 8,",
    "Dear Sir or Madam,\n\nI am writing to",
    "import numpy as np\n\n",
    "In 1969, Neil Armstrong",
    "SELECT name, price FROM",
    "The quick brown fox",
    "Water boils at",
    "<div class=\"header\">",
    "从前有一个小村庄,",
    "人工智能是",
    "北京是中国的",
    "请问怎么退货?",
    "Le petit prince est",
    "😀😃😄",
]  # fmt: skip
NEW_TOKENS = 24


@pytest.fixture(scope="module", params=["smollm2", "gemma3-270m"])
def pair(request) -> tuple[LanguageModel, transformers.PreTrainedModel, Path]:
    """Our model and transformers' from one file; one pair in memory at a time."""
    path: Path = request.getfixturevalue({"smollm2": "smollm2_path", "gemma3-270m": "gemma_path"}[request.param])
    theirs = transformers.AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    return glassgpt.load(request.param, precision="float32"), theirs.eval(), path


@pytest.mark.parametrize("prompt", PROMPTS)
def test_greedy_tokens_are_those_that_transformers_chooses(pair, prompt):
    ours, theirs, _ = pair
    ids = ours.encode(prompt)
    tokens = ours.generate(prompt, temperature=0, max_new_tokens=NEW_TOKENS)[0].tokens
    with torch.inference_mode():
        scores = theirs(torch.tensor([ids + tokens[:-1]])).logits[0, len(ids) - 1 :]
    assert scores.argmax(-1).tolist() == tokens


@pytest.mark.full
@pytest.mark.parametrize("prompt", PROMPTS)
def test_greedy_tokens_are_those_that_transformers_generates(pair, prompt):
    ours, theirs, path = pair
    tokenizer = their_tokenizer(path)
    ids = tokenizer(prompt, return_tensors="pt").input_ids
    assert ours.encode(prompt) == ids[0].tolist()
    expected = theirs.generate(ids, do_sample=False, max_new_tokens=NEW_TOKENS, pad_token_id=0)[0, ids.shape[1] :]
    assert ours.generate(prompt, temperature=0, max_new_tokens=NEW_TOKENS)[0].tokens == expected.tolist()


def test_perplexity_is_that_of_transformers(pair):
    ours, theirs, _ = pair
    text = (Path(__file__).parents[2] / "LICENSE").read_text(encoding="utf-8")[:6000] + "人工智能让电脑学会说话。" * 20
    result = glassgpt.perplexity(ours, text, window=256)
    bos = [ours.tokenizer.bos_id] if ours.tokenizer.add_bos else []
    ids, step, total, count = ours.tokenizer.encode(text, add_bos=False), 256 - len(bos), 0.0, 0
    for start in range(0, len(ids), step):
        piece = torch.tensor([bos + ids[start : start + step]])
        if piece.shape[1] > 1:
            with torch.inference_mode():
                total += float(theirs(piece, labels=piece).loss) * (piece.shape[1] - 1)
            count += piece.shape[1] - 1
    assert result.tokens == count
    assert result.perplexity == pytest.approx(float(torch.tensor(total / count, dtype=torch.float64).exp()), rel=1e-3)


@pytest.mark.full
def test_loading_takes_seconds(pair):
    """Not a benchmark: a bound far above the usual 1 to 2 s, so that a return to tens of seconds is seen."""
    path = pair[2]
    begin = time.perf_counter()
    glassgpt.load(path)
    assert time.perf_counter() - begin < 15


def their_tokenizer(path: Path) -> transformers.PreTrainedTokenizerBase:
    return transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
