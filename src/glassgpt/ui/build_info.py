"""A training as the page tells of it: from its run.json, from what the page wrote down, and whether it runs."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from glassgpt.core.runs import STORY, is_run
from glassgpt.core.words import Sentence
from glassgpt.ui.run_facts import at, first, has_model, minutes_left, newest, number

Status = Literal[
    "starting", "reading", "measuring", "training", "stopping", "stopped", "failed", "finished", "died", "damaged"
]
WORDS: dict[Status, Sentence] = {
    "starting": Sentence("starting"),
    "reading": Sentence("reading and cleaning"),
    "measuring": Sentence("measuring"),
    "training": Sentence("training"),
    "stopping": Sentence("stopping"),
    "stopped": Sentence("stopped"),
    "failed": Sentence("failed"),
    "finished": Sentence("finished"),
    "died": Sentence("ended from outside"),
    "damaged": Sentence("damaged"),
}
_ERRORS = ("error: ", "错误：")
_ENDED: dict[str, Status] = {"finished": "finished", "stopped": "stopped", "failed": "failed"}
_ERRORS = ("error: ", "错误：")
_RUNNING: dict[str, Status] = {"reading": "reading", "training": "training"}


@dataclass(frozen=True)
class BuildInfo:
    """One training. `began` is in seconds since 1970, losses in nats per token, `minutes` what was asked for; what is
    not known (yet) is None. `reason` is the process's last word where the training failed or died."""

    name: str
    status: Status
    kind: str = "build"
    data: str = ""
    base: str = ""
    began: float = 0.0
    minutes: float | None = None
    epochs: float | None = None
    step: int = 0
    steps: int | None = None
    loss: float | None = None
    held_out_loss: float | None = None
    loss_before: float | None = None
    loss_after: float | None = None
    minutes_left: float | None = None
    running: bool = False
    resumable: bool = False
    has_model: bool = False
    reason: str = ""


@dataclass(frozen=True)
class Pair:
    """A held-out question, the answer wanted, and the model's before and after training (None: not asked yet)."""

    question: str
    wanted: str
    before: str
    after: str | None


def info_of(
    folder: Path, about: dict[str, Any] | None, record: dict[str, Any], running: bool, last_word: str
) -> BuildInfo:
    """What is known of the training in `folder`.

    Args:
        about: its run.json, None where that is damaged or not there.
        record: what the page wrote down when it began the process; empty where another did.
        last_word: the last line that the process said.
    """
    name = folder.name
    settings = first([at(about, "settings"), at(about, "recipe")])
    now, steps = newest(folder), at(settings, "train", "steps")
    steps = steps if isinstance(steps, int) else None
    if about is None and is_run(folder) and not running:
        status: Status = "damaged"
    else:
        status = _status(about, record, running, last_word)
    base = first([at(record, "base"), at(settings, "base")])
    story = (folder / STORY).is_file()
    return BuildInfo(
        name=name,
        status=status,
        kind="pretrain" if at(about, "recipe") else "finetune" if settings and not story else "build",
        data=str(first([at(record, "data"), at(about, "data")]) or ""),
        base="" if base is None else "scratch" if str(base) == str(folder / "scratch") else str(base),
        began=float(first(filter(number, [at(record, "began"), at(about, "began")])) or _changed(folder)),
        minutes=first(filter(number, [at(record, "minutes"), at(about, "minutes")])),
        epochs=first(filter(number, [at(settings, "epochs"), at(record, "epochs")])),
        step=now.step,
        steps=steps,
        loss=now.loss,
        held_out_loss=now.held_out,
        loss_before=first(filter(number, [at(about, "loss_before")])),
        loss_after=first(filter(number, [at(about, "loss_after")])),
        minutes_left=minutes_left(now, steps) if status == "training" and steps else None,
        running=running,
        resumable=bool(settings) and not running and status != "finished" and "threads" in (about or {}),
        has_model=has_model(folder),
        reason=last_word if status in ("failed", "died") else "",
    )


def _status(about: dict[str, Any] | None, record: dict[str, Any], running: bool, last_word: str) -> Status:
    said = str(at(about, "status"))
    if running:
        if record.get("stopping"):
            return "stopping"
        return "starting" if about is None else _RUNNING.get(said, "measuring")
    if said in _ENDED:
        # A build measures once more after its training is finished.
        whole = said != "finished" or at(about, "kind") != "build" or number(at(about, "loss_after"))
        if whole:
            return _ENDED[said]
    if record.get("stopping"):
        return "stopped"
    return "failed" if last_word.startswith(_ERRORS) else "died"


def _changed(folder: Path) -> float:
    with contextlib.suppress(OSError):
        return folder.stat().st_mtime
    return 0.0
