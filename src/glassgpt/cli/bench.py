"""`glassgpt bench quality`: what a model loses when its weights are kept in fewer bits."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from glassgpt.cli.options import DEFAULT_MODEL, note, print_json
from glassgpt.core.errors import InputError
from glassgpt.core.words import say

if TYPE_CHECKING:
    from glassgpt.data.report import Problem
    from glassgpt.evaluation.precisions import Comparison

REFERENCE = "float32"
PRECISIONS = (REFERENCE, "bfloat16", "int8", "int4")
COMPARED = ("int4", "int8", "bfloat16")
TOKENS, WINDOW = 20_000, 512


def add_parser(verbs: Any, common: argparse.ArgumentParser, language: str) -> None:
    """Describe the verb."""
    about = say("measure what the engine gives and costs on this machine", language)
    parser = verbs.add_parser("bench", parents=[common], help=about)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    about = say("compare the precisions of a model with float32, on a text", language)
    quality = actions.add_parser("quality", parents=[common], help=about)
    words = "a name from `glassgpt models`, a run, a folder, a .gguf file or a hub id (default: {name})"
    quality.add_argument("model", nargs="?", default=DEFAULT_MODEL, metavar="MODEL",
                         help=say(words, language, name=DEFAULT_MODEL))  # fmt: skip
    quality.add_argument("--data", required=True, metavar="FILE", help=say("the text to measure on", language))
    quality.add_argument(
        "--tokens", type=int, default=TOKENS, metavar="N",
        help=say("predict only the first N tokens; 0 for all (default: {value})", language, value=TOKENS),
    )  # fmt: skip
    quality.add_argument(
        "--window", type=int, default=WINDOW, metavar="N",
        help=say("tokens that are read as one text (default: {value})", language, value=WINDOW),
    )  # fmt: skip
    quality.add_argument(
        "--precisions", nargs="+", choices=PRECISIONS, default=COMPARED, metavar="P",
        help=say("what is compared with float32 (default: {value})", language, value=" ".join(COMPARED)),
    )  # fmt: skip
    quality.add_argument(
        "--threads", type=int, metavar="N", help=say("threads to compute with (default: all cores)", language)
    )
    quality.add_argument("--json", action="store_true", help=say("print the result as JSON", language))
    quality.set_defaults(run=run_quality)


def run_quality(args: argparse.Namespace) -> int:
    """Measure and print."""
    from glassgpt.core.threads import use_threads

    if args.threads is not None:
        use_threads(args.threads)
    text = _text_of(args.data, args.language)
    from glassgpt.engine.load import load_networks
    from glassgpt.evaluation.precisions import compare_precisions

    wanted = dict.fromkeys([REFERENCE, *args.precisions])  # each once, in the order in which they were given
    tokenizer, networks = load_networks(args.model, list(wanted))
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(say("reading", args.language), total=None)
        result = compare_precisions(
            list(networks.values()), tokenizer, text, window=args.window, tokens=args.tokens,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )  # fmt: skip
    if args.json:
        _print_json(result, args)
    else:
        _print_table(result, args.language)
    return 0


def _text_of(name: str, language: str) -> str:
    """The text in a file, or the texts in it, with blank lines between."""
    from glassgpt.data.sources import read_rows

    problems: list[Problem] = []
    texts = []
    for row in read_rows(name, text_unit="file", problems=problems.append):
        if row.kind != "text":
            raise InputError(
                "{name} holds conversations; a text is needed", hint="`glassgpt eval` scores the answers in them.",
                name=name,
            )  # fmt: skip
        texts += row.texts
    if problems and not texts:
        raise InputError("{name} holds no text: {reason}", name=name, reason=problems[0].reason)
    if problems:
        note(say("records that could not be read: {count}", language, count=len(problems)))
    return "\n\n".join(texts)


def _print_json(result: Comparison, args: argparse.Namespace) -> None:
    print_json(
        {
            "model": args.model,
            "data": args.data,
            "reference": REFERENCE,
            "tokens": result.tokens,
            "window": result.window,
            "precisions": [
                {
                    "precision": one.precision,
                    "bytes_per_token": one.nbytes,
                    "loss": one.loss,
                    "perplexity": one.perplexity,
                    "change_percent": one.change,
                    "divergence": one.divergence,
                    "agreement": one.agreement,
                }
                for one in result.found
            ],
        }
    )


def _print_table(result: Comparison, language: str) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    titles = ("precision", "read per token", "perplexity", "change", "KL (nats)", "same top token")
    for title in titles:
        table.add_column(say(title, language), overflow="fold", justify="left" if title == "precision" else "right")
    for one in result.found:
        compared = (f"{one.change:+.2f} %", f"{one.divergence:.5f}", f"{100 * one.agreement:.2f} %")
        if one.precision == REFERENCE:
            compared = ("", "", "")
        table.add_row(one.precision, f"{one.nbytes / 1e6:,.1f} MB", f"{one.perplexity:.3f}", *compared)
    Console(highlight=False, soft_wrap=False).print(table)
    words = "measured on {tokens:,} tokens in windows of {window:,}; all is compared with {reference}"
    print(say(words, language, tokens=result.tokens, window=result.window, reference=REFERENCE))
