"""Where files come from: folders, links, what the system refuses, the hub, built-in data; and memory."""

from __future__ import annotations

import gzip
import os
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from reading import LONG, PAIR, jsonl, rows, texts

from glassgpt.core.errors import ConfigError, FetchError, FormatError, InputError, NotFoundError
from glassgpt.data import sources
from glassgpt.data.report import Problem, SourceReport
from glassgpt.data.rows import Row
from glassgpt.data.sources import read_rows


def test_a_folder_is_read_in_order_and_tells_what_it_leaves_out(tmp_path):
    (tmp_path / "sub" / ".git").mkdir(parents=True)
    (tmp_path / "b.txt").write_text("two")
    (tmp_path / "a.jsonl").write_text('{"text": "one"}')
    (tmp_path / "sub" / "c.csv").write_text("text\nthree\n")
    (tmp_path / "sub" / ".git" / "d.txt").write_text("no")
    (tmp_path / ".hidden.txt").write_text("no")
    (tmp_path / "image.png").write_bytes(b"\x89PNG")
    (tmp_path / "z.csv").write_bytes(b"PK\x03\x04 zip")
    reports: list[SourceReport] = []
    problems: list[Problem] = []
    steps: list[tuple[int, int]] = []
    found = list(
        read_rows(
            tmp_path, report=reports, problems=problems.append, progress=lambda done, all: steps.append((done, all))
        )
    )
    assert [(r.source, r.texts[0]) for r in found] == [("a.jsonl", "one"), ("b.txt", "two"), ("sub/c.csv", "three")]
    assert [(r.name, r.format) for r in reports] == [
        (".hidden.txt", "skipped"),
        ("a.jsonl", "jsonl"),
        ("b.txt", "text"),
        ("image.png", "skipped"),
        ("sub/.git", "skipped"),
        ("sub/c.csv", "table"),
        ("z.csv", "table"),
    ]
    assert [(p.source, p.number) for p in problems] == [("z.csv", 0)]
    assert "Excel" in str(problems[0].reason)
    assert "Excel 工作簿" in problems[0].reason.text("zh")
    size = sum((tmp_path / name).stat().st_size for name in ("a.jsonl", "b.txt", "sub/c.csv", "z.csv"))
    assert steps[-1] == (size - len(b"PK\x03\x04 zip"), size)


def test_links_in_a_folder_are_told(tmp_path):
    folder, elsewhere = tmp_path / "in", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    (elsewhere / "b.txt").write_text("outside")
    (folder / "a.txt").write_text("inside")
    (folder / "folder").symlink_to(elsewhere)
    (folder / "nothing.csv").symlink_to(tmp_path / "gone")
    reports: list[SourceReport] = []
    assert [row.texts for row in read_rows(folder, report=reports)] == [["inside"]]
    assert [(r.name, str(r.notes[0])) for r in reports if r.format == "skipped"] == [
        ("folder", "skipped: it is a link to a folder"),
        ("nothing.csv", "skipped: it is no file, or a link to nothing"),
    ]
    with pytest.raises(NotFoundError) as caught:
        read_rows(folder / "nothing.csv")
    assert "nothing.csv?" not in caught.value.hint()


def test_what_the_system_refuses_is_told(tmp_path, monkeypatch):
    """As another user would meet it; root may read everything, so the refusal is played."""
    (tmp_path / "locked").mkdir()
    (tmp_path / "a.txt").write_text("open")
    real = os.scandir

    def scandir(path: Any) -> Any:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    reports: list[SourceReport] = []
    assert len(list(read_rows(tmp_path, report=reports))) == 1
    assert [str(r.notes[0]) for r in reports if r.name == "locked"] == [
        "skipped: it cannot be opened (Permission denied)"
    ]
    with pytest.raises(FormatError, match="locked cannot be opened"):
        list(read_rows(tmp_path / "locked"))

    def stat(self: Path, **_: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "stat", stat)
    with pytest.raises(FormatError, match=r"cannot be opened \(Permission denied\)"):
        read_rows(tmp_path / "a.txt")


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b"])
def test_a_name_that_can_be_none_is_an_error_of_ours(name: str):
    with pytest.raises((FormatError, NotFoundError)):
        read_rows(name)


