"""Two workers: the results of one, in the order of the items, whatever thread is faster."""

from __future__ import annotations

import time
from contextlib import closing

import pytest
import torch

from glassgpt.model.config import ModelConfig
from glassgpt.model.gpt import GPT
from glassgpt.training.workers import Workers


@pytest.fixture
def network() -> GPT:
    torch.manual_seed(4)
    return GPT(ModelConfig.modern(vocab_size=40, n_layer=2, n_head=2, n_embd=16, context_length=32, dropout=0.2))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_results_come_in_the_order_of_the_items(network, count):
    def work(replica, item):
        time.sleep(0.01 if item % 2 else 0.0)
        return item * 10

    with closing(Workers(network, count)) as workers:
        assert workers.map(work, range(7)) == [0, 10, 20, 30, 40, 50, 60]
        assert workers.map(work, []) == []
        done: list[int] = []
        workers.run([lambda n=n: done.append(n) for n in range(5)])
        assert sorted(done) == [0, 1, 2, 3, 4]


def test_replicas_see_every_change_of_the_weights_and_keep_their_own_gradients(network):
    with closing(Workers(network, 2)) as workers:
        with torch.no_grad():
            network.embed.weight.mul_(3)
        for replica in workers.replicas:
            assert torch.equal(replica.embed.weight, network.embed.weight)
        ids = torch.randint(0, 40, (1, 8))
        workers.map(lambda replica, item: replica(item).sum().backward(), [ids, ids * 0])
        first, second = (replica.embed.weight.grad.clone() for replica in workers.replicas)
        assert not torch.equal(first, second)
        workers.gather()
        assert torch.equal(network.embed.weight.grad, first + second)
        assert workers.replicas[1].embed.weight.grad is None


def test_chance_is_a_function_of_seed_item_and_worker(network):
    ids = torch.randint(0, 40, (1, 16))

    def scores(replica, item):
        time.sleep(0.01 * torch.rand(()).item())
        with torch.no_grad():
            return replica(ids)

    with closing(Workers(network.train(), 2)) as workers:
        found = []
        for seed in (1, 1, 2):
            workers.seed(seed)
            found.append(torch.stack(workers.map(scores, range(6))))
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])
    assert len({tuple(x.flatten().tolist()[:20]) for x in found[0]}) == 6


def test_an_error_in_a_worker_reaches_the_caller_and_the_threads_stay_usable(network):
    def work(replica, item):
        if item == 1:
            raise ValueError("item 1")
        return item

    before = torch.get_num_threads()
    with closing(Workers(network, 2)) as workers:
        for items in ([0, 1], [1, 0]):  # the second worker's item, and the caller's own
            with pytest.raises(ValueError, match="item 1"):
                workers.map(work, items)
        assert workers.map(work, [2, 3]) == [2, 3]
    assert torch.get_num_threads() == before


def test_torch_has_one_thread_while_there_are_workers_and_its_own_at_rest_and_after(network):
    torch.set_num_threads(2)
    with closing(Workers(network, 2)) as workers:
        assert torch.get_num_threads() == 1
        assert workers.map(lambda replica, item: torch.get_num_threads(), [0, 1]) == [1, 1]
        with workers.at_rest():
            assert torch.get_num_threads() == 2
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    with closing(Workers(network, 1)):
        assert torch.get_num_threads() == 2
