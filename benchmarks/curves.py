"""Draws what `benchmarks.engine --only contexts widths --json FILE` found: what a token costs against the length of the
text before it and against the number of replies that are written at once.

    python -m benchmarks.curves FILE [FILE ...] docs/curves.svg

Of several files the later ones add their points. Medians of the rounds, both axes logarithmic.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import median

TITLES = {"contexts": "tokens in the context, one stream", "widths": "streams at once"}
LOOKS = {"glassgpt int4": ("#2f6f9f", "-"), "glassgpt int8": ("#2f6f9f", "--"),
         "llama.cpp Q4_0": ("#8a9199", "-"), "llama.cpp Q8_0": ("#8a9199", "--")}  # fmt: skip

Curves = dict[str, dict[str, dict[str, dict[int, float]]]]  # model, measure, side, point: ms a token


def read(files: list[Path]) -> Curves:
    """All points of all files."""
    found: Curves = {}
    for file in files:
        for model, kept in json.loads(file.read_text(encoding="utf-8"))["models"].items():
            for side, measures in kept["sides"].items():
                for what in TITLES.keys() & measures.keys():
                    rounds = [result["values"] for result in measures[what]]
                    points = {int(at): median(r[at] for r in rounds) for at in rounds[0]}
                    found.setdefault(model, {}).setdefault(what, {}).setdefault(side, {}).update(points)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.curves")
    parser.add_argument("found", type=Path, nargs="+")
    parser.add_argument("picture", type=Path)
    args = parser.parse_args()
    found = read(args.found)

    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "glassgpt", "font.family": "sans-serif"}
    from matplotlib import pyplot as plt
    from matplotlib.ticker import NullLocator, ScalarFormatter

    figure, grid = plt.subplots(len(found), 2, figsize=(8.5, 3.1 * len(found)), squeeze=False)
    for row, (model, measures) in zip(grid, found.items(), strict=True):
        for axes, (what, title) in zip(row, TITLES.items(), strict=True):
            for side, points in sorted(measures.get(what, {}).items()):
                color, line = LOOKS.get(side, ("#c0392b", ":"))
                places = sorted(points)
                axes.plot(
                    places, [points[at] for at in places], line, color=color, marker="o", markersize=3, label=side
                )
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")
            axes.xaxis.set_major_formatter(ScalarFormatter())
            axes.set_xticks(sorted({at for points in measures.get(what, {}).values() for at in points}))
            axes.tick_params(axis="x", labelsize=7)
            axes.yaxis.set_major_formatter(ScalarFormatter())
            axes.yaxis.set_minor_locator(NullLocator())
            low, high = axes.get_ylim()
            axes.set_yticks([at for at in (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 100, 200) if low <= at <= high])
            axes.set_xlabel(title, fontsize=9)
            axes.set_ylabel("ms a token", fontsize=9)
            axes.set_title(model, fontsize=10)
            axes.spines[["top", "right"]].set_visible(False)
            axes.legend(fontsize=7, frameon=False)
    figure.tight_layout()
    figure.savefig(args.picture, metadata={"Date": None})


if __name__ == "__main__":
    main()
