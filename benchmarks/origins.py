"""Where a reply came from, against the size of the training data: making the index, its memory, and asking.

    python -m benchmarks.origins [--tokens 1e6 3e6 1e7 3e7 1e8] [--picture docs/origins.svg]

The data are invented: documents of 128 tokens, each token drawn from those that follow the one before it in the
documentation of Python's standard library (a chain over a BPE vocabulary of 8,192), so that short runs of tokens are as
common as in real text. A reply has four stretches of 40 tokens out of the data and four of 35 that the same chain draws
anew. Each size runs in a process of its own; memory is what that process held at most, the interpreter with it, without
mapped files. Where other programs want the processor too, the milliseconds of CPU are those to compare.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

VOCABULARY, LENGTH, ASKED = 8192, 128, 20  # ASKED: replies


class Chain:
    """Which tokens follow which in a text."""

    def __init__(self, ids: np.ndarray, seed: int) -> None:
        self.ids, self.chance = ids, np.random.default_rng(seed)
        self.order = np.argsort(ids[:-1], kind="stable")
        self.counts = np.bincount(ids[:-1], minlength=VOCABULARY)
        self.begins = np.concatenate([[0], np.cumsum(self.counts)[:-1]])

    def documents(self, count: int) -> np.ndarray:
        """So many documents, [count, LENGTH]."""
        made = np.empty((count, LENGTH), np.int64)
        made[:, 0] = self.chance.choice(self.ids[:-1], count)
        for at in range(1, LENGTH):
            last = made[:, at - 1]
            nth = (self.chance.random(count) * self.counts[last]).astype(np.int64)
            following = self.ids[self.order[np.minimum(self.begins[last] + nth, len(self.order) - 1)] + 1]
            made[:, at] = np.where(self.counts[last] > 0, following, self.ids[0])
        return made


def write(run: Path, tokens: int) -> list[str]:
    """A run with so many tokens of training data; gives replies to ask about."""
    from glassgpt.core.runs import TOKENIZER, TRAIN, Run
    from glassgpt.data.examples import Example
    from glassgpt.data.shards import write_shards
    from glassgpt.data.sources import read_rows
    from glassgpt.text.bpe import train_bpe

    texts = ["\n".join(row.texts) for row in read_rows("python-docs")]
    tokenizer = train_bpe(texts, VOCABULARY)
    chain = Chain(np.concatenate([np.array(tokenizer.encode(text)) for text in texts]), seed=1)
    kept: list[list[int]] = []

    def examples() -> Iterator[Example]:
        for begin in range(0, tokens // LENGTH, 100_000):
            made = chain.documents(min(100_000, tokens // LENGTH - begin))
            kept.extend(made[:4].tolist())
            for number, ids in enumerate(made.tolist(), begin + 1):
                yield Example(ids, [True] * LENGTH, "invented.txt", number)

    Run.create(run, {"kind": "pretrain"})
    tokenizer.save(run / TOKENIZER)
    write_shards(examples(), run / TRAIN, tokenizer)
    pick = random.Random(1)
    replies = []
    for _ in range(ASKED):
        fresh = chain.documents(4).tolist()
        parts = [part for one in fresh for part in (pick.choice(kept)[20:60], one[:35])]
        replies.append(tokenizer.decode([i for part in parts for i in part]))
    return replies


def measure(tokens: int) -> dict[str, Any]:
    """One size, each step in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        asked = Path(folder) / "replies.json"
        asked.write_text(json.dumps(write(run, tokens)), encoding="utf-8")
        steps = [last_line(["-m", "benchmarks.origins", "--step", str(run), str(asked)]) for _ in range(2)]
        size = sum(path.stat().st_size for path in (run / "data" / "origins").iterdir())
    return {"tokens": tokens, "build_s": steps[0]["open_s"], "build_mb": steps[0]["mb"], "open_s": steps[1]["open_s"],
            "first_ms": steps[1]["first_ms"], "ask_ms": steps[1]["ask_ms"], "cpu_ms": steps[1]["cpu_ms"],
            "worst_ms": steps[1]["worst_ms"],
            "reply_tokens": steps[1]["reply_tokens"], "disk_mb": size / 1e6}  # fmt: skip


