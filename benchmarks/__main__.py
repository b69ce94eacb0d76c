"""`make bench`: loading and generating, glassgpt beside transformers on the same files, alternately in one run.

    python -m benchmarks [--models smollm2 gemma3-270m] [--runs 3]
    python -m benchmarks NAME ...          another part of this folder with its own options, such as `cleaning`;
                                           make bench ARGS="cleaning --rows 100000"

Each load runs in a process of its own, the file warm in the system's cache. Times in seconds, medians of the runs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import runpy
import subprocess
import sys
from pathlib import Path
from statistics import median

from glassgpt.core.threads import thread_budget
from glassgpt.formats.fetch import locate

PARTS = sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py"))
PROMPT, NEW_TOKENS = "Once upon a time", 64

OURS = """
import json, sys, time
import torch
from glassgpt.engine.load import load
from glassgpt.engine.language_model import Timings
begin = time.perf_counter()
model = load(sys.argv[1])
load_s = time.perf_counter() - begin
timings = Timings()
done = model.generate(sys.argv[2], max_new_tokens=int(sys.argv[3]), temperature=0, timings=timings)[0]
print(json.dumps({"load_s": load_s, "decode": timings.decode_tokens / timings.decode_s, "tokens": done.tokens}))
"""
THEIRS = """
import json, sys, time, pathlib
import torch, transformers
transformers.utils.logging.set_verbosity_error()
path = pathlib.Path(sys.argv[1])
begin = time.perf_counter()
tokenizer = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
model = transformers.AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32).eval()
load_s = time.perf_counter() - begin
ids = tokenizer(sys.argv[2], return_tensors="pt").input_ids
streamed = []
class Clock(transformers.generation.streamers.BaseStreamer):
    def put(self, value): streamed.append(time.perf_counter())
    def end(self): pass
out = model.generate(ids, do_sample=False, max_new_tokens=int(sys.argv[3]), streamer=Clock(), pad_token_id=0)
decode = (len(streamed) - 2) / (streamed[-1] - streamed[1])
print(json.dumps({"load_s": load_s, "decode": decode, "tokens": out[0, ids.shape[1]:].tolist()}))
"""


def measure(code: str, path: str) -> dict:
    """One process: loads the file, generates, and says how long each took."""
    done = subprocess.run(
        [sys.executable, "-c", code, path, PROMPT, str(NEW_TOKENS)], capture_output=True, text=True, timeout=900
    )
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Another part, or the comparison."""
    if sys.argv[1:] and sys.argv[1] in PARTS:
        name = sys.argv.pop(1)
        runpy.run_module(f"benchmarks.{name}", run_name="__main__", alter_sys=True)
        return
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--models", nargs="+", default=["smollm2", "gemma3-270m"])
    parser.add_argument("--runs", type=int, default=3)
    parser.epilog = "Other parts, with options of their own: " + ", ".join(PARTS)
    args = parser.parse_args()
    print(
        f"{platform.system()} {platform.machine()}, {thread_budget()} cores, load {os.getloadavg()[0]:.1f}, float32\n"
    )
    print(f"{'model':<14}{'':<14}{'load s':>10}{'decode tokens/s':>18}   same tokens")
    for name in args.models:
        path = str(locate(name, pull_missing=True))
        rows: dict[str, list[dict]] = {"glassgpt": [], "transformers": []}
        for _ in range(args.runs):
            rows["glassgpt"].append(measure(OURS, path))
            rows["transformers"].append(measure(THEIRS, path))
        same = all(a["tokens"] == b["tokens"] for a, b in zip(*rows.values(), strict=True))
        for who, found in rows.items():
            seconds, decode = median(r["load_s"] for r in found), median(r["decode"] for r in found)
            print(f"{name:<14}{who:<14}{seconds:>10.2f}{decode:>18.1f}   {same}", flush=True)


if __name__ == "__main__":
    main()
