"""The lowest loss on tinyshakespeare by character that minutes on this machine buy: one recipe, several seeds and
lengths.

    python -m benchmarks.best --data tinyshakespeare.txt [--steps 1900 3500] [--seeds 1 2 3] [--recipe shakespeare_best]
                              [--plot FILE.svg]

Prints tokens and minutes to each loss on the whole validation part, read in windows of the training context that do
not overlap. Minutes are of training alone in the table (`train_s`), and from process start to the end of the last
evaluation in the last column, which evaluations on the way are part of.

The line of the well-known GPU recipe in the plot is its published figure: 10.7 million parameters, validation loss
1.4697 after three minutes on an A100.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
MARKS = (1.70, 1.60, 1.50, 1.4697, 1.45)
KNOWN = 1.4697


def train(recipe: Path, data: str, seed: int, steps: int) -> tuple[dict[str, Any], list[dict[str, Any]], float]:
    """One run in a process of its own: its JSON line, its evaluations, and the seconds to the end of the last one."""
    with tempfile.TemporaryDirectory() as folder:
        run, began = Path(folder) / "run", time.time()
        words = ["pretrain", str(recipe), "--data", data, "--seed", str(seed), "--out", str(run), "--json"]
        words += ["--set", f"train.steps={steps}"]
        done = subprocess.run([sys.executable, "-m", "glassgpt", *words], capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr[-3000:])
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    measured = [line for line in lines if "val_loss" in line]
    return json.loads(done.stdout.splitlines()[-1]), measured, measured[-1]["time"] - began


def plot(curves: dict[str, list[dict[str, Any]]], parameters: int, path: Path) -> None:
    """The held-out losses over the minutes, with the known recipe's as a line."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for name, measured in curves.items():
        minutes = [m["train_s"] / 60 for m in measured]
        axes.plot(minutes, [m["val_loss"] for m in measured], ".-", markersize=4, label=f"glassgpt, {name}")
    label = "known GPU recipe: 10.7 M parameters,\n3 minutes on an A100"
    axes.axhline(KNOWN, color="black", linestyle="--", linewidth=1, label=label)
    axes.set_ylim(KNOWN - 0.09, 1.9)
    axes.set_xlabel("minutes of training on two cores, no GPU")
    axes.set_ylabel("validation loss (nats per character)")
    axes.set_title(f"tinyshakespeare by character, {parameters / 1e6:.1f} M parameters")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.best")
    parser.add_argument("--data", required=True)
    parser.add_argument("--recipe", default="shakespeare_best")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--steps", type=int, nargs="+", default=[3500])
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    recipe = HERE.parent / "recipes" / f"{args.recipe}.toml"
    curves, parameters = {}, 0
    for steps, seed in product(args.steps, args.seeds):
        name = f"{steps:,} steps, seed {seed}"
        result, curves[name], seconds = train(recipe, args.data, seed, steps)
        parameters = result["parameters"]
        print(f"{name}: {parameters:,} parameters, loss {result['val_loss']:.4f} (best "
              f"{result['best_val_loss']:.4f}) after {result['tokens']:,} tokens, {result['train_s'] / 60:.1f} minutes "
              f"of training, {seconds / 60:.1f} in all", flush=True)  # fmt: skip
        for mark in MARKS:
            first = next((m for m in curves[name] if m["val_loss"] <= mark), None)
            if first:
                print(f"    {mark:g} after {first['tokens']:>10,} tokens, {first['train_s'] / 60:5.1f} minutes")
    if args.plot:
        plot(curves, parameters, args.plot)


if __name__ == "__main__":
    main()
