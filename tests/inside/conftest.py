"""Small networks that have learned something, for looking into."""

from __future__ import annotations

import pytest
import torch
from repeated_halves import repeated
from torch.nn import functional as F

from glassgpt.model.config import ModelConfig
from glassgpt.model.gpt import GPT

STEPS, RATE = 1200, 3e-3


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
