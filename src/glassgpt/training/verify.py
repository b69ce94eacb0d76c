"""The proof that a stop costs nothing: a copy of a run is killed at random moments and resumed each time, and must end
with the bits of a copy that was left alone.

Both copies train in processes of their own, from the run's data and settings, for a few steps; only how long they train
and how often they evaluate and write checkpoints is changed, in both alike. The run itself is read and never written.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from glassgpt.core.errors import ConfigError, FormatError, GlassError
from glassgpt.core.files import refusing_disk
from glassgpt.core.runs import ABOUT, MODEL, Run, check_prepared
from glassgpt.core.words import Sentence
from glassgpt.data.shards import open_shards
from glassgpt.training.loop import Event
from glassgpt.training.pretrain import HELD_OUT, TRAIN, pretrain
from glassgpt.training.sft import finetune
from glassgpt.training.state import checkpoints, load_tensors

STEPS, KILLS = 20, 3
MOST_STEPS, MOST_KILLS = 100_000, 1000
_CHILD = "import sys; from glassgpt.training.verify import train_copy; sys.exit(train_copy(sys.argv[1]))"


class ResumeError(GlassError):
    """A run that was killed and resumed is not the one that was left alone."""


@dataclass(frozen=True)
class Verdict:
    """What was compared, and what differs.

    - `kills`: for each kill, the last step that the process had reported.
    - `tensors` of weights and optimizers' state with `numbers` in them, and `losses`, one a step, were compared.
    - `differing`: the names of the tensors, and "loss of step N", that are not the same bit for bit.
    """

    kind: str
    steps: int
    checkpoint_every: int
    kills: tuple[int, ...]
    tensors: int
    numbers: int
    losses: int
    differing: tuple[str, ...]
    seconds: float

    @property
    def identical(self) -> bool:
        """Whether the two trainings ended the same, bit for bit."""
        return not self.differing

    def demand(self) -> None:
        """Raise ResumeError unless both are identical."""
        if not self.identical:
            raise ResumeError(
                "{count} of {all} tensors and losses differ after a resume, the first of them {name}",
                hint="A resume must give the same bits; keep the run and report this with its run.json.",
                count=len(self.differing), all=self.tensors + self.losses, name=self.differing[0],
            )  # fmt: skip


def verify_resume(
    folder: Path,
    *,
    steps: int | None = None,
    kills: int = KILLS,
    chance: random.Random | None = None,
    tell: Callable[[Sentence], None] = lambda sentence: None,
) -> Verdict:
    """Train two copies of a run for `steps` steps (its own number, but at most 20), one of them killed `kills` times.

    Args:
        chance: when the kills come.
        tell: called with what is being done now.

    Raises:
        ConfigError: a number is out of range, or the run was not prepared to its end.
        FormatError: the run's data is damaged.
        GlassError: a copy could not be written or trained.
    """
    began, chance = time.monotonic(), chance or random.Random()
    run = Run.open(folder)
    table = check_prepared(run)
    steps = min(STEPS, max(2, int(run.about[table]["train"]["steps"]))) if steps is None else steps
    for name, value, least, most in (("steps", steps, 2, MOST_STEPS), ("kills", kills, 1, MOST_KILLS)):
        if not least <= value <= most:
            raise ConfigError("{name} is {value}; expected a whole number from {least} to {most}", name=name,
                              value=value, least=least, most=most)  # fmt: skip
    for part in (TRAIN, HELD_OUT):
        open_shards(folder / part).verify()
    gap = chance.randint(1, min(5, max(1, steps // (kills + 1))))
    with _beside(folder) as place:
        whole, broken = (_copy(run, place / name, table, steps, gap) for name in ("unbroken", "killed"))
        tell(Sentence("training {steps} steps without a stop", steps=steps))
        moments = [when for _, when in _reports(_start(whole), whole)]
        pace = (moments[-1] - moments[0]) / max(1, len(moments) - 1)
        killed = []
        for number in range(kills):
            tell(Sentence("kill {number} of {count}", number=number + 1, count=kills))
            at = chance.uniform(number, number + 1) / kills * (steps - 1)
            killed.append(_kill(broken, at, pace, chance))
        tell(Sentence("resuming to the end"))
        for _ in _reports(_start(broken), broken):
            pass
        return _compare(whole, broken, str(run.about["kind"]), steps, gap, tuple(killed), began)


def train_copy(folder: str) -> int:
    """What a process of the proof does: go on with a copy, and print the number of every step that is done."""

    def report(event: Event) -> None:
        if event.kind == "step":
            print(event.progress.step, flush=True)

    try:
        run = Run.open(Path(folder))
        stage = pretrain if check_prepared(run) == "recipe" else finetune
        stage(run, resume=True, watch=report)
    except GlassError as error:
        print(error.line(), file=sys.stderr)
        return 1
    return 0


@contextmanager
def _beside(folder: Path) -> Iterator[Path]:
    """A temporary folder on the disk of the run, so that its data can be linked."""
    with refusing_disk(folder.absolute().parent):
        place = Path(tempfile.mkdtemp(prefix=f".{folder.name}.verify-", dir=folder.absolute().parent))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _copy(run: Run, place: Path, table: str, steps: int, gap: int) -> Path:
    """A run like another that has not begun yet: the same data, as links where the disk knows them."""
    about = json.loads(json.dumps(run.about))
    train = about[table]["train"]
    train |= {
        "steps": steps, "checkpoint_every": gap, "evaluate_every": -(-steps // 2), "patience": 0,
        "sample_tokens": min(8, train["sample_tokens"]), "snapshots": 0,
    }  # fmt: skip
    with refusing_disk(place):
        shutil.copytree(run.folder / "data", place / "data", copy_function=_link)
        (place / ABOUT).write_text(json.dumps(about), encoding="utf-8")
    return place


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without links
        shutil.copyfile(source, target)


def _start(place: Path) -> subprocess.Popen[str]:
    """A process that goes on with a copy."""
    path = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
    with (place / "stderr.txt").open("w", encoding="utf-8") as errors:
        return subprocess.Popen([sys.executable, "-P", "-c", _CHILD, str(place)], stdout=subprocess.PIPE,
                                stderr=errors, text=True, env=os.environ | {"PYTHONPATH": path})  # fmt: skip


def _reports(process: subprocess.Popen[str], place: Path) -> Iterator[tuple[int, float]]:
    """The steps that a process reports, with the time of each; raises GlassError when it ends with an error."""
    assert process.stdout is not None
    try:
        for line in process.stdout:
            yield int(line), time.monotonic()
        if process.wait() != 0:
            said = (place / "stderr.txt").read_text(encoding="utf-8").strip().splitlines()
            raise GlassError("the copy of the run could not be trained ({reason})",
                             reason=said[-1] if said else process.returncode)  # fmt: skip
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _kill(place: Path, at: float, pace: float, chance: random.Random) -> int:
    """Let a process go on with a copy until some moment after step `at`, and kill it; gives its last step."""
    process = _start(place)
    for step, _ in _reports(process, place):
        if step >= at:
            time.sleep(chance.random() * pace)
            if process.poll() is None:
                process.kill()
                return step
    raise GlassError(
        "the training was over before it could be killed",
        hint="Its steps are too short; give more of them with --steps.",
    )


def _compare(
    whole: Path, broken: Path, kind: str, steps: int, gap: int, killed: tuple[int, ...], began: float
) -> Verdict:
    differing, tensors, numbers = [], 0, 0
    pairs = [(checkpoints(whole)[0], checkpoints(broken)[0]), (whole / MODEL, broken / MODEL)]
    for one, other in pairs:
        names = sorted(p.name for p in one.glob("*.safetensors"))
        if one.name != other.name or names != sorted(p.name for p in other.glob("*.safetensors")):
            raise FormatError("{path} is damaged ({reason})", hint="Start it anew.", path=other, reason=names)
        for name in names:
            left, right = load_tensors(one / name), load_tensors(other / name)
            tensors += len(left)
            numbers += sum(t.numel() for t in left.values())
            for key in left.keys() | right.keys():
                if key not in left or key not in right or not _same_bits(left[key], right[key]):
                    differing.append(f"{one.name}/{name}: {key}")
    losses, again = ({m["step"]: m["loss"] for m in Run.open(p).metrics() if "loss" in m} for p in (whole, broken))
    differing += [f"loss of step {step}" for step in sorted(losses) if again.get(step) != losses[step]]
    return Verdict(kind, steps, gap, killed, tensors, numbers, len(losses), tuple(sorted(differing)),
                   time.monotonic() - began)  # fmt: skip


def _same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Equal bit for bit: unlike `==`, 0 and -0 are two things and a NaN is itself."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return torch.equal(one.reshape(-1).view(torch.uint8), other.reshape(-1).view(torch.uint8))
