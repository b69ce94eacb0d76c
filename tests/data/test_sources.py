"""Files of every kind become rows; what was written is what is read, and what is not read is told."""

from __future__ import annotations

import gzip
import json
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reading import LONG, PAIR, csvish, jsonl, rows, texts

from glassgpt.core.errors import ConfigError, FormatError, InputError
from glassgpt.data.rows import Row
from glassgpt.data.sources import read_rows


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
