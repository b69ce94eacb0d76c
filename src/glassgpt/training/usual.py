"""What a build does unless it is told otherwise. Nothing here needs torch: a preview is made of it too."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from glassgpt.data.rows import Row
from glassgpt.text.bpe import train_bpe
from glassgpt.text.tokenizer import Tokenizer

ANSWERS: dict[str, Any] = {
    "optimizer": "adamw", "batch": 8, "context": 1024, "lr": 1e-3, "schedule": "cosine", "warmup": 0.03, "floor": 0.1,
    "beta2": 0.99, "sample_tokens": 60,
}  # fmt: skip
PLAIN = "plain"  # the template of a model that has none
SCRATCH = "scratch"
SCRATCH_TEMPLATE, SCRATCH_CONTEXT = "chatml", 512


def vocabulary(rows: Iterable[Row]) -> Tokenizer:
    """The tokenizer of a model that begins from nothing."""
    return train_bpe((text for row in rows for text in row.texts), vocab_size=2048)
