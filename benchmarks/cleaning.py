"""Cleaning: speed and memory on a million rows, and the result held against a file whose dirt is known row by row.

    python -m benchmarks.cleaning [--rows 1000000] [--processes 2] [--runs 1] [--truth FOLDER]

The rows are of about 80 characters, English and Chinese, one in ten of them dirty. `glassgpt clean` runs as a user
starts it, from the CSV file to the finished folder, without and with the search for near-duplicates in turns. Memory
is looked at every 50 ms: the largest sum over all its processes, and the largest process; what processes share is
counted in each. `--truth` names the folder of dirty_qa_a.csv, its variant and its truth.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

from glassgpt.core.threads import thread_budget
from glassgpt.data.clean import clean_rows
from glassgpt.data.sources import read_rows
from glassgpt.data.tables import read_table

TRUTH, FILES = "dirty_qa_a_truth.jsonl", ("dirty_qa_a.csv", "dirty_qa_a_brokenquote.csv")
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
    """A CSV file of questions and answers; about 3 in 100 rows repeat an earlier one, half of those in capitals."""
    draw = random.Random(1)
    earlier: list[tuple[str, str]] = []
    with path.open("w", encoding="utf-8", newline="") as file:
        write = csv.writer(file).writerow
        write(("question", "answer"))
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


def measure(path: Path, out: Path, processes: int, *options: str) -> dict[str, Any]:
    """One run of the verb: what it counts, the seconds from its start to its end, and its memory."""
    command = [sys.executable, "-m", "glassgpt", "clean", str(path), "--out", str(out), "--json"]
    began = time.perf_counter()
    with psutil.Popen([*command, "--processes", str(processes), *options], stdout=subprocess.PIPE,
                      stderr=subprocess.DEVNULL) as running:  # fmt: skip
        together = alone = 0
        while running.poll() is None:
            sizes = resident(running)
            together, alone = max(together, sum(sizes)), max(alone, *sizes)
            time.sleep(0.05)
        found: dict[str, Any] = json.loads(running.stdout.read())
    return found | {"wall_s": time.perf_counter() - began, "together_mb": together >> 20, "largest_mb": alone >> 20}


def resident(process: psutil.Process) -> list[int]:
    """The resident bytes of a process and all below it."""
    sizes = [0]
    try:
        for one in [process, *process.children(recursive=True)]:
            sizes.append(one.memory_info().rss)
    except psutil.NoSuchProcess:  # it ended meanwhile
        pass
    return sizes


def against_truth(folder: Path, name: str) -> dict[str, Any]:
    """Precision and recall of the dropped rows, and the share of texts restored exactly.

    Duplicates are judged by groups: of equal rows one must stay, whichever, for nothing in them tells which of the two
    was there first. Restored counts every row that had something to repair, and that should be kept: its clean question
    and answer must stand among the rows that came out. Rows that are only marked to hold personal data are not among
    them: it is counted, and masked when that is asked for, and the rest stays.
    """
    lines = (folder / TRUTH).read_text(encoding="utf-8").splitlines()
    truth = {entry["id"]: entry for entry in map(json.loads, lines)}
    ids = [record[0] for record in read_table(folder / name)[1]]
    kept, report = clean_rows(read_rows(folder / name))
    kept_ids = [known for row in kept if (known := ids[row.number - 1]) in truth]
    missing = {entry["id"] for entry in truth.values() if entry["kind"].startswith("missing")}
    groups = Counter(truth[known].get("of", known) for known in kept_ids if known not in missing)
    wrongly_kept = sum(count - 1 for count in groups.values()) + len(missing.intersection(kept_ids))
    wrongly_dropped = sum(entry["keep"] and known not in groups for known, entry in truth.items())
    wanted = sum(not entry["keep"] for entry in truth.values())
    dropped = len(truth) - len(kept_ids)
    pairs = {tuple(row.texts) for row in kept}
    repairable = [entry for entry in truth.values() if entry["keep"] and entry["kind"] not in ("clean", "pii")]
    restored = sum((entry["clean_q"], entry["clean_a"]) in pairs for entry in repairable)
    return {
        "rows": len(ids),
        "dropped": dropped,
        "precision": (dropped - wrongly_dropped) / dropped,
        "recall": (wanted - wrongly_kept) / wanted,
        "repairable": len(repairable),
        "restored": restored / len(repairable),
        "personal": report.personal,
    }


def main() -> None:
    """Make, clean, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cleaning")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--truth", type=Path, default=Path("../shared/data/dirty_csv/derived_dirty"))
    args = parser.parse_args()
    if (args.truth / TRUTH).exists():
        print(f"{'':<28}{'rows':>6}{'dropped':>9}{'precision':>11}{'recall':>8}{'repairable':>12}{'restored':>10}")
        for name in FILES:
            f = against_truth(args.truth, name)
            print(f"{name:<28}{f['rows']:>6}{f['dropped']:>9}{f['precision']:>11.4f}{f['recall']:>8.4f}"
                  f"{f['repairable']:>12}{f['restored']:>10.4f}   personal data {f['personal']}")  # fmt: skip
    else:
        print(f"no {TRUTH} in {args.truth}: --truth names its folder")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.csv"
        make(args.rows, path)
        print(f"\n{args.rows:,} rows, {path.stat().st_size / 1e6:.0f} MB, {args.processes} processes on "
              f"{thread_budget()} cores, load {os.getloadavg()[0]:.1f}")  # fmt: skip
        print(f"{'':<28}{'wall s':>8}{'rows/s':>9}{'sum MB':>8}{'largest MB':>12}{'kept':>10}   dropped")
        for run in range(args.runs):
            for label, options in (("without near-duplicates", ["--no-near-duplicates"]), ("with near-duplicates", [])):
                f = measure(path, Path(folder) / f"{label}{run}", args.processes, *options)
                print(f"{label:<28}{f['wall_s']:>8.1f}{args.rows / f['wall_s']:>9,.0f}{f['together_mb']:>8}"
                      f"{f['largest_mb']:>12}{f['kept']:>10,}   {f['dropped']}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
