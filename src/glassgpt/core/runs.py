"""A run: the one folder that a training leaves.

run.json        what it is, where it came from, how far it got, and which process works on it
metrics.jsonl   one line for each thing that was measured
data/           token shards
checkpoints/    step-00000100/ and so on: enough to go on from there
snapshots/      step-00000100/ and so on: the weights alone, to look back on
model/          the finished model; `glassgpt chat RUN` opens it
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from glassgpt.core.errors import ConfigError, FormatError, NotFoundError
from glassgpt.core.files import refusing_disk, write_whole
from glassgpt.core.processes import this_process

ABOUT, METRICS, CHECKPOINTS, MODEL = "run.json", "metrics.jsonl", "checkpoints", "model"
SNAPSHOTS = "snapshots"
STORY = "story.json"  # of a build
TRAIN, HELD_OUT, TOKENIZER = "data/train", "data/validation", "data/tokenizer"


class Run:
    """A run folder. `about` is the content of run.json; `update` changes and saves it."""

    def __init__(self, folder: Path, about: dict[str, Any]) -> None:
        self.folder, self.about = folder, about

    @classmethod
    def create(cls, folder: Path, about: dict[str, Any]) -> Run:
        """A new run in an empty or a new folder; raises ConfigError when there is something in it."""
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ConfigError(
                "{folder} holds other files",
                hint="Choose a new folder, or go on with a run that stopped with --resume.",
                folder=folder,
            )
        begin = {"began": round(time.time(), 3), "process": this_process()}
        run = cls(folder, {"format": "glassgpt-run", "version": 1, **begin, **about})
        run.update()
        return run

    @classmethod
    def open(cls, folder: Path) -> Run:
        """A run that exists; raises NotFoundError or FormatError."""
        try:
            about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        except OSError as error:
            raise NotFoundError(
                "{folder} is not a run ({reason})",
                hint="Give a folder that `glassgpt pretrain`, `finetune` or `build` made.",
                folder=folder,
                reason=error.strerror,
            ) from None
        except (ValueError, RecursionError):
            about = None
        if not isinstance(about, dict) or about.get("format") != "glassgpt-run":
            raise FormatError("{path} is damaged", hint="Restore it from a copy.", path=folder / ABOUT)
        if about.get("version") != 1:
            raise FormatError(
                "{path} has version {version}; this glassgpt reads version {known}",
                hint="Update glassgpt.",
                path=folder / ABOUT,
                version=about.get("version"),
                known=1,
            )
        return cls(folder, about)

    def update(self, **changes: Any) -> None:
        """Change entries of run.json and save it whole."""
        self.about |= changes
        write_whole(self.folder / ABOUT, json.dumps(self.about, indent=2, ensure_ascii=False) + "\n")

    def measure(self, **values: Any) -> None:
        """Add a line to metrics.jsonl, with the time (seconds since 1970)."""
        values["time"] = round(time.time(), 3)
        with refusing_disk(self.folder / METRICS), (self.folder / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(values, ensure_ascii=False) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """All lines of metrics.jsonl; a last line that a crash cut short is left out."""
        path = self.folder / METRICS
        lines = path.read_text(encoding="utf-8").split("\n") if path.exists() else []
        return [json.loads(line) for line in lines[:-1]]

    def forget_after(self, step: int) -> None:
        """Drop what was measured after `step`: a resumed run measures it again."""
        kept = [json.dumps(m, ensure_ascii=False) + "\n" for m in self.metrics() if m.get("step", 0) <= step]
        write_whole(self.folder / METRICS, "".join(kept))


def name_for(data: str) -> str:
    """What a run on this file or data set is called, before its number."""
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in Path(data).stem)[:80].strip("-") or "run"


def next_folder(parent: Path, name: str) -> Path:
    """`parent/name-1`, or the first number that is free."""
    number = 1
    while (parent / f"{name}-{number}").exists():
        number += 1
    return parent / f"{name}-{number}"


def check_prepared(run: Run) -> str:
    """Under which name run.json keeps the settings of the training: "recipe" or "settings". Raises ConfigError when the
    run was broken off before there was anything to train."""
    for name in ("recipe", "settings"):
        if name in run.about and "threads" in run.about:
            return name
    raise ConfigError(
        "the run {folder} ended before its data was ready", hint="Start it anew.", folder=run.folder
    )  # fmt: skip


def is_run(folder: Path) -> bool:
    """Whether the folder is a run."""
    return (folder / ABOUT).is_file()
