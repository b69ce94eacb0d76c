"""glassgpt's engine beside llama.cpp and transformers: the same weights, the same prompts, each side in a process of
its own, alternately in one run, on as many threads.

    python -m benchmarks.peers                                 once: makes the other side
    python -m benchmarks.engine [--models smollm2] [--only decode prefill] [--rounds 5] [--json FILE]

decode    tokens/s over 128 tokens after 32, one stream, greedy
prefill   tokens/s of reading 512 tokens
streams   tokens/s of 8 streams together over 64 tokens each
turn      s from a message of 32 tokens to the first token, 1,024 tokens before it in the cache
start     s from the start of a process to its first token, seen from outside
bandwidth GB/s of reading memory: the most that decode could have is this over the bytes of the weights
contexts  ms a token against the length of the context; only with --only
widths    ms a token against the number of streams; only with --only

Tables are Markdown: medians with the least and the most. llama.cpp's best variant of each format counts (with flash
attention or without). The last column is how many times as fast glassgpt is in weights of as many bits, round by round.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import peers
from benchmarks.bandwidth import read_bandwidth
from glassgpt.core.files import write_whole
from glassgpt.core.threads import check_threads, thread_budget
from glassgpt.formats.fetch import locate

HERE = Path(__file__).parent
TEXT = HERE.parent / "LICENSE"
OPENING = ("The old lighthouse keeper climbed the stairs every evening, counting each step aloud, until one night he "
           "found a letter on the lamp. It said that somebody had")  # fmt: skip
PRECISIONS = ["int4", "int8", "bfloat16", "float32"]
TYPES = ["bfloat16", "float32"]
# What a format of theirs is compared with: weights of as many bits.
EQUALS = {"Q4_0": "int4", "Q4_1": "int4", "Q4_K_M": "int4", "Q8_0": "int8", "F16": "bfloat16",
          "BF16": "bfloat16"}  # fmt: skip
UNITS = {"decode": "tokens/s", "prefill": "tokens/s", "streams": "tokens/s", "turn": "s", "start": "s",
         "contexts": "ms/token", "widths": "ms/token"}  # fmt: skip
CURVES = ("contexts", "widths")
START = {
    "glassgpt": """
import sys, glassgpt
model = glassgpt.load(sys.argv[1], precision=sys.argv[2])
for text in model.stream(sys.argv[3], max_new_tokens=1, temperature=0):
    print(text, flush=True)
""",
    "llama.cpp": """
import sys
from llama_cpp import Llama
model = Llama(sys.argv[1], n_threads=int(sys.argv[4]), verbose=False, n_ctx=2048)
print(model.create_completion(sys.argv[3], max_tokens=1, temperature=0)["choices"][0]["text"], flush=True)
""",
    "transformers": """
import sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
torch.set_num_threads(int(sys.argv[4]))
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=getattr(torch, sys.argv[2]))
ids = tokenizer(sys.argv[3], return_tensors="pt")
out = model.generate(**ids, do_sample=False, max_new_tokens=1, pad_token_id=0)
print(tokenizer.decode(out[0, -1:]), flush=True)
""",
}


@dataclass
class Side:
    """Someone who is measured: a program, the numbers it computes in, and what it found in each round."""

    who: str
    format: str
    name: str  # the model's, in the catalog
    path: str
    python: str
    found: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)

    @property
    def label(self) -> str:
        return f"{self.who} {self.format}"

    def command(self, what: str, task: Path, threads: int) -> list[str]:
        """The program that measures; theirs must not find this folder's files where they import."""
        python = [self.python] if self.who == "glassgpt" else [self.python, "-P"]
        if what == "start":
            return [*python, "-c", START[self.who], self.path, self.format, OPENING, str(threads)]
        if self.who == "glassgpt":
            return [*python, "-m", "benchmarks._ours", what, str(task)]
        return [*python, str(HERE / ("_llama.py" if self.who == "llama.cpp" else "_transformers.py")), what, str(task)]

    def takes(self, measure: str) -> bool:
        """Whether it is asked for this at all: the curves are drawn for one or two formats of each."""
        wanted = {"glassgpt": ("int4", "int8"), "llama.cpp": ("Q4_0", "Q8_0")}
        return measure not in CURVES or self.format in wanted.get(self.who, ())

    def best(self, measure: str) -> tuple[str, list[float]]:
        """The variant with the best median, and its value in each round."""
        rounds = [result["values"] for result in self.found[measure]]
        choose = max if UNITS[measure] == "tokens/s" else min
        variant = choose(rounds[0], key=lambda name: median(r[name] for r in rounds))
        return variant, [r[variant] for r in rounds]


