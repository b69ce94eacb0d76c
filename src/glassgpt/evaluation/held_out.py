"""The loss on tokens that were held out of a training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F

from glassgpt.model.gpt import GPT

TOKENS_AT_A_TIME = 8192


def held_out_loss(network: GPT, ids: Sequence[int] | np.ndarray, context: int) -> float:
    """The mean loss, in nats, of every token of `ids` but the first, read in windows of `context` that do not overlap.

    A window's first token is predicted from the one before it, the last of the window before: nothing goes unscored.
    """
    device = network.embed.weight.device
    data = torch.from_numpy(np.asarray(ids, dtype=np.int64)).to(device)
    whole = (len(data) - 1) // context * context
    total = 0.0
    with torch.inference_mode():
        for inputs, targets in (
            (data[:whole].view(-1, context), data[1 : whole + 1].view(-1, context)),
            (data[None, whole:-1], data[None, whole + 1 :]),  # what is left for a last, shorter window
        ):
            rows = max(1, TOKENS_AT_A_TIME // context)
            for start in range(0, len(inputs) if inputs.shape[1] else 0, rows):
                logits = network(inputs[start : start + rows]).float()  # [B, T, V]
                total += F.cross_entropy(
                    logits.flatten(0, 1), targets[start : start + rows].flatten(), reduction="sum"
                ).item()
    return total / (len(data) - 1)