def step(run: Path, asked: Path) -> dict[str, Any]:
    """Open the index, which makes it the first time, and ask about each reply."""
    from glassgpt.inside.origins import Origins

    done, peak = threading.Event(), [0.0]

    def watch() -> None:
        while not done.wait(0.01):
            peak[0] = max(peak[0], own_memory())

    watching = threading.Thread(target=watch)
    watching.start()
    begin = time.perf_counter()
    origins = Origins.open(run)
    opened = time.perf_counter() - begin
    done.set()
    watching.join()
    times, computed, lengths = [], [], []
    for reply in json.loads(asked.read_text(encoding="utf-8")):
        begin = time.process_time()
        found = origins.explain(reply)
        computed.append((time.process_time() - begin) * 1e3)
        times.append(found.seconds * 1e3)
        lengths.append(found.tokens)
    return {"open_s": opened, "mb": peak[0], "first_ms": times[0], "ask_ms": median(times[1:]),
            "cpu_ms": median(computed[1:]), "worst_ms": max(times[1:]), "reply_tokens": median(lengths)}  # fmt: skip


def own_memory() -> float:
    """What this process holds, in MB, without mapped files, which the system may take back at any time. Linux only."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon")) * 1024 / 1e6


def last_line(command: list[str]) -> dict[str, Any]:
    """What a process prints last, read as JSON."""
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    return json.loads(done.stdout.splitlines()[-1])


def draw(found: list[dict[str, Any]], picture: Path) -> None:
    """Time and memory against tokens, both axes logarithmic."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "glassgpt", "font.family": "sans-serif"}
    from matplotlib import pyplot as plt

    panels = {
        "making it, s": {"time": "build_s"},
        "memory and disk, MB": {"memory while it is made": "build_mb", "on disk": "disk_mb"},
        "asking about 300 tokens, ms": {
            "median": "ask_ms",
            "slowest": "worst_ms",
            "first": "first_ms",
            "median, of CPU": "cpu_ms",
        },
    }
    figure, grid = plt.subplots(1, len(panels), figsize=(10, 3.1))
    for axes, (title, lines) in zip(grid, panels.items(), strict=True):
        for (label, name), color in zip(lines.items(), ("#2f6f9f", "#8a9199", "#c0392b", "#27824a"), strict=False):
            axes.plot([f["tokens"] for f in found], [f[name] for f in found], color=color, marker="o", markersize=3,
                      label=label)  # fmt: skip
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("tokens of training data", fontsize=9)
        axes.set_title(title, fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        if len(lines) > 1:
            axes.legend(fontsize=7, frameon=False)
    grid[-1].axhline(100, color="#8a9199", linewidth=0.8, linestyle=":")
    figure.tight_layout()
    figure.savefig(picture, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.origins")
    parser.add_argument("--tokens", type=float, nargs="+", default=[1e6, 3e6, 1e7, 3e7, 1e8])
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--step", type=Path, nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        print(json.dumps(step(*args.step)))
        return
    print(f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    print(f"{'tokens':>12}{'made s':>9}{'MB':>7}{'disk MB':>9}{'opened s':>10}{'first ms':>10}{'median ms':>11}"
          f"{'of CPU':>8}{'slowest ms':>12}{'reply':>7}")  # fmt: skip
    found = []
    for tokens in args.tokens:
        found.append(f := measure(int(tokens)))
        print(f"{f['tokens']:>12,}{f['build_s']:>9.1f}{f['build_mb']:>7.0f}{f['disk_mb']:>9.0f}{f['open_s']:>10.2f}"
              f"{f['first_ms']:>10.1f}{f['ask_ms']:>11.1f}{f['cpu_ms']:>8.1f}{f['worst_ms']:>12.1f}{f['reply_tokens']:>7.0f}",
              flush=True)  # fmt: skip
    if args.picture:
        draw(found, args.picture)


if __name__ == "__main__":
    main()
