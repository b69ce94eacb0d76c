"""`glassgpt origins` as a user meets it, on a run that `pretrain` made of an English and a Chinese text."""

from __future__ import annotations

import io
import json
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from filelock import FileLock

from glassgpt.cli.main import main
from glassgpt.inside.origins_index import FOLDER

ENGLISH = (
    "The ferry to the northern islands leaves at seven in the morning, except on Mondays, when the crew paints. "
    "Passengers who bring a bicycle wait behind the green line. Children ride free until their ninth birthday. "
)
CHINESE = (
    "开往北方诸岛的渡轮每天早上七点出发，星期一除外，那天船员要粉刷甲板。"
    "带自行车的乘客请在绿线后等候。九岁以下的儿童免费乘船。"
)
RECIPE = """
[model]
n_layer = 1
n_head = 2
n_embd = 16
[data]
vocab_size = 400
validation = 0.05
[train]
steps = 2
batch = 2
context = 8
sample_tokens = 0
precision = "float32"
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("ferry")
    (folder / "data").mkdir()
    (folder / "data" / "en.txt").write_text(ENGLISH + "Tickets are sold at the kiosk. " * 6, encoding="utf-8")
    (folder / "data" / "zh.txt").write_text(CHINESE + "船票在小亭出售。" * 12, encoding="utf-8")
    (folder / "small.toml").write_text(RECIPE)
    out = str(folder / "run")
    assert main(["pretrain", str(folder / "small.toml"), "--data", str(folder / "data"), "--out", out,
                 "--threads", "1", "--json"]) == 0  # fmt: skip
    return out


def asked(run: str, capsys, *words: str) -> tuple[dict, str]:
    capsys.readouterr()
    assert main(["origins", run, *words, "--json"]) == 0
    told = capsys.readouterr()
    return json.loads(told.out), told.err


@pytest.mark.parametrize(
    ("text", "source", "span"),
    [
        ("I think that passengers who bring a bicycle wait behind the green line, or so.", "en.txt",
         "assengers who bring a bicycle wait behind the green line"),
        ("我认为带自行车的乘客请在绿线后等候，对吗？", "zh.txt", "带自行车的乘客请在绿线后等候"),
    ],
)  # fmt: skip
def test_english_and_chinese_spans_are_found_in_their_files(run, capsys, text, source, span):
    found, _ = asked(run, capsys, text)
    (one,) = [s for s in found["spans"] if s["kind"] == "memorised"]
    assert span.removeprefix("assengers ") in one["text"]
    assert {(p["source"], p["row"]) for p in one["matches"][0]["places"]} == {(source, 1)}
    assert "".join(s["text"] for s in found["spans"]) == text == found["text"]
    assert sum(found["shares"].values()) == pytest.approx(1)


def test_people_see_the_text_its_rows_and_what_is_near_in_both_languages(run, capsys):
    text = "\x1b[2Jchildren ride free until their ninth birthday. The deck of a bicycle is green on Mondays, I guess."
    for language, words in {"en": ["in the training data", "row 1"], "zh": ["记住的", "第 1 行"]}.items():
        capsys.readouterr()
        assert main(["origins", run, text, "--lang", language]) == 0
        told = capsys.readouterr().out
        assert "\x1b" not in told and "[1: " in told and "en.txt" in told and "【" in told
        assert all(word in told for word in words)


def test_a_reply_can_be_piped_in_and_held_against_a_file(run, capsys, monkeypatch, tmp_path):
    faq = tmp_path / "faq.txt"
    faq.write_text("Dogs travel on the upper deck and need a muzzle made of wicker.", encoding="utf-8")
    piped = io.TextIOWrapper(io.BytesIO(b"Dogs travel on the upper deck and need love.\n"))
    monkeypatch.setattr(sys, "stdin", piped)
    found, _ = asked(run, capsys, "-", "--retrieved", str(faq), "--nearest", "0")
    assert [span["kind"] for span in found["spans"]] == ["retrieved", "composed"]
    assert found["spans"][0]["quote"]["source"] == str(faq) and found["nearest"] == []
    capsys.readouterr()
    assert main(["origins", run, "Dogs travel on the upper deck and need love.", "--retrieved", str(faq)]) == 0
    assert "retrieved: " + str(faq) in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "part"),
    [(["no-run", "x"], "not a run"), (["RUN", ""], "empty"), (["RUN", "x" * 100_001], "100,000"),
     (["RUN", "x", "--places", "0"], "places"), (["RUN", "x", "--retrieved", "nowhere.txt"], "nowhere.txt")],
)  # fmt: skip
def test_what_is_wrong_is_one_line_with_a_hint(run, capsys, words, part):
    capsys.readouterr()
    for language in ("en", "zh"):
        assert main(["origins", *(run if word == "RUN" else word for word in words), "--lang", language]) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        if language == "en":
            assert part in error


@pytest.mark.full
def test_the_rows_that_a_build_learned_are_found_with_their_numbers_in_the_file(tmp_path, capsys):
    """The sample, cleaned and split: row numbers are those of the file that was given."""
    from pathlib import Path

    import glassgpt.samples
    from glassgpt.data.sources import read_rows

    out = tmp_path / "run"
    assert main(["build", "--from", "scratch", "--epochs", "1", "--out", str(out), "--json"]) == 0
    rows = {r.number: r for r in read_rows(str(Path(glassgpt.samples.__file__).parent / "shop.csv"))}
    lines = [json.loads(line) for line in (out / "cleaning" / "clean.jsonl").read_text("utf-8").splitlines()]
    hits = 0
    for line in lines[::10]:
        found, _ = asked(str(out), capsys, line["response"], "--places", "1000")
        numbers = {p["row"] for m in found["matches"] for p in m["places"]}
        assert {p["source"] for m in found["matches"] for p in m["places"]} <= {"shop.csv"}
        assert numbers <= rows.keys() and found["notes"] == []
        hits += line["row"] in numbers
    assert hits > 0.8 * len(lines[::10]), "those held out are not there"


def test_what_is_wrong_is_told_before_any_data_is_sorted(run, capsys, tmp_path):
    fresh = tmp_path / "run"
    shutil.copytree(run, fresh, ignore=shutil.ignore_patterns("origins", "origins.lock"))
    assert not (fresh / FOLDER).exists()
    for words in (["x", "--least", "0"], [" "]):
        assert main(["origins", str(fresh), *words]) == 1
    assert not (fresh / FOLDER).exists()
    assert "indexing" not in capsys.readouterr().err


def test_whoever_waits_for_another_that_sorts_is_told(run, capsys, tmp_path):
    fresh = tmp_path / "run"
    shutil.copytree(run, fresh, ignore=shutil.ignore_patterns("origins", "origins.lock"))
    with FileLock(fresh / f"{FOLDER}.lock") as lock, ThreadPoolExecutor(1) as pool:
        asking = pool.submit(main, ["origins", str(fresh), "passengers who bring a bicycle"])
        until = time.monotonic() + 30
        told = ""
        while "waiting for it" not in told and time.monotonic() < until:
            time.sleep(0.05)
            told += capsys.readouterr().err
        lock.release()
        assert asking.result() == 0 and "another process is indexing this run" in told
