"""`glassgpt pretrain`: train a model from scratch, by a recipe."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassgpt.cli.minutes import check_given, prepare_for_minutes, tell_outcome
from glassgpt.cli.options import note
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

if TYPE_CHECKING:
    from glassgpt.training.machine import Machine


def add_parser(verbs: Any, common: argparse.ArgumentParser, language: str) -> None:
    """Describe the verb."""
    parser = verbs.add_parser("pretrain", parents=[common], help=say("train a model from scratch", language))
    parser.add_argument(
        "recipe", nargs="?", metavar="RECIPE", help=say("a TOML file, such as those in recipes/", language)
    )
    parser.add_argument(
        "--data", metavar="FILE", help=say("a text file, a folder, or python-docs, which every machine has", language)
    )
    parser.add_argument(
        "--minutes", type=float, metavar="M",
        help=say("the time there is, all in all: sizes and steps are chosen to fit it", language),
    )  # fmt: skip
    add_training_options(parser, language)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prepare or resume, train, and tell."""
    began = time.monotonic()
    by_time = args.minutes is not None and not args.resume
    if by_time:
        check_given(args)
    elif not args.resume and not (args.recipe and args.data):
        raise ConfigError(
            "a recipe and --data are needed",
            hint="Write `glassgpt pretrain recipes/shakespeare_small.toml --data FILE`, or --resume RUN; "
            "with --minutes no recipe is needed.",
        )
    use_threads(args)
    from glassgpt.cli.watch import Watch
    from glassgpt.core.config import override
    from glassgpt.core.runs import next_folder
    from glassgpt.training.pretrain import prepare, pretrain
    from glassgpt.training.settings import read_recipe

    if args.resume:
        training = run_to_resume(args, "recipe", {"recipe": "RECIPE", "data": "--data", "minutes": "--minutes"})
    elif by_time:
        folder = Path(args.out) if args.out else next_folder(RUNS, Path(args.recipe or args.data).stem or "run")
        with fresh_run(folder, {"data": args.data}) as training:
            prepare_for_minutes(training, text_rows(args.data), args, began)
    else:
        path = Path(args.recipe)
        recipe = read_recipe(path, override(changes_given(args), {"train": {"seed": args.seed, "device": args.device}}))
        folder = Path(args.out) if args.out else next_folder(RUNS, path.stem)
        with fresh_run(folder, {"data": args.data}) as training:
            prepare(training, text_rows(args.data), recipe)
    if training.about.get("left_out") and not args.resume:
        note(say("{count} texts of one token or none are left out", args.language, count=training.about["left_out"]))
    note(say("the run is in {folder}", args.language, folder=training.folder))
    with Watch(training, args.language) as watch:
        done = pretrain(training, resume=bool(args.resume), until=args.until_val_loss, watch=watch)
    from glassgpt.training.machine import measure_machine
    from glassgpt.training.record import plot_losses

    plot_losses(training, training.folder / "loss.png")
    machine = measure_machine()
    tell_machine(machine, args.language)
    network = done.network
    extra = {
        "parameters": network.count_parameters(), "context": network.config.context_length,
        "precision": training.about["recipe"]["train"]["precision"], "gflops": round(machine.float32_gflops),
        "gb_s": round(machine.memory_gb_s, 1), "text_model": True,
    }  # fmt: skip
    if "budget" in training.about:
        seconds = None if args.resume else time.monotonic() - began
        extra |= tell_outcome(training, done.result, seconds, args.language)
    return tell_end(training, done.result, args, extra)


def tell_machine(machine: Machine, language: str) -> None:
    """How fast this machine is, beside the times of a run."""
    words = "this machine: {float32:.0f} GFLOP/s in float32, {bfloat16:.0f} in bfloat16, {memory:.0f} GB/s, {n} threads"
    speeds = {"float32": machine.float32_gflops, "bfloat16": machine.bfloat16_gflops, "memory": machine.memory_gb_s}
    note(say(words, language, n=machine.threads, **speeds))


def text_rows(data: str) -> list[Any]:
    """The texts to pre-train on: a row is a whole file, or a record of a table."""
    from glassgpt.data.sources import read_rows

    return list(read_rows(data, text_unit="file"))
