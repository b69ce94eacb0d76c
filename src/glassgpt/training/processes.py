"""Workers that are processes (`training.workers` says what workers are). Two threads of one Python take turns at
everything that is not inside a large product, which is half of a small network's step; processes do not.

They begin as copies of this one (`fork`), so nothing is loaded twice: what is frozen stays in memory that both read,
and what is trained, its gradients and the optimizers' state are moved into memory that both write. That needs Linux,
the main thread, and no GPU, whose libraries do not survive being copied; elsewhere threads do the same, and a test
holds the two equal bit for bit.
"""

from __future__ import annotations

import gc
import mmap
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glassgpt.core.errors import GlassError
from glassgpt.model.gpt import GPT
from glassgpt.training.optim import Optimizer
from glassgpt.training.workers import Job, Workers, clear_gradients, use_generator

_BEGUN_S, _TRIES = 30.0, 3  # for which a process is waited for, and how often one is begun
ALIGNMENT = 64  # bytes: a cache line, and as wide as the widest vectors


def start_workers(
    network: GPT, jobs: Mapping[str, Job], optimizers: Sequence[Optimizer] = (), *, forked: bool = True
) -> Workers:
    """As many workers as torch has threads: processes where those are safe and `forked` allows, else threads."""
    count = torch.get_num_threads()
    kind = Processes if forked and count > 1 and can_fork(network) else Workers
    return kind(network, jobs, optimizers, count)


def can_fork(network: GPT) -> bool:
    """Whether workers of this network can be processes here."""
    return (
        sys.platform == "linux" and next(network.parameters()).device.type == "cpu" and not torch.cuda.is_available()
        and threading.current_thread() is threading.main_thread()
    )  # fmt: skip


