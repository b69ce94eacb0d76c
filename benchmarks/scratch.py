"""Training from scratch: recipes of this project beside the known CPU recipe, alternately in one run.

    python -m benchmarks.scratch --data tinyshakespeare.txt [--recipes shakespeare_small shakespeare_fast]
                                 [--seeds 5] [--known 2]

Every training is a process of its own. Seconds are counted from its start to the end of its last evaluation, over the
whole validation part: imports, reading and preparing are in them. The known recipe, which takes minutes, is run
`--known` times, spread among the others; 0 leaves it out.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).resolve().parent


def last_line(command: list[str]) -> dict[str, Any]:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    return json.loads(done.stdout.splitlines()[-1])


def known(data: str, seed: int) -> dict[str, Any]:
    began = time.time()
    result = last_line([sys.executable, str(HERE / "known_recipe.py"), data, str(seed)])
    return result | {"seconds": result["time"] - began, "tokens": 12 * 64 * 2000}


def ours(recipe: Path, data: str, seed: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        run, began = Path(folder) / "run", time.time()
        result = last_line([sys.executable, "-m", "glassgpt", "pretrain", str(recipe), "--data", data, "--seed",
                            str(seed), "--out", str(run), "--json"])  # fmt: skip
        lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        return result | {"seconds": json.loads(lines[-1])["time"] - began}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scratch")
    parser.add_argument("--data", required=True)
    parser.add_argument("--recipes", nargs="+", default=["shakespeare_small", "shakespeare_fast"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--known", type=int, default=2)
    args = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {}

    def note(name: str, result: dict[str, Any]) -> None:
        found.setdefault(name, []).append(result)
        print(f"{name:<20} loss {result['val_loss']:.4f}   {result['seconds']:8.2f} s in all   "
              f"{result['train_s']:8.2f} s training   {result['tokens']:,} tokens", flush=True)  # fmt: skip

    for seed in range(1, args.seeds + 1):
        if (seed - 1) * args.known // args.seeds != seed * args.known // args.seeds:
            note("known recipe", known(args.data, seed))
        for name in args.recipes:
            note(name, ours(HERE.parent / "recipes" / f"{name}.toml", args.data, seed))
    print()
    base = median(r["seconds"] for r in found["known recipe"]) if "known recipe" in found else None
    for name, results in found.items():
        seconds = median(r["seconds"] for r in results)
        ratio = f"   {base / seconds:6.1f} times faster" if base and name != "known recipe" else ""
        print(f"{name:<20} {results[0]['parameters']:>10,} parameters   median loss "
              f"{median(r['val_loss'] for r in results):.4f}   median {seconds:8.2f} s{ratio}")  # fmt: skip


if __name__ == "__main__":
    main()
