"""The loss on tokens: of a text in windows, and of the answers in examples. Training learns by the latter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from glassgpt.data.batches import Batch
from glassgpt.model.fused import HeadLoss, worth_it
from glassgpt.model.gpt import GPT

TOKENS_AT_A_TIME = 2048


def windows(ids: Sequence[int] | np.ndarray, context: int) -> list[np.ndarray]:
    """Every token of `ids` but the first as something to predict: arrays [rows, T + 1] of windows that overlap in one
    token, the last of which is only read in the next; T is `context`, or less in the very last."""
    data = np.asarray(ids, dtype=np.int64)
    whole = (len(data) - 1) // context
    starts = np.arange(whole)[:, None] * context + np.arange(context + 1)
    rows = max(1, TOKENS_AT_A_TIME // context)
    parts = [data[starts[i : i + rows]] for i in range(0, whole, rows)]
    rest = data[None, whole * context :]
    return parts + ([rest] if rest.shape[1] > 1 else [])


@torch.inference_mode()
def windows_loss(network: GPT, part: np.ndarray) -> float:
    """The sum of the losses, in nats, of one of those arrays."""
    tokens = torch.from_numpy(part).to(network.embed.weight.device)
    logits = network(tokens[:, :-1]).float()  # [rows, T, V]
    return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="sum").item()


def held_out_loss(network: GPT, ids: Sequence[int] | np.ndarray, context: int) -> float:
    """The mean loss, in nats, of every token of `ids` but the first, read in windows that do not overlap."""
    return sum(windows_loss(network, part) for part in windows(ids, context)) / (len(ids) - 1)


def answer_loss(network: GPT, batch: Batch) -> Tensor:
    """The loss of a batch, summed over its learned tokens. Scores are computed for those alone: most of a vocabulary's
    product would be thrown away."""
    ids, targets, segments = tensors_of(batch, network.embed.weight.device)
    hidden = network.hidden(ids, segments=segments)  # [B, T, C]
    learned = targets >= 0
    hidden, targets = hidden[learned], targets[learned]  # [trained, C]
    if worth_it(hidden) and network.config.logit_softcap is None:
        head = network.embed if network.head is None else network.head
        return HeadLoss.apply(hidden, head.weight, targets)
    return F.cross_entropy(network.logits(hidden).float(), targets, reduction="sum")


def tensors_of(batch: Batch, device: torch.device) -> tuple[Tensor, Tensor, Tensor | None]:
    """A batch's ids, targets and segments, [B, T] each."""
    segments = None if batch.segments is None else torch.from_numpy(batch.segments).to(device)
    ids, targets = (torch.from_numpy(np.asarray(x, dtype=np.int64)).to(device) for x in (batch.ids, batch.targets))
    return ids, targets, segments
