"""Trainings as processes of their own: begun, watched, stopped, killed, gone on with and deleted."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest
from build_files import questions, tiny_base, wait_until  # noqa: F401 - a fixture

from glassgpt.core.errors import ConfigError, FormatError, NotFoundError
from glassgpt.core.processes import is_running, this_process
from glassgpt.core.runs import Run
from glassgpt.formats.place import find_model
from glassgpt.ui.builds import Builds
from glassgpt.ui.examine import examine
from glassgpt.ui.run_facts import Losses, thinned


@pytest.fixture
def builds(tmp_path):
    made = Builds(tmp_path / "runs", tmp_path / "machine")
    yield made
    for info in made.list():
        if info.running:
            _, record = made._known(info.name)
            os.killpg(record["process"]["pid"], signal.SIGKILL)


def ended(info) -> bool:
    return not info.running


def a_run(builds: Builds, name: str, **about) -> Run:
    return Run.create(builds.folder / name, {"kind": "build", "process": None, **about})


@pytest.mark.slow
def test_a_training_is_begun_watched_to_its_end_and_deleted(builds, tmp_path, tiny_base):  # noqa: F811
    data = questions(tmp_path / "茶具 问答.csv")
    name = builds.start(data, tiny_base, epochs=2, mask_personal=True, columns={"prompt": "问题", "response": "答案"},
                        language="zh")  # fmt: skip
    assert name == "茶具-问答-1"
    info = builds.open(name)
    assert info.running and info.status in ("starting", "reading") and info.data == "茶具 问答.csv"
    assert abs(info.began - time.time()) < 60 and info.base == tiny_base and not info.resumable
    with pytest.raises(ConfigError, match=name):
        builds.start(data, tiny_base)
    with pytest.raises(ConfigError, match=name):
        Builds(tmp_path / "other", tmp_path / "machine").start(data, tiny_base)
    with pytest.raises(ConfigError):
        builds.delete(name)
    with pytest.raises(ConfigError):
        builds.resume(name)
    pid = builds._known(name)[1]["process"]["pid"]
    assert os.getsid(pid) == pid != os.getsid(0), "it goes on when the server's own session ends"
    assert os.getpriority(os.PRIO_PROCESS, pid) >= 10

    info = wait_until(builds, name, ended)
    assert info.status == "finished" and info.step == info.steps and info.epochs == 2 and info.reason == ""
    assert info.loss_after < info.loss_before and not info.resumable
    assert builds.list() == [info]
    assert any("正在读取并清洗" in line for line in builds.log(name)) and len(builds.log(name, 1)) == 1
    curves = builds.losses(name)
    assert [step for step, _ in curves.train] == list(range(1, info.steps + 1)) and curves.held_out
    assert curves.before == info.loss_before
    step, samples = builds.samples(name)
    assert step == info.steps and samples
    assert all(pair.after is not None and pair.wanted for pair in builds.answers(name)) and builds.answers(name)
    assert builds.report_path(name).read_text(encoding="utf-8").startswith("<!doctype html>")
    assert find_model(str(builds.model_path(name))).is_dir()
    assert "[PHONE]" in (builds.folder / name / "cleaning" / "clean.jsonl").read_text(encoding="utf-8")

    # What a look at the file foretold: the doctor counted the same in both halves of the training.
    found = examine(data, tiny_base, tmp_path / "look", mask_personal=True)
    sides = Run.open(builds.folder / name).about["doctor"]["sides"].values()
    assert [count for _, count in found.tokens[:2]] == [sum(side[what] for side in sides)
                                                        for what in ("trained", "context")]  # fmt: skip
    assert (found.kept, found.rows_in) == (24 + 2, 24 + 4)

    builds.delete(name)
    assert builds.list() == [] and not (builds.folder / name).exists()
    assert list((builds.folder / ".builds").iterdir()) == []
    assert data.exists()


@pytest.mark.slow
def test_a_training_is_stopped_gone_on_with_and_killed(builds, tmp_path, tiny_base):  # noqa: F811
    name = builds.start(questions(tmp_path / "shop.csv"), tiny_base, epochs=3000)
    info = wait_until(builds, name, lambda info: info.step >= 3)
    assert info.status == "training" and info.steps > 1000 and info.minutes_left > 0
    builds.stop(name)
    builds.stop(name)  # a second time is nothing new: the training still saves
    assert builds.open(name).status in ("stopping", "stopped")
    info = wait_until(builds, name, ended)
    assert info.status == "stopped" and info.resumable and info.has_model and info.step < info.steps
    assert all(pair.after is None for pair in builds.answers(name)) and builds.answers(name)
    with pytest.raises(ConfigError):
        builds.stop(name)

    later = Builds(builds.folder, tmp_path / "machine")  # a server that was started again
    later.resume(name, "zh")
    again = wait_until(later, name, lambda now: now.step > info.step)
    assert again.status == "training" and again.began == info.began
    with pytest.raises(ConfigError, match="shop-1"):
        later.start(tmp_path / "shop.csv", tiny_base)
    process = Run.open(builds.folder / name).about["process"]
    os.kill(process["pid"], signal.SIGKILL)
    info = wait_until(later, name, ended)
    assert info.status == "died" and info.resumable
    assert [name for name, now in [(i.name, i) for i in builds.list()] if now.status == "died"] == [name]

    builds.resume(name)  # from its last checkpoint, however it ended
    wait_until(builds, name, lambda now: now.status == "training" and now.step > 0)
    builds.stop(name)
    assert wait_until(builds, name, ended).status == "stopped"
    builds.delete(name)
    assert builds.list() == []


@pytest.mark.slow
def test_what_fails_before_there_is_a_run_is_told_with_its_reason(builds, tmp_path, tiny_base):  # noqa: F811
    data = questions(tmp_path / "a.csv")
    name = builds.start(data, "smolm2", epochs=1, language="zh")
    info = wait_until(builds, name, ended)
    assert info.status == "failed" and "smollm2" in info.reason and info.reason.startswith("错误：")
    assert not info.resumable and builds.model_path(name) is None and builds.report_path(name) is None
    assert builds.losses(name) == Losses() and builds.samples(name) == (0, []) and builds.answers(name) == []
    other = builds.start(data, tiny_base, minutes=0.001)
    assert other == "a-2", "a name that is still told of is not given again"
    info = wait_until(builds, other, ended)
    assert info.status == "failed" and "0.001 minutes are too few" in info.reason
    assert [info.name for info in builds.list()] == [other, name]


@pytest.mark.slow
def test_a_stop_while_rows_are_read_leaves_nothing_half_made(builds, tmp_path, tiny_base):  # noqa: F811
    name = builds.start(questions(tmp_path / "large.csv", rows=150_000), tiny_base, epochs=1)
    wait_until(builds, name, lambda info: info.status == "reading")
    time.sleep(0.5)
    builds.stop(name)
    info = wait_until(builds, name, ended)
    assert info.status == "stopped" and not info.resumable
    assert not (builds.folder / name).exists()
    builds.delete(name)


def test_what_cannot_be_begun_is_told_before_a_process_is(builds, tmp_path):
    data = questions(tmp_path / "a.csv")
    with pytest.raises(ConfigError, match="chosen by --minutes"):
        builds.start(data, "scratch", minutes=1, epochs=1)
    for wrong in ({"minutes": 0}, {"minutes": float("nan")}, {"epochs": -1}, {"epochs": float("inf")}):
        with pytest.raises(ConfigError):
            builds.start(data, "scratch", **wrong)
    with pytest.raises(NotFoundError):
        builds.start(tmp_path / "b.csv", "scratch")
    with pytest.raises(FormatError):
        builds.start(questions(tmp_path / "a.xlsx"), "scratch")
    assert builds.list() == []


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "/etc", "a\\b", "..\\x", ".builds", "x\0y", "x\ny", "a" * 300, "c:x", "none"]
)
def test_a_name_that_leads_elsewhere_or_nowhere_is_refused_by_everything(builds, tmp_path, name):
    Run.create(tmp_path / "x", {})
    for call in (builds.open, builds.stop, builds.resume, builds.delete, builds.log, builds.losses, builds.samples,
                 builds.answers, builds.report_path, builds.model_path):  # fmt: skip
        with pytest.raises(NotFoundError):
            call(name)
    assert (tmp_path / "x" / "run.json").is_file()


def test_a_folder_that_is_no_run_is_neither_listed_nor_deleted(builds, tmp_path):
    (builds.folder / "mine").mkdir(parents=True)
    (builds.folder / "mine" / "letter.txt").write_text("dear")
    Run.create(tmp_path / "far", {})
    (builds.folder / "link").symlink_to(tmp_path / "far")
    assert builds.list() == []
    for name in ("mine", "link"):
        with pytest.raises(NotFoundError):
            builds.delete(name)
    assert (builds.folder / "mine" / "letter.txt").exists() and (tmp_path / "far" / "run.json").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b'{"format": "other"}',
        b"[" * 100_000,
        b'{"format": "glassgpt-run", "version": 9}',
    ],
    ids=["empty", "open", "list", "bytes", "other", "deep", "newer"],
)
def test_a_damaged_run_is_told_as_one_and_can_be_deleted(builds, content):
    run = a_run(builds, "a-1", status="finished", loss_after=1.0)
    (run.folder / "run.json").write_bytes(content)
    (builds.folder / ".builds").mkdir()
    (builds.folder / ".builds" / "a-1.json").write_bytes(content)
    (info,) = builds.list()
    assert (info.name, info.status, info.resumable) == ("a-1", "damaged", False)
    builds.delete("a-1")
    assert builds.list() == []


def test_values_of_the_wrong_kind_are_no_traceback(builds):
    wrong = {"status": ["x"], "settings": {"train": "x", "epochs": "many", "base": 3}, "began": "today", "data": 7,
             "loss_before": "low", "process": {"pid": -1, "began": []}, "threads": None}  # fmt: skip
    run = a_run(builds, "a-1", **wrong)
    (run.folder / "metrics.jsonl").write_text('{"step": 1}\n{"step": "x", "loss": 1}\nnonsense\n[]\n{"step": 2, "lo')
    (info,) = builds.list()
    assert info.status == "died" and info.step == 1 and info.epochs is None and info.loss_before is None
    assert builds.losses("a-1") == Losses() and builds.samples("a-1") == (0, [])
    (run.folder / "story.json").write_text("{}")
    with pytest.raises(FormatError):
        builds.answers("a-1")


def test_a_number_that_another_process_has_now_is_never_signalled(builds):
    mine = this_process()
    assert is_running(mine)
    stale = {"pid": mine["pid"], "began": mine["began"] + "0"}
    a_run(builds, "a-1", status="training", process=stale)
    (builds.folder / ".builds").mkdir()
    (builds.folder / ".builds" / "a-1.json").write_text(json.dumps({"process": stale}))
    assert builds.open("a-1").status == "died"
    with pytest.raises(ConfigError):
        builds.stop("a-1")  # a signal would end this very test
    builds.delete("a-1")


def test_a_training_begun_on_the_command_line_is_listed_and_keeps_others_from_beginning(builds, tmp_path):
    run = a_run(builds, "sea-1", status="training", data="sea.txt", began=5.0, recipe={"train": {"steps": 9}},
                process=this_process())  # fmt: skip
    run.measure(step=4, loss=2.5, train_s=8.0)
    run.measure(step=5, loss=2.25, train_s=10.0)
    (info,) = builds.list()
    assert (info.status, info.kind, info.step, info.steps, info.loss) == ("training", "pretrain", 5, 9, 2.25)
    assert info.running and 0 < info.minutes_left <= 4 * 2 / 60
    with pytest.raises(ConfigError, match="sea-1"):
        builds.start(questions(tmp_path / "a.csv"), "scratch")
    run.update(process=None)
    assert not builds.open("sea-1").running


def test_the_newest_comes_first(builds):
    for name, began in (("a-1", 3.0), ("b-1", 9.0), ("c-1", 6.0)):
        a_run(builds, name, began=began, status="finished", loss_after=1.0)
    assert [info.name for info in builds.list()] == ["b-1", "c-1", "a-1"]


def test_a_build_that_was_killed_while_it_measured_again_is_not_finished(builds):
    a_run(builds, "a-1", status="finished", settings={"train": {"steps": 2}}, threads=2)
    info = builds.open("a-1")
    assert info.status == "died" and info.resumable


def test_a_long_curve_is_thinned_without_losing_its_mean():
    points = [(step, float(step % 7)) for step in range(1, 10_001)]
    few = thinned(points, 500)
    assert len(few) == 500 and few[-1][0] == 10_000 and few == sorted(few)
    assert sum(loss for _, loss in few) / 500 == pytest.approx(sum(loss for _, loss in points) / 10_000)
    assert thinned([]) == [] and thinned(points[:3]) == points[:3]
