"""The one training loop. A stage hands it a network, batches and a loss; it knows nothing else of what is learned.

A step is a function of the weights, the optimizers' state, the seed and its own number, and of nothing else: so a run
that was killed and resumed ends with the weights of one that never stopped, bit for bit (on the CPU, with as many
threads).
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glassgpt.core.errors import FormatError, GlassError
from glassgpt.core.processes import this_process
from glassgpt.core.runs import CHECKPOINTS, Run
from glassgpt.data.batches import Batch
from glassgpt.model.gpt import GPT
from glassgpt.training.optim import Optimizer, clip_gradients, rate_factor, restore
from glassgpt.training.processes import start_workers
from glassgpt.training.settings import TrainSettings
from glassgpt.training.snapshots import save_snapshot, snapshot_steps
from glassgpt.training.state import TENSORS, Progress, check_state, load_tensors, newest_whole, prune, save_state
from glassgpt.training.workers import Job, Workers

CHECKPOINT_SECONDS = 120.0  # no more than these, and the step under way, is lost to a kill


@dataclass
class Stage:
    """What is trained and how.

    - `batches(step)`: the passes of a step, whose gradients are added up; the workers share them out.
    - `loss(network, batch)`: the sum of the losses of the batch's trained tokens, in nats.
    - `evaluate(workers)`: the loss on held-out data, in nats per token; it must not change anything.
    - `save(folder)`, `load(folder)`: what a checkpoint holds of the network.
    - `sample()`: texts of the network as it is now, for people to read.
    """

    network: GPT
    optimizers: Sequence[Optimizer]
    batches: Callable[[int], Sequence[Batch]]
    loss: Callable[[GPT, Batch], Tensor]
    evaluate: Callable[[Workers], float]
    save: Callable[[Path], None]
    load: Callable[[Path], None]
    sample: Callable[[], list[str]] = list


@dataclass(frozen=True)
class Event:
    """Something a watcher may want to show. `kind`: "step", "evaluation", "checkpoint" or "fault" (a damaged checkpoint
    that was passed over)."""

    kind: str
    progress: Progress
    steps: int  # of the whole training
    values: dict[str, Any]


@dataclass(frozen=True)
class Result:
    """How a training ended. `signal`: the number of the signal that stopped it, 0 when none did."""

    progress: Progress
    checkpoint: Path
    signal: int = 0
    reached: bool = True  # false when `until` was asked for and not reached


class DivergedError(GlassError):
    """The loss became infinite or not a number."""


def train(
    stage: Stage,
    settings: TrainSettings,
    run: Run,
    *,
    resume: bool = False,
    until: float | None = None,
    watch: Callable[[Event], None] = lambda event: None,
) -> Result:
    """Train until the steps are done, `until` is reached by an evaluation, patience ends, or a signal comes.

    Args:
        resume: go on from the newest checkpoint that is whole.
        until: stop at the first evaluation whose loss is not above this.
        watch: called with what happens.

    Raises:
        DivergedError: the loss is no number any more; the newest checkpoint is from before that.
        GlassError: the disk refused a checkpoint; the one before is whole.
    """
    run.update(process=this_process())  # a run may have been prepared by another one
    progress, place = Progress(), None
    if resume:
        place, progress, faults = newest_whole(run.folder)
        for fault in faults:
            watch(Event("fault", progress, settings.steps, {"error": fault}))
        run.forget_after(progress.step)
    if place is not None:
        stage.load(place)
        restore(stage.optimizers, load_tensors(place / TENSORS), str(place))
    parameters: list[Tensor] = [p for p in stage.network.parameters() if p.requires_grad]
    snapshots = snapshot_steps(settings, sum(p.nbytes for p in parameters))
    if 0 in snapshots and not progress.step:
        save_snapshot(run.folder, 0, stage.save)
    with stop_signals() as stopped, closing(stage_workers(stage, settings)) as workers:
        written = time.monotonic()
        while progress.step < settings.steps and not _done(progress, settings, until):
            began = time.perf_counter()
            loss, norm, tokens = _step(stage, settings, progress.step, parameters, workers)
            progress.step += 1
            progress.tokens += tokens
            progress.train_s += time.perf_counter() - began
            watch(Event("step", progress, settings.steps, {"loss": loss, "norm": norm}))
            last = progress.step == settings.steps
            run.measure(step=progress.step, tokens=progress.tokens, loss=loss, norm=norm, train_s=progress.train_s)
            if progress.step in snapshots:
                _check_weights(stage, progress.step)
                save_snapshot(run.folder, progress.step, stage.save)
            improved = False
            if last or progress.step % settings.evaluation_gap == 0:
                improved = _evaluate(stage, settings, progress, run, watch, workers)
            due = last or improved or progress.step % settings.checkpoint_gap == 0
            due |= time.monotonic() - written > CHECKPOINT_SECONDS  # a checkpoint changes nothing of what is learned
            if due or stopped[0] or _done(progress, settings, until):
                place = save_checkpoint(stage, progress, run)
                written = time.monotonic()
                watch(Event("checkpoint", progress, settings.steps, {"path": place}))
            if stopped[0]:
                break
    if place is None:  # a signal came before the first step
        place = save_checkpoint(stage, progress, run)
    return Result(progress, place, stopped[0], until is None or progress.last_loss <= until)


def save_checkpoint(stage: Stage, progress: Progress, run: Run) -> Path:
    """Write the checkpoint of this step and delete those that are neither new nor the best. Raises DivergedError: a
    weight is no number, which the losses tell only a step later."""
    _check_weights(stage, progress.step)
    state = {name: tensor for optimizer in stage.optimizers for name, tensor in optimizer.state.items()}
    place = save_state(run.folder, progress, state, stage.save)
    prune(run.folder, progress)
    return place


def _check_weights(stage: Stage, step: int) -> None:
    """Raise DivergedError where a weight is no number."""
    if not all(bool(p.isfinite().all()) for p in stage.network.parameters() if p.requires_grad):
        raise _diverged(math.nan, step)


def best_checkpoint(run: Run, progress: Progress, steps: int, watch: Callable[[Event], None]) -> Path | None:
    """The checkpoint of the best evaluation; None where the last step is the best, or that checkpoint is damaged, which
    is told: the network then stays as the last step left it."""
    if progress.best_step in (0, progress.step):
        return None
    place = run.folder / CHECKPOINTS / f"step-{progress.best_step:08d}"
    try:
        check_state(place)
    except FormatError as error:
        watch(Event("fault", progress, steps, {"error": error.with_traceback(None)}))  # it would hold the network
        return None
    return place


def stage_workers(stage: Stage, settings: TrainSettings) -> Workers:
    """Workers for a stage's steps and evaluations."""

    def one_pass(network: GPT, item: tuple[Batch, int]) -> float:
        batch, trained = item
        with autocast(network, settings):
            loss = stage.loss(network, batch) / trained
        loss.backward()
        return loss.item()

    jobs: dict[str, Job] = {"pass": one_pass, "measure": measuring(stage.loss, settings)}
    return start_workers(stage.network, jobs, stage.optimizers, forked=not settings.compile)


