"""What an index costs by its rows: seconds to make, seconds to open, memory, and milliseconds to a question.

    python -m benchmarks.knowledge [--rows 1000 10000 100000] [--read 10000] [--plot FILE.png] [--shared ../shared/data]

Rows are banking77's, numbered where they come again. Up to `--read` rows are read by the encoders, as a user's are; of
more the vectors are random, since only their number matters to a search. Each size runs in a process of its own, so
that its memory is its own. Questions are read by the encoders always: 200 others of banking77, the median and the
slowest of 20.
"""

from __future__ import annotations

import argparse
import csv
import gc
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median, quantiles

import numpy as np

from glassgpt.assistant.encoders import Encoders, load_encoders
from glassgpt.assistant.index import Floats
from glassgpt.assistant.knowledge import Knowledge
from glassgpt.assistant.passage import Passage

HERE = Path(__file__).parents[1]
ASKED = 200


class Random:
    """Stands for an encoder that takes no time."""

    def __init__(self, name: str, width: int) -> None:
        self.name, self.width, self._random = name, width, np.random.default_rng(0)

    def encode(self, texts: Sequence[str], role: str = "") -> Floats:
        """Vectors of length 1."""
        found = self._random.standard_normal((len(texts), self.width), np.float32)
        return found / np.linalg.norm(found, axis=1, keepdims=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.knowledge")
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--read", type=int, default=10_000)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--shared", type=Path, default=HERE.parent / "shared" / "data")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one is not None:
        print(json.dumps(one(args.one, args.one <= args.read, args.shared)))
        return
    found = []
    for rows in args.rows:
        command = [sys.executable, "-m", "benchmarks.knowledge", "--one", str(rows), "--read", str(args.read)]
        done = subprocess.run([*command, "--shared", args.shared], check=True, capture_output=True, text=True)
        found.append(json.loads(done.stdout))
        print("  ".join(f"{name} {value:,}" for name, value in found[-1].items()), flush=True)
    if args.plot:
        plot(found, args.plot)


def one(rows: int, read: bool, shared: Path) -> dict[str, float]:
    """All figures of one size."""
    with (shared / "instruct/banking77_train.csv").open(encoding="utf-8", newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    asked, texts = texts[:ASKED], texts[ASKED:]
    passages = []
    for at in range(rows):
        text = texts[at % len(texts)] + (f" ({at // len(texts)})" if at >= len(texts) else "")
        passages.append(Passage(text, text, "", f"row {at + 2}", at))
    encoders = load_encoders()
    english = encoders.english
    assert english is not None
    made = encoders if read else Encoders(Random(encoders.multilingual.name, encoders.width),
                                          Random(english.name, english.width))  # fmt: skip
    encoders.question("warm", (0, 1))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "k.db"
        begin = time.perf_counter()
        knowledge = Knowledge(path, made)
        knowledge.add("bank.csv", "1", passages)
        built = time.perf_counter() - begin
        knowledge.close()
        del knowledge
        gc.collect()
        before, begin = memory_bytes(), time.perf_counter()
        knowledge = Knowledge(path, encoders)
        opened = time.perf_counter() - begin
        memory = memory_bytes() - before
        took = []
        for question in asked:
            begin = time.perf_counter()
            knowledge.search(question)
            took.append((time.perf_counter() - begin) * 1e3)
        size = path.stat().st_size
    return {"rows": rows, "read": int(read), "index s": round(built, 1), "open s": round(opened, 2),
            "question ms": round(median(took), 1), "slowest of 20 ms": round(quantiles(took, n=20)[-1], 1),
            "memory MB": round(memory / 1e6), "file MB": round(size / 1e6)}  # fmt: skip


def memory_bytes() -> int:
    """What this process holds; Linux alone tells."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def plot(found: list[dict[str, float]], path: Path) -> None:
    """Time and memory against rows."""
    import matplotlib.pyplot as plt

    rows = [one["rows"] for one in found]
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
    for axis, name, limit in zip(axes, ("question ms", "open s", "memory MB"), (30, None, None), strict=True):
        axis.plot(rows, [one[name] for one in found], "o-")
        if limit:
            axis.axhline(limit, linestyle="--", color="gray")
        axis.set(title=name, xlabel="rows", xscale="log")
        axis.set_ylim(bottom=0)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
