"""`glassgpt clean` as a user meets it."""

from __future__ import annotations

import json

import pytest

from glassgpt.cli.clean import FILTERS
from glassgpt.cli.main import main
from glassgpt.data import filters

TABLE = "问题,答案\n你好吗？,<p>我很好</p>\n你好吗？,我很好\nx,NULL\n打电话,13812345678\n"


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "表.csv"
    path.write_text(TABLE, encoding="utf-8")
    return path


def lines(folder):
    return [json.loads(line) for line in (folder / "clean.jsonl").read_text(encoding="utf-8").splitlines()]


def test_json_tells_the_counts(table, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["clean", str(table), "--out", str(out), "--columns", "prompt=问题,response=答案", "--json"]
    assert main([*command, "--mask-personal", "--processes", "1"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {k: told[k] for k in ("rows_in", "kept", "changed", "dropped", "unreadable", "personal", "out")} == {
        "rows_in": 4,
        "kept": 2,
        "changed": 2,
        "dropped": {"missing": 1, "duplicates": 1},
        "unreadable": 0,
        "personal": {"PHONE": 1},
        "out": str(out),
    }
    assert told["seconds"] > 0 and told["rows_per_s"] > 0
    assert [line["response"] for line in lines(out)] == ["我很好", "[PHONE]"]


def test_the_chinese_comma_parts_columns_and_the_encoding_can_be_given(tmp_path):
    (tmp_path / "表.csv").write_bytes("問,答\nだれですか,店員です\n".encode("shift-jis"))
    command = ["clean", str(tmp_path / "表.csv"), "--out", str(tmp_path / "out"), "--columns", "prompt=問，response=答"]
    assert main([*command, "--encoding", "shift-jis"]) == 0
    assert [(line["prompt"], line["response"]) for line in lines(tmp_path / "out")] == [("だれですか", "店員です")]


def test_filters_are_chosen_by_name(table, tmp_path):
    base = ["clean", str(table), "--columns", "prompt=问题,response=答案", "--out"]
    assert main([*base, str(tmp_path / "a"), "--skip", "html", "--skip", "missing"]) == 0
    assert [line["response"] for line in lines(tmp_path / "a")] == ["<p>我很好</p>", "我很好", "NULL", "13812345678"]
    assert main([*base, str(tmp_path / "b"), "--only", "missing", "--no-near-duplicates"]) == 0
    assert len(lines(tmp_path / "b")) == 3
    assert main([*base, str(tmp_path / "c"), "--language", "zh", "--min-chars", "8"]) == 0
    assert [line["prompt"] for line in lines(tmp_path / "c")] == ["打电话"]


def test_the_help_names_what_the_library_has():
    from glassgpt.cli.clean import LIMITS
    from glassgpt.data.filters import CleanSettings

    assert FILTERS.split(", ") == list(filters.FILTERS)
    assert {name: getattr(CleanSettings(), name) for name in LIMITS} == LIMITS


def test_each_filter_can_be_named(table, tmp_path):
    for name in filters.FILTERS:
        for flag in ("--skip", "--only"):
            assert main(["clean", str(table), "--out", str(tmp_path / f"{flag}{name}"), flag, name]) == 0


def test_columns_used_and_not_used_are_told(tmp_path, capsys):
    path = tmp_path / "a.csv"
    path.write_text("id,问题,答案,日期\n1,你好,您好,2024\n", encoding="utf-8")
    assert main(["clean", str(path), "--out", str(tmp_path / "out")]) == 0
    assert "columns used: prompt=问题, response=答案; not used: id, 日期" in capsys.readouterr().err


def test_that_nothing_is_left_is_told(tmp_path, capsys):
    path = tmp_path / "a.csv"
    path.write_text("question,answer\nx,\n", encoding="utf-8")
    assert main(["clean", str(path), "--out", str(tmp_path / "out"), "--json"]) == 0
    told = capsys.readouterr()
    assert "no row is left" in told.err and json.loads(told.out)["kept"] == 0


def test_the_table_is_told_in_the_users_language(table, tmp_path, capsys):
    for language, word in (("en", "dropped"), ("zh", "剔除")):
        command = ["clean", str(table), "--out", str(tmp_path / language), "--lang", language]
        assert main([*command, "--columns", "prompt=问题,response=答案"]) == 0
        assert word in capsys.readouterr().out
        assert f'lang="{language}"' in (tmp_path / language / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--skip", "htlm"], "html"),
        (["--columns", "prompt"], "--columns"),
        (["--min-chars", "9", "--max-chars", "3"], "min_chars"),
        (["--processes", "0"], "processes"),
        (["--columns", ""], "--columns"),
        (["--encoding", "utf-99"], "utf-99"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(table, tmp_path, capsys, more, told):
    assert main(["clean", str(table), "--out", str(tmp_path / "out"), *more]) == 1
    error = capsys.readouterr().err
    assert told in error and len(error.splitlines()) == 1
    assert [p.name for p in tmp_path.iterdir()] == [table.name]


def test_a_second_run_into_the_same_folder_is_refused(table, tmp_path, capsys):
    command = ["clean", str(table), "--out", str(tmp_path / "out"), "--columns", "prompt=问题,response=答案"]
    assert main(command) == 0
    assert main(command) == 1
    assert "already exists" in capsys.readouterr().err


def test_what_was_cleaned_can_be_cleaned_again_and_stays(table, tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    assert main(["clean", str(table), "--out", str(first), "--columns", "prompt=问题,response=答案"]) == 0
    assert main(["clean", str(first / "clean.jsonl"), "--out", str(second)]) == 0
    texts = [[(line["prompt"], line["response"]) for line in lines(folder)] for folder in (first, second)]
    assert texts[0] == texts[1]
