"""`glassgpt generate`: continue a text."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassgpt.cli.options import (
    add_draft_option,
    add_model_options,
    add_sampling_options,
    load_model,
    note,
    print_json,
    sampling_given,
)  # fmt: skip
from glassgpt.core.errors import FormatError
from glassgpt.core.words import say

if TYPE_CHECKING:
    from glassgpt.engine.constrain import OutputFormat

_IMPORTED_AT = time.time()


def add_parser(verbs: Any, common: argparse.ArgumentParser, language: str) -> None:
    """Describe the verb."""
    parser = verbs.add_parser("generate", parents=[common], help=say("continue a text", language))
    add_model_options(parser, language)
    add_draft_option(parser, language)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--prompt", metavar="TEXT", help=say("the text to continue", language))
    what.add_argument("--receipt", metavar="FILE",
                      help=say("compute a reply again from what --json printed, and see that it is the same",
                               language))  # fmt: skip
    add_sampling_options(parser, language, {})
    parser.add_argument("--max-length", type=int, metavar="N",
                        help=say("the older limit, which counts the prompt too", language))  # fmt: skip
    parser.add_argument("--num-return-sequences", type=int, default=1, metavar="K",
                        help=say("how many different continuations (default: 1)", language))  # fmt: skip
    parser.add_argument("--stop", action="append", default=[], metavar="TEXT",
                        help=say("end before this text; may be given several times", language))  # fmt: skip
    parser.add_argument("--json-schema", metavar="FILE",
                        help=say("the text must be JSON of this schema", language))  # fmt: skip
    parser.add_argument("--regex", metavar="R", help=say("the text must match this regular expression", language))
    parser.add_argument("--choice", action="append", default=[], metavar="TEXT",
                        help=say("the text must be this or another choice; give it several times",
                                 language))  # fmt: skip
    parser.add_argument("--json", action="store_true", help=say("print the result as JSON", language))
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Continue the prompt and print the text, as it comes where there is one."""
    if args.receipt is not None:
        return _repeat(args)
    model, load_s = load_model(args)
    settings: dict[str, Any] = sampling_given(args) | {
        "max_new_tokens": args.max_new_tokens,
        "max_length": args.max_length,
        "stop": args.stop,
        "format": _format(args),
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
                    "receipt": model.receipt(completion).to_dict(),
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


def _format(args: argparse.Namespace) -> OutputFormat | None:
    """What the text must match; raises ConfigError or FormatError."""
    if args.json_schema is None and args.regex is None and not args.choice:
        return None
    from glassgpt.engine.constrain import OutputFormat

    schema = None
    if args.json_schema is not None:
        try:
            schema = json.loads(Path(args.json_schema).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise FormatError(
                "{path} holds no JSON schema", hint="Give a JSON file with the schema.", path=args.json_schema
            ) from None
    return OutputFormat(json_schema=schema, regex=args.regex, choices=tuple(args.choice) or None)


def _repeat(args: argparse.Namespace) -> int:
    """Compute what a receipt tells of, and compare."""
    from glassgpt.engine.receipt import check, read_receipt, same_tokens

    found = read_receipt(args.receipt)
    args.model, args.precision = args.model or found.model, found.precision
    model, _ = load_model(args, in_torch=found.path == "torch")
    completion = model.repeat(check(found, model))
    same_tokens(found, completion.tokens)
    if args.json:
        print_json({"same": True, "text": completion.text, "tokens": completion.tokens})
    else:
        print(completion.text)
        note(say("The same {count} tokens as in the receipt.", args.language, count=len(completion.tokens)))
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
