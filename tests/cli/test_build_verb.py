"""`glassgpt build` as a user meets it."""

from __future__ import annotations

import json

import pytest

from glassgpt.cli.build import sample_file
from glassgpt.cli.main import main
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


def test_a_file_that_is_not_there_and_a_folder_in_use_are_told(data, tiny, tmp_path, capsys):
    assert main(["build", str(tmp_path / "none.csv")]) == 1
    assert "none.csv is not there" in capsys.readouterr().err
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
