"""`glassgpt build`: your file goes in, a model that answers in its words comes out."""

from __future__ import annotations

import argparse
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassgpt.cli.options import DEFAULT_MODEL, add_data_options, columns_given, note
from glassgpt.cli.training import RUNS, changes_given, run_to_resume, tell_end, use_threads
from glassgpt.core.errors import ConfigError
from glassgpt.core.words import say

if TYPE_CHECKING:
    from glassgpt.core.runs import Run
    from glassgpt.training.build import Built

# What says what to build, by the attribute of the option and as a user writes it: settled when a build begins.
GIVEN = {
    "data": "FILE", "base": "--from", "epochs": "--epochs", "minutes": "--minutes",
    "mask_personal": "--mask-personal", "columns": "--columns", "encoding": "--encoding",
}  # fmt: skip
SAMPLE = "shop"


def add_parser(verbs: Any, common: argparse.ArgumentParser, language: str) -> None:
    """Describe the verb."""
    parser = verbs.add_parser(
        "build", parents=[common], help=say("make a model from a file of questions and answers", language)
    )
    parser.add_argument(
        "data", nargs="?", metavar="FILE",
        help=say("questions and answers (CSV, JSONL, ...); left out: the sample, an online shop's export", language),
    )  # fmt: skip
    parser.add_argument(
        "--from", dest="base", metavar="M",
        help=say("the model to begin with, or scratch (default: {name})", language, name=DEFAULT_MODEL),
    )  # fmt: skip
    parser.add_argument("--out", metavar="RUN", help=say("the run's folder (default: a new one in runs/)", language))
    parser.add_argument("--resume", metavar="RUN", help=say("go on with a run that was stopped or killed", language))
    parser.add_argument(
        "--epochs", type=float, metavar="X", help=say("how often each row is read (default: 3)", language)
    )
    parser.add_argument(
        "--minutes", type=float, metavar="M",
        help=say("the time from start to end, instead of --epochs: rows are read as often as fits", language),
    )  # fmt: skip
    parser.add_argument(
        "--mask-personal", action="store_true",
        help=say("put [PHONE], [EMAIL] and the like in the place of personal data", language),
    )  # fmt: skip
    parser.add_argument("--seed", type=int, metavar="N", help=say("the same seed gives the same weights", language))
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", dest="changes",
        help=say("change any setting, such as finetune.train.lr=0.002; may be given several times", language),
    )  # fmt: skip
    parser.add_argument("--device", metavar="D", help=say("cpu (default), cuda, mps or auto", language))
    parser.add_argument(
        "--threads", type=int, metavar="N", help=say("threads to compute with (default: all cores)", language)
    )
    parser.add_argument("--json", action="store_true", help=say("print the result as JSON", language))
    add_data_options(parser, language)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Build, or go on with a build, and tell."""
    began = time.monotonic()
    use_threads(args)
    with _ended_by_sigterm():
        training, built = _resumed(args) if args.resume else _new(args, began)
    story = built.story
    facts = {"kept": story.cleaning["kept"], "rows": story.cleaning["rows_in"], "before": story.loss_before}
    if story.loss_after is None:
        note(say("{kept} of {rows} rows kept; held-out loss {before:.3f} before; stopped, so not measured again",
                 args.language, **facts))  # fmt: skip
    else:
        note(say("{kept} of {rows} rows kept; held-out loss {before:.3f} before, {after:.3f} after", args.language,
                 after=story.loss_after, **facts))  # fmt: skip
    note(say("the story is in {path}", args.language, path=training.folder / "report.html"))
    extra = {
        "rows_in": story.cleaning["rows_in"], "kept": story.cleaning["kept"], "too_long": story.refused,
        "loss_before": story.loss_before, "loss_after": story.loss_after,
        "overlap_before": _mean([a.overlap for a in story.answers_before]),
        "overlap_after": _mean([a.overlap for a in story.answers_after]),
    }  # fmt: skip
    args.until_val_loss = None
    return tell_end(training, built.tuned.result, args, extra)


def _new(args: argparse.Namespace, began: float) -> tuple[Run, Built]:
    from glassgpt.cli.watch import Watch
    from glassgpt.core.threads import thread_budget
    from glassgpt.data.sources import read_rows
    from glassgpt.training.build import build, check_base

    data, settings = args.data or str(sample_file()), _settings(args)
    if args.minutes is not None:
        _check_minutes(args)
    check_base(settings)
    read_rows(data, columns=columns_given(args), encoding=args.encoding)  # tells at once when there is no such file
    with _run_worth_keeping(Path(args.out) if args.out else next_folder_for(data)) as training:
        note(say("the run is in {folder}", args.language, folder=training.folder))
        with Watch(training, args.language) as watch:
            return training, build(
                training, data, settings, columns=columns_given(args), encoding=args.encoding,
                minutes=args.minutes, began=began,
                processes=min(args.threads or thread_budget(), thread_budget()), language=args.language,
                tell=lambda sentence: note(sentence.text(args.language)), watch=watch,
            )  # fmt: skip


def _resumed(args: argparse.Namespace) -> tuple[Run, Built]:
    from glassgpt.cli.watch import Watch
    from glassgpt.training.build import resume_build

    training = run_to_resume(args, "settings", GIVEN)
    note(say("the run is in {folder}", args.language, folder=training.folder))
    with Watch(training, args.language) as watch:
        return training, resume_build(
            training, language=args.language, tell=lambda sentence: note(sentence.text(args.language)), watch=watch
        )


def _settings(args: argparse.Namespace) -> Any:
    """What the user gave, over what is usual for the model that it begins with."""
    from glassgpt.core.config import override, settings_from
    from glassgpt.training.build import BuildSettings, defaults

    given = {
        "finetune": {
            "base": args.base,
            "epochs": args.epochs,
            "train": {"seed": 1 if args.seed is None else args.seed, "device": args.device},
        },
        "clean": {"mask_personal": True} if args.mask_personal else {},
    }
    given = override(override({}, given), changes_given(args))
    tuning = given.get("finetune")
    base = tuning.get("base", DEFAULT_MODEL) if isinstance(tuning, dict) else DEFAULT_MODEL
    return settings_from(BuildSettings, override({"finetune": defaults(base)}, given))


def _check_minutes(args: argparse.Namespace) -> None:
    """Raises ConfigError: the minutes are no number of them, or the readings that they decide are given too."""
    from glassgpt.training.budget import check_minutes

    check_minutes(args.minutes)
    changed = changes_given(args).get("finetune")
    given = "--epochs" if args.epochs is not None else "finetune.epochs"
    if args.epochs is not None or (isinstance(changed, dict) and "epochs" in changed):
        raise ConfigError("{name} is chosen by --minutes", hint="Leave out one of the two.", name=given)


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM ends a build as Ctrl-C does, so that nothing half-made stays; the training itself saves first."""

    def end(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may ask for signals
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _run_worth_keeping(folder: Path) -> Iterator[Run]:
    """A new run, which is taken away again when it fails before its rows are cleaned: nothing in it is of use."""
    from glassgpt.core.runs import Run
    from glassgpt.training.build import CLEANING

    existed = folder.exists()
    run = Run.create(folder, {"kind": "build", "status": "reading"})
    try:
        yield run
    except BaseException:
        if not (folder / CLEANING).exists():
            shutil.rmtree(folder, ignore_errors=True)
            if existed:
                folder.mkdir()
        raise


def next_folder_for(data: str) -> Path:
    """A new folder in runs/, called as the file or data set is."""
    from glassgpt.core.runs import name_for, next_folder

    return next_folder(RUNS, name_for(data))


def sample_file() -> Path:
    """The sample that comes with the package."""
    from importlib.resources import files

    return Path(str(files("glassgpt") / "samples" / f"{SAMPLE}.csv"))


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
