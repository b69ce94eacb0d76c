"""Two cores as two workers: each thread trains on its own part of a batch with a copy of the network that shares the
weights, and the gradients are added up.

torch's own way, both cores in every single operation, waits at the end of each one. On small matrices that costs more
than it gains, and when another program takes a core for a moment everything waits for it: measured once, a step
that takes 120 ms on an idle machine then took 770 ms, and 54 ms with workers.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from glassgpt.model.gpt import GPT
from glassgpt.model.layers import Dropout

Item = TypeVar("Item")
Out = TypeVar("Out")


class Workers:
    """`count` threads with a replica of the network each; on a GPU, or with one, there is only the network itself.

    While there are several, torch has one thread for each, in the caller's too: the others of its own would, after each
    operation, keep a core busy waiting for the next. `at_rest` is for what is done between.

    Everything they compute is a function of the item and of which worker has it, never of which thread was faster.
    """

    def __init__(self, network: GPT, count: int) -> None:
        on_cpu = next(network.parameters()).device.type == "cpu"
        self.count = count if on_cpu else 1
        self.replicas = [network, *(_replica(network) for _ in range(self.count - 1))]
        self.generators = [torch.Generator(next(network.parameters()).device) for _ in self.replicas]
        for replica, generator in zip(self.replicas, self.generators, strict=True):
            for module in replica.modules():
                if isinstance(module, Dropout):
                    module.generator = generator
        self._pool = ThreadPoolExecutor(self.count - 1, initializer=_one_thread) if self.count > 1 else None
        self._threads = torch.get_num_threads()
        if self.count > 1:
            torch.set_num_threads(1)

    def map(self, work: Callable[[GPT, Item], Out], items: Sequence[Item]) -> list[Out]:
        """`work(replica, item)` for each item, item i by worker i mod count; the results in order."""

        def share(worker: int) -> list[Out]:
            return [work(self.replicas[worker], item) for item in items[worker :: self.count]]

        parts = self._together(share)
        return [parts[i % self.count][i // self.count] for i in range(len(items))]

    def run(self, tasks: Sequence[Callable[[], None]]) -> None:
        """Run tasks that do not depend on one another."""
        self._together(lambda worker: [task() for task in tasks[worker :: self.count]])

    def seed(self, seed: int) -> None:
        """Begin each worker's chance anew."""
        for worker, generator in enumerate(self.generators):
            generator.manual_seed((seed + worker * 0x632BE59BD9B4E019) % (1 << 63))

    def gather(self) -> None:
        """Add the replicas' gradients to those of the network, in the order of the workers, and clear them."""
        for replica in self.replicas[1:]:
            for whole, part in zip(self.replicas[0].parameters(), replica.parameters(), strict=True):
                if part.grad is not None:
                    whole.grad = part.grad if whole.grad is None else whole.grad.add_(part.grad)
                    part.grad = None

    def training(self, on: bool) -> None:
        """Put every replica into training or evaluation mode."""
        for replica in self.replicas:
            replica.train(on)

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
        """End the threads, and give torch its own back."""
        if self._pool:
            self._pool.shutdown()
        torch.set_num_threads(self._threads)

    def _together(self, share: Callable[[int], list[Out]]) -> list[list[Out]]:
        if self._pool is None:
            return [share(0)]
        futures = [self._pool.submit(share, worker) for worker in range(1, self.count)]
        try:
            mine = share(0)
        finally:
            wait(futures)
        return [mine, *(future.result() for future in futures)]


def _one_thread() -> None:
    torch.set_num_threads(1)  # each thread has its own setting
    threading.current_thread().name = "glassgpt-worker"


def _replica(network: GPT) -> GPT:
    """A copy whose parameters are the network's own memory, with gradients of their own."""
    shared: dict[int, Tensor] = {id(b): b for b in network.buffers()}
    shared |= {id(p): nn.Parameter(p.detach(), requires_grad=p.requires_grad) for p in network.parameters()}
    return copy.deepcopy(network, shared)
