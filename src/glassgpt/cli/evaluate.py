"""`glassgpt eval`: a model's loss, perplexity and bits per byte on a text file."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from glassgpt.cli.options import add_model_options, load_model, print_json
from glassgpt.core.errors import FormatError, NotFoundError
from glassgpt.core.words import say

_MAX_BYTES = 1 << 30


def add_parser(verbs: Any, common: argparse.ArgumentParser, language: str) -> None:
    """Describe the verb."""
    parser = verbs.add_parser("eval", parents=[common], help=say("measure how well a model predicts a text", language))
    add_model_options(parser, language)
    parser.add_argument("--data", required=True, metavar="FILE", help=say("a text file in UTF-8", language))
    parser.add_argument(
        "--window", type=int, default=1024, metavar="N", help=say("tokens read at a time (default: 1024)", language)
    )
    parser.add_argument("--json", action="store_true", help=say("print the result as JSON", language))
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    text = read_text(Path(args.data))
    model, _ = load_model(args)
    from rich.console import Console
    from rich.progress import Progress

    from glassgpt.evaluation.perplexity import perplexity

    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(say("reading", args.language), total=None)
        result = perplexity(
            model, text, window=args.window, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )
    if args.json:
        print_json({"model": model.name, "precision": model.precision} | asdict(result))
        return 0
    print(say("loss            {value:.4f} nats per token", args.language, value=result.loss))
    print(say("perplexity      {value:.3f}", args.language, value=result.perplexity))
    print(say("bits per byte   {value:.4f}", args.language, value=result.bits_per_byte))
    print(
        say("tokens scored   {value} in windows of {window}", args.language, value=result.tokens, window=result.window)
    )
    return 0


def read_text(path: Path) -> str:
    """A UTF-8 text file, whole; raises NotFoundError or FormatError."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise FormatError("{path} is larger than {limit} bytes", path=path, limit=_MAX_BYTES)
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatError(
            "{path} is not UTF-8 (byte {at})", hint="Save it as UTF-8.", path=path, at=error.start
        ) from None
    except OSError as error:
        raise NotFoundError(
            "{path} cannot be read ({reason})", hint="Check the path.", path=path, reason=error.strerror
        ) from None