def test_a_folder_without_readable_files(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(InputError, match="no file that can be read"):
        rows(tmp_path)
    with pytest.raises(FormatError, match="Excel"):
        rows_in = tmp_path / "a.csv"
        rows_in.write_bytes(b"PK\x03\x04")
        rows(tmp_path)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"PK\x03\x04abc", "Excel"),
        (b"\x89PNG\r\n\x1a\n", "image"),
        (b"%PDF-1.7", "PDF"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "image"),
        (bytes(range(256)) * 9, "not text"),
    ],
)
def test_binary_files_are_refused_with_a_reason(tmp_path, content: bytes, kind: str):
    for name, raw in (("a.csv", content), ("a.txt", content), ("b.json.gz", gzip.compress(content))):
        with pytest.raises(FormatError, match=kind):
            rows(tmp_path / name, raw)


def test_what_is_not_there_and_what_is_not_read(tmp_path):
    (tmp_path / "data.csv").write_text("text\na\n")
    with pytest.raises(NotFoundError) as caught:
        read_rows(tmp_path / "dada.csv")
    assert "data.csv" in caught.value.hint()
    for name in ("a.html", "b.xlsx", "c"):
        (tmp_path / name).write_text("<p>")
        with pytest.raises(FormatError, match="a kind that is not read"):
            read_rows(tmp_path / name)
    for name in ("e.csv", "e.txt", "e.jsonl", "e.json", "e.parquet", "e.csv.gz"):
        with pytest.raises(InputError, match="empty"):
            rows(tmp_path / name, gzip.compress(b"") if name.endswith("gz") else b"")


def test_rows_written_as_json_are_read_back(tmp_path):
    first = [
        Row("x", 1, ("text",), ["文"]),
        Row("x", 2, PAIR, ["问", "答"]),
        Row("x", 3, LONG, ["s", "q", "a"]),
        Row("x", 4, (*PAIR, "user", "chosen", "rejected"), ["1", "2", "3", "4", "5"]),
    ]
    found, problems, _ = rows(tmp_path / "x.jsonl", jsonl(*(r.to_json() for r in first)))
    assert problems == []
    assert [(r.roles, r.texts) for r in found] == [(r.roles, r.texts) for r in first]


def fake_datasets(monkeypatch, load: Any) -> None:
    module = types.ModuleType("datasets")
    module.load_dataset = load  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", module)


def test_a_data_set_of_the_hub(monkeypatch):
    asked = []

    def load(name: str, *, split: str, streaming: bool) -> Any:
        asked.append((name, split, streaming))
        return iter([{"instruction": "q", "output": "a"}, {"instruction": "问", "output": "答"}])

    fake_datasets(monkeypatch, load)
    found, _, about = rows("hf:owner/some-set:validation")
    assert texts(found) == [["q", "a"], ["问", "答"]]
    assert (about.format, found[1].source, found[1].number) == ("hub", "hf:owner/some-set:validation", 2)
    rows("hf:owner/some-set")
    assert asked == [("owner/some-set", "validation", True), ("owner/some-set", "train", True)]


def test_a_hub_that_cannot_be_reached(monkeypatch):
    def load(*_: Any, **__: Any) -> Any:
        raise ConnectionError("no route\nto host")

    fake_datasets(monkeypatch, load)
    with pytest.raises(FetchError, match=r"ConnectionError: no route"):
        rows("hf:owner/set")
    with pytest.raises(ConfigError, match="not the name of a data set"):
        rows("hf:../../etc/passwd x")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ConfigError) as caught:
        rows("hf:owner/set")
    assert 'pip install "glassgpt[hub-data]"' in caught.value.line()


def test_a_built_in_data_set_has_its_place(monkeypatch):
    monkeypatch.setitem(sources.BUILT_IN, "toy", lambda about: iter([Row("toy", 1, ("text",), ["hello"])]))
    assert texts(rows("toy")[0]) == [["hello"]]


@pytest.mark.slow
def test_memory_does_not_grow_with_a_table(tmp_path):
    import tracemalloc

    peaks = []
    for records in (30_000, 120_000):
        path = tmp_path / "big.csv"
        path.write_text("question,answer\n" + "".join(f"{i:040d},{i:040d}\n" for i in range(records)))
        next(read_rows(path))  # what is made once is not counted
        tracemalloc.start()
        assert sum(1 for _ in read_rows(path)) == records
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


# The files in ../shared/data: rows as counted in its SOURCES.md, or the reason why there are none.
