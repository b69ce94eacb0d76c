"""`glassgpt build` as a user meets it."""

from __future__ import annotations

import json
import signal
import time

import pytest

from glassgpt.cli.build import _settings, next_folder_for, sample_file
from glassgpt.cli.main import build_parser, main
from glassgpt.cli.options import columns_given
from glassgpt.core.errors import ConfigError
from glassgpt.core.runs import Run
from glassgpt.data.sources import read_rows

QUICK = ["--epochs", "1", "--threads", "1", "--set", "answers=2", "--set", "finetune.train.sample_tokens=2",
         "--set", "finetune.train.precision=float32"]  # fmt: skip


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "shop.csv"
    rows = [f"what does part {n * 7919} cost?,{n * 104729} yuan; call 138{n:08}" for n in range(20)]
    path.write_text("\n".join(["question,answer", *rows, rows[0], "is it open?,"]) + "\n", encoding="utf-8")
    return str(path)


def test_a_file_becomes_a_model_that_chats(data, tiny, tmp_path, capsys):
    out = tmp_path / "run"
    command = ["build", data, "--from", tiny, "--out", str(out), "--mask-personal", "--lang", "zh", "--json"]
    assert main([*command, *QUICK]) == 0
    told = capsys.readouterr()
    line = json.loads(told.out.splitlines()[-1])
    assert {"val_loss", "steps", "tokens", "train_s", "run", "overlap_before", "overlap_after"} <= set(line)
    assert (line["rows_in"], line["kept"], line["run"]) == (22, 20, str(out))
    assert 0 < line["loss_after"] < line["loss_before"]
    for words in ("正在读取并清洗", "22 行中保留 20 行", "再次评估", "report.html"):
        assert words in told.err
    clean = (out / "cleaning" / "clean.jsonl").read_text(encoding="utf-8")
    assert clean.count("[PHONE]") == 20
    assert main(["chat", "--model", str(out), "--message", "what?", "--max-new-tokens", "2"]) == 0


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--from", "smolm2"], "smollm2"),
        (["--device", "abacus"], "abacus"),
        (["--set", "held_out=1.5"], "below 1"),
        (["--set", "clean.min_chats=3"], "min_chars"),
        (["--set", "finetune.train.stepz=1"], "finetune.train.steps"),
        (["--columns", "prompt=a,answer=b"], "answer"),
        (["--seed", "-3"], "seed is -3"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line(data, tiny, tmp_path, capsys, more, told):
    for language in ("en", "zh"):
        command = ["build", data, "--from", tiny, "--out", str(tmp_path / language), *QUICK, *more, "--lang", language]
        assert main(command) == 1
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith(("error: ", "错误："))]
        assert len(lines) == 1
        assert told in lines[0] or language == "zh"
        assert not (tmp_path / language).exists(), "a run that never began leaves nothing behind"


def test_a_file_that_is_not_there_and_a_folder_in_use_are_told(data, tiny, tmp_path, capsys):
    assert main(["build", str(tmp_path / "shopp.csv"), "--from", tiny, "--out", str(tmp_path / "run")]) == 1
    told = capsys.readouterr().err
    assert "there is no file" in told and "Did you mean shop.csv?" in told and not (tmp_path / "run").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "x").write_text("")
    assert main(["build", data, "--from", tiny, "--out", str(tmp_path / "mine")]) == 1
    assert "holds other files" in capsys.readouterr().err


def test_the_sample_is_read_where_no_file_is_given():
    rows = list(read_rows(sample_file()))
    assert len(rows) >= 400 and {row.kind for row in rows} == {"messages"}
    chinese = [row for row in rows if any("\u4e00" <= c <= "\u9fff" for c in row.texts[-1])]
    assert 0.35 < len(chinese) / len(rows) < 0.65


@pytest.mark.parametrize("wrong", [["--epochs", "x"], ["--unknown"], ["a", "b"]])
def test_wrong_usage_exits_with_2(wrong):
    with pytest.raises(SystemExit) as end:
        main(["build", *wrong])
    assert end.value.code == 2


