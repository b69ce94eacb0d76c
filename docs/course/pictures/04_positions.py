"""The picture of chapter 4: the table of sinusoidal positions, and rotary scores by distance from two starting places.

`python docs/course/pictures/04_positions.py`.
"""

from __future__ import annotations

import torch
from bilingual import BLUE, RED, Words, plt, save
from matplotlib.figure import Figure

from glassgpt.model.positions import Rotary, rotate, sinusoidal_table

WIDTH, PLACES, DISTANCES = 64, 60, 60


def main() -> None:
    table = sinusoidal_table(PLACES, WIDTH).numpy()
    torch.manual_seed(0)
    vector = torch.randn(WIDTH)

    def scores(start: int) -> list[float]:
        """Of a key at `start` and the same vector as a query at each distance behind it."""
        cos, sin = Rotary(WIDTH)(torch.arange(start, start + DISTANCES)[None], torch.float32)
        turned = rotate(vector.expand(1, 1, DISTANCES, WIDTH), cos, sin)[0, 0]  # [distances, D]
        return (turned @ turned[0]).tolist()

    def draw(words: Words) -> Figure:
        figure, (left, right) = plt.subplots(1, 2, figsize=(9.2, 3.5), layout="constrained")
        shades = left.imshow(table.T, cmap="RdBu", aspect="auto", vmin=-1, vmax=1, interpolation="nearest")
        left.set_xlabel(words("place in the text", "文中的位置"))
        left.set_ylabel(words("column of the vector", "向量的列"))
        left.set_title(words("sines and cosines", "正弦和余弦"), fontsize=10)
        figure.colorbar(shades, ax=left)
        right.plot(scores(0), color=BLUE, linewidth=4, alpha=0.5, label=words("key at place 0", "键在位置 0"))
        right.plot(scores(1000), color=RED, linewidth=1.2, label=words("key at place 1,000", "键在位置 1,000"))
        right.set_xlabel(words("distance of the query", "查询的距离"))
        right.set_ylabel(words("score", "分数"))
        right.set_title(words("rotation: only the distance counts", "旋转：只看距离"), fontsize=10)
        right.legend(frameon=False)
        return figure

    save("04-positions", draw)


if __name__ == "__main__":
    main()
