"""What a training looked like on its way: the weights alone, at a few of its steps.

    snapshots/step-00000100/        what a checkpoint holds of the network: a model's files, or an adapter

Checkpoints are there to go on from, and few are kept; these are there to look back on (`glassgpt look RUN
--checkpoints`). Nothing reads them while a training runs, so they may be deleted at any time.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from glassgpt.core.files import new_folder
from glassgpt.core.runs import SNAPSHOTS
from glassgpt.training.settings import TrainSettings
from glassgpt.training.state import checkpoints, steps_in


def snapshot_steps(settings: TrainSettings, size: int) -> frozenset[int]:
    """After which steps weights of `size` bytes are kept: at the beginning, before the first step, and then closer
    together early, where most is learned: the n-th of N at the cube of n / N of all steps. The last step is left to the
    last checkpoint, which stays. Fewer than two make no series, so then there are none.
    """
    count = min(settings.snapshots, settings.snapshot_mb * 1_000_000 // max(size, 1))
    if count < 2:
        return frozenset()
    wanted = (max(n, round(settings.steps * (n / count) ** 3)) for n in range(count))  # of a few steps, every one
    return frozenset(step for step in wanted if step < settings.steps)


def save_snapshot(run: Path, step: int, save_weights: Callable[[Path], None]) -> Path:
    """Keep the weights of a step; a resumed run that comes by again replaces them. Raises GlassError (a full disk)."""
    place = run / SNAPSHOTS / f"step-{step:08d}"
    for old in [place, *place.parent.glob(".step-*")]:  # a kill may have left one half-written
        shutil.rmtree(old, ignore_errors=True)
    with new_folder(place) as folder:
        save_weights(folder)
    return place


def series(run: Path) -> list[tuple[int, Path]]:
    """Every step of a run whose weights are there, with their folder, the first step first; of a step that has a
    checkpoint and a snapshot the checkpoint."""
    found = {int(place.name[5:]): place for place in [*steps_in(run / SNAPSHOTS), *checkpoints(run)]}
    return sorted(found.items())
