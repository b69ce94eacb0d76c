"""The picture of chapter 5: cross-attention of a Transformer that reverses digits, before and after training.

`python docs/course/pictures/05_cross.py`.
"""

from __future__ import annotations

import torch
from bilingual import Words, plt, save
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

import glassgpt
from glassgpt import Transformer
from glassgpt.model.transformer import TransformerConfig

START, END, ZERO, STEPS = 1, 2, 3, 400


def examples(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Rows of 8 digits, and the same reversed between start and end, as in the chapter."""
    digits = torch.randint(ZERO, ZERO + 10, (count, 8), generator=torch.Generator().manual_seed(seed))
    edge = torch.ones(count, 1, dtype=torch.long)
    return digits, torch.cat((START * edge, digits.flip(1), END * edge), dim=1)


def main() -> None:
    torch.manual_seed(0)
    config = TransformerConfig(13, 13, embed_size=32, heads=1, encoder_layers=1, decoder_layers=1, mlp_dim=64,
                               max_len=16, dropout=0.0)  # fmt: skip
    network = Transformer(config)
    source, target = examples(1, 10_001)

    def pattern() -> Tensor:
        _, trace = glassgpt.run_with_trace(network, (source, target[:, :-1]), names=["cross.pattern"])
        return trace["decoder.blocks.0.cross.pattern"][0, 0]

    patterns = [pattern()]
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for step in range(STEPS):
        rows, wanted = examples(64, step)
        loss = F.cross_entropy(network(rows, wanted[:, :-1]).flatten(0, 1), wanted[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    patterns.append(pattern())

    def draw(words: Words) -> Figure:
        end = words("end", "结束")
        read = [str(id - ZERO) for id in source[0].tolist()]
        written = [end if id == END else str(id - ZERO) for id in target[0, 1:].tolist()]
        titles = (words("before training", "训练前"), words(f"after {STEPS} steps", f"{STEPS} 步之后"))
        figure, row = plt.subplots(1, 2, figsize=(8.2, 4.0), sharey=True, layout="constrained")
        for axes, values, title in zip(row, patterns, titles, strict=True):
            shades = axes.imshow(values.numpy(), cmap="Blues", vmin=0, vmax=1)
            axes.set_xticks(range(len(read)), read)
            axes.set_yticks(range(len(written)), written)
            axes.set_xlabel(words("source, read by the encoder", "源序列，由编码器读取"))
            axes.set_title(title, fontsize=10)
        row[0].set_ylabel(words("target, to be written next", "目标，接下来要写的"))
        figure.colorbar(shades, ax=row, shrink=0.8, label=words("share of attention", "注意力份额"))
        return figure

    save("05-cross", draw)


if __name__ == "__main__":
    main()
