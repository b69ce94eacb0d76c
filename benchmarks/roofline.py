"""Draws what `benchmarks.engine --json FILE` found: decoding speed of each side against the most that memory allows.

    python -m benchmarks.roofline FILE docs/decode.svg [--model smollm2]

A bar is the median, its whisker the least and the most of the rounds; the tick above it is the measured read bandwidth
divided by the bytes that a token reads.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import median


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.roofline")
    parser.add_argument("found", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--model", default="smollm2")
    args = parser.parse_args()
    kept = json.loads(args.found.read_text(encoding="utf-8"))
    bandwidth = median(kept["bandwidth"]) * 1e9

    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "glassgpt", "font.family": "sans-serif"}
    from matplotlib import pyplot as plt

    rows = []
    for label, found in kept["models"][args.model]["sides"].items():
        if "decode" not in found:
            continue
        rounds = [result["values"] for result in found["decode"]]
        variant = max(rounds[0], key=lambda name, rounds=rounds: median(r[name] for r in rounds))
        rows.append((label, [r[variant] for r in rounds], bandwidth / found["decode"][0]["bytes"]))
    rows.sort(key=lambda row: median(row[1]))
    figure, axes = plt.subplots(figsize=(7.5, 0.5 + 0.42 * len(rows)))
    for place, (label, values, bound) in enumerate(rows):
        middle = median(values)
        axes.barh(place, middle, color="#2f6f9f" if label.startswith("glassgpt") else "#b8bfc6", height=0.62)
        axes.plot([min(values), max(values)], [place, place], color="#222222", linewidth=1)
        axes.plot([bound, bound], [place - 0.36, place + 0.36], color="#c0392b", linewidth=2)
        axes.text(middle + 2, place + 0.02, f"{middle:.0f}", va="center", fontsize=9)
    axes.set_yticks(range(len(rows)), [label for label, _, _ in rows], fontsize=9)
    axes.set_xlabel("tokens/s, one stream; red: what memory allows at the measured bandwidth", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(args.picture, metadata={"Date": None})


if __name__ == "__main__":
    main()
