"""Two cores as two workers: each trains on its own part of a batch, and the gradients are added up.

torch's own way, both cores in every single operation, waits at the end of each one. On small matrices that costs more
than it gains, and when another program takes a core for a moment everything waits for it: measured once, a step
that takes 120 ms on an idle machine then took 770 ms, and 54 ms with workers.

Here a worker is a thread, which works everywhere; `training.processes` has the same in processes, which do not wait for
one another's Python. What they may be asked to do, the jobs, is named when they begin, because a process that has begun
can be sent data but no functions.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from glassgpt.model.gpt import GPT
from glassgpt.model.layers import Dropout
from glassgpt.training.optim import Optimizer

Job = Callable[[GPT, Any], Any]


class Workers:
    """`count` threads with a replica of the network each, all on the network's own weights; the caller's thread is the
    first of them. On a GPU, or with a count of one, there is only the network itself.

    While there are several, torch has one thread for each, in this one too: the others of its own would, after every
    operation, keep a core busy waiting for the next. `at_rest` is for what is done between.

    Everything they compute is a function of the item and of which worker has it, never of which was faster.

    Args:
        jobs: what they can be asked for, by name; each is called with a network and an item.
        optimizers: whose updates they share out.
    """

    def __init__(
        self, network: GPT, jobs: Mapping[str, Job], optimizers: Sequence[Optimizer] = (), count: int = 1
    ) -> None:
        device = next(network.parameters()).device
        self.network, self.jobs, self.optimizers = network, dict(jobs), list(optimizers)
        self.count = count if device.type == "cpu" else 1
        self.generators = [torch.Generator(device) for _ in range(self.count)]
        self._threads = torch.get_num_threads()
        self._start()
        if self.count > 1:
            torch.set_num_threads(1)

    def map(self, job: str, items: Sequence[Any]) -> list[Any]:
        """The job done for each item, item i by worker i mod count; the results in order."""
        work = self.jobs[job]
        parts = self._together(lambda worker: [work(self.replicas[worker], x) for x in items[worker :: self.count]])
        return [parts[i % self.count][i // self.count] for i in range(len(items))]

    def seed(self, seed: int) -> None:
        """Begin each worker's chance anew."""
        for worker, generator in enumerate(self.generators):
            generator.manual_seed((seed + worker * 0x632BE59BD9B4E019) % (1 << 63))

    def training(self, on: bool) -> None:
        """Put every network into training or evaluation mode."""
        for replica in self.replicas:
            replica.train(on)

    def gather(self) -> None:
        """Put the sum of all workers' gradients, in the order of the workers, into those of the network."""
        for replica in self.replicas[1:]:
            for whole, part in zip(self.replicas[0].parameters(), replica.parameters(), strict=True):
                if part.grad is not None:
                    whole.grad = part.grad if whole.grad is None else whole.grad.add_(part.grad)
                    part.grad = None

    def update(self, factor: float) -> None:
        """One update by every optimizer with its rate times `factor`, from the network's gradients, which are then
        cleared."""
        tasks = [task for optimizer in self.optimizers for task in optimizer.tasks(factor)]
        self._together(lambda worker: [task() for task in tasks[worker :: self.count]])
        clear_gradients(self.network)

    @contextmanager
    def at_rest(self) -> Iterator[None]:
        """All of torch's threads for the caller, who asks nothing of the workers in the meantime."""
        now = torch.get_num_threads()
        torch.set_num_threads(self._threads)
        try:
            yield
        finally:
            torch.set_num_threads(now)

    def close(self) -> None:
        """End the workers; the network stays as it is."""
        self._stop()
        torch.set_num_threads(self._threads)

    def _start(self) -> None:
        self.replicas = [self.network, *(_replica(self.network) for _ in range(self.count - 1))]
        for replica, generator in zip(self.replicas, self.generators, strict=True):
            use_generator(replica, generator)
        self._pool = ThreadPoolExecutor(self.count - 1, initializer=_one_thread) if self.count > 1 else None

    def _stop(self) -> None:
        if self._pool:
            self._pool.shutdown()

    def _together(self, share: Callable[[int], list[Any]]) -> list[list[Any]]:
        if self._pool is None:
            return [share(0)]
        futures = [self._pool.submit(share, worker) for worker in range(1, self.count)]
        try:
            mine = share(0)
        finally:
            wait(futures)
        return [mine, *(future.result() for future in futures)]


def use_generator(network: GPT, generator: torch.Generator) -> None:
    """Let a network's dropout draw from its worker's chance."""
    for module in network.modules():
        if isinstance(module, Dropout):
            module.generator = generator


def clear_gradients(network: GPT) -> None:
    """Forget the gradients of every parameter."""
    for p in network.parameters():
        p.grad = None


def _one_thread() -> None:
    torch.set_num_threads(1)  # each thread has its own setting
    threading.current_thread().name = "glassgpt-worker"


def _replica(network: GPT) -> GPT:
    """A copy whose parameters are the network's own memory, with gradients of their own."""
    shared: dict[int, Tensor] = {id(b): b for b in network.buffers()}
    shared |= {id(p): nn.Parameter(p.detach(), requires_grad=p.requires_grad) for p in network.parameters()}
    return copy.deepcopy(network, shared)
