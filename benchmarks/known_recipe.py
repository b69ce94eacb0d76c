"""The well-known CPU recipe for tinyshakespeare by character, in plain PyTorch, as the other side of a comparison.

4 layers, 4 heads, width 128, context 64, batch 12, 2,000 steps of AdamW at 1e-3 (100 to warm up, a cosine down to 1e-4)
in float32, no dropout, gradients clipped at 1. No evaluation but the last, over the whole validation part.

    python benchmarks/known_recipe.py FILE [SEED]
"""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LAYERS, HEADS, WIDTH, CONTEXT, BATCH, STEPS, RATE, WARMUP = 4, 4, 128, 64, 12, 2000, 1e-3, 100


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH, bias=False), nn.LayerNorm(WIDTH, bias=False)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH, bias=False), nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        heads = (t.unflatten(-1, (HEADS, -1)).transpose(1, 2) for t in self.qkv(self.norm1(x)).chunk(3, -1))
        x = x + self.out(F.scaled_dot_product_attention(*heads, is_causal=True).transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Model(nn.Module):
    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.norm = nn.LayerNorm(WIDTH, bias=False)
        for name, p in self.named_parameters():
            if p.ndim == 2:
                last = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(p, std=0.02 / math.sqrt(2 * LAYERS) if last else 0.02)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids) + self.places.weight[: ids.shape[1]]
        return F.linear(self.norm(self.blocks(x)), self.tokens.weight)


def main() -> None:
    text = Path(sys.argv[1]).read_text(encoding="utf-8")
    torch.manual_seed(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    letters = sorted(set(text))
    number = {letter: i for i, letter in enumerate(letters)}
    ids = torch.tensor([number[letter] for letter in text])
    cut = int(len(ids) * 0.9)
    train, held_out = ids[:cut], ids[cut:]
    model = Model(len(letters))
    groups = [
        {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.99))
    began = time.perf_counter()
    for step in range(STEPS):
        fall = 0.5 * (1 + math.cos(math.pi * max(0, step - WARMUP) / (STEPS - WARMUP)))
        for group in optimizer.param_groups:
            group["lr"] = RATE * min((step + 1) / (WARMUP + 1), 0.1 + 0.9 * fall)
        starts = torch.randint(len(train) - CONTEXT, (BATCH,))
        places = starts[:, None] + torch.arange(CONTEXT)
        logits = model(train[places])
        loss = F.cross_entropy(logits.flatten(0, 1), train[places + 1].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    train_s = time.perf_counter() - began
    total = 0.0
    with torch.no_grad():
        whole = (len(held_out) - 1) // CONTEXT * CONTEXT
        rows, next_rows = held_out[:whole].view(-1, CONTEXT), held_out[1 : whole + 1].view(-1, CONTEXT)
        for a, b in zip(rows.split(128), next_rows.split(128), strict=True):
            total += F.cross_entropy(model(a).flatten(0, 1), b.flatten(), reduction="sum").item()
    print(json.dumps({"val_loss": total / whole, "train_s": train_s, "time": time.time(),
                      "parameters": sum(p.numel() for p in model.parameters())}))  # fmt: skip


if __name__ == "__main__":
    main()
