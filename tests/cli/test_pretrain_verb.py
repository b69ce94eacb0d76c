"""`glassgpt pretrain` as a user meets it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from glassgpt.cli.main import main

RECIPE = """
[model]
n_layer = 1
n_head = 2
n_embd = 16
[data]
tokenizer = "characters"
[train]
steps = 6
batch = 2
context = 16
evaluate_every = 3
sample_tokens = 4
precision = "float32"
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(RECIPE)
    return str(path)


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "海.txt"
    path.write_text("the sea was calm, 小船出去找鱼. " * 40, encoding="utf-8")
    return str(path)


def test_it_trains_and_prints_one_json_line_last(recipe, data, tmp_path, capsys):
    out = tmp_path / "run"
    command = ["pretrain", recipe, "--data", data, "--out", str(out), "--seed", "3", "--threads", "1", "--json"]
    assert main([*command, "--set", "train.steps=7"]) == 0
    told = capsys.readouterr()
    line = json.loads(told.out.splitlines()[-1])
    assert {"val_loss", "steps", "tokens", "train_s", "parameters", "run"} <= set(line)
    assert (line["steps"], line["tokens"], line["run"], line["context"]) == (7, 7 * 2 * 16, str(out), 16)
    assert 0 < line["val_loss"] < 6 and line["train_s"] > 0
    assert line["gflops"] > 0 and line["gb_s"] > 0 and "GFLOP/s" in told.err
    about = json.loads((out / "run.json").read_text(encoding="utf-8"))
    assert about["recipe"]["train"]["seed"] == 3 and about["status"] == "finished"
    for name in ("metrics.jsonl", "loss.png", "tensorboard", "model", "checkpoints"):
        assert (out / name).exists()
    assert main(["generate", "--model", str(out), "--prompt", "the sea", "--max-new-tokens", "3"]) == 0


def test_messages_come_in_the_users_language(recipe, data, tmp_path, capsys):
    for language, words in (
        ("en", ["held-out loss", "the run is in"]),
        ("zh", ["留出数据上的损失", "本次运行保存在", "这台机器"]),
    ):
        assert main(["pretrain", recipe, "--data", data, "--out", str(tmp_path / language), "--lang", language]) == 0
        told = capsys.readouterr()
        assert all(word in told.err for word in words) and told.out == ""


def test_a_loss_that_is_not_reached_is_told_and_fails(recipe, data, tmp_path, capsys):
    command = ["pretrain", recipe, "--data", data, "--threads", "1"]
    assert main([*command, "--out", str(tmp_path / "a"), "--until-val-loss", "0.01"]) == 1
    assert "0.01 was not reached: the best was" in capsys.readouterr().err
    assert main([*command, "--out", str(tmp_path / "b"), "--until-val-loss", "50", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 3


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"recipe": "nothing.toml"}, "nothing.toml cannot be read"),
        ({"data": "nothing.txt"}, "nothing.txt"),
        ({"data": None}, "a recipe and --data are needed"),
        ({"data": "empty.txt"}, "is empty"),
        ({"more": ["--set", "train.stepz=3"]}, "train.steps"),
        ({"more": ["--set", "train.steps"]}, "NAME=VALUE"),
        ({"more": ["--set", "train.steps=many"]}, "train.steps is 'many'"),
        ({"more": ["--set", "train.context=5000"]}, "one window of 5000 does not fit"),
        ({"more": ["--set", "model.n_layers=2"]}, "n_layer"),
        ({"more": ["--set", "train=3"]}, "train"),
        ({"more": ["--threads", "0"]}, "threads is 0"),
        ({"more": ["--seed", "-1"]}, "seed is -1"),
    ],
    ids=lambda value: "" if isinstance(value, str) else "-".join(map(str, value)) or None,
)
def test_a_mistake_is_one_line_and_leaves_no_run(recipe, data, tmp_path, capsys, change, told):
    (tmp_path / "empty.txt").write_text("")
    data = data if "data" not in change else change["data"] and str(tmp_path / change["data"])
    out = tmp_path / "runs" / "r"
    command = ["pretrain", change.get("recipe", recipe), *(["--data", data] if data else []), "--out", str(out)]
    for language in ("en", "zh"):
        assert main([*command, *change.get("more", []), "--lang", language]) == 1
        output = capsys.readouterr()
        line = output.err.strip()
        assert "\n" not in line and output.out == "" and not out.exists()
        assert line.startswith("错误：") if language == "zh" else told in line


def test_a_folder_with_other_files_is_left_alone(recipe, data, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    assert main(["pretrain", recipe, "--data", data, "--out", str(tmp_path / "mine")]) == 1
    assert "holds other files" in capsys.readouterr().err
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["letter.txt"]


def test_what_is_no_run_cannot_be_gone_on_with(tmp_path, capsys):
    (tmp_path / "run.json").write_text("{}")
    for folder, told in ((tmp_path, "is damaged"), (tmp_path / "none", "is not a run")):
        assert main(["pretrain", "--resume", str(folder)]) == 1
        assert told in capsys.readouterr().err
    (tmp_path / "run.json").write_text('{"format": "glassgpt-run", "version": 1}')
    assert main(["pretrain", "--resume", str(tmp_path), "--lang", "zh"]) == 1
    assert "数据准备好之前" in capsys.readouterr().err


def test_a_run_of_the_other_kind_names_its_verb(recipe, data, tmp_path, capsys):
    out = str(tmp_path / "run")
    assert main(["pretrain", recipe, "--data", data, "--out", out, "--threads", "1"]) == 0
    assert main(["finetune", "--resume", out]) == 1
    assert f"`glassgpt pretrain --resume {out}`" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [["--seed", "x"], ["--unknown"], ["a", "b"], ["--until-val-loss", "low"]])
def test_wrong_usage_exits_with_2(wrong, capsys):
    with pytest.raises(SystemExit) as end:
        main(["pretrain", *wrong])
    assert end.value.code == 2 and "usage" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_as_a_process(recipe, data, tmp_path):
    """With runs/ as the folder for runs that are not named, numbered one after the other."""
    command = [sys.executable, "-m", "glassgpt", "pretrain", recipe, "--data", data, "--threads", "1", "--json"]
    for number in (1, 2):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, encoding="utf-8")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout.splitlines()[-1])["run"] == f"runs/small-{number}"
    wrong = subprocess.run([*command, "--set", "a"], cwd=tmp_path, capture_output=True, text=True, encoding="utf-8")
    assert wrong.returncode == 1 and "Traceback" not in wrong.stderr
