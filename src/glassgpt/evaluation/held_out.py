"""The loss on tokens: of a text in windows, and of the answers in examples. Training learns by the latter."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from glassgpt.data.batches import IGNORED, Batch, text_windows
from glassgpt.data.shards import Shards
from glassgpt.model.fused import HeadLoss, worth_it
from glassgpt.model.gpt import GPT

TOKENS_AT_A_TIME = 2048


def held_out_windows(shards: Shards, context: int) -> list[Batch]:
    """The held-out text of a run in windows that do not overlap, as many at a time as fit into a core's cache."""
    return text_windows(shards, context, max(1, TOKENS_AT_A_TIME // context))


@torch.inference_mode()
def windows_loss(network: GPT, batch: Batch) -> float:
    """The sum of the losses, in nats, of a batch's targets."""
    ids, targets, segments = tensors_of(batch, network.embed.weight.device)
    logits = network(ids, segments=segments).float()  # [B, T, V]
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum").item()


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
