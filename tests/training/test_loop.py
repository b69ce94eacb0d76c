"""What one training loop means: each promise held against a plainer way of computing the same thing."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from glassgpt.core.runs import Run
from glassgpt.data.batches import IGNORED, Batch
from glassgpt.training import loop
from glassgpt.training.loop import DivergedError, train
from glassgpt.training.optim import rate_factor
from glassgpt.training.settings import TrainSettings
from glassgpt.training.state import checkpoints

FIVE = {"steps": 5, "clip": 0.0, "precision": "float32", "schedule": "constant", "warmup": 0.0}


class Recorder:
    """An optimizer that changes nothing and keeps the gradients and factors that it was given."""

    def __init__(self, network: torch.nn.Module) -> None:
        self.state: dict[str, torch.Tensor] = {}
        self.named = dict(network.named_parameters())
        self.gradients: list[dict[str, torch.Tensor]] = []
        self.factors: list[float] = []

    def tasks(self, factor):
        self.gradients.append({n: p.grad.clone() for n, p in self.named.items()})
        self.factors.append(factor)
        return []


def random_batch(step: int, rows: int = 4, ignored: float = 0.3) -> Batch:
    """Rows of chance in which some targets are not learned, so that parts of it differ in how many are."""
    chance = np.random.default_rng(step)
    ids = chance.integers(0, 50, (rows, 12))
    targets = np.where(chance.random((rows, 12)) < ignored, IGNORED, chance.integers(0, 50, (rows, 12)))
    return Batch(ids, targets, None, int((targets != IGNORED).sum()), ids.size, 0)


@pytest.fixture
def run(tmp_path) -> Run:
    return Run.create(tmp_path / "run", {})


def record(bare_stage, run, batches, **changes):
    """Train with an optimizer that only looks; gives it, the network and the end."""
    settings = TrainSettings(**(FIVE | changes))
    dtype = torch.float64 if settings.precision == "float32" else torch.float32
    dropout = changes.pop("dropout", 0.0)
    stage = bare_stage(batches, dropout=dropout, dtype=dtype, optimizers=lambda network: [Recorder(network)])
    return stage.optimizers[0], stage.network, train(stage, settings, run)


@pytest.mark.parametrize("rows", [1, 2, 3, 4])
def test_many_small_passes_give_the_gradient_of_one_large_batch(bare_stage, run, rows):
    seen, network, _ = record(bare_stage, run, lambda step: random_batch(step).split(rows), steps=2)
    for step in range(2):
        whole = random_batch(step)
        network.zero_grad()
        logits = network(torch.from_numpy(whole.ids)).flatten(0, 1)
        F.cross_entropy(logits, torch.from_numpy(whole.targets).flatten(), ignore_index=-100).backward()
        for name, p in network.named_parameters():
            torch.testing.assert_close(seen.gradients[step][name], p.grad, atol=1e-12, rtol=1e-9)


def test_the_loss_that_is_told_is_the_mean_over_learned_tokens(bare_stage, run):
    _, network, _ = record(bare_stage, run, lambda step: random_batch(step).split(1))
    told = [m["loss"] for m in run.metrics() if "loss" in m]
    by_hand = []
    for step in range(5):
        batch = random_batch(step)
        with torch.no_grad():
            scores = network(torch.from_numpy(batch.ids)).log_softmax(-1).numpy()
        learned = [(r, t) for r in range(4) for t in range(12) if batch.targets[r, t] != IGNORED]
        by_hand.append(-sum(scores[r, t, batch.targets[r, t]] for r, t in learned) / len(learned))
    assert told == pytest.approx(by_hand, rel=1e-9)


def test_gradients_are_clipped_as_torch_clips_them(bare_stage, run, tmp_path):
    free, network, _ = record(bare_stage, run, lambda step: [random_batch(step)], steps=1)
    norm = run.metrics()[0]["norm"]
    for limit in (norm / 3, norm * 3):
        other = Run.create(tmp_path / f"clip{limit}", {})
        clipped, _, _ = record(bare_stage, other, lambda step: [random_batch(step)], steps=1, clip=limit)
        for name, p in network.named_parameters():
            p.grad = free.gradients[0][name].clone()
        assert float(torch.nn.utils.clip_grad_norm_(network.parameters(), limit)) == pytest.approx(norm, rel=1e-9)
        for name, p in network.named_parameters():
            torch.testing.assert_close(clipped.gradients[0][name], p.grad, atol=1e-12, rtol=1e-6)


def cosine(step, steps, rise):
    done = max(0, step - rise) / (steps - rise)
    return min(1, (step + 1) / (rise + 1)) * (0.1 + 0.9 * (1 + math.cos(math.pi * done)) / 2)


def trapeze(step, steps, rise):
    done = max(0, step - rise) / (steps - rise)
    return min(1, (step + 1) / (rise + 1)) * (0.1 + 0.9 * min(1, (1 - done) / 0.25))


def line(step, steps, rise):
    return min(1, (step + 1) / (rise + 1)) * (1 - 0.9 * max(0, step - rise) / (steps - rise))


@pytest.mark.parametrize(("schedule", "formula"), [("cosine", cosine), ("wsd", trapeze), ("linear", line)])
def test_every_step_has_the_rate_of_its_schedule(bare_stage, run, schedule, formula):
    changes = {"steps": 20, "schedule": schedule, "warmup": 0.2, "decay": 0.25, "floor": 0.1}
    seen, _, _ = record(bare_stage, run, lambda step: [random_batch(step)], **changes)
    assert seen.factors == pytest.approx([formula(step, 20, 4) for step in range(20)])
    assert rate_factor(20, 20, schedule=schedule, warmup=4, decay=0.25, floor=0.1) == pytest.approx(0.1)


def test_two_workers_give_the_gradient_of_one(bare_stage, tmp_path):
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        run = Run.create(tmp_path / str(threads), {})
        found.append(record(bare_stage, run, lambda step: random_batch(step).split(1))[0].gradients)
    for one, two in zip(*found, strict=True):
        for name in one:
            torch.testing.assert_close(two[name], one[name], atol=1e-12, rtol=1e-9)


def test_a_training_is_repeated_bit_for_bit_with_dropout_and_two_workers(bare_stage, tmp_path):
    ends = []
    for name in ("a", "b", "other seed"):
        stage = bare_stage(lambda step: random_batch(step).split(1), dropout=0.2)
        settings = TrainSettings(**(FIVE | {"steps": 20, "seed": 1 + (name == "other seed")}))
        train(stage, settings, Run.create(tmp_path / name, {}))
        ends.append(torch.cat([p.detach().flatten() for p in stage.network.parameters()]))
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])


def test_dropout_is_a_function_of_the_step(bare_stage, tmp_path):
    """The same batch at every step: other zeros at each, and the same ones when the training is repeated."""
    losses = []
    for name in ("a", "b"):
        run = Run.create(tmp_path / name, {})
        stage = bare_stage(lambda step: random_batch(7).split(1), dropout=0.3, optimizers=lambda n: [Recorder(n)])
        train(stage, TrainSettings(**FIVE), run)
        losses.append([m["loss"] for m in run.metrics() if "loss" in m])
    assert losses[0] == losses[1] and len(set(losses[0])) == 5


def follow(bare_stage, run, values, **changes):
    """Train with evaluations that give these values one after the other."""
    left = list(values)
    stage = bare_stage(lambda step: [random_batch(step)], evaluate=lambda workers: left.pop(0))
    until = changes.pop("until", None)
    settings = TrainSettings(**(FIVE | {"steps": 20, "evaluate_every": 2} | changes))
    return train(stage, settings, run, until=until)


def steps_kept(run: Run) -> list[int]:
    return sorted(int(p.name[5:]) for p in checkpoints(run.folder))


def test_patience_ends_a_training_that_gets_no_better(bare_stage, run):
    end = follow(bare_stage, run, [3.0, 2.0, 2.5, 1.9, 2.0, 1.9, 2.1, 1.0], patience=3)
    assert (end.progress.step, end.progress.best_step, end.progress.best_loss) == (14, 8, 1.9)
    assert end.reached and not end.signal


def test_until_ends_at_the_first_evaluation_that_is_good_enough(bare_stage, run, tmp_path):
    end = follow(bare_stage, run, [3.0, 2.0, 1.5, 1.4], until=1.5)
    assert end.progress.step == 6 and end.reached
    assert end.checkpoint.name == "step-00000006"
    short = follow(bare_stage, Run.create(tmp_path / "short", {}), [3.0, 2.0], until=1.5, steps=4)
    assert short.progress.step == 4 and not short.reached


def test_the_best_and_the_two_newest_checkpoints_are_kept(bare_stage, run):
    follow(bare_stage, run, [3.0, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0], checkpoint_every=1)
    assert steps_kept(run) == [4, 19, 20]


def test_a_checkpoint_is_written_when_the_last_one_is_long_ago(bare_stage, run, tmp_path, monkeypatch):
    """Steps of 50 s: the third after a checkpoint is the first that ends more than two minutes after it."""
    clock = [0.0]

    def batches(step):
        clock[0] += 50.0
        return [random_batch(step)]

    monkeypatch.setattr(loop.time, "monotonic", lambda: clock[0])
    written = []
    for name, gap in (("a", 0), ("b", 5)):
        steps: list[int] = []
        settings = TrainSettings(**(FIVE | {"steps": 10, "checkpoint_every": gap}))
        watch = lambda event, steps=steps: event.kind == "checkpoint" and steps.append(event.progress.step)  # noqa: E731
        train(bare_stage(batches), settings, Run.create(tmp_path / name, {}), watch=watch)
        written.append(steps)
    assert written == [[3, 6, 9, 10], [3, 5, 8, 10]]


def test_evaluating_changes_nothing_of_what_is_learned(bare_stage, tmp_path):
    ends = []
    for every in (1, 20):
        stage = bare_stage(
            lambda step: random_batch(step).split(1), dropout=0.2, evaluate=lambda workers: float(torch.rand(()))
        )
        settings = TrainSettings(**(FIVE | {"steps": 8, "evaluate_every": every}))
        train(stage, settings, Run.create(tmp_path / str(every), {}))
        ends.append(torch.cat([p.detach().flatten() for p in stage.network.parameters()]))
    assert torch.equal(*ends)


def test_a_loss_that_is_no_number_stops_and_keeps_the_checkpoint_before(bare_stage, run):
    def loss(network, batch):
        value = network(torch.from_numpy(batch.ids)).sum()
        return value * (math.nan if batch.epoch == 9 else 1.0)

    def batches(step):
        batch = random_batch(step)
        return [Batch(batch.ids, batch.targets, None, batch.trained, batch.tokens, 9 if step == 4 else 0)]

    stage = bare_stage(batches, loss=loss)
    with pytest.raises(DivergedError, match="at step 5") as told:
        train(stage, TrainSettings(**(FIVE | {"steps": 9, "checkpoint_every": 2})), run)
    assert "lower rates" in told.value.hint()
    assert steps_kept(run) == [2, 4]


class Breaking(Recorder):
    """An optimizer that spoils a weight at its third step, as a rate far too high does."""

    def tasks(self, factor):
        super().tasks(factor)
        if len(self.factors) == 3:
            with torch.no_grad():
                self.named["embed.weight"][0, 0] = math.inf
        return []


@pytest.mark.parametrize("ending", [3, 9])
def test_weights_that_are_no_numbers_are_never_saved(bare_stage, run, ending):
    """The step that spoils the weights has a finite loss itself: the next one would tell, a checkpoint too late."""
    stage = bare_stage(lambda step: [random_batch(step)], optimizers=lambda network: [Breaking(network)])
    with pytest.raises(DivergedError):
        train(stage, TrainSettings(**(FIVE | {"steps": ending, "checkpoint_every": 1})), run)
    assert steps_kept(run) == [1, 2]


def test_an_evaluation_that_is_no_number_stops(bare_stage, run):
    with pytest.raises(DivergedError):
        follow(bare_stage, run, [3.0, math.nan, 2.0])
    assert steps_kept(run) == [2]


def test_workers_leave_the_network_as_it_was(bare_stage, run):
    stage = bare_stage(lambda step: random_batch(step).split(1), optimizers=lambda network: [Recorder(network)])
    before = copy.deepcopy(stage.network.state_dict())
    train(stage, TrainSettings(**FIVE), run)
    assert all(torch.equal(before[name], value) for name, value in stage.network.state_dict().items())
    assert all(p.grad is None for p in stage.network.parameters())