def test_what_is_given_lies_over_what_is_usual_for_the_base():
    def settled(*words: str):
        return _settings(build_parser("en").parse_args(["build", *words])).finetune

    usual, tuned = settled("--from", "scratch"), settled("--from", "smollm2")
    assert (usual.epochs, usual.train.optimizer, usual.train.lr, usual.lora.rank) == (20, "muon", 0.003, 0)
    assert (tuned.epochs, tuned.train.optimizer, tuned.train.lr, tuned.lora.rank) == (3, "adamw", 0.001, 16)
    own = ["--epochs", "2", "--set", "finetune.train.optimizer=adamw", "--set", "finetune.train.lr=0.02"]
    for words in (["--from", "scratch"], ["--set", "finetune.base=scratch"]):
        given = settled(*words, *own)
        assert (given.epochs, given.train.optimizer, given.train.lr) == (2, "adamw", 0.02)
        assert (given.train.schedule, given.lora.rank, given.base) == ("wsd", 0, "scratch")


def test_a_run_is_called_as_its_file_is():
    for data, name in ((".", "run-1"), ("..", "run-1"), ("a/shop.v2.csv", "shop-v2-1"), ("茶.csv", "茶-1"),
                       ("hf:owner/name:train", "name-train-1")):  # fmt: skip
        assert next_folder_for(data).name == name


def test_without_answers_the_overlap_is_null_and_long_rows_are_counted(data, tiny, tmp_path, capsys):
    with open(data, "a", encoding="utf-8") as file:  # noqa: PTH123
        file.write("what is all this?," + " ".join(str(n * 7919) for n in range(2000)) + "\n")
    out = ["--out", str(tmp_path / "run"), "--json"]
    assert main(["build", data, "--from", tiny, *out, *QUICK, "--set", "answers=0"]) == 0
    told = capsys.readouterr()
    line = json.loads(told.out.splitlines()[-1])
    assert (line["overlap_before"], line["overlap_after"], line["too_long"]) == (None, None, 1)
    assert "too long or not to be expressed: 1 of 21 rows" in told.err


@pytest.mark.parametrize("there", [False, True])
def test_a_file_that_cannot_be_read_leaves_no_run_and_one_without_rows_its_rejects(tmp_path, tiny, capsys, there):
    out = tmp_path / "run"
    if there:
        out.mkdir()
    (tmp_path / "a.csv").write_text("")
    assert main(["build", str(tmp_path / "a.csv"), "--from", tiny, "--out", str(out)]) == 1
    assert "is empty" in capsys.readouterr().err
    assert list(out.iterdir()) == [] if there else not out.exists()
    (tmp_path / "a.csv").write_text("question,answer\nwhat?,\nwhy?,\n")
    assert main(["build", str(tmp_path / "a.csv"), "--from", tiny, "--out", str(out)]) == 1
    assert str(out / "cleaning" / "rejects.csv") in capsys.readouterr().err
    assert (out / "cleaning" / "rejects.csv").is_file() and Run.open(out).about["status"] == "failed"


def test_stopping_tells_how_to_go_on(data, tiny, tmp_path, capsys, monkeypatch):
    from glassgpt.cli.watch import Watch

    calm = Watch.__call__

    def stop(self, event) -> None:
        calm(self, event)
        if event.kind == "step" and event.progress.step in (1, 2):
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Watch, "__call__", stop)
    out = tmp_path / "run"
    assert main(["build", data, "--from", tiny, "--out", str(out), "--json", *QUICK]) == 130
    told = capsys.readouterr()
    line = json.loads(told.out.splitlines()[-1])
    assert line["steps"] == 1 and line["loss_before"] > 0 and line["loss_after"] is line["overlap_after"] is None
    assert f"glassgpt build --resume {out}" in told.err and "not measured again" in told.err
    assert main(["build", "--resume", str(out), "--json", "--lang", "zh", "--epochs", "2"]) == 130  # stopped again
    told = capsys.readouterr()
    assert json.loads(told.out.splitlines()[-1])["steps"] == 2 and "--epochs" in told.err
    monkeypatch.undo()
    assert main(["build", "--resume", str(out), "--json"]) == 0
    ended = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert ended["loss_before"] == line["loss_before"] and ended["loss_after"] < ended["loss_before"]
    assert ended["rows_in"] == line["rows_in"] and ended["overlap_after"] is not None
    assert Run.open(out).about["status"] == "finished"
    assert "--resume" not in (out / "report.html").read_text(encoding="utf-8")