def measuring(loss: Callable[[GPT, Batch], Tensor], settings: TrainSettings) -> Callable[[GPT, Batch], float]:
    """The job of measuring a batch: its loss, summed, without gradients."""

    def measure(network: GPT, batch: Batch) -> float:
        with torch.inference_mode(), autocast(network, settings):
            return loss(network, batch).item()

    return measure


def held_out_loss(workers: Workers, parts: Sequence[Batch]) -> float:
    """The loss of held-out batches, in nats per trained token."""
    return sum(workers.map("measure", parts)) / max(1, sum(part.trained for part in parts))


def _step(
    stage: Stage, settings: TrainSettings, step: int, parameters: list[Tensor], workers: Workers
) -> tuple[float, float, int]:
    """One step: the loss per trained token, the norm of the gradients, and the tokens read."""
    workers.seed(step_seed(settings.seed, step))  # dropout is a function of the step
    batches = stage.batches(step)
    # Divided by the trained tokens of all passes: so many small passes give the gradient of one large one.
    trained = max(1, sum(batch.trained for batch in batches))
    total = sum(workers.map("pass", [(batch, trained) for batch in batches]))
    workers.gather()
    norm = clip_gradients(parameters, settings.clip)
    if not math.isfinite(total) or not math.isfinite(norm):
        raise _diverged(total if not math.isfinite(total) else norm, step + 1)
    factor = rate_factor(
        step, settings.steps, schedule=settings.schedule, warmup=round(settings.warmup * settings.steps),
        decay=settings.decay, floor=settings.floor,
    )  # fmt: skip
    workers.update(factor)
    return total, norm, sum(batch.tokens for batch in batches)


def _diverged(loss: float, step: int) -> DivergedError:
    return DivergedError(
        "the loss became {loss} at step {step}",
        hint="The checkpoints before are whole; start anew with lower rates (--set train.lr=... and so on).",
        loss=loss,
        step=step,
    )


def _evaluate(
    stage: Stage, settings: TrainSettings, progress: Progress, run: Run, watch: Callable[[Event], None],
    workers: Workers,
) -> bool:  # fmt: skip
    """Measure on held-out data; gives whether it is the best so far."""
    workers.training(False)
    began = time.perf_counter()
    progress.last_loss = stage.evaluate(workers)
    if not math.isfinite(progress.last_loss):
        raise _diverged(progress.last_loss, progress.step)
    seconds = time.perf_counter() - began
    with workers.at_rest():
        samples = stage.sample()
    workers.training(True)
    improved = progress.last_loss < progress.best_loss
    progress.waited = 0 if improved else progress.waited + 1
    if improved:
        progress.best_loss, progress.best_step = progress.last_loss, progress.step
    values = {"val_loss": progress.last_loss, "evaluation_s": seconds, "samples": samples}
    run.measure(step=progress.step, tokens=progress.tokens, train_s=progress.train_s, **values)
    watch(Event("evaluation", progress, settings.steps, values | {"best": improved}))
    return improved


def autocast(network: GPT, settings: TrainSettings) -> torch.autocast:
    """The number type of a training's products, for a `with` around what computes a loss."""
    device = next(network.parameters()).device.type
    return torch.autocast(device, torch.bfloat16, enabled=settings.precision == "bfloat16")


def _done(progress: Progress, settings: TrainSettings, until: float | None) -> bool:
    patience = settings.patience and progress.waited >= settings.patience
    return bool(patience) or (until is not None and progress.last_loss <= until)


def step_seed(seed: int, step: int) -> int:
    """The seed of a step's random numbers: distinct for distinct steps of a run."""
    return (seed * 0x9E3779B97F4A7C15 + step) % (1 << 63)


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM set the first element instead of ending the process; a second one ends it at once."""
    stopped = [0]

    def note(number: int, frame: object) -> None:
        if stopped[0]:
            raise KeyboardInterrupt
        stopped[0] = number

    if threading.current_thread() is not threading.main_thread():
        yield stopped  # only the main thread may ask for signals
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
