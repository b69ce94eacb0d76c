"""Files of every kind become rows; what was written is what is read, and what is not read is told."""

from __future__ import annotations

import gzip
import json
import os
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glassgpt.core.errors import ConfigError, FetchError, FormatError, InputError, NotFoundError
from glassgpt.data import sources
from glassgpt.data.report import Problem, SourceReport
from glassgpt.data.rows import Row
from glassgpt.data.sources import read_rows


def rows(path: Path | str, content: str | bytes | None = None, **settings: Any) -> tuple[list[Row], list[Problem], Any]:
    """The rows of a file, the problems, and the first report."""
    if content is not None:
        Path(path).write_bytes(content if isinstance(content, bytes) else content.encode())
    problems: list[Problem] = []
    reports: list[SourceReport] = []
    found = list(read_rows(path, report=reports, problems=problems.append, **settings))
    assert sum(r.rows for r in reports) == len(found)
    assert sum(r.problems for r in reports) == len(problems)
    return found, problems, reports[0]


def texts(found: list[Row]) -> list[list[str]]:
    return [row.texts for row in found]


def jsonl(*records: Any) -> str:
    return "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records)


def csvish(text: str) -> bytes:
    """Text with a table's own characters strewn in."""
    return ("question,answer\n" + text.replace("0", '"').replace("1", ",").replace("a", "\n")).encode("utf-16")


PAIR = ("user", "assistant")


def test_a_table_of_questions_and_answers(tmp_path):
    found, problems, about = rows(tmp_path / "a.csv", "id,问题,答案\n1,你好,您好\n2,NA,null\n3,,\n4\n")
    assert found == [
        Row("a.csv", 1, PAIR, ["你好", "您好"]),
        Row("a.csv", 2, PAIR, ["NA", "null"]),
        Row("a.csv", 3, PAIR, ["", ""]),
    ]
    assert [(p.source, p.number, str(p.reason), p.text) for p in problems] == [
        ("a.csv", 4, "it has 1 cells; the table has 3 columns", "4")
    ]
    assert problems[0].reason.text("zh") == "它有 1 个单元格，而表格有 3 列"
    assert (about.format, about.encoding, about.delimiter) == ("table", "utf-8", ",")
    assert (about.columns, about.ignored) == ({"prompt": "问题", "response": "答案"}, ["id"])


