"""`glassgpt generate`: continue a text."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

from glassgpt.cli.options import add_model_options, add_sampling_options, load_model, print_json, sampling_given
from glassgpt.core.words import say

_IMPORTED_AT = time.time()


def add_parser(verbs: Any, common: argparse.ArgumentParser, language: str) -> None:
    """Describe the verb."""
    parser = verbs.add_parser("generate", parents=[common], help=say("continue a text", language))
    add_model_options(parser, language)
    parser.add_argument("--prompt", required=True, metavar="TEXT", help=say("the text to continue", language))
    add_sampling_options(parser, language, {})
    parser.add_argument("--max-length", type=int, metavar="N",
                        help=say("the older limit, which counts the prompt too", language))  # fmt: skip
    parser.add_argument("--num-return-sequences", type=int, default=1, metavar="K",
                        help=say("how many different continuations (default: 1)", language))  # fmt: skip
    parser.add_argument("--stop", action="append", default=[], metavar="TEXT",
                        help=say("end before this text; may be given several times", language))  # fmt: skip
    parser.add_argument("--json", action="store_true", help=say("print the result as JSON", language))
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Continue the prompt and print the text, as it comes where there is one."""
    model, load_s = load_model(args)
    settings: dict[str, Any] = sampling_given(args) | {
        "max_new_tokens": args.max_new_tokens,
        "max_length": args.max_length,
        "stop": args.stop,
    }
    if not args.json and args.num_return_sequences == 1:
        for text in model.stream(args.prompt, **settings):
            print(text, end="", flush=True)
        print()
        return 0
    from glassgpt.engine.language_model import Timings

    timings = Timings()
    completions = model.generate(
        args.prompt, num_return_sequences=args.num_return_sequences, timings=timings, **settings
    )
    if not args.json:
        for completion in completions:
            print(say("--- {number} of {count} ({reason}) ---", args.language, number=completion.index + 1,
                      count=len(completions), reason=completion.finish_reason))  # fmt: skip
            print(completion.text)
        return 0
    since_start = time.time() - process_start() - (time.perf_counter() - timings.first_token_at)
    print_json(
        {
            "model": model.name,
            "precision": model.precision,
            "prompt_tokens": timings.prefill_tokens,
            "completions": [
                {
                    "text": completion.text,
                    "tokens": completion.tokens,
                    "finish_reason": completion.finish_reason,
                    "logprobs": completion.logprobs,
                }
                for completion in completions
            ],
            "seed": completions[0].seed,
            "timings": {
                "load_s": round(load_s, 3),
                "first_token_s": round(since_start, 3),
                "prefill_tokens_per_s": _rate(timings.prefill_tokens, timings.prefill_s),
                "decode_tokens_per_s": _rate(timings.decode_tokens, timings.decode_s),
            },
        }
    )
    return 0


def process_start() -> float:
    """When this process began, in seconds since 1970: from the system on Linux, elsewhere from our first import."""
    if sys.platform != "linux":
        return _IMPORTED_AT
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    return time.time() - (uptime - ticks / os.sysconf("SC_CLK_TCK"))


def _rate(count: int, seconds: float) -> float | None:
    """Per second; None where nothing was timed."""
    return round(count / seconds, 2) if count > 0 and seconds > 0 else None
