"""Speed and memory of cleaning: rows of about 80 characters, English and Chinese, one in ten of them dirty.

    python -m benchmarks.cleaning [--rows 1000000] [--processes 2] [--no-near-duplicates] [--runs 1]

The rows are made once and read from a CSV file with Python's csv module, which is part of the time. Memory is the
largest sum of the resident memory of all processes, looked at every 50 ms.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from glassgpt.data.clean import clean
from glassgpt.data.filters import CleanSettings
from glassgpt.data.rows import Row

ENGLISH = str.split("""time people water letter city garden window music morning river mountain teacher answer question
village number summer winter paper table kitchen bridge engine doctor story animal forest market island machine planet
carry build follow explain remember imagine discover protect repair collect quiet bright heavy narrow ancient
simple modern gentle the a of and to in is was with from about under between because while before""")
CHINESE = (
    "的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会可主发年动同工也能下过子说产种面而方后多定行学"
    "法所民得经十三之进着等部度家电力里如水化高自二理起小物现实加量都两体制机当使点从业本去把性好应开它合还因由其些然前外天政"
)
DIRT = (
    lambda t: f"<p>{t.replace(' ', '&nbsp;', 1)}<br/></p>",
    lambda t: f"  \t{t}\u3000 ",
    lambda t: t + "\u200b\ufeff",
    lambda t: t + "\x07\x0b",
    lambda t: "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in t),
    lambda t: t.encode().decode("latin-1"),
    lambda t: t + " contact: bob.smith@example.com 13812345678",
    lambda t: "",
    lambda t: "NULL",
    lambda t: t + "\n\n\n\n\nsecond line   \nthird",
)


def make(rows: int, path: Path) -> None:
    """A CSV file of prompts and responses; about 3 in 100 rows repeat an earlier one, half of those in capitals."""
    draw = random.Random(1)
    earlier: list[tuple[str, str]] = []
    with path.open("w", encoding="utf-8", newline="") as file:
        write = csv.writer(file).writerow
        for _ in range(rows):
            if earlier and draw.random() < 0.03:
                prompt, response = draw.choice(earlier)
                if draw.random() < 0.5:
                    prompt = prompt.upper() + " "
            elif draw.random() < 0.5:
                prompt = " ".join(draw.choices(ENGLISH, k=draw.randint(4, 8))) + "?"
                response = " ".join(draw.choices(ENGLISH, k=draw.randint(4, 10))) + "."
            else:
                prompt = "".join(draw.choices(CHINESE, k=draw.randint(8, 40))) + "？"
                response = "".join(draw.choices(CHINESE, k=draw.randint(20, 90))) + "。"
            if len(earlier) < 50_000:
                earlier.append((prompt, response))
            if draw.random() < 0.1:
                response = draw.choice(DIRT)(response)
            write((prompt, response))


def read(path: Path) -> Iterator[Row]:
    """The file's rows."""
    with path.open(encoding="utf-8", newline="") as file:
        for number, (prompt, response) in enumerate(csv.reader(file), 1):
            yield Row(path.name, number, ("user", "assistant"), [prompt, response])


def main() -> None:
    """Make, clean, print one JSON line for each run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--no-near-duplicates", action="store_true")
    args = parser.parse_args()
    skip = ("near-duplicates",) if args.no_near_duplicates else ()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.csv"
        make(args.rows, path)
        for run in range(args.runs):
            peak, done = [0], threading.Event()
            watcher = threading.Thread(target=watch, args=(peak, done))
            watcher.start()
            began = os.times()
            out = Path(folder) / f"out{run}"
            report = clean(read(path), out, settings=CleanSettings(skip=skip), processes=args.processes)
            ended = os.times()
            done.set()
            watcher.join()
            # A child's time is counted when it has ended.
            used = sum(ended[:4]) - sum(began[:4])
            figures = {"cpu_s": round(used, 1), "peak_mb": peak[0] >> 20, "characters": path.stat().st_size}
            print(json.dumps(report.summary() | figures), flush=True)


def watch(peak: list[int], done: threading.Event) -> None:
    """Keep the largest sum of resident memory in `peak`."""
    here = psutil.Process()
    while not done.is_set():
        total = 0
        for process in [here, *here.children(recursive=True)]:
            try:
                total += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        peak[0] = max(peak[0], total)
        time.sleep(0.05)


if __name__ == "__main__":
    main()
