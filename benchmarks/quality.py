"""Perplexity of a model's precisions beside llama.cpp's formats of the same weights, on the same windows of tokens.

    python -m benchmarks.peers                                 once: makes the other side
    python -m benchmarks.quality --data FILE [--model smollm2] [--tokens 100000] [--formats Q4_1 Q8_0] [--json FILE]

Both sides are given ids, so no tokenizer takes part, and are compared with one reference: glassgpt in float32, which
reads what the packaged file's blocks stand for without rounding. Not a timing: other work may run beside it.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

from benchmarks import peers
from benchmarks.engine import EQUALS, Side, measure
from glassgpt.core.files import write_whole
from glassgpt.core.threads import thread_budget
from glassgpt.engine.load import load_networks
from glassgpt.evaluation.precisions import compare_precisions, cut_windows

LONGEST = 64  # characters to a token, more than any text has on average


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality")
    parser.add_argument("--data", type=Path, required=True, help="a text in UTF-8")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--tokens", type=int, default=100_000)
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--precisions", nargs="+", default=["bfloat16", "int8", "int4"])
    parser.add_argument("--formats", nargs="*", default=["Q4_1", "Q8_0"], choices=[*peers.FORMATS, "BF16"],
                        help="of llama.cpp")  # fmt: skip
    parser.add_argument("--threads", type=int, default=thread_budget())
    parser.add_argument("--peers", type=Path, default=peers.FOLDER, help="the folder of benchmarks.peers")
    parser.add_argument("--json", type=Path, help="a file for the raw numbers")
    args = parser.parse_args()
    text = args.data.read_text(encoding="utf-8")[: args.tokens * LONGEST]
    tokenizer, networks = load_networks(args.model, ["float32", *args.precisions])
    ours = compare_precisions(
        list(networks.values()), tokenizer, text, window=args.window, tokens=args.tokens, threads=args.threads,
        progress=lambda done, total: print(f"\r{done:,} of {total:,}", end="", file=sys.stderr, flush=True),
    )  # fmt: skip
    print(f"{ours.tokens:,} tokens of {args.data.name} in windows of {ours.window}\n")
    print("| | perplexity | change | KL, nats | same likeliest token |\n|---|---:|---:|---:|---:|")
    kept: dict[str, Any] = {"model": args.model, "data": args.data.name, "tokens": ours.tokens, "loss": {}}
    for one in ours.found:
        more = "| | |" if one is ours.found[0] else (
            f"{one.change:+.2f} % | {one.divergence:.5f} | {one.agreement:.2%} |")  # fmt: skip
        print(f"| glassgpt {one.precision} | {one.perplexity:.3f} | {more}", flush=True)
        kept["loss"][f"glassgpt {one.precision}"] = one.loss
    reference = ours.found[0].loss
    del networks
    bos = [tokenizer.bos_id] if tokenizer.add_bos and tokenizer.bos_id is not None else []
    windows = list(cut_windows(tokenizer.encode(text, add_bos=False), bos, ours.window, args.tokens))
    paths, python = peers.prepare(args.peers, args.model, args.formats), str(peers.python_of(args.peers))
    for kind in args.formats:
        side = Side("llama.cpp", kind, args.model, str(paths[kind]), python)
        found = measure(side, "loss", {"windows": windows}, args.threads)
        loss = found["values"][""]
        if found["tokens"] != ours.tokens:
            sys.exit(f"{side.label} predicted {found['tokens']} tokens, glassgpt {ours.tokens}")
        change = math.expm1(loss - reference)
        print(f"| {side.label} (beside {EQUALS[kind]}) | {math.exp(loss):.3f} | {change:+.2%} | | |", flush=True)
        kept["loss"][side.label] = loss
    if args.json:
        write_whole(args.json, json.dumps(kept, indent=1))


if __name__ == "__main__":
    main()