def test_what_is_no_stopped_build_is_refused(tmp_path, capsys):
    assert main(["build", "--resume", str(tmp_path)]) == 1
    assert "is not a run" in capsys.readouterr().err
    Run.create(tmp_path / "run", {"kind": "build", "status": "reading"})
    assert main(["build", "--resume", str(tmp_path / "run")]) == 1
    assert "Start it anew" in capsys.readouterr().err


def test_a_stopped_build_also_goes_on_as_a_fine_tuning(data, tiny, tmp_path, monkeypatch):
    from glassgpt.cli.watch import Watch

    def stop(self, event) -> None:
        if event.kind == "step" and event.progress.step == 1:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Watch, "__call__", stop)
    out = tmp_path / "run"
    assert main(["build", data, "--from", tiny, "--out", str(out), *QUICK]) == 130
    monkeypatch.undo()
    assert main(["finetune", "--resume", str(out)]) == 0
    assert Run.open(out).about["status"] == "finished"


@pytest.mark.slow
def test_minutes_decide_how_often_rows_are_read(data, tiny, tmp_path, capsys):
    out = tmp_path / "run"
    began = time.monotonic()
    command = ["build", data, "--from", tiny, "--minutes", "0.4", "--out", str(out), "--json", "--lang", "zh"]
    assert main([*command, *QUICK[2:]]) == 0
    told = capsys.readouterr()
    assert time.monotonic() - began < 0.4 * 60
    about = Run.open(out).about
    assert about["budget"]["minutes"] == 0.4 and about["settings"]["epochs"] <= 10
    assert json.loads(told.out.splitlines()[-1])["steps"] == about["settings"]["train"]["steps"]
    assert "正在测量这台机器的训练速度" in told.err and "不会用完全部时间" in told.err


def test_minutes_that_cannot_be_are_one_line_and_leave_nothing(data, tiny, tmp_path, capsys):
    wrong = (["--minutes", "5", "--epochs", "2"], ["--minutes", "5", "--set", "finetune.epochs=2"], ["--minutes", "0"],
             ["--minutes", "nan"], ["--minutes", "-1"])  # fmt: skip
    for more in wrong:
        assert main(["build", data, "--from", tiny, "--out", str(tmp_path / "run"), *more]) == 1
        told = capsys.readouterr().err
        assert told.count("\n") == 1 and ("chosen by --minutes" in told or "minutes is" in told)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_too_few_minutes_are_told_with_what_it_takes(data, tiny, tmp_path, capsys):
    out = str(tmp_path / "run")
    assert main(["build", data, "--from", tiny, "--out", out, "--minutes", "0.01", "--set", "answers=0"]) == 1
    assert "0.01 minutes are too few" in capsys.readouterr().err
    assert Run.open(tmp_path / "run").about["status"] == "failed"


@pytest.mark.slow
def test_a_build_that_ended_before_its_minutes_were_planned_with_plans_when_it_goes_on(
    data, tiny, tmp_path, capsys, monkeypatch
):
    from glassgpt.training import build

    def ended(*given) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(build, "plan_readings", ended)
        command = ["build", data, "--from", tiny, "--out", str(out), "--minutes", "0.3", "--set", "answers=0"]
        assert main([*command, "--set", "finetune.train.precision=float32"]) == 130
    assert "budget" not in Run.open(out).about
    assert main(["build", "--resume", str(out)]) == 0
    assert Run.open(out).about["budget"]["minutes"] == 0.3


def test_columns_whose_names_hold_commas_are_given_as_json(tmp_path):
    def given(columns: str):
        return columns_given(build_parser("en").parse_args(["build", "--columns", columns]))

    assert given('{"prompt": "a, b", "response": "问，答"}') == {"prompt": "a, b", "response": "问，答"}
    assert given("prompt=a，response=b") == {"prompt": "a", "response": "b"}
    for wrong in ("{", '{"prompt": 3}', "{" * 100_000):
        with pytest.raises(ConfigError):
            given(wrong)


def test_sigterm_ends_a_build_as_ctrl_c_does(data, tiny, tmp_path, monkeypatch):
    from glassgpt.training import build

    def cleaning(*given, **named) -> None:
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(build, "clean", cleaning)
    before = signal.getsignal(signal.SIGTERM)
    assert main(["build", data, "--from", tiny, "--out", str(tmp_path / "run")]) == 130
    assert not (tmp_path / "run").exists() and signal.getsignal(signal.SIGTERM) == before