def test_columns_the_user_names(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("Nr,Frage,Antwort\n1,Wie geht's?,Gut.\n", encoding="cp1252")
    assert texts(rows(path, columns={"prompt": "Frage", "response": "Antwort"})[0]) == [["Wie geht's?", "Gut."]]
    with pytest.raises(ConfigError, match="Antwort"):
        rows(path, columns={"prompt": "Frage", "response": "Antwrt"})
    with pytest.raises(ConfigError) as caught:
        rows(path)
    assert "'Nr', 'Frage', 'Antwort'" in caught.value.line()
    assert "--columns prompt=" in caught.value.line()


def test_a_table_without_a_header_is_noted(tmp_path):
    found, _, about = rows(tmp_path / "a.tsv", "什么时候发货？\t今天下午就发。\n可以退货吗？\t七天内可以。\n")
    assert texts(found)[0] == ["什么时候发货？", "今天下午就发。"]
    assert any("no header" in str(note) for note in about.notes)
    found, _, about = rows(tmp_path / "b.csv", "17,This is a film. A good one.\n18,This is another. Less so.\n")
    assert texts(found) == [["This is a film. A good one."], ["This is another. Less so."]]
    assert about.ignored == ["1"]
    found, _, _ = rows(tmp_path / "c.csv", "早上好\n今天天气很好，我们去公园散步吧\n")
    assert len(found) == 2
    found, _, _ = rows(tmp_path / "d.csv", "甲。,乙。,丙。\n丁。,戊。,己。\n", columns={"text": "2"})
    assert texts(found) == [["乙。"], ["戊。"]]


def test_of_two_columns_with_one_name_the_first_is_read_and_the_other_told(tmp_path):
    found, _, about = rows(tmp_path / "a.csv", "question,question,answer\na,b,c\n")
    assert texts(found) == [["a", "c"]]
    assert about.ignored == ["question"]


def test_excels_line_that_names_the_delimiter_is_no_record(tmp_path):
    for first in ("sep=;\r\n", '"sep=;"\n', "SEP=;;\n"):
        found, problems, about = rows(tmp_path / "a.csv", f'\ufeff{first}问题;答案\n你好, 在吗;在\n再见;"好;的"\n')
        assert texts(found) == [["你好, 在吗", "在"], ["再见", "好;的"]]
        assert (found[0].number, problems, about.delimiter) == (1, [], ";")
    assert texts(rows(tmp_path / "b.csv", "sep=\t\nquestion\tanswer\na,b;c\td\n")[0]) == [["a,b;c", "d"]]


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("records", [[{"text": "一"}, {"text": "二"}], [{"messages": [{"role": "user", "content": "一"},
                                     {"role": "assistant", "content": "二"}]}]])  # fmt: skip
def test_json_under_the_name_of_json_lines_is_read(tmp_path, indent: int | None, records: Any):
    found, problems, about = rows(tmp_path / "a.jsonl", json.dumps(records, indent=indent))
    assert [text for row in found for text in row.texts] == ["一", "二"]
    assert problems == []
    assert any("read as JSON" in str(note) for note in about.notes)
    if indent:
        one_by_one = "\n".join(json.dumps(record, indent=indent) for record in records)
        assert texts(rows(tmp_path / "b.jsonl", one_by_one)[0]) == texts(found)


def test_a_nameless_column_is_not_proposed(tmp_path):
    with pytest.raises(ConfigError) as caught:
        rows(tmp_path / "a.csv", ",Frage,Antwort,Nr\n1,wie,so,7\n2,was,das,8\n")
    assert "--columns prompt=Frage,response=Antwort" in caught.value.hint()


def test_a_header_alone_holds_no_rows(tmp_path):
    with pytest.raises(InputError, match="a header and no records"):
        rows(tmp_path / "a.csv", "question,answer\n")


MESSAGES = [{"role": "user", "content": "你好"}, {"role": "assistant", "content": "您好"}]
SHAREGPT = [{"from": "system", "value": "Be brief."}, {"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]
LONG = ("system", "user", "assistant")


@pytest.mark.parametrize(
    ("record", "roles", "said"),
    [
        ({"text": "abc", "n": 1}, ("text",), ["abc"]),
        ({"paragraphs": ["床前明月光", "疑是地上霜"]}, ("text",), ["床前明月光\n疑是地上霜"]),
        ("a bare text", ("text",), ["a bare text"]),
        ({"prompt": "1+1", "completion": 2}, PAIR, ["1+1", "2"]),
        ({"instruction": "Translate", "input": "Hund", "output": "dog"}, PAIR, ["Translate\n\nHund", "dog"]),
        ({"instruction": "Translate", "input": "", "output": "dog"}, PAIR, ["Translate", "dog"]),
        ({"system": "Kurz.", "question": "q", "answer": None}, LONG, ["Kurz.", "q", ""]),
        ({"messages": MESSAGES}, PAIR, ["你好", "您好"]),
        ({"messages": MESSAGES, "system": "S"}, LONG, ["S", "你好", "您好"]),
        ({"conversations": SHAREGPT}, LONG, ["Be brief.", "Hi", "Ho"]),
        ({"turns": ["a", "b", "c", "d"]}, PAIR * 2, ["a", "b", "c", "d"]),
        ({"messages": [MESSAGES[0], {"role": "assistant", "content": [{"type": "text", "text": "x"}]}]}, PAIR,
         ["你好", "x"]),
        ({"prompt": "q", "chosen": "good", "rejected": "bad"}, ("user", "chosen", "rejected"), ["q", "good", "bad"]),
        ({"prompt": MESSAGES[:1], "chosen": MESSAGES[1:], "rejected": [{"role": "assistant", "content": "哼"}]},
         ("user", "chosen", "rejected"), ["你好", "您好", "哼"]),
        ({"chosen": MESSAGES, "rejected": [MESSAGES[0], {"role": "assistant", "content": "哼"}]},
         ("user", "chosen", "rejected"), ["你好", "您好", "哼"]),
        ({"conversations": SHAREGPT[:2], "chosen": {"from": "gpt", "value": "1"}, "rejected": "2"},
         ("system", "user", "chosen", "rejected"), ["Be brief.", "Hi", "1", "2"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", ["jsonl", "json", "one object", "gz"])
def test_shapes_of_records(tmp_path, form: str, record: Any, roles: tuple[str, ...], said: list[str]):
    name = {"jsonl": "a.jsonl", "json": "a.json", "one object": "b.json", "gz": "a.jsonl.gz"}[form]
    content: Any = jsonl(record) if form in ("jsonl", "gz") else json.dumps([record] if form == "json" else record)
    content = gzip.compress(content.encode()) if form == "gz" else content
    found, problems, _ = rows(tmp_path / name, content)
    assert problems == []
    assert found == [Row(name, 1, roles, said)]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"messages": []}, "not a list of messages"),
        ({"messages": "hello"}, "not a list of messages"),
        ({"messages": "[broken"}, "not valid JSON"),
        ({"messages": MESSAGES[:1]}, "nobody answers"),
        ({"messages": [{"role": "alien", "content": "x"}]}, "by alien, who is unknown"),
        ({"messages": [1]}, "not an object with role and content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "more than text"),
        ({"messages": MESSAGES, "label": False}, "marked as a bad answer"),
        ({"chosen": MESSAGES, "rejected": "no"}, "do not follow the same question"),
        ({"text": {"a": 1}}, "a list or an object where a text should be"),
        ({"text": "half \ud800"}, "no text"),
        ({"other": "x"}, "none of its names"),
        ([1, 2], "not an object"),
        (7, "not an object"),
    ],
)
def test_a_record_that_is_no_row_is_told_and_the_others_are_read(tmp_path, record: Any, reason: str):
    content = jsonl({"text": "before"}) + json.dumps(record) + "\n\n" + jsonl({"text": "after"})
    found, problems, _ = rows(tmp_path / "a.jsonl", content)
    assert [(r.number, r.texts) for r in found] == [(1, ["before"]), (3, ["after"])]
    assert [p.number for p in problems] == [2]
    assert reason in str(problems[0].reason)


def test_damaged_lines_of_jsonl_are_problems(tmp_path):
    deep = "[" * 100_000
    content = jsonl({"text": "a"}).encode() + b'{"text": "b"\n' + deep.encode() + b'\n{"text": "caf\xe9"}\n'
    content += b'{"text": ' + b"9" * 5000 + b"}\n" + jsonl({"text": "好"}).encode() * 3
    found, problems, _ = rows(tmp_path / "a.jsonl", content)
    assert texts(found) == [["a"], ["好"], ["好"], ["好"]]
    assert [p.number for p in problems] == [2, 3, 4, 5]
    assert all(len(p.text) <= 500 for p in problems)
    assert problems[2].text == '{"text": "caf\\xe9"}'


def test_json_arrays_are_read_in_pieces_of_any_size(tmp_path, monkeypatch):
    records = [{"text": f'第{i}行 \\ " [ ] {{ }} \n' * (i % 5 + 1)} for i in range(200)]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(records, ensure_ascii=False, indent=2), encoding="utf-8")
    for block in (1, 7, 100, 1 << 20):
        monkeypatch.setattr("glassgpt.data.reading.BLOCK", block)
        assert texts(rows(path)[0]) == [[r["text"]] for r in records]
    assert texts(rows(tmp_path / "w.json", json.dumps({"data": records}))[0]) == [[r["text"]] for r in records]
    assert texts(rows(tmp_path / "l.json", jsonl(*records))[0]) == [[r["text"]] for r in records]


@pytest.mark.parametrize(
    "content", ['[{"text": "a"}', '[{"text": "a"},\n {"text": b}]', '[{"text": "a"}] x', "[" * 100_000, "{", "nonsense"]
)
def test_damaged_json_is_refused_with_its_line(tmp_path, content: str):
    with pytest.raises(FormatError, match=r"a\.json is not valid JSON at line \d: "):
        rows(tmp_path / "a.json", content)


def test_records_in_cells_of_a_table(tmp_path):
    pytest.importorskip("pandas")
    import pandas as pd

    pd.DataFrame({"messages": [json.dumps(MESSAGES), "[]"]}).to_csv(tmp_path / "a.csv", index=False)
    found, problems, _ = rows(tmp_path / "a.csv")
    assert found == [Row("a.csv", 1, PAIR, ["你好", "您好"])]
    assert [p.number for p in problems] == [2]


def test_parquet(tmp_path):
    pytest.importorskip("pyarrow")
    import pandas as pd

    path = tmp_path / "a.parquet"
    pd.DataFrame({"id": range(2500), "question": ["问"] * 2500, "answer": [None] + ["答"] * 2499}).to_parquet(path)
    found, _, about = rows(path)
    assert len(found) == 2500
    assert found[:2] == [Row("a.parquet", 1, PAIR, ["问", ""]), Row("a.parquet", 2, PAIR, ["问", "答"])]
    assert about.ignored == ["id"]
    pd.DataFrame({"messages": [MESSAGES]}).to_parquet(path)
    assert rows(path)[0] == [Row("a.parquet", 1, PAIR, ["你好", "您好"])]
    pd.DataFrame({"x": [1]}).to_parquet(path)
    with pytest.raises(ConfigError, match="'x'"):
        rows(path)
    with pytest.raises(FormatError, match="not a Parquet file"):
        rows(path, b"PAR1 but broken")


def test_parquet_without_pyarrow_names_the_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ConfigError) as caught:
        rows(tmp_path / "a.parquet", b"PAR1")
    assert 'pip install "glassgpt[parquet]"' in caught.value.line()


def test_text_by_file_paragraph_and_line(tmp_path):
    path = tmp_path / "a.md"
    path.write_bytes("# 标题\r\n\r\n第一段\r\n第二行\r\n\u3000\r\n\r\nlast".encode("gb18030"))
    assert [(r.number, r.texts[0]) for r in rows(path)[0]] == [(1, "# 标题"), (3, "第一段\n第二行"), (7, "last")]
    lines = rows(path, text_unit="line")[0]
    assert [(r.number, r.texts[0]) for r in lines] == [(1, "# 标题"), (3, "第一段"), (4, "第二行"), (7, "last")]
    assert texts(rows(path, text_unit="file")[0]) == [["# 标题\n\n第一段\n第二行\n\u3000\n\nlast"]]
    with pytest.raises(ConfigError, match="text_unit"):
        read_rows(path, text_unit="word")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="empty"):
        rows(tmp_path / "b.txt", " \n\n")


def test_broken_bytes_in_a_text_are_told_with_their_line(tmp_path):
    found, problems, _ = rows(tmp_path / "a.txt", "好的\n谢谢\n".encode() * 5 + b"bad \xff\xfe\n", text_unit="line")
    assert len(found) == 10
    assert [(p.number, p.text) for p in problems] == [(11, "bad \\xff\\xfe")]


def test_the_user_may_name_the_encoding(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("谢谢.".encode("gbk"))  # these bytes are UTF-8 too
    assert texts(rows(path)[0]) == [["лл."]]
    assert texts(rows(path, encoding="gbk")[0]) == [["谢谢."]]


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


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("instruct/chatterbot_chinese.jsonl", 467),
        ("instruct/chatterbot_english.jsonl", 2026),
        ("instruct/chatterbot_traditionalchinese.jsonl", 456),
        ("instruct/crosswoz_val_chat_zh.jsonl", 400),
        ("instruct/dolly_fixture.json", 12),
        ("instruct/dolly_sample_151.jsonl", 151),
        ("instruct/glaive_toolcall_en_demo.json", 300),
        ("instruct/glaive_toolcall_zh_demo.json", 300),
        ("instruct/identity_en_zh.json", 91),
        ("instruct/kdconv_travel_dev_zh.jsonl", 150),
        ("instruct/llms_from_scratch_instruction_1100.json", 1100),
        ("instruct/medical_sft_1k_zh.jsonl", 1000),
        ("instruct/zh_baseline_企业管理问题.json", 13),
        ("instruct/zh_baseline_传统诗词及文化常识问题.json", 31),
        ("instruct/zh_baseline_名词解释类问题.json", 152),
        ("instruct/zh_baseline_建议类问题.json", 23),
        ("instruct/zh_baseline_情绪心理类问题.json", 26),
        ("instruct/zh_baseline_整数加减法.json", 500),
        ("instruct/zh_baseline_饮食问题.json", 9),
        ("preference/dpo_en_demo_300.json.gz", 300),
        ("preference/dpo_zh_demo_300.json", 300),
        ("preference/llms_from_scratch_pref_1100.json", 1100),
        ("preference/toolcall_dpo_zh_demo.jsonl", 11),
        ("pretrain_en/c4_demo.jsonl", 300),
        ("pretrain_zh/xiehouyu.json", 14032),
        *((f"pretrain_zh/chinese_poetry/{name}.json", count) for name, count in (
            ("ci.song.0", 1000), ("ci.song.1000", 1000), ("daxue", 1), ("mengzi", 14), ("nantang_poetrys", 45),
            ("poet.tang.0", 1000), ("poet.tang.1000", 1000), ("songci300", 280), ("tang300", 366),
            ("youmengying", 219), ("zhongyong", 1), ("曹操诗集_caocao", 26), ("楚辞_chuci", 65),
            ("纳兰性德_纳兰性德诗集", 258), ("蒙学_baijiaxing", 1), ("蒙学_qianziwen", 1), ("蒙学_sanzijing-new", 1),
            ("蒙学_sanzijing-traditional", 1), ("蒙学_zhuzijiaxun", 1), ("论语_lunyu", 20), ("诗经_shijing", 305),
        )),
    ],
)  # fmt: skip
def test_published_data_sets_are_read_whole(shared_data, name: str, count: int):
    found, problems, _ = rows(shared_data / name)
    assert (len(found), problems) == (count, [])
    assert any(text.strip() for row in found for text in row.texts)


