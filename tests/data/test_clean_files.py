"""Cleaning to files: nothing is lost or overwritten, processes change nothing, pages show and do not obey."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import psutil
import pytest
from cleaning_rows import chat_rows, rejects_of, sample, text_rows

from glassgpt.core.errors import ConfigError, GlassError
from glassgpt.core.words import Sentence
from glassgpt.data import clean_pass
from glassgpt.data.clean import clean, clean_rows
from glassgpt.data.filters import FILTERS, CleanSettings
from glassgpt.data.report import Problem
from glassgpt.data.rows import Row


def test_rows_in_are_kept_dropped_or_unreadable_and_each_is_written_once(tmp_path):
    problems: list[Problem] = []

    def reading():
        for row in sample():
            if row.number == 7:
                problems.append(Problem("t.csv", 7, Sentence("the {role} is empty", role="x"), "raw \ud83d text"))
            yield row

    out = tmp_path / "new" / "out"
    report = clean(reading(), out, problems=problems)
    assert sorted(p.name for p in out.iterdir()) == ["clean.jsonl", "rejects.csv", "report.html", "report.json"]
    assert [p.name for p in out.parent.iterdir()] == ["out"]
    lines = [json.loads(line) for line in (out / "clean.jsonl").read_text(encoding="utf-8").splitlines()]
    rejects = rejects_of(out)
    assert report.rows_in == len(sample()) + 1 == report.kept + sum(report.dropped.values()) + report.unreadable
    assert (len(lines), len(rejects)) == (report.kept, report.rows_in - report.kept)
    places = [(r["source"], r["row"]) for r in lines] + [(r["source"], int(r["row"])) for r in rejects]
    assert Counter(places) == Counter((r.source, r.number) for r in sample()) + Counter([("t.csv", 7)])
    assert Counter(r["filter"] for r in rejects) == report.dropped | {"unreadable": 1}
    saved = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert (saved["rows_in"], saved["kept"], saved["dropped"]) == (report.rows_in, report.kept, report.dropped)
    assert sum(saved["after"]["lengths"]) == sum(saved["after"]["languages"].values()) == report.kept
    in_memory, account = clean_rows(sample())
    assert [row.to_json() for row in in_memory] == lines
    assert account.dropped == report.dropped and account.changed == report.changed


@pytest.mark.slow
def test_the_result_does_not_depend_on_the_number_of_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(clean_pass, "ROWS_AT_ONCE", 7)
    monkeypatch.setattr(clean_pass, "GROUPS_WITHOUT_POOL", 2)
    results = []
    for processes in (1, 2, 3):
        out = tmp_path / str(processes)
        report = clean(iter(sample()), out, processes=processes, settings=CleanSettings(mask_personal=True))
        told = report.to_dict()
        results.append((
            (out / "clean.jsonl").read_bytes(),
            (out / "rejects.csv").read_bytes(),
            {k: told[k] for k in told if k not in ("seconds", "rows_per_s", "out")},
        ))  # fmt: skip
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("failure", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_an_interrupted_run_leaves_nothing(tmp_path, monkeypatch, failure, processes):
    monkeypatch.setattr(clean_pass, "ROWS_AT_ONCE", 5)
    monkeypatch.setattr(clean_pass, "GROUPS_WITHOUT_POOL", 2)

    def reading():
        yield from sample()[:50]
        raise failure

    with pytest.raises(failure):
        clean(reading(), tmp_path / "out", processes=processes)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signal that ends a process so abruptly")
def test_no_process_outlives_the_one_that_started_it(tmp_path):
    """They waited for work for ever when the parent was killed."""
    path = tmp_path / "a.csv"
    path.write_text("question,answer\n" + "".join(f"question {n} of many,answer {n}\n" for n in range(400_000)))
    command = [sys.executable, "-m", "glassgpt", "clean", str(path), "--out", str(tmp_path / "out"), "--processes", "2"]
    with psutil.Popen(command, stderr=subprocess.DEVNULL) as running:
        workers: list[psutil.Process] = []
        until = time.monotonic() + 60
        while len(workers) < 3 and time.monotonic() < until:  # two, and the one that keeps count of shared resources
            time.sleep(0.05)
            workers = running.children(recursive=True)
        running.kill()
    assert len(workers) == 3
    assert psutil.wait_procs(workers, timeout=20)[1] == []


def test_what_is_saved_is_never_overwritten(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    clean(text_rows("a"), out)  # an empty folder may be filled
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    for place in (out, out / "clean.jsonl"):
        with pytest.raises(ConfigError, match="already exists"):
            clean(text_rows("b"), place)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before


def test_an_empty_folder_is_filled_and_stays_the_same_folder(tmp_path, monkeypatch):
    """It may be a disk of its own, or where the user stands: `--out .`."""
    out = tmp_path / "out"
    out.mkdir()
    before = out.stat().st_ino
    monkeypatch.chdir(out)
    clean(text_rows("a"), Path())
    assert out.stat().st_ino == before
    assert sorted(p.name for p in out.iterdir()) == ["clean.jsonl", "rejects.csv", "report.html", "report.json"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    with pytest.raises(ConfigError, match="already exists"):
        clean(text_rows("b"), Path())


def test_a_disk_that_refuses_is_told_and_nothing_is_left(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(GlassError, match="could not be written"):
        clean(text_rows("a"), tmp_path / "file" / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_the_search_for_near_duplicates_tells_how_far_it_is(tmp_path):
    told: list[tuple[int, int]] = []
    rows = text_rows(*(f"The quick brown fox jumps over the lazy {animal} and runs away." for animal in ("dog", "dig")))
    clean(rows, tmp_path / "out", comparing=lambda done, total: told.append((done, total)))
    assert told == [(0, 2)]


def test_no_cell_of_the_rejects_is_a_formula(tmp_path):
    dangerous = ["=cmd|'/c calc'!A1", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\n=1", "＝1"]
    rows = [Row(f"{text}.csv", at, ("user", "assistant"), [text, ""]) for at, text in enumerate(dangerous)]
    clean(rows, tmp_path / "out")
    rejects = rejects_of(tmp_path / "out")
    assert len(rejects) == len(dangerous)
    for cells in rejects:
        assert all(not cell.startswith(("=", "+", "-", "@", "\t", "\n", "\r", "＝")) for cell in cells.values())
    assert (tmp_path / "out" / "rejects.csv").read_bytes().startswith(b"\xef\xbb\xbf")


def test_a_reject_longer_than_a_spreadsheet_cell_is_cut_and_says_so(tmp_path):
    clean(text_rows("长" * 40_000), tmp_path / "out", settings=CleanSettings(max_chars=10), language="zh")
    cell = rejects_of(tmp_path / "out")[0]["text"]
    assert len(cell) == 32_767 and "40,000" in cell.replace("40000", "40,000")


def test_half_a_surrogate_pair_can_be_saved_when_nothing_may_be_repaired(tmp_path):
    report = clean(
        text_rows("a\ud83db", "\ud83d"), tmp_path / "out", settings=CleanSettings(only=("length",), min_chars=2)
    )
    assert (report.kept, report.dropped) == (1, {"length": 1})
    assert json.loads((tmp_path / "out" / "clean.jsonl").read_bytes())["text"] == "a\ud83db"


def test_no_rows_give_empty_files(tmp_path):
    report = clean([], tmp_path / "out")
    assert (report.rows_in, report.kept) == (0, 0)
    assert (tmp_path / "out" / "clean.jsonl").read_bytes() == b""


# ---- settings -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ({"skip": ["htlm"]}, "html"),
        ({"only": ["zzzz"]}, "near-duplicates"),
        ({"languages": ["xx"]}, "zh"),
        ({"min_chras": 5}, "min_chars"),
        ({"min_chars": 9, "max_chars": 5}, ""),
        ({"similarity": 0.2}, ""),
        ({"mask_personal": True, "skip": ["personal"]}, "Leave one"),
        ({"mask_personal": True, "only": ["html"]}, "Leave one"),
        ({"languages": ["zh"], "skip": ["language"]}, "Leave one"),
        ({"max_chars": 50, "only": ["html"]}, "Leave one"),
        ({"similarity": 0.9, "skip": ["near-duplicates"]}, "Leave one"),
    ],
)
def test_wrong_settings_are_named(wrong, hint):
    with pytest.raises(ConfigError) as caught:
        CleanSettings.from_dict(wrong)
    assert hint in caught.value.hint()


def test_a_wrong_number_of_processes_is_named(tmp_path):
    with pytest.raises(ConfigError, match="0 processes"):
        clean(text_rows("a"), tmp_path / "out", processes=0)


# ---- naughty strings and the page -----------------------------------------------------------------------------------
class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.words = ""

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)
        assert not [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data):
        self.words += data


@pytest.mark.parametrize("language", ["en", "zh"])
def test_naughty_strings_pass_through_and_are_shown_not_obeyed(shared_data, tmp_path, language):
    naughty = json.loads((shared_data / "peers" / "robustness" / "blns.json").read_text(encoding="utf-8"))
    rows = [*chat_rows(*((text, text[::-1]) for text in naughty)), *text_rows(*naughty)]
    out = tmp_path / "out"
    report = clean(rows, out, language=language)
    assert report.rows_in == len(rows) == report.kept + sum(report.dropped.values())
    lines = (out / "clean.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    assert [set(json.loads(line)) - {"source", "row"} for line in lines]
    seen = Tags()
    seen.feed((out / "report.html").read_text(encoding="utf-8"))
    assert not {"script", "img", "iframe", "svg", "a", "input"} & set(seen.names)
    assert ("清洗报告" if language == "zh" else "Cleaning report") in seen.words
    again = clean_rows([Row("x", 1, row.roles, row.texts) for row in clean_rows(rows)[0]])[1]
    assert again.changed == 0 and again.dropped == {}


def test_the_page_shows_characters_that_cannot_be_seen(tmp_path):
    clean(text_rows("zero\u200bwidth and \x07bell"), tmp_path / "out")
    seen = Tags()
    seen.feed((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    assert "zero[U+200B]width and [U+0007]bell" in seen.words and "zerowidth and bell" in seen.words


def test_the_page_shows_what_was_changed_and_every_filter_that_worked(tmp_path):
    report = clean(sample(), tmp_path / "out", language="zh", settings=CleanSettings(mask_personal=True))
    seen = Tags()
    seen.feed((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    assert "<p>问题 0?</p>" in seen.words
    assert all(name in seen.words for name in report.filters)
    assert set(report.filters) <= set(FILTERS)
