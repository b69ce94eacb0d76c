"""Checkpoints of a training: all that it takes to go on, each in a folder that appears whole or not at all.

    checkpoints/step-00000100/
        trainer.json            the step, the best loss so far, a hash of every other file
        trainer.safetensors     the optimizers' state
        ...                     what the stage trains: a model's files, or an adapter

Randomness needs no state: that of a step is a function of the seed and the step.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from glassgpt.core.errors import FormatError, GlassError
from glassgpt.core.files import new_folder, sha256
from glassgpt.core.runs import CHECKPOINTS
from glassgpt.core.words import Sentence
from glassgpt.formats.weights import to_save

STATE, TENSORS = "trainer.json", "trainer.safetensors"
_NAME = re.compile(r"step-(\d{8,})")


@dataclass
class Progress:
    """How far a training is. `tokens` counts what was trained on, padding left out; `train_s` the seconds of it."""

    step: int = 0
    tokens: int = 0
    train_s: float = 0.0
    best_loss: float = float("inf")
    best_step: int = 0
    waited: int = 0  # evaluations since the best one
    last_loss: float = float("inf")  # the newest evaluation

    def facts(self) -> dict[str, Any]:
        """For JSON, which knows no infinity: a loss that was not measured yet is left out."""
        return {name: value for name, value in asdict(self).items() if value != float("inf")}


def save_state(
    run: Path, progress: Progress, optimizers: dict[str, Tensor], save_weights: Callable[[Path], None]
) -> Path:
    """Write the checkpoint of a step; an older one of the same step is replaced. Raises GlassError (a full disk)."""
    place = run / CHECKPOINTS / f"step-{progress.step:08d}"
    if place.exists():  # of a resumed run that had been here before: the same content
        shutil.rmtree(place)
    with new_folder(place) as folder:
        save_weights(folder)
        save_tensors(optimizers, folder / TENSORS)
        hashes = {file.name: sha256(file) for file in sorted(folder.iterdir())}
        about = json.dumps({"progress": progress.facts(), "files": hashes}, allow_nan=False)
        (folder / STATE).write_text(about, encoding="utf-8")
    return place


def save_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """A safetensors file; raises OSError, as any writing does."""
    try:
        save_file({name: to_save(t) for name, t in tensors.items()}, path)
    except SafetensorError as error:  # how the library tells of a full disk
        raise OSError(str(error)) from error


def load_tensors(path: Path, device: str | torch.device = "cpu") -> dict[str, Tensor]:
    """The tensors of a file, each in memory of its own: where one begins decides how sums over it are grouped, and a
    resumed run must give the bits of an unbroken one. Raises FormatError."""
    try:
        return {name: tensor.clone().to(device) for name, tensor in load_file(path).items()}
    except (SafetensorError, OSError) as error:
        raise FormatError("{path} is damaged ({reason})", hint="Restore it from a copy.", path=path,
                          reason=str(error)) from None  # fmt: skip


def checkpoints(run: Path) -> list[Path]:
    """The checkpoints of a run, newest first."""
    return steps_in(run / CHECKPOINTS)


def steps_in(folder: Path) -> list[Path]:
    """The folders of steps in a folder, newest first."""
    found = [p for p in folder.iterdir() if _NAME.fullmatch(p.name)] if folder.is_dir() else []
    return sorted(found, key=lambda p: int(p.name[5:]), reverse=True)


def check_state(place: Path) -> Progress:
    """How far a checkpoint is; raises FormatError unless every file in it is the one that was written."""
    reason: Sentence | str = Sentence("its content is not what was written")
    try:
        state = json.loads((place / STATE).read_text(encoding="utf-8"))
        progress, hashes = Progress(**state["progress"]), dict(state["files"])
        wrong = [name for name, hash_ in hashes.items() if sha256(place / name) != hash_]
    except (OSError, ValueError, TypeError, KeyError) as error:
        wrong, reason = [STATE], str(error)
    if wrong:
        raise FormatError("{path} is damaged ({reason})", hint="An older checkpoint of the run may be whole.",
                          path=place / wrong[0], reason=reason)  # fmt: skip
    return progress


def newest_whole(run: Path) -> tuple[Path | None, Progress, list[GlassError]]:
    """The newest checkpoint that is whole, how far it is, and what is wrong with those after it. None where no
    checkpoint was written yet.

    Raises:
        FormatError: there are checkpoints and all are damaged.
    """
    faults: list[GlassError] = []
    for place in checkpoints(run):
        try:
            return place, check_state(place), faults
        except FormatError as error:
            faults.append(error)
    if faults:
        raise faults[0]
    return None, Progress(), []


def prune(run: Path, progress: Progress) -> None:
    """Delete all checkpoints but the two newest and the best (that which `progress` names, and that which the older of
    the two does, should the newer be damaged later). What lies after `progress` was found damaged and passed over; it
    goes too, and so does what a kill left half-written."""
    places = [p for p in checkpoints(run) if int(p.name[5:]) <= progress.step]
    kept = {p.name for p in places[:2]}
    kept |= {f"step-{step:08d}" for step in [progress.best_step, *map(_best_step, places[:2])]}
    for place in (run / CHECKPOINTS).iterdir():
        if place.name.startswith(".step-") or (_NAME.fullmatch(place.name) and place.name not in kept):
            shutil.rmtree(place, ignore_errors=True)


def _best_step(place: Path) -> int:
    try:
        return int(json.loads((place / STATE).read_text(encoding="utf-8"))["progress"]["best_step"])
    except (OSError, ValueError, TypeError, KeyError):
        return 0