def test_banking_questions(shared_data):
    """10,016 lines below the header; the csv module counts the records, some of which span lines."""
    import csv

    path = shared_data / "instruct/banking77_train.csv"
    with path.open(encoding="utf-8", newline="") as file:
        truth = [record[0] for record in csv.reader(file)][1:]
    assert [row.texts[0] for row in rows(path)[0]] == truth


def test_thumbs_down_is_not_learnt(shared_data):
    """Every record is either a row or told: bad answers must not be imitated."""
    with gzip.open(shared_data / "preference/kto_en_demo_300.json.gz", "rt", encoding="utf-8") as file:
        labels = [record["label"] for record in json.load(file)]
    found, problems, _ = rows(shared_data / "preference/kto_en_demo_300.json.gz")
    assert [row.number for row in found] == [i for i, good in enumerate(labels, 1) if good]
    assert [p.number for p in problems] == [i for i, good in enumerate(labels, 1) if not good]


REFUSED = [
    *(f"dirty_csv/ftfy/{name}.json" for name in ("known-failures", "negative", "synthetic")),
    "dirty_csv/derived_dirty/dirty_qa_a_truth.jsonl",
    *("instruct/clinc150_small.json.gz", "instruct/self_instruct_seed_tasks.jsonl"),
]


@pytest.mark.parametrize("name", REFUSED)
def test_unknown_shapes_are_refused_with_their_columns(shared_data, name: str):
    with pytest.raises(ConfigError, match="none of the columns of"):
        rows(shared_data / name)