class Processes(Workers):
    """`count` workers, the first of which is this process. The same as `Workers` in everything that can be seen."""

    def _start(self) -> None:
        self.replicas = [self.network]
        use_generator(self.network, self.generators[0])
        self.trained = [p for p in self.network.parameters() if p.requires_grad]
        # Counts without a dimension stay each process's own: each counts for itself.
        state = [t for optimizer in self.optimizers for t in optimizer.state.values() if t.ndim]
        move_together(self.trained + state)
        self._gradients = [shared_like(self.trained) for _ in range(self.count - 1)]
        self._pipes: list[Connection] = []
        self._children: list[int] = []
        gc.freeze()  # looking through what is there already, a copy's collector would copy it
        try:
            for worker in range(1, self.count):
                self._begin(worker)
        except BaseException:  # those that have begun are ended too
            self._stop()
            raise
        finally:
            gc.unfreeze()

    def map(self, job: str, items: Sequence[Any]) -> list[Any]:
        """The job done for each item, item i by worker i mod count; the results in order."""
        shares = [list(items[worker :: self.count]) for worker in range(self.count)]
        parts = self._ask("work", [(job, share) for share in shares])
        return [parts[i % self.count][i // self.count] for i in range(len(items))]

    def seed(self, seed: int) -> None:
        """Begin each worker's chance anew."""
        super().seed(seed)
        self._tell("seed", seed)

    def training(self, on: bool) -> None:
        """Put every network into training or evaluation mode."""
        super().training(on)
        self._tell("training", on)

    def gather(self) -> None:
        """Put the sum of all workers' gradients, in the order of the workers, into those of the network."""
        have = self._ask("hand_over", [None] * self.count)
        for i, p in enumerate(self.trained):
            total = p.grad
            for worker in range(1, self.count):
                if have[worker][i]:
                    part = self._gradients[worker - 1][i]
                    # Into the part's memory: the others can read it there.
                    total = part if total is None else torch.add(total, part, out=part)
            p.grad = total

    def update(self, factor: float) -> None:
        """One update by every optimizer with its rate times `factor`, from the network's gradients, which are then
        cleared."""
        where = [self._place(i, p.grad) for i, p in enumerate(self.trained)]
        self._ask("apply", [(factor, where)] * self.count)

    def _stop(self) -> None:
        for pipe in self._pipes:
            pipe.close()
        for child in self._children:
            os.kill(child, signal.SIGKILL)  # it owns nothing, and may be in the middle of something long
            os.waitpid(child, 0)
        self._pipes, self._children = [], []

    def _begin(self, worker: int) -> None:
        """Begin a process, which has multiplied something when this returns."""
        for _ in range(_TRIES):
            wait_for_quiet()
            here, there = Pipe()
            child = os.fork()
            if child == 0:
                try:
                    here.close()
                    self._serve(worker, there)
                finally:
                    os._exit(0)  # nothing that this process owns is to be closed or written by its copy
            there.close()
            if here.poll(_BEGUN_S):
                self._pipes.append(here)
                self._children.append(child)
                self._answer(worker)  # raises where it has ended already
                return
            here.close()  # it waits for a lock that nobody holds (`wait_for_quiet`): another copy may not
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        raise GlassError(
            "no process that trains beside this one could be begun", hint="Try again, or with --threads 1."
        )

    def _place(self, i: int, gradient: Tensor | None) -> int | None:
        """Which of the shared buffers a summed gradient lies in; moved into the first one where it lies in none."""
        if gradient is None:
            return None
        for number, buffers in enumerate(self._gradients):
            if gradient.data_ptr() == buffers[i].data_ptr():
                return number
        self.trained[i].grad = self._gradients[0][i].copy_(gradient)
        return 0

    # What a worker can be told; run by the process that is the worker.

    def _work(self, worker: int, asked: tuple[str, list[Any]]) -> list[Any]:
        job, items = asked
        return [self.jobs[job](self.network, item) for item in items]

    def _hand_over(self, worker: int, nothing: None) -> list[bool]:
        """Copy this worker's gradients to where the first one can read them; says which there are."""
        have = [p.grad is not None for p in self.trained]
        if worker:
            for p, shared in zip(self.trained, self._gradients[worker - 1], strict=True):
                if p.grad is not None:
                    shared.copy_(p.grad)
            clear_gradients(self.network)
        return have

    def _apply(self, worker: int, asked: tuple[float, list[int | None]]) -> None:
        factor, where = asked
        if worker:
            for i, (p, number) in enumerate(zip(self.trained, where, strict=True)):
                p.grad = None if number is None else self._gradients[number][i]
        tasks = [task for optimizer in self.optimizers for task in optimizer.tasks(factor)]
        for task in tasks[worker :: self.count]:
            task()
        clear_gradients(self.network)

    def _ask(self, what: str, for_each: Sequence[Any]) -> list[Any]:
        """Let every worker do something at once; their results in order. The first one's error is the caller's, after
        all have answered."""
        self._tell(what, for_each, each=True)
        try:
            mine = self._do(what, 0, for_each[0])
        finally:
            answers = [self._answer(worker) for worker in range(1, self.count)]
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return [mine, *answers]

    def _tell(self, what: str, value: Any, *, each: bool = False) -> None:
        for worker, pipe in enumerate(self._pipes, 1):
            try:
                pipe.send((what, value[worker] if each else value))
            except OSError:
                raise self._ended(worker) from None

    def _answer(self, worker: int) -> Any:
        try:
            return self._pipes[worker - 1].recv()
        except (EOFError, OSError):
            raise self._ended(worker) from None

    def _ended(self, worker: int) -> GlassError:
        child = self._children[worker - 1]
        return GlassError(
            "process {child}, which trained beside this one, was ended from outside",
            hint="Often there was too little memory. What was saved is whole: go on with --resume.",
            child=child,
        )

    def _do(self, what: str, worker: int, value: Any) -> Any:
        doing: dict[str, Callable[[int, Any], Any]] = {
            "work": self._work, "hand_over": self._hand_over, "apply": self._apply,
        }  # fmt: skip
        return doing[what](worker, value)

    def _serve(self, worker: int, pipe: Connection) -> None:
        """A worker's life: do what it is told until the other end of the pipe is closed."""
        for number in (signal.SIGINT, signal.SIGTERM):  # meant for the first process, which ends the others
            signal.signal(number, signal.SIG_IGN)
        torch.set_num_threads(1)
        use_generator(self.network, self.generators[worker])
        torch.ones(64, 64) @ torch.ones(64, 64)
        _send(pipe, None)  # it has begun
        while True:
            try:
                what, value = pipe.recv()
            except (EOFError, OSError):
                return
            if what == "seed":
                Workers.seed(self, value)
            elif what == "training":
                Workers.training(self, value)
            else:
                try:
                    answer = self._do(what, worker, value)
                except BaseException as error:
                    answer = error
                _send(pipe, answer)


def _send(pipe: Connection, answer: Any) -> None:
    try:
        pipe.send(answer)
    except OSError:
        os._exit(0)
    except Exception:  # an error that cannot be sent as it is
        pipe.send(RuntimeError(f"{type(answer).__name__}: {answer}"))


def wait_for_quiet(seconds: float = 2.0) -> None:
    """Wait until no other thread of this process runs, for so many seconds at most.

    A thread that has ended for Python may still hold a lock of the libraries below torch while the system ends it. In a
    copy of the process that lock is never released, and the first product waits for it for ever: measured, once in 200
    forks right after threads that had multiplied.
    """
    until, quiet = time.monotonic() + seconds, 0
    while quiet < 3 and time.monotonic() < until:
        quiet = 0 if _others_run() else quiet + 1
        time.sleep(0.001)


def _others_run() -> bool:
    own = threading.get_native_id()
    for task in Path("/proc/self/task").iterdir():
        try:
            about = (task / "stat").read_text(encoding="ascii", errors="replace")
        except OSError:  # it ends at this moment
            return True
        if int(task.name) != own and about.rpartition(")")[2].split()[0] in "RD":
            return True
    return False


def shared_like(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Tensors of these shapes and types, zero, in one piece of memory that processes begun later write together.

    It has no name and no place in a file system: a small /dev/shm, as containers have, is no limit.
    """
    places, size = [], 0
    for t in tensors:
        places.append(size)
        size += -(-t.numel() * t.element_size() // ALIGNMENT) * ALIGNMENT
    memory = torch.frombuffer(mmap.mmap(-1, max(size, 1)), dtype=torch.uint8)
    return [
        memory[place : place + t.numel() * t.element_size()].view(t.dtype).view(t.shape)
        for place, t in zip(places, tensors, strict=True)
    ]


@torch.no_grad()
def move_together(tensors: Sequence[Tensor]) -> None:
    """Move tensors into such memory; they stay the same objects, with the same numbers."""
    for tensor, shared in zip(tensors, shared_like(tensors), strict=True):
        shared.copy_(tensor)
        tensor.data = shared
