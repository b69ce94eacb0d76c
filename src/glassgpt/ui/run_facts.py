"""What a run's folder tells about a training, read while another process writes it: nothing here waits or changes."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from glassgpt.core.runs import METRICS, MODEL

TAIL = 1 << 16  # bytes of a file's end that are looked at for what is newest
POINTS = 500  # of a curve; each is the mean of its neighbours where there are more
LARGEST = 1 << 28  # bytes of metrics that are read, from the end
SAMPLES = 1 << 22  # bytes of metrics that the newest samples are looked for in


@dataclass(frozen=True)
class Losses:
    """Curves of (step, loss in nats per token): of training, and of held-out rows; `before` training, where that was
    measured."""

    train: list[tuple[int, float]] = field(default_factory=list)
    held_out: list[tuple[int, float]] = field(default_factory=list)
    before: float | None = None


@dataclass(frozen=True)
class Newest:
    """The newest of what was measured. `seconds` is what a step takes, None where too little is known."""

    step: int = 0
    loss: float | None = None
    held_out: float | None = None
    seconds: float | None = None
    at: float = 0.0  # seconds since 1970


def end_of(path: Path, size: int) -> list[str]:
    """The whole lines among the last `size` bytes of a text file; none where there is no such file."""
    try:
        with path.open("rb") as file:
            length = file.seek(0, 2)
            start = file.seek(max(0, length - size))
            lines = file.read(size).decode("utf-8", "replace").splitlines(keepends=True)
    except OSError:
        return []
    if start:  # most likely in the middle of a line
        lines = lines[1:]
    return [line.rstrip("\r\n") for line in lines]


def measured(folder: Path, size: int) -> Iterator[dict[str, Any]]:
    """What stands in the last `size` bytes of a run's metrics.jsonl; lines that are damaged are left out."""
    for line in end_of(folder / METRICS, size):
        with suppress(ValueError, RecursionError):
            value = json.loads(line)
            if isinstance(value, dict) and isinstance(value.get("step"), int):
                yield value


def newest(folder: Path) -> Newest:
    """How far a training is."""
    lines = list(measured(folder, TAIL))
    steps = [(m["step"], m["loss"], m["train_s"]) for m in lines if number(m.get("loss")) and number(m.get("train_s"))]
    held_out = [m["val_loss"] for m in lines if number(m.get("val_loss"))]
    seconds = None
    if len(steps) > 1 and steps[-1][0] > steps[0][0]:
        seconds = max(0.0, steps[-1][2] - steps[0][2]) / (steps[-1][0] - steps[0][0])
    at = lines[-1].get("time") if lines else 0.0
    return Newest(
        step=max((m["step"] for m in lines), default=0), loss=steps[-1][1] if steps else None,
        held_out=held_out[-1] if held_out else None, seconds=seconds, at=float(at) if number(at) else 0.0,  # type: ignore[arg-type]
    )  # fmt: skip


def minutes_left(now: Newest, steps: int) -> float | None:
    """How long the steps that are left will take, without what is measured after them."""
    if now.seconds is None:
        return None
    waited = min(max(0.0, time.time() - now.at), now.seconds)  # an evaluation is no step, however long
    return max(0.0, (steps - now.step) * now.seconds - waited) / 60


def losses_of(folder: Path, before: object = None) -> Losses:
    """A run's losses so far, thinned for a plot."""
    train, held_out = [], []
    for m in measured(folder, LARGEST):
        if number(m.get("loss")):
            train.append((m["step"], float(m["loss"])))
        if number(m.get("val_loss")):
            held_out.append((m["step"], float(m["val_loss"])))
    return Losses(thinned(train), thinned(held_out), float(before) if number(before) else None)  # type: ignore[arg-type]


def thinned(points: Sequence[tuple[int, float]], most: int = POINTS) -> list[tuple[int, float]]:
    """At most so many points: each the mean of as many neighbours, at the step of the last of them."""
    size = -(-len(points) // most) if points else 1
    groups = [points[at : at + size] for at in range(0, len(points), size)]
    return [(group[-1][0], sum(loss for _, loss in group) / len(group)) for group in groups]


def newest_samples(folder: Path) -> tuple[int, list[str]]:
    """The step of the newest samples and their texts; 0 and none where there are none yet."""
    for m in reversed(list(measured(folder, SAMPLES))):
        texts = m.get("samples")
        if isinstance(texts, list) and texts:
            return m["step"], [str(text) for text in texts]
    return 0, []


def number(value: object) -> bool:
    """Whether a value from a file is a number that can be shown."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def at(value: object, *names: str) -> Any:
    """An entry of nested tables from a file, None where one of the names is not there."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def has_model(folder: Path) -> bool:
    """Whether the run left a model that can be talked to."""
    return (folder / MODEL / "model.json").is_file()


def first(values: Iterable[Any]) -> Any:
    """The first that is not None, if any."""
    return next((value for value in values if value is not None), None)
