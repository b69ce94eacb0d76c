"""The picture of chapter 6: held-out loss of tiny GPTs of four widths, through their training and by size.

`python docs/course/pictures/06_pretraining.py`. It trains for some minutes.
"""

from __future__ import annotations

import math
from pydoc_data.topics import topics

import torch
from bilingual import BLUE, GREEN, RED, YELLOW, Words, plt, save
from matplotlib.figure import Figure
from torch.nn import functional as F

from glassgpt import GPT, ModelConfig
from glassgpt.text.bpe import train_bpe

WIDTHS, STEPS, LENGTH, BATCH, RATE = (16, 32, 64, 128), 600, 64, 16, 3e-3


def main() -> None:
    text = "\n".join(topics[name] for name in sorted(topics))
    cut = len(text) * 9 // 10
    tokenizer = train_bpe([text[:cut]], 512)
    ids = torch.tensor(tokenizer.encode(text[:cut]))
    held_out = torch.tensor(tokenizer.encode(text[cut:]))
    bytes_per_token = len(text[cut:].encode()) / len(held_out)
    rows = held_out[: len(held_out) // (LENGTH + 1) * (LENGTH + 1)].view(-1, LENGTH + 1)

    def measured(network: GPT) -> float:
        """Held-out loss in bits per byte."""
        with torch.no_grad():
            nats = F.cross_entropy(network(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten()).item()
        return nats / math.log(2) / bytes_per_token

    curves, sizes = [], []
    for width in WIDTHS:
        torch.manual_seed(0)
        random = torch.Generator().manual_seed(0)
        config = ModelConfig.modern(
            vocab_size=tokenizer.vocab_size, n_layer=2, n_head=4, n_embd=width, context_length=LENGTH
        )
        network = GPT(config)
        optimizer = torch.optim.AdamW(network.parameters(), lr=RATE)
        curve = [(0, measured(network))]
        for step in range(STEPS):
            starts = torch.randint(len(ids) - LENGTH, (BATCH, 1), generator=random)
            chunk = ids[starts + torch.arange(LENGTH + 1)]
            for group in optimizer.param_groups:
                group["lr"] = RATE * min(1.0, (step + 1) / 20, 2 - 2 * step / STEPS)
            loss = F.cross_entropy(network(chunk[:, :-1]).flatten(0, 1), chunk[:, 1:].flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if (step + 1) % 50 == 0:
                curve.append((step + 1, measured(network)))
        curves.append(curve)
        sizes.append(network.count_parameters())
        print(f"width {width}: {sizes[-1]:,} parameters, {curve[-1][1]:.3f} bits per byte", flush=True)

    def draw(words: Words) -> Figure:
        figure, (left, right) = plt.subplots(1, 2, figsize=(9.2, 3.6), layout="constrained")
        for curve, size, colour in zip(curves, sizes, (YELLOW, GREEN, BLUE, RED), strict=True):
            name = words(f"{size:,} parameters", f"{size:,} 个参数")
            left.plot([step for step, _ in curve], [value for _, value in curve], color=colour, label=name)
            right.semilogx([size], [curve[-1][1]], "o", color=colour)
        right.semilogx(sizes, [curve[-1][1] for curve in curves], color="#b8c0cc", zorder=0)
        left.set_xlabel(words("step", "步"))
        left.set_ylabel(words("held-out loss, bits per byte", "留出文本的损失，比特每字节"))
        left.legend(frameon=False, fontsize=9)
        right.set_xticks([2e4, 1e5, 4e5], ["20,000", "100,000", "400,000"])
        right.minorticks_off()
        right.set_ylabel(words("held-out loss, bits per byte", "留出文本的损失，比特每字节"))
        right.set_xlabel(words("parameters", "参数个数"))
        right.set_title(words(f"after {STEPS} steps", f"{STEPS} 步之后"), fontsize=10)
        return figure

    save("06-pretraining", draw)


if __name__ == "__main__":
    main()
