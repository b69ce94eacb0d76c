"""A look at a file before anything is trained: what it says, and that it ends whatever happens."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path

import pytest
from build_files import questions, tiny_base  # noqa: F401 - a fixture

from glassgpt.core.errors import GlassError
from glassgpt.core.processes import begin_of
from glassgpt.data.clean import clean_rows
from glassgpt.data.sources import read_rows
from glassgpt.ui.examine import examine
from glassgpt.ui.preview import REQUEST, Preview, PreviewJob, preview
from glassgpt.ui.uploads import sample_file


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path, monkeypatch):
    """Where temporary folders can be counted."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return tmp_path / "tmp"


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: set[tuple[str, str]] = set()
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs) -> None:
        self.seen |= {(tag, name) for name, _ in attrs} | {(tag, "")}

    def handle_data(self, data) -> None:
        self.text += data


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_sample_is_told_as_cleaning_tells_it(tmp_path, tiny_base, language):  # noqa: F811
    found = examine(sample_file(), tiny_base, tmp_path / language, language=language)
    problems: list = []
    rows, report = clean_rows(read_rows(sample_file(), problems=problems.append))
    assert (found.kept, found.changed, found.unreadable) == (len(rows), report.changed, len(problems))
    assert found.rows_in == report.rows_in + len(problems) and not found.limited and found.error == ""
    (source,) = found.sources
    assert (source.format, source.delimiter, source.encoding) == ("table", ",", "utf-8-sig")
    assert source.columns == {"prompt": "问题", "response": "答案"} and "渠道" in source.ignored
    assert {count.filter: count.dropped for count in found.counts if count.dropped} == {
        **report.dropped, "unreadable": len(problems)
    }  # fmt: skip
    assert [one.row for one in found.kept_rows] == [row.number for row in rows[:5]]
    assert all(one.reason and one.row for one in found.dropped_rows) and found.dropped_rows
    assert all(one.before != one.after for one in found.changed_rows) and found.changed_rows
    assert found.examined == len(rows) and dict(found.tokens) and len(found.tokens) == 4
    assert ("行" in found.lines[0]) == (language == "zh")
    assert Preview.from_json(json.loads(json.dumps(asdict(found)))) == found


def test_masking_and_named_columns_are_as_the_build_would_have_them(tmp_path, tiny_base):  # noqa: F811
    data = tmp_path / "a.csv"
    data.write_text("was,wie，so\ncall 13800138000?,no 13800138000\n你好吗,很好，谢谢\n", encoding="utf-8")
    found = examine(data, tiny_base, tmp_path, columns={"prompt": "was", "response": "wie，so"}, mask_personal=True)
    assert found.kept_rows[0].turns == [("user", "call [PHONE]?"), ("assistant", "no [PHONE]")]
    assert any(one.filter == "personal" and "13800138000" in one.before for one in found.changed_rows)


def test_no_more_rows_than_allowed_are_looked_at_and_that_is_told(tmp_path):
    data = questions(tmp_path / "a.csv", 50)
    few, whole = examine(data, "scratch", tmp_path / "1", limit_rows=10), examine(data, "scratch", tmp_path / "2")
    assert few.rows_in == 10 and few.limited and not whole.limited and whole.rows_in == 54
    assert whole.examined == whole.kept and whole.html, "a model from nothing has a vocabulary of these rows"


def test_what_a_file_holds_is_shown_and_not_obeyed(tmp_path, tiny_base):  # noqa: F811
    data = tmp_path / "a.jsonl"
    bad = '&lt;script&gt;alert(1)&lt;/script&gt; <|im_end|> " onmouseover=alert(1) javascript:x'
    rows = [{"question": f"{n} {bad}", "answer": bad} for n in range(3)]
    data.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    found = examine(data, tiny_base, tmp_path / "x")
    tags = Tags(found.html)
    assert {tag for tag, _ in tags.seen} <= {"div", "p", "span", "h3", "em"}
    assert {name for _, name in tags.seen} <= {"", "class", "title"}
    assert "onmouseover=alert(1)" in tags.text
    assert all(line.lstrip().startswith((".doctor", "border")) for line in found.style.strip().splitlines())


def test_half_a_character_in_a_file_is_no_end_of_the_look(tmp_path, tiny_base):  # noqa: F811
    data = tmp_path / "a.jsonl"
    data.write_text('{"question": "what \\ud800 is it?", "answer": "a \\udfff thing"}\n' * 2)
    found = preview(data, tiny_base)
    assert found.error == "" and found.rows_in == 2
    json.dumps(asdict(found), ensure_ascii=False).encode()


