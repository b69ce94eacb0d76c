"""A pre-training that is given minutes instead of sizes: it looks at the text and the machine, plans, and at its end
sets what it expected beside what came."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from glassgpt.core.config import override, settings_from
from glassgpt.core.errors import ConfigError
from glassgpt.core.runs import HELD_OUT, TOKENIZER, TRAIN, Run
from glassgpt.data.rows import Row
from glassgpt.data.shards import open_shards
from glassgpt.text.tokenizer import Tokenizer
from glassgpt.training.budget import LADDER, Plan, Text, choose_data, make_plan, sizes
from glassgpt.training.forecast import count_losses
from glassgpt.training.loop import Progress
from glassgpt.training.settings import Recipe
from glassgpt.training.speed import measure_speeds

CHOSEN = {"model": ("n_layer", "n_head", "n_embd", "dropout", "n_kv_head", "head_dim", "mlp_dim"),
          "train": ("steps", "batch", "context", "accumulate", "evaluate_every", "compile")}  # fmt: skip
MEASURING = 10.0  # seconds, or a sixth of the time where that is less


def first_recipe(rows: Sequence[Row], recipe: Recipe | None, changes: Mapping[str, Any]) -> Recipe:
    """What is settled before a plan: the tokenizer (the recipe's or one that suits the text) and every setting that a
    plan leaves alone. Sizes are the smallest there are.

    Raises:
        ConfigError: `changes` (as with --set) holds something that the plan chooses.
    """
    for table, names in CHOSEN.items():
        given = changes.get(table)
        for name in names:
            if isinstance(given, Mapping) and given.get(name) is not None:
                raise ConfigError(
                    "{name} is chosen by --minutes", hint="Leave out one of the two.", name=f"{table}.{name}"
                )
    if recipe is None:
        data = asdict(choose_data("\n".join(row.texts) for row in rows))
        recipe = settings_from(Recipe, override({"data": data}, dict(changes)))
    layers, width, _ = LADDER[0]
    model = {name: value for name, value in recipe.model.items() if name not in CHOSEN["model"]}
    smallest = {"n_layer": layers, "n_head": 2, "n_embd": width}
    return replace(recipe, model=model | smallest, train=replace(recipe.train, context=16, compile=False))


def plan_run(run: Run, base: Recipe, minutes: float, began: float, *, rates: bool = True) -> Plan:
    """Measure and plan a run whose text lies in shards; the expectation is kept in its run.json under "budget".

    Args:
        began: when the minutes began, by `time.monotonic()`.
        rates: learning rates are chosen too, not taken from `base`.

    Raises:
        InputError: the minutes are too few.
    """
    tokenizer = Tokenizer.from_file(run.folder / TOKENIZER)
    shards, held_out = (open_shards(run.folder / part, tokenizer) for part in (TRAIN, HELD_OUT))
    vocab_size = tokenizer.vocab_size
    text = Text(vocab_size, len(shards), len(held_out), count_losses(shards, held_out, vocab_size))
    possible = sizes(vocab_size, len(shards), len(held_out))
    speeds = measure_speeds(base, possible, shards, min(MEASURING, 10 * minutes))
    spent = time.monotonic() - began
    plan = make_plan(base, text, speeds, minutes, spent, rates=rates)
    predicted = {"val_loss": _rounded(plan.val_loss), "minutes": _rounded(plan.minutes)}
    run.update(budget={"minutes": minutes, "spent_s": spent, "tokens_s": plan.tokens_s, "predicted": predicted})
    return plan


def outcome(run: Run, progress: Progress, seconds: float | None) -> dict[str, Any]:
    """Keep in run.json what came, beside what was expected; gives both. `seconds` is the whole time, None where it is
    that of several sessions, which is added up from what was measured."""
    budget = run.about["budget"]
    if seconds is None:
        evaluations = sum(m.get("evaluation_s", 0.0) for m in run.metrics())
        seconds = budget["spent_s"] + progress.train_s + evaluations
    actual = {
        "val_loss": progress.last_loss,
        "minutes": round(seconds / 60, 4),
        "tokens_s": round(progress.tokens / max(progress.train_s, 1e-9), 1),
    }
    run.update(budget=budget | {"actual": actual})
    return {"predicted": budget["predicted"], "actual": actual}


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(value, 4) for value in values]
