"""`glassgpt finetune`: teach a model the answers in a file, without cleaning or questions asked."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from glassgpt.cli.options import DEFAULT_MODEL, add_data_options, columns_given, note
from glassgpt.cli.training import (
    RUNS,
    add_training_options,
    changes_given,
    fresh_run,
    run_to_resume,
    tell_end,
    use_threads,
)
from glassgpt.core.errors import ConfigError
from glassgpt.core.words import say

# What says how to train, by the attribute of the option and as a user writes it: settled when a run begins.
GIVEN = {
    "data": "FILE", "base": "--from", "template": "--template", "full": "--full", "rank": "--rank",
    "epochs": "--epochs", "batch": "--batch", "lr": "--lr", "validation": "--validation", "columns": "--columns",
    "encoding": "--encoding",
}  # fmt: skip


SHOWN = 5  # rows that are told one by one


def add_parser(verbs: Any, common: argparse.ArgumentParser, language: str) -> None:
    """Describe the verb."""
    parser = verbs.add_parser("finetune", parents=[common], help=say("teach a model the answers in a file", language))
    parser.add_argument(
        "data", nargs="?", metavar="FILE", help=say("questions and answers, or conversations", language)
    )
    parser.add_argument("--from", dest="base", metavar="M", help=say("the model to begin with (default: {name})",
                                                                     language, name=DEFAULT_MODEL))  # fmt: skip
    parser.add_argument(
        "--template", metavar="T", help=say("the chat template's name, if it is not recognised", language)
    )
    parser.add_argument(
        "--full", action="store_true", help=say("train all weights instead of a small correction", language)
    )
    parser.add_argument("--rank", type=int, metavar="N", help=say("the rank of the correction (default: 16)", language))
    parser.add_argument(
        "--epochs", type=float, metavar="X", help=say("how often each row is read (default: 3)", language)
    )
    parser.add_argument("--batch", type=int, metavar="N", help=say("rows a step (default: 8)", language))
    parser.add_argument("--lr", type=float, metavar="X", help=say("the learning rate (default: 0.001)", language))
    parser.add_argument(
        "--validation", metavar="FILE", help=say("rows to measure on (default: a tenth of FILE is held out)", language)
    )
    add_data_options(parser, language)
    add_training_options(parser, language)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prepare or resume, train, and tell."""
    if not args.resume and not args.data:
        raise ConfigError("a file to learn from is needed", hint="Write `glassgpt finetune FILE`, or --resume RUN.")
    use_threads(args)
    from glassgpt.cli.watch import Watch
    from glassgpt.training.record import plot_losses
    from glassgpt.training.sft import finetune

    training = run_to_resume(args, "settings", GIVEN) if args.resume else _prepare(args)
    note(say("the run is in {folder}", args.language, folder=training.folder))
    with Watch(training, args.language) as watch:
        done = finetune(training, resume=bool(args.resume), until=args.until_val_loss, watch=watch)
    plot_losses(training, training.folder / "loss.png")
    return tell_end(training, done.result, args, {"parameters": done.model.network.count_parameters()})


def _prepare(args: argparse.Namespace) -> Any:
    from glassgpt.core.config import override, settings_from
    from glassgpt.core.runs import next_folder
    from glassgpt.data.report import Problem
    from glassgpt.data.rows import Row
    from glassgpt.data.sources import read_rows
    from glassgpt.data.split import split
    from glassgpt.training.sft import ANSWERS, FineTuneSettings, prepare_finetune

    given = {
        "base": args.base, "template": args.template, "epochs": args.epochs,
        "lora": {"rank": 0 if args.full else args.rank},
        "train": {"batch": args.batch, "lr": args.lr, "seed": args.seed, "device": args.device},
    }  # fmt: skip
    settings = settings_from(FineTuneSettings, override(override({"train": ANSWERS}, given), changes_given(args)))
    problems: list[Problem] = []

    def read(data: str) -> list[Row]:
        return list(read_rows(data, columns=columns_given(args), encoding=args.encoding, problems=problems.append))

    rows = read(args.data)
    if args.validation:
        held_out = read(args.validation)
    else:
        rows, held_out = split(rows, seed=settings.train.seed)
    folder = Path(args.out) if args.out else next_folder(RUNS, Path(args.data).stem)
    about = {"data": args.data, "rows": len(rows), "held_out": len(held_out)}
    with fresh_run(folder, about) as training:
        _, refused = prepare_finetune(training, rows, held_out, settings)
    for problem in problems[:SHOWN]:
        note(say("left out: {source}, row {row}: {reason}", args.language, source=problem.source, row=problem.number,
                 reason=problem.reason))  # fmt: skip
    if problems:
        note(say("records that could not be read: {count}", args.language, count=len(problems)))
    for row in refused[:SHOWN]:
        note(say("left out: {source}, row {row}: {reason}", args.language, source=row.source, row=row.number,
                 reason=row.reason))  # fmt: skip
    if refused:
        note(say("{count} of {rows} rows make no example", args.language, count=len(refused),
                 rows=len(rows) + len(held_out)))  # fmt: skip
    return training
