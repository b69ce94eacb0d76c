"""What the two attention mistakes of the circulating tutorial cost: a small model trained each way.

    python examples/tutorial_mistakes.py

Every variant is the same causal character model with the same start, batches and number of steps; only its
attention differs. The text is the reference manual that comes with Python (`pydoc_data.topics`), its last
tenth held out, so the last digits depend on the Python version. The loss is in nats per held-out character.
"""

from __future__ import annotations

import argparse
import math
import time
from pydoc_data.topics import topics

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glassgpt.model.attention import SelfAttention
from glassgpt.model.layers import MLP, LayerNorm
from glassgpt.model.positions import PositionalEncoding

WIDTH, HEADS, LAYERS, LENGTH, BATCH = 64, 8, 2, 64, 16
RATE = 3e-3
VARIANTS = {"correct": (False, False), "shared projection": (True, False), "scale by sqrt(width)": (False, True)}
VARIANTS["both mistakes"] = (True, True)


class TutorialAttention(nn.Module):
    """Attention with the tutorial's mistakes, each of which can be put right by its switch.

    `shared`: one D-to-D projection that all heads share, instead of C to C. `wide_scale`: scores divided by the
    root of the whole width C instead of the head's width D.
    """

    def __init__(self, embed_size: int, heads: int, shared: bool = True, wide_scale: bool = True) -> None:
        super().__init__()
        self.heads, self.head_dim, self.shared = heads, embed_size // heads, shared
        self.scale = 1 / math.sqrt(embed_size if wide_scale else self.head_dim)
        size = self.head_dim if shared else embed_size
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(size, size, bias=False) for _ in range(3))
        self.out_proj = nn.Linear(embed_size, embed_size)

    def forward(self, values: Tensor, keys: Tensor, query: Tensor, mask: Tensor | None = None) -> Tensor:
        """The tutorial's call: [B, S, C], [B, S, C], [B, T, C] and a mask [T, S] to [B, T, C]."""
        q, k, v = self._heads(query, self.q_proj), self._heads(keys, self.k_proj), self._heads(values, self.v_proj)
        scores = torch.einsum("bthd,bshd->bhts", q, k) * self.scale
        if mask is not None:
            scores = scores.masked_fill(~mask, float("-inf"))
        out = torch.einsum("bhts,bshd->bthd", scores.softmax(dim=-1), v)  # [B, T, H, D]
        return self.out_proj(out.flatten(2))

    def _heads(self, x: Tensor, projection: nn.Linear) -> Tensor:
        """[B, T, C] to [B, T, H, D]: the mistake is to split first and project each part alike."""
        split = (self.heads, self.head_dim)
        return projection(x.unflatten(-1, split)) if self.shared else projection(x).unflatten(-1, split)


class CharacterModel(nn.Module):
    """A causal model over characters, with the attention that it is given."""

    def __init__(self, vocab: int, shared: bool, wide_scale: bool) -> None:
        super().__init__()
        self.embed, self.positions = nn.Embedding(vocab, WIDTH), PositionalEncoding(WIDTH, LENGTH)
        self.mlps = nn.ModuleList(MLP(WIDTH, 4 * WIDTH) for _ in range(LAYERS))
        self.norms = nn.ModuleList(LayerNorm(WIDTH) for _ in range(2 * LAYERS + 1))
        self.head = nn.Linear(WIDTH, vocab)
        # Last, so that everything before starts alike in all variants.
        right = not (shared or wide_scale)
        self.attentions = nn.ModuleList(
            SelfAttention(WIDTH, HEADS) if right else TutorialAttention(WIDTH, HEADS, shared, wide_scale)
            for _ in range(LAYERS)
        )

    def forward(self, ids: Tensor) -> Tensor:
        """Ids [B, T] to logits [B, T, V]."""
        x = self.positions(self.embed(ids))
        mask = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril()
        for i, (attention, mlp) in enumerate(zip(self.attentions, self.mlps, strict=True)):
            h = self.norms[2 * i](x)
            x = x + attention(h, h, h, mask)
            x = x + mlp(self.norms[2 * i + 1](x))
        return self.head(self.norms[-1](x))


def load_text() -> tuple[Tensor, Tensor, int]:
    """Character ids for training and held out, and the size of the alphabet."""
    text = "\n".join(topics[name] for name in sorted(topics))
    alphabet = {character: number for number, character in enumerate(sorted(set(text)))}
    ids = torch.tensor([alphabet[character] for character in text])
    cut = len(ids) * 9 // 10
    return ids[:cut], ids[cut:], len(alphabet)


def held_out_loss(variant: str, seed: int, steps: int) -> float:
    """Train one variant; its mean loss on held-out text, in nats per character."""
    train, held_out, vocab = load_text()
    torch.manual_seed(seed)
    model = CharacterModel(vocab, *VARIANTS[variant])
    optimizer = torch.optim.AdamW(model.parameters())
    batches = torch.Generator().manual_seed(seed)  # the same text for every variant
    window = torch.arange(LENGTH + 1)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, 20 * (step + 1) / steps, 1 - step / steps)
        start = torch.randint(len(train) - LENGTH, (BATCH, 1), generator=batches)
        chunk = train[start + window]  # [B, T + 1]
        loss = F.cross_entropy(model(chunk[:, :-1]).flatten(0, 1), chunk[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    rows = held_out[: len(held_out) // (LENGTH + 1) * (LENGTH + 1)].view(-1, LENGTH + 1)
    with torch.no_grad():
        return float(F.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten()))


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what the tutorial's two attention mistakes cost.")
    parser.add_argument("--seeds", type=int, default=3, help="how many starts (default 3)")
    parser.add_argument("--steps", type=int, default=300, help="training steps of each model (default 300)")
    args = parser.parse_args()

    started = time.monotonic()
    vocab = load_text()[2]
    print(f"{'attention':22} {'parameters':>10} {'held-out loss':>14}   worse by, seed by seed")
    correct: list[float] = []
    for variant, choice in VARIANTS.items():
        losses = [held_out_loss(variant, seed, args.steps) for seed in range(args.seeds)]
        correct = correct or losses
        size = sum(p.numel() for p in CharacterModel(vocab, *choice).attentions.parameters())
        worse = "  ".join(f"{a - b:+.3f}" for a, b in zip(losses, correct, strict=True))
        print(f"{variant:22} {size:10,} {sum(losses) / len(losses):14.3f}   {worse}", flush=True)
    print(f"{args.seeds} seeds, {args.steps} steps, {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
