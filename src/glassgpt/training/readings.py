"""A fine-tuning that is given minutes instead of readings: as many as fit, by the speed of a few real steps."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from torch import Tensor

from glassgpt.core.errors import InputError
from glassgpt.core.memory import release
from glassgpt.core.runs import TRAIN, Run
from glassgpt.core.words import Sentence
from glassgpt.data.shards import open_shards
from glassgpt.training.budget import END_SECONDS, RESERVE
from glassgpt.training.loop import CHECKPOINT_SECONDS, _step, held_out_loss, stage_workers
from glassgpt.training.sft import EVALUATIONS, FineTuneSettings, evaluation_gap, prepare_stage
from glassgpt.training.state import Progress, save_state

# More readings of the same rows teach the rows alone: of a correction, and of weights that knew nothing before.
MOST_READINGS, MOST_FROM_SCRATCH = 10.0, 40.0
LEAST_STEPS = 10  # or one reading, where that is less
MEASURING = 10.0  # seconds, or a sixth of the time where that is less; two steps at least
TIMED = 2  # steps, at least
EVALUATING = 0.25  # of the time that is left: what evaluations may take, but for the last


@dataclass(frozen=True)
class Pace:
    """Seconds that a training of this run takes here: for loading the model, a step, an evaluation with its samples,
    and writing a checkpoint."""

    load_s: float
    step_s: float
    evaluation_s: float
    save_s: float


def measure_pace(run: Run, settings: FineTuneSettings, seconds: float) -> Pace:
    """Train a prepared run for about so many seconds and throw the result away."""
    began = time.perf_counter()
    prepared = prepare_stage(run, settings)
    stage = prepared.stage
    parameters: list[Tensor] = [p for p in stage.network.parameters() if p.requires_grad]
    loaded = time.perf_counter()
    with closing(stage_workers(stage, settings.train)) as workers:
        _step(stage, settings.train, 0, parameters, workers)  # the first one fills caches and memory
        begun, tokens, steps = time.perf_counter(), 0, 0
        while steps < TIMED or time.perf_counter() < begun + seconds:
            steps += 1
            tokens += _step(stage, settings.train, steps, parameters, workers)[2]
        trained = time.perf_counter()
        workers.training(False)
        some = prepared.held_out[: max(2, workers.count)]  # all of them may take minutes
        held_out_loss(workers, some)
        share = sum(part.tokens for part in some) / sum(part.tokens for part in prepared.held_out)
        evaluation = (time.perf_counter() - trained) / share
        sampled = time.perf_counter()
        with workers.at_rest():
            stage.sample()
        evaluated = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix=".pace.", dir=run.folder) as folder:
            state = {name: tensor for one in stage.optimizers for name, tensor in one.state.items()}
            save_state(Path(folder), Progress(), state, stage.save)
        saved = time.perf_counter()
    shards = open_shards(run.folder / TRAIN)
    usual = len(shards) / shards.documents * settings.train.batch * settings.train.accumulate
    # Rows differ in length: those that were met are held against the mean.
    step = (trained - begun) / max(tokens, 1) * usual
    del prepared, stage, parameters, workers
    release()
    return Pace(loaded - began, step, evaluation + evaluated - sampled, saved - evaluated)


def fit_readings(
    settings: FineTuneSettings, examples: int, pace: Pace, minutes: float, spent: float, after: float, most: float
) -> tuple[FineTuneSettings, bool]:
    """The settings with as many steps as fit into `minutes`, and whether the readings' limit left time over.

    Args:
        settings: with the steps of `most` readings.
        spent: seconds that are over.
        after: seconds that measuring after the training takes.

    Raises:
        InputError: not even a part of a reading fits.
    """
    loop = settings.train
    rows = loop.batch * loop.accumulate
    fixed = spent + after + 2 * pace.load_s + END_SECONDS
    one = pace.evaluation_s + pace.save_s
    step_s = pace.step_s * (1 + pace.save_s / CHECKPOINT_SECONDS)
    least = min(LEAST_STEPS, -(-examples // rows))
    left = (1 - RESERVE) * 60 * minutes - fixed
    evaluations = min(EVALUATIONS, max(1, int(EVALUATING * left / one)))
    while evaluations > 1 and left - evaluations * one < least * step_s:
        evaluations -= 1
    fits = int((left - evaluations * one) / step_s)
    if fits < least:
        raise InputError(
            "{minutes} minutes are too few: {spent:.0f} s are over, and the rest takes {least:.0f} s here at least",
            hint="Give more minutes with --minutes.",
            minutes=f"{minutes:g}",
            spent=spent,
            least=(fixed + one + least * step_s) / (1 - RESERVE) - spent,
        )
    steps = min(fits, loop.steps)
    chosen = loop.evaluate_every != evaluation_gap(loop.steps)
    gap = loop.evaluate_every if chosen else -(-steps // evaluations)
    epochs = min(most, float(f"{steps * rows / examples:.3g}"))
    return replace(settings, epochs=epochs, train=replace(loop, steps=steps, evaluate_every=gap)), steps < fits


def most_held_out(minutes: float) -> int:
    """How many rows are held out at most where minutes are given: they are read six times, and the time is for those
    that are learned."""
    return max(20, round(4 * minutes))


def most_readings(settings: FineTuneSettings) -> float:
    """How often rows are read at most where minutes are given."""
    return MOST_READINGS if settings.lora.rank else MOST_FROM_SCRATCH


def plan_readings(
    run: Run, settings: FineTuneSettings, minutes: float, began: float, after: float, tell: Callable[[Sentence], None]
) -> FineTuneSettings:
    """Measure and decide how long a prepared run trains; what was decided is kept in its run.json.

    Args:
        began: when the minutes began, by `time.monotonic()`.
        after: seconds that measuring after the training takes.

    Raises:
        InputError: the minutes are too few.
    """
    tell(Sentence("measuring how fast this machine trains"))
    pace = measure_pace(run, settings, min(MEASURING, 10 * minutes))
    spent = time.monotonic() - began
    run.update(pace=asdict(pace))
    examples = open_shards(run.folder / TRAIN).documents
    most = most_readings(settings)
    settings, capped = fit_readings(settings, examples, pace, minutes, spent, after, most)
    run.update(
        settings=asdict(settings), budget={"minutes": minutes, "spent_s": round(spent, 3), "after_s": round(after, 3)}
    )
    if "build" in run.about:
        run.update(build=run.about["build"] | {"finetune": asdict(settings)})
    if capped:
        tell(Sentence("after {most:g} readings a model only learns the rows by heart, so the time is not used up",
                      most=most))  # fmt: skip
    return settings
