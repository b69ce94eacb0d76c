"""The picture of chapter 9: two real distributions of SmolLM2, and where top-k, top-p and min-p cut them.

`python docs/course/pictures/09_filters.py`.
"""

from __future__ import annotations

import numpy as np
import torch
from bilingual import BLUE, GREEN, GREY, RED, Words, plt, save
from matplotlib.figure import Figure

import glassgpt
from glassgpt.engine.sampling import keep_min_p, keep_top_k, keep_top_p, softmax

PROMPTS = ("The capital of France is", "Once upon a time, there was a")


def main() -> None:
    model = glassgpt.load("smollm2")
    rows = []
    for prompt in PROMPTS:
        with torch.no_grad():
            rows.append(model.network(torch.tensor([model.encode(prompt)]))[0, -1].float().numpy())

    def draw(words: Words) -> Figure:
        figure, both = plt.subplots(1, 2, figsize=(8.4, 3.1), sharey=True)
        for axes, prompt, scores in zip(both, PROMPTS, rows, strict=True):
            probabilities = np.sort(softmax(scores))[::-1]
            ranks = np.arange(1, len(probabilities) + 1)
            shown = np.unique(np.geomspace(1, len(ranks), 400).astype(int)) - 1
            axes.loglog(ranks[shown], probabilities[shown], color=GREY, linewidth=2.5)
            cuts = (("top-k 40", keep_top_k(scores, 40), BLUE), ("top-p 0.9", keep_top_p(scores, 0.9), GREEN),
                    ("min-p 0.1", keep_min_p(scores, 0.1), RED))  # fmt: skip
            for name, kept, colour in cuts:
                count = int(np.isfinite(kept).sum())
                axes.axvline(
                    count * 1.05, color=colour, label=words(f"{name}: {count:,} left", f"{name}：剩 {count:,} 个")
                )
            axes.set_title(f"“{prompt} …”", fontsize=10)
            axes.set_xlabel(words("tokens, the likeliest first", "词元，最可能的在前"))
            axes.legend(fontsize=9, loc="lower left", framealpha=1, edgecolor="white")
            axes.set_ylim(1e-9, 1.5)
        both[0].set_ylabel(words("probability", "概率"))
        return figure

    save("09-filters", draw)


if __name__ == "__main__":
    main()
