"""Checkpoints: whole or not there, and the older one where the newest is damaged."""

from __future__ import annotations

import errno
import json
import resource
import shutil

import pytest
import torch

from glassgpt.core.errors import FormatError, GlassError
from glassgpt.training import state
from glassgpt.training.loop import Event
from glassgpt.training.pretrain import pretrain
from glassgpt.training.state import Progress, check_state, checkpoints, newest_whole, prune, save_state


def write(run, step, best=0, size=100):
    torch.manual_seed(step)
    tensors = {"m": torch.randn(size)}
    progress = Progress(step=step, tokens=7 * step, best_step=best, best_loss=1.5)
    return save_state(run, progress, tensors, lambda folder: state.save_tensors(tensors, folder / "w.safetensors"))


def kept(run):
    return sorted(int(p.name[5:]) for p in checkpoints(run))


def flip_a_bit(place):
    data = bytearray((place / "w.safetensors").read_bytes())
    data[-7] ^= 4
    (place / "w.safetensors").write_bytes(data)


def cut_short(place):
    path = place / "trainer.safetensors"
    path.write_bytes(path.read_bytes()[:-50])


def lose_a_file(place):
    (place / "w.safetensors").unlink()


def empty_the_state(place):
    (place / "trainer.json").write_text("")


def spoil_the_state(place):
    (place / "trainer.json").write_text('{"progress": {"step": 3, "unknown": 1}, "files": {}}')


DAMAGES = [flip_a_bit, cut_short, lose_a_file, empty_the_state, spoil_the_state]


def test_progress_comes_back_as_it_was(tmp_path):
    place = write(tmp_path, 12, best=8)
    assert check_state(place) == Progress(step=12, tokens=84, best_step=8, best_loss=1.5)
    fresh = save_state(tmp_path, Progress(), {}, lambda folder: None)
    assert check_state(fresh) == Progress() and check_state(fresh).best_loss == float("inf")


def test_what_is_saved_of_a_run_without_an_evaluation_is_json(tmp_path):
    """JSON has no infinity: other programs refuse a file that holds Python's."""

    def refuse(constant):
        raise ValueError(constant)

    place = save_state(tmp_path, Progress(step=3), {}, lambda folder: None)
    saved = json.loads((place / "trainer.json").read_text(), parse_constant=refuse)["progress"]
    assert Progress(**saved) == Progress(step=3)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_checkpoint_is_passed_over(tmp_path, damage):
    older, newer = write(tmp_path, 4), write(tmp_path, 8)
    damage(newer)
    place, progress, faults = newest_whole(tmp_path)
    assert (place, progress.step) == (older, 4)
    assert [newer.name in str(fault) for fault in faults] == [True]
    assert "\n" not in faults[0].line("zh")


def test_where_all_are_damaged_the_error_names_the_newest(tmp_path):
    for step, damage in ((4, cut_short), (8, flip_a_bit)):
        damage(write(tmp_path, step))
    with pytest.raises(FormatError, match="step-00000008"):
        newest_whole(tmp_path)


def test_without_checkpoints_a_run_begins_at_its_beginning(tmp_path):
    assert newest_whole(tmp_path) == (None, Progress(), [])


def test_pruning_keeps_the_newest_two_and_the_best(tmp_path):
    for step in (2, 4, 6, 8, 10):
        write(tmp_path, step, best=4)
    prune(tmp_path, Progress(step=10, best_step=4))
    assert kept(tmp_path) == [4, 8, 10]


def test_pruning_counts_no_damaged_checkpoint_as_one_to_go_on_from(tmp_path):
    """After a resume from 4 the damaged 8 and 9 still lie there, newer than anything that is written next."""
    write(tmp_path, 4)
    for step in (8, 9):
        flip_a_bit(write(tmp_path, step))
    place, _, _ = newest_whole(tmp_path)
    assert place is not None and place.name == "step-00000004"
    for step in (5, 6):
        write(tmp_path, step)
        prune(tmp_path, Progress(step=step))
    assert kept(tmp_path) == [5, 6]
    assert newest_whole(tmp_path)[1].step == 6


def test_pruning_keeps_the_best_of_every_checkpoint_that_is_kept(tmp_path):
    """Should 8, itself the best, be damaged later, the run goes on from 6, whose best is 2."""
    for step, best in ((2, 2), (4, 2), (6, 2), (8, 8)):
        write(tmp_path, step, best=best)
        prune(tmp_path, Progress(step=step, best_step=best))
    assert kept(tmp_path) == [2, 6, 8]


def test_what_a_kill_left_half_written_is_cleared_away(tmp_path):
    write(tmp_path, 2)
    (tmp_path / "checkpoints" / ".step-00000004.abc").mkdir()
    assert newest_whole(tmp_path)[1].step == 2
    write(tmp_path, 4)
    prune(tmp_path, Progress(step=4))
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["step-00000002", "step-00000004"]


@pytest.fixture
def small_disk():
    """No file may grow beyond 40 kB: the system itself refuses, in the middle of a write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_refuses_leaves_the_checkpoint_before(tmp_path, small_disk):
    whole = write(tmp_path, 4)
    with pytest.raises(GlassError, match="could not be written") as told:
        write(tmp_path, 8, size=50_000)
    assert "nothing that was there is lost" in told.value.hint()
    assert newest_whole(tmp_path)[0] == whole
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == [whole.name]


def test_a_full_disk_costs_a_training_no_more_than_the_steps_since(text_run, monkeypatch):
    """The third checkpoint meets a full disk; the run goes on later and ends like one that met none."""
    writes, save = [], state.save_file

    def refuse(tensors, path, *rest):
        writes.append(path)
        if len(writes) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(tensors, path, *rest)

    whole, run = text_run("whole"), text_run("run")
    expected = weights(pretrain(whole))
    with monkeypatch.context() as patch:
        patch.setattr(state, "save_file", refuse)
        with pytest.raises(GlassError, match="No space left on device"):
            pretrain(run)
    assert kept(run.folder) == [2, 4]
    assert torch.equal(weights(pretrain(run, resume=True)), expected)


def weights(done):
    return torch.cat([p.detach().flatten() for p in done.network.parameters()])


@pytest.mark.parametrize("damage", [flip_a_bit, lose_a_file])
def test_a_run_whose_newest_checkpoint_is_damaged_still_ends_with_the_same_weights(text_run, damage):
    whole, run = text_run("whole"), text_run("run", checkpoint_every=1, evaluate_every=12)
    expected = weights(pretrain(whole))

    def stop(event: Event) -> None:
        if event.kind == "checkpoint" and event.progress.step == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(run, watch=stop)
    newest = checkpoints(run.folder)[0]
    (newest / "weights.safetensors").rename(newest / "w.safetensors")
    damage(newest)
    seen: list[Event] = []
    done = pretrain(run, resume=True, watch=seen.append)
    assert [event.kind for event in seen[:1]] == ["fault"] and "step-00000007" in str(seen[0].values["error"])
    assert min(event.progress.step for event in seen[1:2]) >= 6
    assert torch.equal(weights(done), expected)
    assert kept(run.folder) == [11, 12]


def test_a_run_without_a_whole_checkpoint_says_so(text_run):
    run = text_run()
    pretrain(run)
    for place in checkpoints(run.folder):
        shutil.rmtree(place)
        place.mkdir()
    with pytest.raises(FormatError, match="step-00000012"):
        pretrain(run, resume=True)
