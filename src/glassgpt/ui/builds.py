"""Trainings that the page starts: processes of their own, which go on when the page or the server ends.

    runs/shop-1/              the run, as `glassgpt build` leaves it; its run.json names the process
    runs/.builds/shop-1.json  what was asked for, and the process, which begins before there is a run
    runs/.builds/shop-1.log   what the process says

So a training that failed before it had a run is still told, and one begun on the command line is listed like any other.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypeAlias

from filelock import FileLock, Timeout

from glassgpt.core.errors import ConfigError, GlassError, NotFoundError
from glassgpt.core.files import refusing_disk, write_whole
from glassgpt.core.processes import ask_to_end, begin_of, is_running
from glassgpt.core.runs import STORY, Run, is_run, name_for
from glassgpt.core.threads import thread_budget
from glassgpt.formats.catalog import cache_folder
from glassgpt.ui.build_info import BuildInfo, Pair, info_of
from glassgpt.ui.run_facts import TAIL, Losses, at, end_of, first, has_model, losses_of, newest_samples

# Inside the class `list` is its own method.
Infos: TypeAlias = list[BuildInfo]
Lines: TypeAlias = list[str]
Pairs: TypeAlias = list[Pair]
RUNS = Path("runs")
BESIDE = ".builds"
NICE = 10  # a chat beside a training comes first
REPORT = "report.html"


class Builds:
    """All trainings in a folder.

    Args:
        folder: where runs lie, direct children of it.
        machine: where the training that goes on is written down for all folders of this machine; the cache of models
            unless another is given.
    """

    def __init__(self, folder: Path = RUNS, machine: Path | None = None) -> None:
        self.folder = folder.absolute()
        self._machine = (machine or cache_folder()).absolute()
        self._children: list[subprocess.Popen[bytes]] = []

    # What changes something.

    def start(
        self, data: Path, base: str, *, minutes: float | None = None, epochs: float | None = None,
        mask_personal: bool = False, columns: Mapping[str, str] | None = None, language: str = "en",
    ) -> str:  # fmt: skip
        """Begin a training and give the run's name.

        Raises:
            ConfigError: another training goes on, minutes and epochs are both given, or one is out of range.
            NotFoundError, FormatError: there is no such file, or its kind is not read.
        """
        from glassgpt.data.sources import read_rows
        from glassgpt.training.budget import check_minutes
        from glassgpt.training.settings import check_above_0

        if minutes is not None and epochs is not None:
            raise ConfigError("{name} is chosen by --minutes", hint="Leave out one of the two.", name="--epochs")
        if minutes is not None:
            check_minutes(minutes)
        if epochs is not None:
            check_above_0("epochs", epochs)
        data = data.absolute()
        read_rows(data, columns=dict(columns or {}))
        words = ["build", str(data), f"--from={base}", f"--threads={training_threads()}"]
        words += [f"--minutes={minutes}"] if minutes is not None else []
        words += [f"--epochs={epochs}"] if epochs is not None else []
        words += ["--mask-personal"] if mask_personal else []
        words += [f"--columns={json.dumps(dict(columns), ensure_ascii=False)}"] if columns else []
        asked = {"data": data.name, "base": base, "minutes": minutes, "epochs": epochs, "began": time.time()}
        with self._alone():
            name = self._free_name(name_for(data.name))
            self._spawn(name, [*words, f"--out={self.folder / name}", f"--lang={language}"], asked)
        return name

    def stop(self, name: str) -> None:
        """Ask a training to save and end; once is enough, and more does nothing. Raises NotFoundError, or ConfigError
        where it does not run."""
        about, record = self._known(name)
        running = self._running(about, record)
        if running is None:
            raise ConfigError("the training {name} does not run", hint="Its page tells how it ended.", name=name)
        if not record.get("stopping"):  # a second signal would end it without saving
            self._write(name, record | {"stopping": True})
            ask_to_end(running)

    def resume(self, name: str, language: str = "en") -> None:
        """Go on with a training that was stopped or died. Raises NotFoundError, or ConfigError where it cannot go on or
        another training does."""
        info = self.open(name)
        if not info.resumable:
            raise ConfigError(
                "the training {name} cannot go on", name=name,
                hint="It runs or is finished already, or ended before its rows were ready; then start it anew.",
            )  # fmt: skip
        _, record = self._known(name)
        with self._alone():
            self._spawn(name, [info.kind, f"--resume={self.folder / name}", f"--lang={language}"],
                        record | {"stopping": False})  # fmt: skip

    def delete(self, name: str) -> None:
        """Delete a training and everything that it left. Raises NotFoundError, or ConfigError while it runs."""
        about, record = self._known(name)
        if self._running(about, record) is not None:
            raise ConfigError("the training {name} runs", hint="Stop it first.", name=name)
        place = self.folder / name
        with refusing_disk(place):
            if place.exists():
                shutil.rmtree(place)
            for file in (self._record(name), self._log(name)):
                file.unlink(missing_ok=True)

    # What tells something.

    def list(self) -> Infos:
        """All trainings, the newest first."""
        return sorted((self._info(name) for name in self._names()), key=lambda info: (-info.began, info.name))

    def open(self, name: str) -> BuildInfo:
        """One training; raises NotFoundError."""
        self._known(name)
        return self._info(name)

    def log(self, name: str, lines: int = 200) -> Lines:
        """The last lines that the process said; none of a training begun on the command line. Raises NotFoundError."""
        self._known(name)
        return end_of(self._log(name), TAIL)[-lines:]

    def losses(self, name: str) -> Losses:
        """The curves so far; raises NotFoundError."""
        return losses_of(self.folder / name, self.open(name).loss_before)

    def samples(self, name: str) -> tuple[int, Lines]:
        """The newest samples and the step they are from; raises NotFoundError."""
        self._known(name)
        return newest_samples(self.folder / name)

    def answers(self, name: str) -> Pairs:
        """Held-out questions with the answers before and after; none until they were asked. Raises NotFoundError, or
        FormatError where story.json is damaged."""
        self._known(name)
        if not (self.folder / name / STORY).is_file():
            return []
        from glassgpt.training.story import Story

        story = Story.read(self.folder / name)
        pairs = zip_longest(story.answers_before, [answer.given for answer in story.answers_after])
        return [Pair(one.question, one.wanted, one.given, now) for one, now in pairs if one is not None]

    def report_path(self, name: str) -> Path | None:
        """The story of the training as a page, None until it is there; raises NotFoundError."""
        self._known(name)
        path = self.folder / name / REPORT
        return path if path.is_file() else None

    def model_path(self, name: str) -> Path | None:
        """What `glassgpt chat` can open, None until it is there; raises NotFoundError."""
        self._known(name)
        return self.folder / name if has_model(self.folder / name) else None

    # Names, records and processes.

    def _names(self) -> set[str]:
        names: set[str] = set()
        with contextlib.suppress(OSError):
            names |= {path.name for path in self.folder.iterdir() if not path.is_symlink() and is_run(path)}
        with contextlib.suppress(OSError):
            names |= {path.stem for path in (self.folder / BESIDE).iterdir() if path.suffix == ".json"}
        return {name for name in names if _is_name(name)}

    def _known(self, name: str) -> tuple[dict[str, Any] | None, dict[str, Any]]:
        """What run.json and the record tell of a training: None of a run that is damaged or not there."""
        place = self.folder / name if _is_name(name) else None
        if place is None or place.is_symlink() or not (is_run(place) or self._record(name).is_file()):
            raise NotFoundError("there is no training {name}", hint="It may have been deleted.", name=repr(name))
        about = None
        with contextlib.suppress(GlassError):
            about = Run.open(place).about
        record: object = None
        with contextlib.suppress(OSError, ValueError, RecursionError):
            record = json.loads(self._record(name).read_text(encoding="utf-8"))
        return about, record if isinstance(record, dict) else {}

    def _info(self, name: str) -> BuildInfo:
        try:
            about, record = self._known(name)
        except NotFoundError:  # deleted a moment ago
            return BuildInfo(name, "damaged")
        running = self._running(about, record) is not None
        return info_of(self.folder / name, about, record, running, self._last_word(name))

    def _running(self, about: dict[str, Any] | None, record: dict[str, Any]) -> dict[str, Any] | None:
        """The process that trains; None when it is gone."""
        self._children = [child for child in self._children if child.poll() is None]  # or they stay as zombies
        return first(process for process in (at(about, "process"), at(record, "process")) if is_running(process))

    def _last_word(self, name: str) -> str:
        return next((line for line in reversed(end_of(self._log(name), TAIL)) if line.strip()), "")

    def _record(self, name: str) -> Path:
        return self.folder / BESIDE / f"{name}.json"

    def _log(self, name: str) -> Path:
        return self.folder / BESIDE / f"{name}.log"

    def _write(self, name: str, record: dict[str, Any]) -> None:
        write_whole(self._record(name), json.dumps(record, ensure_ascii=False, indent=1) + "\n")

    def _free_name(self, stem: str) -> str:
        number = 1
        while (self.folder / f"{stem}-{number}").exists() or self._record(f"{stem}-{number}").exists():
            number += 1
        return f"{stem}-{number}"

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """For starting a training: nobody else does meanwhile, and none goes on."""
        with refusing_disk(self._machine):
            self._machine.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self._machine / "training.lock", timeout=20):
                going = next((info.name for info in self.list() if info.running), None)
                with contextlib.suppress(OSError, ValueError, RecursionError):
                    other = json.loads((self._machine / "training.json").read_text(encoding="utf-8"))
                    if is_running(at(other, "process")):
                        going = going or str(at(other, "name"))
                if going is not None:
                    raise ConfigError(
                        "another training goes on: {name}", hint="Wait for its end, or stop it.", name=going
                    )
                yield
        except Timeout:
            raise ConfigError("another training is being started", hint="Try again in a moment.") from None

    def _spawn(self, name: str, words: Lines, record: dict[str, Any]) -> None:
        """Begin a process of its own and write down which one it is."""
        log = self._log(name)
        with refusing_disk(log):
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("ab") as output:
                child = subprocess.Popen(
                    # -P: a file in the folder of the server must not be taken for a library.
                    [sys.executable, "-P", "-X", "utf8", "-m", "glassgpt", *words],
                    stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
                )  # fmt: skip
        self._children.append(child)
        with contextlib.suppress(OSError, AttributeError):  # not on Windows
            os.setpriority(os.PRIO_PROCESS, child.pid, NICE)
        process = {"pid": child.pid, "began": begin_of(child.pid)}
        try:
            self._write(name, record | {"process": process})
            write_whole(self._machine / "training.json", json.dumps({"name": name, "process": process}) + "\n")
        except GlassError:  # a full disk: nobody would know of it
            child.terminate()
            raise


def training_threads() -> int:
    """How many threads a training beside a chat has: all but one where there are more than two."""
    budget = thread_budget()
    return budget - 1 if budget > 2 else budget


def _is_name(name: str) -> bool:
    """Whether a name from outside can be that of a run, a direct child of the folder."""
    return (
        0 < len(name.encode("utf-8", "replace")) <= 250 and not name.startswith(".") and name == Path(name).name
        and not set(name) & set("/\\:\0") and name.isprintable()
    )  # fmt: skip
