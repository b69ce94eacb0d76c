"""Sequences whose halves are alike, and how well a network foretells the second half."""

from __future__ import annotations

import torch

from glassgpt.model.gpt import GPT
from glassgpt.model.probe import Probe

HALF = 24


def repeated(random: torch.Generator, count: int, half: int = HALF, size: int = 48) -> torch.Tensor:
    """Random tokens that come twice, [count, 2 half]."""
    once = torch.randint(0, size, (count, half), generator=random)
    return torch.cat((once, once), dim=1)


def copying(network: GPT, probe: Probe | None = None, half: int = HALF) -> float:
    """How often the second half of repeated sequences is foretold, its first token left out."""
    ids = repeated(torch.Generator().manual_seed(99), 32, half, network.config.vocab_size)
    with torch.no_grad():
        said = network(ids[:, :-1], probe=probe).argmax(-1)
    return float((said[:, half:] == ids[:, half + 1 :]).float().mean())
