"""What the verbs that train share: their options, the settings given with --set, and how a run's end is told."""

from __future__ import annotations

import argparse
import json
import math
import shutil
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassgpt.cli.options import note
from glassgpt.core.errors import ConfigError
from glassgpt.core.words import say

if TYPE_CHECKING:
    from glassgpt.core.runs import Run
    from glassgpt.training.loop import Result

RUNS = Path("runs")


def add_training_options(parser: argparse.ArgumentParser, language: str) -> None:
    """--out, --resume, --seed, --set, --until-val-loss, --device, --threads, --json."""
    parser.add_argument("--out", metavar="RUN", help=say("the run's folder (default: a new one in runs/)", language))
    parser.add_argument("--resume", metavar="RUN", help=say("go on with a run that was stopped or killed", language))
    parser.add_argument("--seed", type=int, metavar="N", help=say("the same seed gives the same weights", language))
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", dest="changes",
        help=say("change any setting, such as train.lr=0.002; may be given several times", language),
    )  # fmt: skip
    parser.add_argument(
        "--until-val-loss", type=float, metavar="X", help=say("stop when the held-out loss is not above X", language)
    )
    parser.add_argument("--device", metavar="D", help=say("cpu (default), cuda, mps or auto", language))
    parser.add_argument(
        "--threads", type=int, metavar="N", help=say("threads to compute with (default: all cores)", language)
    )
    parser.add_argument("--json", action="store_true", help=say("print the result as JSON", language))


def changes_given(args: argparse.Namespace) -> dict[str, Any]:
    """The settings given with --set, as nested tables; a value is read as TOML, and as plain text where it is none."""
    tables: dict[str, Any] = {}
    for change in args.changes:
        name, equals, text = change.partition("=")
        if not equals or not name.strip():
            raise ConfigError(
                "--set {given} is not of the form NAME=VALUE", hint="Write it as --set train.lr=0.002.", given=change
            )
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        *outer, last = name.strip().split(".")
        table = tables
        for part in outer:
            table = table.setdefault(part, {})
        table[last] = value
    return tables


@contextmanager
def fresh_run(folder: Path, about: dict[str, Any]) -> Iterator[Run]:
    """A new run to prepare; when that fails, what was begun is taken away again."""
    from glassgpt.core.runs import Run

    existed = folder.exists()
    run = Run.create(folder, about)
    try:
        yield run
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        if existed:
            folder.mkdir()
        raise


def run_to_resume(args: argparse.Namespace, settings: str, options: dict[str, str]) -> Run:
    """The run named with --resume. `settings` is where a run of this verb keeps its settings; of `options`, by the name
    of their attribute, those that were given beside --resume are told to be without effect.

    Raises:
        ConfigError: it was made by another verb, or broken off before its data was ready.
    """
    from glassgpt.core.runs import Run, check_prepared

    run = Run.open(Path(args.resume))
    if check_prepared(run) != settings:
        raise ConfigError(
            "{folder} is a run of another kind", hint="Go on with it by `glassgpt {verb} --resume {folder}`.",
            folder=run.folder, verb=verb_of(run),
        )  # fmt: skip
    common = {"out": "--out", "seed": "--seed", "changes": "--set", "device": "--device", "threads": "--threads"}
    if unused := [shown for name, shown in (options | common).items() if getattr(args, name) not in (None, False, [])]:
        note(say("a run that goes on keeps the settings that it began with; without effect: {options}", args.language,
                 options=", ".join(unused)))  # fmt: skip
    return run


def verb_of(run: Run) -> str:
    """The verb that goes on with a run."""
    from glassgpt.core.runs import STORY

    return "pretrain" if "recipe" in run.about else "build" if (run.folder / STORY).is_file() else "finetune"


def use_threads(args: argparse.Namespace) -> None:
    """Give torch the threads that were asked for."""
    import torch

    from glassgpt.core.threads import check_threads, thread_budget

    torch.set_num_threads(check_threads(args.threads) if args.threads is not None else thread_budget())


def tell_end(run: Run, result: Result, args: argparse.Namespace, extra: dict[str, Any]) -> int:
    """Say how a training ended (stderr), print its JSON line last (stdout; null: not measured yet); gives the exit
    code."""
    language, progress = args.language, result.progress
    if result.signal:
        note(say("stopped after step {step}; go on with: glassgpt {verb} --resume {run}", language, step=progress.step,
                 verb=verb_of(run), run=run.folder))  # fmt: skip
    elif not result.reached:
        note(say("the held-out loss of {wanted} was not reached: the best was {best:.4f}", language,
                 wanted=args.until_val_loss, best=progress.best_loss))  # fmt: skip
    if not result.signal:
        note(say("talk to it or let it go on with a text: glassgpt generate --model {run}", language, run=run.folder)
             if extra.pop("text_model", False)
             else say("talk to it: glassgpt chat {run}", language, run=run.folder))  # fmt: skip
    extra.pop("text_model", None)
    if args.json:
        result_line = {
            "val_loss": progress.last_loss, "best_val_loss": progress.best_loss, "steps": progress.step,
            "tokens": progress.tokens, "train_s": round(progress.train_s, 3),
        }  # fmt: skip
        result_line |= extra | {"run": str(run.folder)}
        finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in result_line.items()}
        print(json.dumps(finite, allow_nan=False), flush=True)
    return 128 + result.signal if result.signal else 0 if result.reached else 1
