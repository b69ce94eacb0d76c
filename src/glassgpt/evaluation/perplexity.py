"""Perplexity: how surprised a model is by a text."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from glassgpt.core.errors import ConfigError, InputError
from glassgpt.engine.language_model import LanguageModel


@dataclass(frozen=True)
class Perplexity:
    """The result.

    - `loss`: mean negative log-probability per predicted token, in nats.
    - `perplexity`: exp(loss).
    - `bits_per_byte`: bits needed per byte of the text, comparable between tokenizers.
    - `tokens`: how many were predicted (each window's first token is not); `bytes` of UTF-8 in the text.
    """

    loss: float
    perplexity: float
    bits_per_byte: float
    tokens: int
    bytes: int
    window: int


@torch.inference_mode()
def perplexity(
    model: LanguageModel, text: str, *, window: int = 1024, progress: Callable[[int, int], None] | None = None
) -> Perplexity:
    """A model's perplexity on a text.

    The text's tokens are cut into windows that do not overlap; each is read alone and its first token, which
    nothing precedes, is not scored. Models that start texts with a BOS token get one before every window, and
    then every token is scored. The last window may be shorter.

    Args:
        window: tokens per window, at most the model's context (a longer one is shortened to it).
        progress: called with tokens done and in all.

    Raises:
        InputError: the text has fewer than two tokens.
        ConfigError: the window is under two tokens.
    """
    if window < 2:
        raise ConfigError("window is {value}; expected at least 2 tokens", value=window)
    window = min(window, model.context_length)
    tokenizer = model.tokenizer
    ids = tokenizer.encode(text, add_bos=False)
    bos = [tokenizer.bos_id] if tokenizer.add_bos and tokenizer.bos_id is not None else []
    step = window - len(bos)
    if len(ids) + len(bos) < 2:
        raise InputError("the text has {count} tokens; at least 2 are needed", count=len(ids))
    total, count = 0.0, 0
    for start in range(0, len(ids), step):
        piece = torch.tensor([bos + ids[start : start + step]], device=model.network.embed.weight.device)  # [1, T]
        if piece.shape[1] < 2:
            break  # one token alone, which nothing precedes
        logits = model.network(piece)[0, :-1].float()  # [T - 1, V]
        total += float(F.cross_entropy(logits, piece[0, 1:], reduction="sum"))
        count += piece.shape[1] - 1
        if progress is not None:
            progress(min(start + step, len(ids)), len(ids))
    loss = total / count
    size = len(text.encode("utf-8"))
    return Perplexity(loss, math.exp(loss), total / math.log(2) / size, count, size, window)