def test_books_of_nested_chapters_are_told(shared_data):
    for name in ("dizigui", "guwenguanzhi", "qianjiashi", "shenglvqimeng", "tangshisanbaishou", "wenzimengqiu"):
        found, problems, _ = rows(shared_data / f"pretrain_zh/chinese_poetry/蒙学_{name}.json")
        assert (found, len(problems)) == ([], 1)


def test_every_dirty_file_is_read_or_refused_with_a_reason(shared_data):
    """No file ends in any other exception, and none without rows goes unexplained."""
    from glassgpt.core.errors import GlassError

    for path in sorted(p for p in (shared_data / "dirty_csv").rglob("*") if p.is_file()):
        try:
            found, _, about = rows(path)
        except GlassError as error:
            assert error.hint(), path
            assert path.name in str(error), path
        else:
            assert found, path
            assert about.encoding, path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".json", ".txt", ".parquet", ".csv.gz"])
@settings(deadline=None, max_examples=40)
@given(raw=st.one_of(st.binary(max_size=200), st.text(max_size=80).map(str.encode), st.text(max_size=40).map(csvish)))
def test_whatever_stands_in_a_file_only_our_errors_come_out(tmp_path_factory, suffix: str, raw: bytes):
    from glassgpt.core.errors import GlassError

    path = tmp_path_factory.mktemp("t") / f"a{suffix}"
    path.write_bytes(gzip.compress(raw) if suffix.endswith(".gz") else raw)
    try:
        for row in read_rows(path):
            assert all(text.encode("utf-8") is not None for text in row.texts)
    except GlassError as error:
        assert error.line("zh")
