"""`glassgpt eval`: a model's loss, perplexity and bits per byte on texts or answers."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassgpt.cli.options import (
    add_data_options,
    add_model_options,
    chosen_model,
    columns_given,
    load_model,
    note,
    print_json,
)
from glassgpt.core.errors import ConfigError
from glassgpt.core.words import say

if TYPE_CHECKING:
    from glassgpt.engine.language_model import LanguageModel
    from glassgpt.evaluation.score import Score

UNITS = ("file", "paragraph", "line")
TOLD = 5  # refused rows that are told one by one


def add_parser(verbs: Any, common: argparse.ArgumentParser, language: str) -> None:
    """Describe the verb."""
    parser = verbs.add_parser(
        "eval", parents=[common], help=say("measure how well a model predicts texts or answers", language)
    )
    add_model_options(parser, language, positional=True)
    parser.add_argument(
        "--data", metavar="FILE",
        help=say("a text, or questions and answers, as clean reads them (default: what the run held out)", language),
    )  # fmt: skip
    add_data_options(parser, language)
    unit = say("what one row of a text file is (default: {value})", language, value="file")
    parser.add_argument("--text-unit", choices=UNITS, default="file", help=unit)
    parser.add_argument(
        "--window", type=int, default=1024, metavar="N", help=say("tokens read at a time (default: 1024)", language)
    )
    parser.add_argument("--json", action="store_true", help=say("print the result as JSON", language))
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    from glassgpt.core.runs import Run, is_run

    place = Path(chosen_model(args))
    if args.data is None and not is_run(place):
        raise ConfigError("something to measure on is needed", hint="Add --data FILE; only a run has held out rows.")
    problems: list[Any] = []
    measure = _of_run(Run.open(place), args) if args.data is None else _of_data(args, problems)
    if args.precision in ("int8", "int4"):
        raise ConfigError(
            "eval measures the network in torch, which has no {precision}",
            hint="Use float32 or bfloat16; `glassgpt bench quality` compares the engine's precisions.",
            precision=args.precision,
        )
    model, _ = load_model(args, in_torch=True)
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(say("reading", args.language), total=None)
        score = measure(model, lambda done, total: bar.update(task, completed=done, total=total))
    for row in score.refused[:TOLD]:
        note(say("left out: {source}, row {row}: {reason}", args.language, source=row.source, row=row.number,
                 reason=row.reason))  # fmt: skip
    if problems:
        note(say("records that could not be read: {count}", args.language, count=len(problems)))
    if args.json:
        print_json(
            {
                "model": model.name,
                "precision": model.precision,
                "data": args.data or "held out",
                "loss": score.loss,
                "perplexity": score.perplexity,
                "bits_per_byte": score.bits_per_byte,
                "tokens": score.tokens,
                "bytes": score.bytes,
                "window": min(args.window, model.context_length),
                "rows": score.rows,
                "refused": len(score.refused),
                "problems": len(problems),
            }
        )
    else:
        _print(score, args.language)
    return 0


def _print(score: Score, language: str) -> None:
    print(say("loss            {value:.4f} nats per token", language, value=score.loss))
    print(say("perplexity      {value:.3f}", language, value=score.perplexity))
    print(say("bits per byte   {value:.4f}", language, value=score.bits_per_byte))
    words = "scored          {tokens:,} tokens ({bytes:,} bytes) of {rows:,} rows; {refused:,} rows left out"
    counts = {"tokens": score.tokens, "bytes": score.bytes, "rows": score.rows, "refused": len(score.refused)}
    print(say(words, language, **counts))


def _of_data(args: argparse.Namespace, problems: list[Any]) -> Callable[..., Score]:
    """How to measure on a file; what is wrong with its name is told before a model is loaded."""
    from glassgpt.data.sources import read_rows

    rows = read_rows(
        args.data,
        columns=columns_given(args),
        encoding=args.encoding,
        text_unit=args.text_unit,
        problems=problems.append,
    )

    def measure(model: LanguageModel, progress: Callable[[int, int], None]) -> Score:
        from glassgpt.evaluation.score import score_rows

        return score_rows(model, rows, window=args.window, progress=progress)

    return measure


def _of_run(run: Any, args: argparse.Namespace) -> Callable[..., Score]:
    """How to measure on what a run held out."""
    from glassgpt.core.runs import HELD_OUT
    from glassgpt.data.shards import open_shards

    def measure(model: LanguageModel, progress: Callable[[int, int], None]) -> Score:
        from glassgpt.evaluation.score import score_examples, score_tokens

        shards = open_shards(run.folder / HELD_OUT, model.tokenizer)
        if "recipe" in run.about:  # a pre-training: one text in windows
            return score_tokens(model, shards, args.window, progress)
        return score_examples(model, shards, progress)

    return measure
