"""Workers: the results of one, in the order of the items, whatever worker is faster; processes equal threads."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import psutil
import pytest
import torch

from glassgpt.core.errors import GlassError
from glassgpt.model.config import ModelConfig
from glassgpt.model.gpt import GPT
from glassgpt.training import processes
from glassgpt.training.optim import AdamW, Muon
from glassgpt.training.processes import Processes, can_fork, move_together, start_workers
from glassgpt.training.workers import Workers

KINDS = [Workers, pytest.param(Processes, marks=pytest.mark.skipif(sys.platform != "linux", reason="needs Linux"))]
each_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def network() -> GPT:
    torch.manual_seed(4)
    return GPT(ModelConfig.modern(vocab_size=40, n_layer=2, n_head=2, n_embd=16, context_length=32, dropout=0.2))


def backward(network, ids):
    loss = network(ids).square().sum()
    loss.backward()
    return loss.item()


def children() -> list[psutil.Process]:
    return psutil.Process().children()


@each_kind
@pytest.mark.parametrize("count", [1, 2, 3])
def test_results_come_in_the_order_of_the_items(network, kind, count):
    def work(replica, item):
        time.sleep(0.01 if item % 2 else 0.0)
        return item * 10

    with closing(kind(network, {"work": work}, count=count)) as workers:
        assert workers.map("work", range(7)) == [0, 10, 20, 30, 40, 50, 60]
        assert workers.map("work", []) == []


@each_kind
def test_workers_see_every_change_of_the_weights_and_their_gradients_are_added_up(network, kind):
    jobs = {"backward": backward, "weight": lambda replica, item: replica.embed.weight[0].tolist()}
    one, two = torch.randint(0, 40, (1, 8)), torch.randint(0, 40, (1, 8))
    network.eval()
    with closing(kind(network, jobs, count=2)) as workers:
        with torch.no_grad():
            network.embed.weight.mul_(3)
        first, second = workers.map("weight", [0, 1])
        assert first == second == network.embed.weight[0].tolist()
        workers.map("backward", [one, two])
        workers.gather()
        found = {name: p.grad.clone() for name, p in network.named_parameters()}
        # What the first one had alone is not enough: the sum is of both.
        for p in network.parameters():
            p.grad = None
        for ids in (one, two):
            backward(network, ids)
        for name, p in network.named_parameters():
            torch.testing.assert_close(found[name], p.grad, atol=1e-4, rtol=1e-4)


def trained(kind, count: int, batches: int) -> list[torch.Tensor]:
    """The weights and states after some steps with dropout, Muon and AdamW."""
    torch.manual_seed(6)
    network = GPT(ModelConfig.modern(vocab_size=40, n_layer=2, n_head=2, n_embd=16, context_length=32, dropout=0.2))
    network.norm.weight.requires_grad_(False)
    named = {name: p for name, p in network.train().named_parameters() if p.requires_grad}
    matrices = {name: p for name, p in named.items() if name.startswith("blocks") and p.ndim == 2}
    rest = {name: p for name, p in named.items() if name not in matrices}
    optimizers = [Muon(matrices, 0.02, row_beta=0.9), AdamW(rest, 0.01)]
    random = torch.Generator().manual_seed(1)
    losses = []
    with closing(kind(network, {"backward": backward}, optimizers, count)) as workers:
        for step in range(4):
            workers.seed(step)
            losses += workers.map("backward", [torch.randint(0, 40, (2, 9), generator=random) for _ in range(batches)])
            workers.gather()
            if step == 2:  # as clipping does
                for p in network.parameters():
                    if p.grad is not None:
                        p.grad.mul_(0.5)
            workers.update(1.0 - step / 8)
            assert all(p.grad is None for p in network.parameters())
    states = [t for optimizer in optimizers for t in optimizer.state.values()]
    return [torch.tensor(losses), *(p.detach() for p in network.parameters()), *states]


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
@pytest.mark.parametrize(("count", "batches"), [(2, 2), (2, 3), (2, 1), (3, 5), (3, 2)])
def test_processes_train_as_threads_do_bit_for_bit(count, batches):
    for one, other in zip(trained(Workers, count, batches), trained(Processes, count, batches), strict=True):
        assert torch.equal(one, other)


@each_kind
def test_chance_is_a_function_of_seed_item_and_worker(network, kind):
    ids = torch.randint(0, 40, (1, 16))

    def scores(replica, item):
        time.sleep(0.01 * (os.getpid() % 3))
        with torch.no_grad():
            return replica(ids).flatten().tolist()

    with closing(kind(network.train(), {"scores": scores}, count=2)) as workers:
        found = []
        for seed in (1, 1, 2):
            workers.seed(seed)
            found.append(workers.map("scores", range(6)))
        workers.training(False)
        assert len({tuple(x) for x in workers.map("scores", range(6))}) == 1
    assert found[0] == found[1] and found[0] != found[2]
    assert len({tuple(x[:20]) for x in found[0]}) == 6


@each_kind
def test_an_error_in_a_worker_reaches_the_caller_and_the_workers_stay_usable(network, kind):
    def work(replica, item):
        if item == 1:
            raise ValueError("item 1")
        return item

    with closing(kind(network, {"work": work}, count=2)) as workers:
        for items in ([0, 1], [1, 0]):  # the second worker's item, and the caller's own
            with pytest.raises(ValueError, match="item 1"):
                workers.map("work", items)
        assert workers.map("work", [2, 3]) == [2, 3]


@each_kind
def test_torch_has_one_thread_while_there_are_workers_and_its_own_at_rest_and_after(network, kind):
    torch.set_num_threads(2)
    jobs = {"threads": lambda replica, item: torch.get_num_threads()}
    with closing(kind(network, jobs, count=2)) as workers:
        assert torch.get_num_threads() == 1
        assert workers.map("threads", [0, 1]) == [1, 1]
        with workers.at_rest():
            assert torch.get_num_threads() == 2
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    with closing(Workers(network, jobs, count=1)):
        assert torch.get_num_threads() == 2


needs_fork = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")


@needs_fork
def test_processes_end_with_their_workers_and_only_the_network_is_left(network):
    before = {p.pid for p in children()}
    with closing(start_workers(network, {"pid": lambda replica, item: os.getpid()})) as workers:
        assert isinstance(workers, Processes)
        assert len(set(workers.map("pid", [0, 1]))) == 2
        assert len({p.pid for p in children()} - before) == 1
    assert {p.pid for p in children()} == before
    assert torch.isfinite(network(torch.zeros(1, 3, dtype=torch.long))).all()


@needs_fork
def test_a_process_that_is_killed_is_told_and_leaves_nothing_behind(network):
    before = {p.pid for p in children()}
    with closing(Processes(network, {"sleep": lambda replica, item: time.sleep(item)}, count=2)) as workers:
        (child,) = (p for p in children() if p.pid not in before)
        threading.Timer(0.2, lambda: os.kill(child.pid, signal.SIGKILL)).start()
        with pytest.raises(GlassError, match="ended from outside"):
            workers.map("sleep", [0, 30])
    assert {p.pid for p in children()} == before


@needs_fork
def test_an_error_that_cannot_be_sent_is_still_told(network):
    def work(replica, item):
        raise ValueError(lambda: item)  # a function cannot be sent

    with closing(Processes(network, {"work": work}, count=2)) as workers, pytest.raises((RuntimeError, ValueError)):
        workers.map("work", [0, 1])


ORPHAN = """
import os, signal, sys, time, torch
from glassgpt.model.config import ModelConfig
from glassgpt.model.gpt import GPT
from glassgpt.training.processes import Processes
network = GPT(ModelConfig.modern(vocab_size=9, n_layer=1, n_head=1, n_embd=8, context_length=8))
workers = Processes(network, {"pid": lambda replica, item: os.getpid()}, count=3)
print(*workers.map("pid", [0, 1, 2])[1:], flush=True)
time.sleep(60)
"""


@needs_fork
def test_workers_end_when_the_first_process_is_killed_and_not_by_signals_meant_for_it(tmp_path: Path):
    with subprocess.Popen([sys.executable, "-c", ORPHAN], stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        workers = [psutil.Process(int(pid)) for pid in first.stdout.readline().split()]
        for worker in workers:
            worker.send_signal(signal.SIGINT)
            worker.send_signal(signal.SIGTERM)
        assert psutil.wait_procs(workers, timeout=0.5)[0] == []
        first.kill()
        assert psutil.wait_procs(workers, timeout=10)[1] == []


@needs_fork
def test_a_thread_has_threads_for_workers(network):
    found = []
    thread = threading.Thread(target=lambda: found.append(can_fork(network)))
    thread.start()
    thread.join()
    assert found == [False] and can_fork(network)


def test_tensors_that_are_moved_together_stay_the_same_objects_with_the_same_numbers():
    tensors = [torch.arange(6.0).view(2, 3).T, torch.zeros(0), torch.ones(5, dtype=torch.bfloat16), torch.tensor(7)]
    wanted = [t.clone() for t in tensors]
    move_together(tensors)
    assert all(torch.equal(t, w) and t.dtype == w.dtype for t, w in zip(tensors, wanted, strict=True))
    tensors[0].add_(1)
    assert torch.equal(tensors[0], wanted[0] + 1) and torch.equal(tensors[2], wanted[2])
    assert all(t.data_ptr() % 64 == 0 for t in tensors if t.numel())


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
@pytest.mark.parametrize("forks", [60, pytest.param(1500, marks=[pytest.mark.slow, pytest.mark.full])])
def test_processes_begin_right_after_threads_that_multiplied(network, monkeypatch, forks):
    """A thread that the system is still ending holds a lock of the library of products for a moment: a copy of the
    process waited for that lock for ever, once in some 200 times."""
    monkeypatch.setattr(processes, "_TRIES", 1)
    monkeypatch.setattr(processes, "_BEGUN_S", 10.0)
    one = torch.randn(40, 40)

    def multiply() -> None:
        for _ in range(20):
            one @ one

    for _ in range(forks):
        threads = [threading.Thread(target=multiply) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with closing(Processes(network, {}, count=2)) as workers:
            workers.seed(1)


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
def test_a_process_that_does_not_begin_is_ended_and_another_begun(network, monkeypatch, tmp_path):
    monkeypatch.setattr(processes, "_BEGUN_S", 0.3)
    serve, others = Processes._serve, len(children())

    def hangs(self, worker, pipe):
        (tmp_path / str(os.getpid())).touch()
        if len(list(tmp_path.iterdir())) < broken:
            time.sleep(60)
        monkeypatch.undo()
        serve(self, worker, pipe)

    monkeypatch.setattr(Processes, "_serve", hangs)
    broken = 3
    with closing(Processes(network, {"double": lambda replica, item: 2 * item}, count=2)) as workers:
        assert workers.map("double", [1, 2, 3]) == [2, 4, 6]
    assert len(list(tmp_path.iterdir())) == 3 and len(children()) == others
    broken = 99
    with pytest.raises(GlassError, match="could be begun"):
        Processes(network, {}, count=2)

    def second_alone(self, worker, pipe):
        if worker == 2:
            time.sleep(60)
        serve(self, worker, pipe)

    monkeypatch.setattr(Processes, "_serve", second_alone)
    monkeypatch.setattr(processes, "_BEGUN_S", 0.5)
    with pytest.raises(GlassError, match="could be begun"):
        Processes(network, {}, count=3)
    assert len(children()) == others
