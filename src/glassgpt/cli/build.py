"""`glassgpt build`: your file goes in, a model that answers in its words comes out."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from glassgpt.cli.options import DEFAULT_MODEL, add_data_options, columns_given, note
from glassgpt.cli.training import RUNS, changes_given, tell_end, use_threads
from glassgpt.core.errors import ConfigError
from glassgpt.core.words import say

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
    parser.add_argument(
        "--epochs", type=float, metavar="X", help=say("how often each row is read (default: 3)", language)
    )
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
    """Build and tell."""
    data = Path(args.data) if args.data else sample_file()
    if not data.exists() and not str(args.data).startswith("hf:"):
        raise ConfigError("{path} is not there", hint="Give a file, a folder, or nothing for the sample.", path=data)
    use_threads(args)
    from glassgpt.cli.watch import Watch
    from glassgpt.core.config import override, settings_from
    from glassgpt.core.runs import Run, next_folder
    from glassgpt.training.build import BuildSettings, build
    from glassgpt.training.sft import ANSWERS

    given = {
        "finetune": {
            "base": args.base,
            "epochs": args.epochs,
            "train": ANSWERS | {"seed": 1 if args.seed is None else args.seed, "device": args.device},
        },
        "clean": {"mask_personal": True} if args.mask_personal else {},
    }
    settings = settings_from(BuildSettings, override(override({}, given), changes_given(args)))
    folder = Path(args.out) if args.out else next_folder(RUNS, data.stem)
    training = Run.create(folder, {"kind": "build", "status": "reading"})
    note(say("the run is in {folder}", args.language, folder=folder))
    with Watch(training, args.language) as watch:
        built = build(
            training, args.data if args.data else data, settings, columns=columns_given(args), encoding=args.encoding,
            language=args.language, tell=lambda sentence: note(sentence.text(args.language)), watch=watch,
        )  # fmt: skip
    story = built.story
    note(say("{kept} of {rows} rows kept; held-out loss {before:.3f} before, {after:.3f} after", args.language,
             kept=story.cleaning.kept, rows=story.cleaning.rows_in, before=story.loss_before,
             after=story.loss_after))  # fmt: skip
    note(say("the story is in {path}", args.language, path=folder / "report.html"))
    extra = {
        "rows_in": story.cleaning.rows_in, "kept": story.cleaning.kept, "loss_before": story.loss_before,
        "loss_after": story.loss_after,
        "overlap_before": _mean([a.overlap for a in story.answers_before]),
        "overlap_after": _mean([a.overlap for a in story.answers_after]),
    }  # fmt: skip
    args.until_val_loss = None
    return tell_end(training, built.tuned.result, args, extra)


def sample_file() -> Path:
    """The sample that comes with the package."""
    from importlib.resources import files

    return Path(str(files("glassgpt") / "samples" / f"{SAMPLE}.csv"))


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0
