"""`glassgpt verify-resume`: prove on a run of one's own that a stop costs nothing."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from glassgpt.cli.options import note
from glassgpt.core.words import say


def add_parser(verbs: Any, common: argparse.ArgumentParser, language: str) -> None:
    """Describe the verb."""
    parser = verbs.add_parser(
        "verify-resume", parents=[common],
        help=say("prove that a killed and resumed run gives the weights of an unbroken one", language),
    )  # fmt: skip
    parser.add_argument("folder", metavar="RUN", help=say("a run's folder; it is read and never changed", language))
    parser.add_argument(
        "--steps", type=int, metavar="N", help=say("steps to train (default: the run's own, at most 20)", language)
    )
    parser.add_argument(
        "--kills", type=int, default=3, metavar="N", help=say("how often it is killed (default: 3)", language)
    )
    parser.add_argument("--json", action="store_true", help=say("print the result as JSON", language))
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prove it, tell what was compared, and fail when something differs."""
    from glassgpt.training.verify import verify_resume

    language = args.language
    verdict = verify_resume(
        Path(args.folder), steps=args.steps, kills=args.kills, tell=lambda sentence: note(sentence.text(language))
    )
    if args.json:
        told = asdict(verdict) | {"identical": verdict.identical, "seconds": round(verdict.seconds, 3)}
        print(json.dumps(told | {"run": args.folder}, allow_nan=False), flush=True)
    else:
        print(say("trained: {steps} steps of {run} ({kind}), a checkpoint every {gap}", language, steps=verdict.steps,
                  run=args.folder, kind=verdict.kind, gap=verdict.checkpoint_every))  # fmt: skip
        print(say("killed: {count} times, after steps {steps}", language, count=len(verdict.kills),
                  steps=", ".join(map(str, verdict.kills))))  # fmt: skip
        print(say("compared: {tensors} tensors of weights and optimizer state ({numbers:,} numbers), {losses} losses",
                  language, tensors=verdict.tensors, numbers=verdict.numbers, losses=verdict.losses))  # fmt: skip
        if verdict.identical:
            print(say("verdict: the same, bit for bit", language))
    verdict.demand()
    return 0