def sides(name: str, folder: Path | None, precisions: list[str]) -> list[Side]:
    """All that are measured with a model; without a folder of the others, glassgpt alone."""
    locate(name, pull_missing=True)
    found = [Side("glassgpt", precision, name, name, sys.executable) for precision in precisions]
    if folder:
        paths, python = peers.prepare(folder, name), str(peers.python_of(folder))
        found += [Side("llama.cpp", kind, name, str(paths[kind]), python) for kind in peers.FORMATS]
        found += [Side("transformers", kind, name, str(paths["huggingface"]), python) for kind in TYPES]
    return found


def tasks(name: str, limit: int, counts: list[int]) -> dict[str, dict[str, Any]]:
    """What each measure is given: prompts as ids, so that no tokenizer takes part."""
    import glassgpt

    model = glassgpt.load(name)
    limit = min(limit, model.context_length)
    ids = model.encode(TEXT.read_text(encoding="utf-8"))
    ids *= 1 + limit // len(ids)
    lengths = [length for length in (128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768) if length <= limit]
    rows = [ids[64 * i : 64 * i + 32] for i in range(max(8, *counts))]
    return {
        "decode": {"prompt": model.encode(OPENING)[:32], "new": 128},
        "prefill": {"prompt": ids[:512]},
        "streams": {"prompts": rows[:8], "new": 64},
        "turn": {"history": ids[:1500], "reply": 150, "message": model.encode(OPENING)[:20]},
        "start": {},
        "contexts": {"prompt": ids[:limit], "lengths": lengths, "new": 16},
        "widths": {"prompts": rows, "counts": counts, "new": 32},
    }


def measure(side: Side, what: str, task: dict[str, Any], threads: int) -> dict[str, Any]:
    """One measurement in a process of its own; raises RuntimeError with the last line that it said."""
    env = os.environ | {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryDirectory() as name, (Path(name) / "errors").open("w+") as errors:
        given = Path(name) / "task.json"
        more = {"path": side.path, "name": side.name, "format": side.format, "threads": threads}
        given.write_text(json.dumps(task | more))
        words = side.command(what, given, threads)
        began = time.perf_counter()
        with subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=errors, text=True, env=env, cwd=HERE.parent
        ) as process:
            assert process.stdout
            line = process.stdout.readline()
            seconds = time.perf_counter() - began
            process.stdout.read()
        if process.returncode or not line:
            errors.seek(0)
            raise RuntimeError((errors.read().strip().splitlines() or ["it said nothing"])[-1])
    return {"values": {"": seconds}} if what == "start" else json.loads(line)


def take_rounds(everyone: list[Side], given: dict[str, dict[str, Any]], what: list[str], args: Any) -> list[float]:
    """All measures, in rounds: forwards and backwards in turn, so that a machine that tires wrongs nobody. Each
    side's very first does not count: it warms the file cache. Gives the machine's load as each round began."""
    loads = []
    for number in range(args.rounds):
        loads.append(os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0)
        for name in what:
            those = [side for side in everyone if side.takes(name) and name not in side.failed]
            for side in reversed(those) if number % 2 else those:
                try:
                    if not number and name == what[0]:
                        measure(side, name, given[name], args.threads)
                    side.found.setdefault(name, []).append(measure(side, name, given[name], args.threads))
                    print(f"round {number + 1}: {name}, {side.label}", file=sys.stderr, flush=True)
                except RuntimeError as error:
                    side.failed.add(name)
                    side.found.pop(name, None)
                    print(f"{side.label} has no {name}: {error}", file=sys.stderr, flush=True)
    return loads


def ratio(side: Side, everyone: list[Side], what: str) -> str:
    """How many times as fast glassgpt is, with the least and the most of the rounds."""
    wanted = EQUALS.get(side.format, side.format)
    for own in everyone:
        if own.who == "glassgpt" and own.format == wanted and what in own.found and own is not side:
            pairs = list(zip(own.best(what)[1], side.best(what)[1], strict=True))
            times = [a / b if UNITS[what] == "tokens/s" else b / a for a, b in pairs]
            return f"{median(times):.2f} ({min(times):.2f} to {max(times):.2f})"
    return ""


def table(everyone: list[Side], what: str, bandwidth: float | None) -> Iterator[str]:
    """One measure as Markdown."""
    roof = what == "decode" and bandwidth is not None
    yield f"| {what}, {UNITS[what]} | median | least to most |{' of the bound |' if roof else ''} variant | glassgpt |"
    yield "|---|---:|---|" + ("---:|" if roof else "") + "---|---|"
    for side in everyone:
        if what in side.found:
            variant, values = side.best(what)
            mean, digits = median(values), 2 if UNITS[what] == "s" else 1
            shown = [f"{value:.{digits}f}" for value in (mean, min(values), max(values))]
            bound = f" {mean * side.found[what][0]['bytes'] / bandwidth / 1e9:.0%} |" if roof and bandwidth else ""
            yield (f"| {side.label} | {shown[0]} | {shown[1]} to {shown[2]} |{bound} {variant} | "
                   f"{ratio(side, everyone, what)} |")  # fmt: skip