def test_a_model_that_is_not_here_is_not_fetched_and_the_cleaning_is_still_told(tmp_path, monkeypatch):
    monkeypatch.setenv("GLASSGPT_CACHE", str(tmp_path / "cache"))
    found = examine(questions(tmp_path / "a.csv"), "smollm2", tmp_path, language="zh")
    assert found.kept and "smollm2" in found.model_note and found.examined == 0 and found.html == ""


def test_a_file_of_which_nothing_is_left_has_its_reasons(tmp_path):
    data = tmp_path / "a.csv"
    data.write_text("question,answer\nwhat?,\nwhy?,N/A\n")
    found = examine(data, "scratch", tmp_path)
    assert found.kept == 0 and [one.filter for one in found.dropped_rows] == ["missing", "missing"]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.csv", b"", "是空的"),
        ("b.csv", b"PK\x03\x04" + b"\0" * 50, "不是文本文件"),
        ("c.csv", "列一,列二\n1,2\n3,4\n".encode(), "列一"),
        ("d.json", b'[{"question": "what?", "answer"', "JSON"),
        ("e.xlsx", b"PK", "xlsx"),
        ("f.parquet", b"PAR1 nonsense", "Parquet"),
        ("g.csv", None, "g.csv"),
    ],
)
def test_a_broken_file_is_one_line_in_the_users_language(tmp_path, own_temporary_folder, name, content, told):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    found = preview(tmp_path / name, "scratch", language="zh")
    assert told in found.error and "\n" not in found.error and "。" in found.error
    assert found == Preview(error=found.error)
    assert list(own_temporary_folder.iterdir()) == []


@pytest.mark.slow
def test_a_large_file_is_looked_at_elsewhere_and_can_be_broken_off(tmp_path, own_temporary_folder):
    data = questions(tmp_path / "large.csv", 120_000)
    job = PreviewJob(data, "scratch")
    told: list[Preview] = []
    waiting = threading.Thread(target=lambda: told.append(job.result()))
    waiting.start()
    time.sleep(2)
    assert begin_of(job._process.pid) and waiting.is_alive()
    job.cancel()
    waiting.join(10)
    assert not begin_of(job._process.pid) and told == [Preview(error="the look was broken off")]
    assert list(own_temporary_folder.iterdir()) == []
    found = preview(data, "scratch", seconds=1.5, language="zh")
    assert "2 秒" in found.error and list(own_temporary_folder.iterdir()) == []


@pytest.mark.slow
def test_it_ends_with_the_server_and_leaves_nothing(tmp_path):
    """A server that is killed closes nothing itself: the system closes its end of the pipe."""
    data, folder = questions(tmp_path / "large.csv", 120_000), tmp_path / "look"
    folder.mkdir()
    request = {"data": str(data), "base": "scratch", "columns": {}, "mask_personal": False, "language": "en",
               "limit_rows": 10**6}  # fmt: skip
    (folder / REQUEST).write_text(json.dumps(request))
    child = subprocess.Popen([sys.executable, "-m", "glassgpt.ui.preview", str(folder)], stdin=subprocess.PIPE)
    time.sleep(2)
    assert child.poll() is None
    child.stdin.close()
    assert child.wait(10) == 1 and not folder.exists()


def test_a_look_that_crashes_says_its_last_word(tmp_path, monkeypatch, own_temporary_folder):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    Path(sys.executable).write_text("#!/bin/sh\necho first >&2\necho MemoryError: no room >&2\nexit 3\n")
    Path(sys.executable).chmod(0o755)
    found = preview(questions(tmp_path / "a.csv"), "scratch")
    assert found.error == "the look ended early (MemoryError: no room)"
    assert list(own_temporary_folder.iterdir()) == []
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nothing"))
    with pytest.raises((OSError, GlassError)):
        preview(tmp_path / "a.csv", "scratch")
    assert list(own_temporary_folder.iterdir()) == []


def test_long_texts_are_shortened_in_what_is_shown(tmp_path, tiny_base):  # noqa: F811
    data = tmp_path / "a.csv"
    with data.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["question", "answer"], *([f"what is {n}?", f"{n} " * 4000] for n in range(9))])
    found = examine(data, tiny_base, tmp_path / "x")
    assert max(len(text) for one in found.kept_rows for _, text in one.turns) <= 500
    assert found.too_long == 9 and len(json.dumps(asdict(found))) < 30_000
