"""The picture of chapter 3: the patterns of three heads of SmolLM2 in one text.

`python docs/course/pictures/03_heads.py`.
"""

from __future__ import annotations

import numpy as np
from bilingual import Words, plt, save
from matplotlib.figure import Figure

import glassgpt

TEXT = "Alice has a cat. Bob has a dog. Alice has a"
HEADS = (
    (16, 0, "looks at the token before", "看前一个词元"),
    (18, 6, "looks for repetition", "寻找重复"),
    (18, 8, "rests on the first token", "停在第一个词元上"),
)


def main() -> None:
    _, trace = glassgpt.run_with_trace(glassgpt.load("smollm2"), TEXT, names=["pattern"])
    tokens = [token.replace(" ", "␣") for token in trace.tokens]

    def draw(words: Words) -> Figure:
        figure, row = plt.subplots(1, 3, figsize=(10.4, 4.1), sharey=True, layout="constrained")
        for axes, (layer, head, does, chinese) in zip(row, HEADS, strict=True):
            pattern = trace[f"blocks.{layer}.attn.pattern"][0, head].numpy()
            ahead = np.triu(np.ones_like(pattern, dtype=bool), 1)
            shades = axes.imshow(np.ma.masked_array(pattern, ahead), cmap="Blues", vmin=0, vmax=1)
            axes.set_facecolor("#f4f4f4")
            axes.set_xticks(range(len(tokens)), tokens, rotation=90, fontsize=9)
            axes.set_yticks(range(len(tokens)), tokens, fontsize=9)
            where = words(f"layer {layer}, head {head}", f"第 {layer} 层，{head} 号头")
            axes.set_title(f"{where}\n{words(does, chinese)}", fontsize=10)
            axes.set_xlabel(words("token that is read", "被读取的词元"))
        row[0].set_ylabel(words("token that reads", "读取的词元"))
        figure.colorbar(shades, ax=row, shrink=0.7, label=words("share of attention", "注意力份额"))
        return figure

    save("03-heads", draw)


if __name__ == "__main__":
    main()