def curve(everyone: list[Side], what: str) -> Iterator[str]:
    """A measure along an axis: medians."""
    those = [side for side in everyone if what in side.found]
    if those:
        points = list(those[0].found[what][0]["values"])
        yield f"| {what}, {UNITS[what]} | " + " | ".join(points) + " |"
        yield "|---|" + "---:|" * len(points)
        for side in those:
            medians = (median(r["values"][point] for r in side.found[what]) for point in points)
            yield f"| {side.label} | " + " | ".join(f"{m:.2f}" for m in medians) + " |"


def same_start(everyone: list[Side]) -> Iterator[str]:
    """How far each side's text goes along with that of transformers in float32: rounded weights part sooner."""
    texts = {side.label: side.found["decode"][0]["tokens"] for side in everyone if "decode" in side.found}
    right = texts.pop("transformers float32", None)
    if right:
        counts = {label: next((i for i, (a, b) in enumerate(zip(text, right, strict=False)) if a != b), len(right))
                  for label, text in texts.items()}  # fmt: skip
        shown = ", ".join(f"{label} {count}" for label, count in counts.items())
        yield f"Tokens until the first that is not that of transformers in float32, of {len(right)}: {shown}."


def reuse(everyone: list[Side]) -> Iterator[str]:
    """What it saves not to read a conversation again."""
    for side in everyone:
        if side.who == "glassgpt" and "turn" in side.found:
            rounds = [result["values"] for result in side.found["turn"]]
            times = [r["without reuse"] / r[""] for r in rounds]
            cold = median(r["without reuse"] for r in rounds)
            yield (f"{side.label}: a turn takes {cold:.2f} s where the conversation is read again, {median(times):.1f} "
                   f"times as long ({min(times):.1f} to {max(times):.1f}).")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine")
    parser.add_argument("--models", nargs="+", default=["smollm2", "gemma3-270m"])
    parser.add_argument("--only", nargs="+", choices=[*UNITS, "bandwidth"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=min(2, thread_budget()))
    parser.add_argument("--precisions", nargs="*", default=PRECISIONS, help="of glassgpt")
    parser.add_argument("--who", nargs="+", default=list(START), choices=list(START))
    parser.add_argument("--limit", type=int, default=8192, help="the longest of the contexts")
    parser.add_argument("--counts", nargs="+", type=int, default=[1, 2, 4, 8, 16, 32], help="the widths")
    parser.add_argument("--peers", type=Path, default=peers.FOLDER, help="the folder of benchmarks.peers")
    parser.add_argument("--json", type=Path, help="a file for the raw numbers")
    args = parser.parse_args()
    check_threads(args.threads)
    if hasattr(os, "sched_setaffinity"):  # glassgpt takes as many threads as it has cores
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    what = [name for name in (args.only or [*UNITS, "bandwidth"]) if args.only or name not in CURVES]
    known = peers.state(args.peers)
    if not known:
        print("llama.cpp and transformers are missing (python -m benchmarks.peers): glassgpt alone is measured")
    print(f"{platform.system()} {platform.machine()}, {args.threads} threads, {args.rounds} rounds")
    kept: dict[str, Any] = {"peers": known, "threads": args.threads, "rounds": args.rounds, "models": {}}
    speeds = read_bandwidth(max(5, args.rounds), args.threads) if "bandwidth" in what or "decode" in what else []
    if speeds:
        kept["bandwidth"] = speeds
        print(f"Memory is read at {median(speeds):.1f} GB/s ({min(speeds):.1f} to {max(speeds):.1f})")
    measures = [name for name in what if name != "bandwidth"]
    for name in args.models if measures else []:
        everyone = [s for s in sides(name, args.peers if known else None, args.precisions) if s.who in args.who]
        loads = take_rounds(everyone, tasks(name, args.limit, args.counts), measures, args)
        print(f"\n## {name}\n\nThe machine's load as the rounds began: {', '.join(f'{x:.1f}' for x in loads)}.")
        for measured in measures:
            lines = curve(everyone, measured) if measured in CURVES else table(
                everyone, measured, median(speeds) if speeds else None)  # fmt: skip
            print("", *lines, sep="\n", flush=True)
        print("", *same_start(everyone), *reuse(everyone), sep="\n")
        kept["models"][name] = {"load": loads, "sides": {side.label: side.found for side in everyone}}
        if args.json:
            write_whole(args.json, json.dumps(kept, indent=1))
    if args.json:
        write_whole(args.json, json.dumps(kept, indent=1))


if __name__ == "__main__":
    main()
