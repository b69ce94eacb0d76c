"""Runs as a training leaves them, without the training: rows, a tokenizer, shards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from glassgpt.core.runs import TRAIN, Run
from glassgpt.data.examples import Example, make_example
from glassgpt.data.rows import Row
from glassgpt.data.shards import write_shards
from glassgpt.text.bpe import train_bpe
from glassgpt.text.template import get_template
from glassgpt.text.tokenizer import Tokenizer


class Letters:
    """A tokenizer of one letter a token, whose ids end at `vocab_size`: above 65,536 shards have four bytes an id."""

    eos_id = None

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size

    def encode_segment(self, text: str, *, after: Literal["start", "control", "text"] = "start") -> list[int]:
        return [self.vocab_size - 26 + ord(letter) - ord("a") for letter in text]

    def token_bytes(self, token_id: int) -> bytes:
        return bytes([max(0, token_id - self.vocab_size + 26) + ord("a")])

    def decode(self, ids: Sequence[int]) -> str:
        return b"".join(map(self.token_bytes, ids)).decode()

    def fingerprint(self) -> str:
        return f"letters {self.vocab_size}"


def letter_shards(folder: Path, texts: Sequence[str], tokenizer: Any, shard_tokens: int) -> None:
    """Each text a document, from one of two files in turn."""
    made = [
        Example(tokenizer.encode_segment(t), [True] * len(t), f"{'ab'[n % 2]}.txt", n + 1) for n, t in enumerate(texts)
    ]
    write_shards(made, folder, tokenizer, shard_tokens=shard_tokens)


def answers_run(folder: Path, rows: Sequence[Row], vocab_size: int = 1500, **about: Any) -> Tokenizer:
    """A fine-tuning on conversations and texts that has ended."""
    tokenizer = train_bpe([text for row in rows for text in row.texts], vocab_size)
    run = Run.create(folder, {"kind": "finetune", "settings": {"base": "smollm2"}} | about)
    tokenizer.save(run.folder / "model")
    template = get_template("chatml")
    made = [make_example(row, tokenizer, None if row.kind == "text" else template, 1 << 20) for row in rows]
    write_shards([e for e in made if isinstance(e, Example)], run.folder / TRAIN, tokenizer)
    return tokenizer
