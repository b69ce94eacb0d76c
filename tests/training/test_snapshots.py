"""The weights that are kept on the way: at which steps, that they are the run's own, and that nothing else changes."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glassgpt.core.errors import ConfigError
from glassgpt.core.runs import CHECKPOINTS, SNAPSHOTS
from glassgpt.training.loop import Event
from glassgpt.training.pretrain import pretrain
from glassgpt.training.settings import TrainSettings
from glassgpt.training.sft import ADAPTER, finetune
from glassgpt.training.snapshots import series, snapshot_steps
from glassgpt.training.state import checkpoints, load_tensors, steps_in


def kept(run) -> list[int]:
    return sorted(int(place.name[5:]) for place in steps_in(run.folder / SNAPSHOTS))


def same(one, other) -> bool:
    one, other = load_tensors(one), load_tensors(other)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@given(st.integers(1, 200_000), st.integers(0, 1000), st.integers(0, 10_000), st.integers(1, 1 << 34))
def test_snapshots_are_bounded_in_number_and_size_and_begin_before_the_first_step(steps, count, megabytes, size):
    found = sorted(snapshot_steps(TrainSettings(steps=steps, snapshots=count, snapshot_mb=megabytes), size))
    assert len(found) <= count and len(found) * size <= megabytes * 1_000_000
    if min(count, megabytes * 1_000_000 // size) < 2:
        assert found == []
    else:
        assert found[0] == 0 and all(0 <= step < steps for step in found)


def test_snapshots_lie_closer_together_at_the_beginning():
    found = sorted(snapshot_steps(TrainSettings(steps=5000, snapshots=10), 1))
    gaps = [after - before for before, after in pairwise(found)]
    assert len(found) == 10 and gaps == sorted(gaps) and gaps[0] < 10 < 1000 < gaps[-1]


@pytest.mark.parametrize("name", ["snapshots", "snapshot_mb"])
def test_a_number_below_zero_is_refused(name):
    with pytest.raises(ConfigError, match=name):
        TrainSettings(**{name: -1})


def test_more_snapshots_than_can_be_looked_at_are_refused():
    with pytest.raises(ConfigError, match="snapshots is 1001; expected a whole number from 0 to 1000"):
        TrainSettings(snapshots=1001)


def test_a_snapshot_holds_the_weights_of_the_checkpoint_of_its_step(text_run):
    run, compared = text_run(snapshots=4, checkpoint_every=1), []

    def look(event: Event) -> None:
        twin = run.folder / SNAPSHOTS / f"step-{event.progress.step:08d}"
        if event.kind == "checkpoint" and twin.is_dir():
            compared.append(event.progress.step)
            assert same(twin / "weights.safetensors", event.values["path"] / "weights.safetensors")

    pretrain(run, watch=look)
    expected = [0, *sorted(snapshot_steps(TrainSettings(steps=12, snapshots=4), 1) - {0})]
    assert kept(run) == expected and compared == expected[1:] and len(compared) >= 2
    kept_whole = {int(place.name[5:]) for place in checkpoints(run.folder)}
    assert [step for step, _ in series(run.folder)] == sorted(kept_whole | set(expected))
    assert series(run.folder)[-1][1].parent.name == CHECKPOINTS


def test_a_resumed_run_goes_on_with_its_snapshots_and_they_change_nothing_of_what_is_learned(text_run):
    whole, broken, without = text_run("whole"), text_run("broken"), text_run("without", snapshots=0)

    def stop(event: Event) -> None:
        if event.kind == "step" and event.progress.step == 5:  # the newest checkpoint is that of step 4
            raise KeyboardInterrupt

    pretrain(whole)
    pretrain(without)
    with pytest.raises(KeyboardInterrupt):
        pretrain(broken, watch=stop)
    pretrain(broken, resume=True)
    assert kept(broken) == kept(whole) and len(kept(whole)) >= 5 and kept(without) == []
    for step in kept(whole):
        weights = [run.folder / SNAPSHOTS / f"step-{step:08d}" / "weights.safetensors" for run in (whole, broken)]
        assert same(*weights)
    ends = [checkpoints(run.folder)[0] / "weights.safetensors" for run in (whole, without)]
    assert same(*ends)


def test_of_a_correction_the_adapter_alone_is_kept(answer_run):
    run = answer_run(snapshots=3)
    finetune(run)
    assert len(kept(run)) == 3
    first, *_, last = [place for _, place in series(run.folder)]
    assert [file.name for file in first.iterdir()] == [ADAPTER]
    assert not any(t.any() for name, t in load_tensors(first / ADAPTER).items() if name.endswith(".b"))
    assert any(t.any() for name, t in load_tensors(last / ADAPTER).items() if name.endswith(".b"))


def test_weights_too_large_for_the_room_are_not_kept(text_run):
    run = text_run(snapshot_mb=0)
    pretrain(run)
    assert not (run.folder / SNAPSHOTS).exists()
