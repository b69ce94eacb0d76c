"""How fast this machine trains: some real steps of a few sizes, and from those every other size."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace

import torch

from glassgpt.data.batches import TextBatches
from glassgpt.data.shards import Shards
from glassgpt.training.budget import Size, Speed, recipe_for
from glassgpt.training.loop import Stage, _step, stage_workers
from glassgpt.training.optim import Optimizer
from glassgpt.training.pretrain import PASS_TOKENS, make_network, make_optimizers, text_loss
from glassgpt.training.settings import Recipe

LEAST_STEPS = 2  # that are timed, however long they take


def measure_speeds(base: Recipe, sizes: Sequence[Size], shards: Shards, seconds: float = 10.0) -> list[Speed]:
    """Train a small, a middle and a large one of the sizes for about `seconds` in all; weights are thrown away.

    A large one of which two steps would not fit is left out. Speeds are means and not bests: what else
    the machine is doing will go on for a while.
    """
    found: list[Speed] = []
    chosen = sorted({sizes[len(sizes) // 4], sizes[len(sizes) // 2], sizes[-1]}, key=lambda size: size.flops)
    for number, size in enumerate(chosen):
        share = seconds / (len(chosen) - number)
        if found:
            size = next((s for s in reversed(sizes[: sizes.index(size) + 1])
                         if s.flops <= found[-1].size.flops or _guess(found[-1], s) < share), size)  # fmt: skip
            if size.flops <= found[-1].size.flops:
                break
        began = time.perf_counter()
        found.append(_measure(base, size, shards, share))
        seconds -= time.perf_counter() - began
    return found


def _guess(known: Speed, size: Size) -> float:
    """How long making a network of this size and its first steps would take."""
    step = known.token_s * _passes() * PASS_TOKENS + known.step_s
    return 1.0 + (1 + LEAST_STEPS) * step * size.flops / known.size.flops


def _passes() -> int:
    return 2 * torch.get_num_threads()


class _Noting:
    """An optimizer that notes when it is asked to work: before that a step computes gradients."""

    def __init__(self, inner: Optimizer, note: Callable[[], None]) -> None:
        self.inner, self.note, self.state = inner, note, inner.state

    def tasks(self, factor: float) -> list[Callable[[], None]]:
        self.note()
        return self.inner.tasks(factor)


def _measure(base: Recipe, size: Size, shards: Shards, seconds: float) -> Speed:
    recipe = recipe_for(base, size, 1 << 20, 2.0)
    tokens = _passes() * PASS_TOKENS
    recipe = replace(recipe, train=replace(recipe.train, batch=max(1, tokens // size.context)))
    network = make_network(recipe, size.vocab_size).to(recipe.train.device)
    batches = TextBatches(shards, recipe.train.batch, size.context, recipe.train.seed)
    noted: list[float] = []
    made = make_optimizers(network, recipe.train)
    stage = Stage(
        network=network, optimizers=[_Noting(made[0], lambda: noted.append(time.perf_counter())), *made[1:]],
        batches=lambda step: batches(step).split(PASS_TOKENS // size.context), loss=text_loss(False),
        evaluate=lambda workers: 0.0, save=lambda folder: None, load=lambda folder: None,
    )  # fmt: skip
    parameters: list[torch.Tensor] = [p for p in network.parameters() if p.requires_grad]
    gradients = updates = 0.0
    steps, end = 0, time.perf_counter() + seconds
    with closing(stage_workers(stage, recipe.train)) as workers:
        _step(stage, recipe.train, 0, parameters, workers)  # the first one fills caches and memory
        while steps < LEAST_STEPS or time.perf_counter() < end:
            noted.clear()
            began = time.perf_counter()
            steps += 1
            _step(stage, recipe.train, steps, parameters, workers)
            gradients += noted[0] - began
            updates += time.perf_counter() - noted[0]
    read = recipe.train.batch * size.context
    return Speed(size, gradients / steps / read, updates / steps)
