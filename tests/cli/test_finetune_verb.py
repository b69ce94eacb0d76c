"""`glassgpt finetune` as a user meets it."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from glassgpt.cli.main import main

QUICK = ["--epochs", "1", "--threads", "1", "--set", "train.sample_tokens=3", "--set", "train.precision=float32"]


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "问答.jsonl"
    rows = [{"prompt": f"what is number {n * 7919}?", "response": f"你好 {n * 104729}"} for n in range(24)]
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("more", [["--rank", "4"], ["--full"]])
def test_it_trains_and_prints_one_json_line_last(data, tiny, tmp_path, capsys, more):
    out = tmp_path / "run"
    command = ["finetune", data, "--from", tiny, "--out", str(out), "--batch", "4", "--lr", "0.01", "--json"]
    assert main([*command, *QUICK, *more]) == 0
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {"val_loss", "best_val_loss", "steps", "tokens", "train_s", "parameters", "run"} <= set(line)
    about = json.loads((out / "run.json").read_text(encoding="utf-8"))
    assert (about["rows"], about["held_out"]) == (22, 2) and line["steps"] == 6
    assert about["settings"]["lora"]["rank"] == (0 if more == ["--full"] else 4)
    assert about["settings"]["train"]["lr"] == 0.01
    assert main(["chat", "--model", str(out), "--message", "what is it?", "--max-new-tokens", "2"]) == 0


def test_records_that_cannot_be_read_are_told(data, tiny, tmp_path, capsys):
    with Path(data).open("a", encoding="utf-8") as file:
        file.write("\n{broken\n[1, 2]\n")
    assert main(["finetune", data, "--from", tiny, "--out", str(tmp_path / "run"), *QUICK]) == 0
    told = capsys.readouterr().err
    assert "问答.jsonl, row 25" in told and "问答.jsonl, row 26" in told and "could not be read: 2" in told


def test_rows_to_measure_on_may_be_given_and_long_ones_are_told(data, tiny, tmp_path, capsys):
    held_out = tmp_path / "v.csv"
    held_out.write_text(f"q,a\nwho is it?,me\nwho was it?,{'you ' * 300}\n", encoding="utf-8")
    command = ["finetune", data, "--from", tiny, "--validation", str(held_out), "--columns", "prompt=q,response=a"]
    assert main([*command, "--out", str(tmp_path / "a"), *QUICK]) == 1  # the columns are those of both files
    capsys.readouterr()
    held_out.write_text(f"prompt,response\nwho is it?,me\nwho was it?,{'you ' * 300}\n", encoding="utf-8")
    command = ["finetune", data, "--from", tiny, "--validation", str(held_out), "--set", "train.context=200", *QUICK]
    for language, told in (
        ("en", ["v.csv, row 2", "1 of 26 rows make no example"]),
        ("zh", ["v.csv 第 2 行", "26 行中有 1 行"]),
    ):
        assert main([*command, "--out", str(tmp_path / language), "--lang", language]) == 0
        output = capsys.readouterr().err
        assert all(words in output for words in told)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--from", "smolm2"], "smollm2"),
        (["--template", "chatmll"], "chatml"),
        (["--columns", "prompt"], "ROLE=COLUMN"),
        (["--columns", "prompt=nix,response=response"], "nix"),
        (["--encoding", "utf-99"], "utf-99"),
        (["--rank", "2000"], "rank is 2000"),
        (["--rank", "-1"], "rank"),
        (["--epochs", "-1"], "epochs"),
        (["--epochs", "nan"], "epochs"),
        (["--lr", "-1"], "lr is -1"),
        (["--set", "train.compile=true"], "fine-tuning is not compiled"),
        (["--validation", "none.csv"], "none.csv"),
        (["--set", "lora.rnk=3"], "lora.rank"),
        (["--set", "train.context=3"], "no example is left to train on"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_and_leaves_no_run(data, tiny, tmp_path, capsys, more, told):
    out = tmp_path / "run"
    for language in ("en", "zh"):
        command = ["finetune", data, "--from", tiny, "--out", str(out), *QUICK, *more, "--lang", language]
        assert main(command) == 1
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith(("error: ", "错误："))]
        assert len(lines) == 1 and not out.exists()
        assert told in lines[0] or language == "zh"


def test_an_empty_or_missing_file_is_told(tiny, tmp_path, capsys):
    (tmp_path / "empty.csv").write_text("")
    for name in ("empty.csv", "none.csv"):
        assert main(["finetune", str(tmp_path / name), "--from", tiny, "--out", str(tmp_path / "run")]) == 1
        line = capsys.readouterr().err.strip()
        assert name in line and "\n" not in line and not (tmp_path / "run").exists()
    assert main(["finetune", "--lang", "zh"]) == 1
    assert "需要一个用来学习的文件" in capsys.readouterr().err


def test_settings_given_beside_resume_are_told_to_be_without_effect(data, tiny, tmp_path, capsys):
    out = str(tmp_path / "run")
    assert main(["finetune", data, "--from", tiny, "--out", out, *QUICK]) == 0
    capsys.readouterr()
    assert main(["finetune", data, "--resume", out, "--lr", "0.5", "--from", tiny, "--device", "cpu"]) == 0
    assert "without effect: FILE, --from, --lr, --device" in capsys.readouterr().err
    assert main(["pretrain", "--resume", out]) == 1
    assert f"`glassgpt finetune --resume {out}`" in capsys.readouterr().err


def test_a_run_stopped_before_its_first_evaluation_prints_json_that_other_programs_can_read(
    data, tiny, tmp_path, capsys, monkeypatch
):
    """JSON has no infinity: what is not measured yet is null."""

    def refuse(constant):
        raise ValueError(constant)

    def stop(self, event):
        if event.kind == "step":
            os.kill(os.getpid(), signal.SIGTERM)

    out = tmp_path / "run"
    command = ["finetune", data, "--from", tiny, "--out", str(out), *QUICK, "--json"]
    with monkeypatch.context() as patch:
        patch.setattr("glassgpt.cli.watch.Watch.__call__", stop)
        assert main([*command, "--set", "train.evaluate_every=3", "--set", "train.batch=1"]) == 143
    line = json.loads(capsys.readouterr().out.splitlines()[-1], parse_constant=refuse)
    assert line["val_loss"] is None and line["best_val_loss"] is None and line["steps"] == 1
    about = json.loads((out / "run.json").read_text(encoding="utf-8"), parse_constant=refuse)
    assert about["status"] == "stopped" and about["progress"]["step"] == 1
    assert main(["finetune", "--resume", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["val_loss"] > 0


@pytest.mark.parametrize("wrong", [["--rank", "x"], ["--unknown"], ["a", "b"]])
def test_wrong_usage_exits_with_2(wrong):
    with pytest.raises(SystemExit) as end:
        main(["finetune", *wrong])
    assert end.value.code == 2
