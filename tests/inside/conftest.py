"""Small networks that have learned something, for looking into."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from glassgpt.model.config import ModelConfig
from glassgpt.model.gpt import GPT

HALF, STEPS, RATE = 24, 1200, 3e-3


def repeated(random: torch.Generator, count: int, half: int = HALF, size: int = 48) -> torch.Tensor:
    """Random tokens that come twice, [count, 2 half]."""
    once = torch.randint(0, size, (count, half), generator=random)
    return torch.cat((once, once), dim=1)


def copying(network: GPT, probe=None, half: int = HALF) -> float:
    """How often the second half of repeated sequences is foretold, its first token left out."""
    ids = repeated(torch.Generator().manual_seed(99), 32, half, network.config.vocab_size)
    with torch.no_grad():
        said = network(ids[:, :-1], probe=probe).argmax(-1)
    return float((said[:, half:] == ids[:, half + 1 :]).float().mean())


@pytest.fixture(scope="session")
def copier() -> GPT:
    """Two layers that were trained on sequences whose halves are alike: they learn to copy by an induction head."""
    torch.manual_seed(1)
    random = torch.Generator().manual_seed(0)
    config = ModelConfig(vocab_size=48, n_layer=2, n_head=4, n_embd=64, mlp_dim=64, context_length=64,
                         positions="learned", norm="layernorm", mlp="gelu", tie_embeddings=False)  # fmt: skip
    network = GPT(config).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS)
    for _ in range(STEPS):
        ids = repeated(random, 24, int(torch.randint(8, 32, (1,), generator=random)))
        half = ids.shape[1] // 2
        logits = network(ids[:, :-1])[:, half:]
        loss = F.cross_entropy(logits.flatten(0, 1), ids[:, half + 1 :].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval().requires_grad_(False)
