"""`glassgpt pretrain --minutes`: the expectation before a training, and what came of it, on the terminal."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassgpt.cli.options import note
from glassgpt.cli.training import changes_given
from glassgpt.core.errors import ConfigError
from glassgpt.core.words import say

if TYPE_CHECKING:
    from glassgpt.core.runs import Run
    from glassgpt.training.budget import Plan
    from glassgpt.training.loop import Result


def prepare_for_minutes(training: Run, rows: list[Any], args: argparse.Namespace, began: float) -> None:
    """Prepare a run of `--minutes`, whose sizes are planned once its text lies in tokens; tell the plan."""
    from glassgpt.core.config import override
    from glassgpt.training.minutes import first_recipe, plan_run
    from glassgpt.training.pretrain import prepare
    from glassgpt.training.settings import Recipe, read_recipe

    language = args.language
    changes = override(changes_given(args), {"train": {"seed": args.seed, "device": args.device}})
    recipe = read_recipe(Path(args.recipe), changes) if args.recipe else None
    base = first_recipe(rows, recipe, changes)
    if recipe and recipe.train.compile:
        note(say("--minutes trains without the compiler, whose own time cannot be planned", language))
    if recipe and (recipe.base, recipe.train.optimizer, recipe.model.get("ngrams", 1)) != ("modern", "muon", 1):
        note(say("the forecast knows plain networks trained with Muon; for this recipe it is a rough guess", language))

    def plan(prepared: Recipe) -> Recipe:
        note(say("measuring how fast this machine trains", language))
        made = plan_run(training, prepared, args.minutes, began, rates=recipe is None)
        tell_plan(made, language)
        return made.recipe

    prepare(training, rows, base, plan)


def tell_plan(plan: Plan, language: str) -> None:
    """What will be trained, and what is expected."""
    size, train = plan.size, plan.recipe.train
    note(say("{layers} layers of width {width}, context {context}, {vocabulary} tokens in the vocabulary", language,
             layers=size.n_layer, width=size.n_embd, context=size.context, vocabulary=size.vocab_size))  # fmt: skip
    note(say("{steps} steps of {batch} tokens: {epochs:.1f} times the text, at {speed:,.0f} tokens/s", language,
             steps=train.steps, batch=train.batch * train.context, epochs=plan.epochs,
             speed=plan.tokens_s))  # fmt: skip
    if plan.capped:
        note(say("the text is small: reading it more often would teach the text itself, so the time is not used up",
                 language))  # fmt: skip
    loss, minutes = plan.val_loss, plan.minutes
    note(say("expected: held-out loss {loss:.3f} ({loss_low:.3f} to {loss_high:.3f}) after {minutes:.1f} minutes "
             "({low:.1f} to {high:.1f})", language, loss=loss.middle, loss_low=loss.low, loss_high=loss.high,
             minutes=minutes.middle, low=minutes.low, high=minutes.high))  # fmt: skip


def tell_outcome(run: Run, result: Result, seconds: float | None, language: str) -> dict[str, Any]:
    """What was expected beside what came; gives both for the JSON line. Of a run that a signal stopped only the former
    is known."""
    from glassgpt.training.minutes import outcome

    if result.signal:
        return {"predicted": run.about["budget"]["predicted"]}
    progress = result.progress
    steps = run.about["recipe"]["train"]["steps"]
    found = outcome(run, progress, seconds)
    expected, actual = found["predicted"], found["actual"]
    (low, middle, high), (least, minutes, most) = expected["val_loss"], expected["minutes"]
    note(say("held-out loss: {actual:.3f}; expected {middle:.3f} ({low:.3f} to {high:.3f})", language,
             actual=actual["val_loss"], middle=middle, low=low, high=high))  # fmt: skip
    note(say("minutes: {actual:.1f}; expected {middle:.1f} ({low:.1f} to {high:.1f})", language,
             actual=actual["minutes"], middle=minutes, low=least, high=most))  # fmt: skip
    if progress.step < steps:
        note(say("it ended after step {step} of {steps}, and the expectation is for all of them", language,
                 step=progress.step, steps=steps))  # fmt: skip
    planned = run.about["budget"]["tokens_s"]
    if not 0.8 < actual["tokens_s"] / planned < 1.25:
        note(say("the machine trained {actual:,.0f} tokens/s, while {planned:,.0f} were measured before", language,
                 actual=actual["tokens_s"], planned=planned))  # fmt: skip
    return found


def check_given(args: argparse.Namespace) -> None:
    """Raise ConfigError where --minutes stands without a text, or is no number of minutes."""
    from glassgpt.training.budget import check_minutes

    check_minutes(args.minutes)
    if not args.data:
        raise ConfigError("--minutes needs a text", hint="Write `glassgpt pretrain --data FILE --minutes 20`.")
