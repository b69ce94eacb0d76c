"""Tables of every dialect; the truth is what was written, Python's csv module, or a file's own expected records."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from glassgpt.core.errors import FormatError, InputError
from glassgpt.data import reading, tables
from glassgpt.data.tables import read_table


def table(tmp_path: Path, text: str, name: str = "a.csv") -> tuple[list[str], list[list[str]], list[str]]:
    """The header, the records, and the texts of what could not be read."""
    path = tmp_path / name
    path.write_bytes(text.encode())
    troubles: list[tables.Trouble] = []
    header, records = read_table(path, troubles=troubles.append)
    return header, list(records), [t.text for t in troubles]


cells = st.text(
    st.characters(codec="utf-8", exclude_characters="\\", exclude_categories=["Cs", "Cc"], include_characters="\t\n"),
    max_size=12,
)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
@settings(deadline=None, max_examples=25)
@given(records=st.lists(st.lists(cells, min_size=3, max_size=3), min_size=1, max_size=6))
@example(records=[["", "", "''"]])
def test_what_csv_writes_is_read_back(tmp_path_factory, delimiter: str, end: str, records: list[list[str]]):
    # A table whose cells stand in single quotes is one that is quoted so.
    assume(not any(re.fullmatch("'.+'", cell) for record in records for cell in record))
    records = [[cell.replace("\n", end) for cell in record] for record in records]
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator=end).writerows([["category", "question", "answer"], *records])
    header, found, troubles = table(tmp_path_factory.mktemp("t"), out.getvalue())
    assert (header, found, troubles) == (["category", "question", "answer"], records, [])


@pytest.mark.parametrize("block", [16, 100, 1000])
@settings(deadline=None, max_examples=30)
@given(records=st.lists(st.lists(cells, min_size=2, max_size=2), min_size=1, max_size=30))
def test_where_blocks_end_changes_nothing(tmp_path_factory, block: int, records: list[list[str]]):
    out = io.StringIO()
    csv.writer(out).writerows([["question", "answer"], *records])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "BLOCK", block)
        patch.setattr(tables, "SAMPLE_LINES", 1)
        assert table(tmp_path_factory.mktemp("t"), out.getvalue()) == (["question", "answer"], records, [])


def test_pandas_and_csv_read_the_same(tmp_path, monkeypatch):
    """The same records with and without the block reader of pandas."""
    text = "question,answer\n" + "".join(f"q{i} 你好 NA,{'null' if i % 3 else ''}\n \n" for i in range(3000))
    fast = table(tmp_path, text)
    monkeypatch.setattr(tables.Table, "_by_pandas", lambda *_: None)
    assert table(tmp_path, text) == fast
    assert fast[1][:2] == [["q0 你好 NA", ""], ["q1 你好 NA", "null"]]
    assert len(fast[1]) == 3000


@pytest.mark.parametrize("rows_before", [0, 1, 3])
def test_uneven_records_are_told_wherever_they_stand(tmp_path, rows_before: int):
    """One cell too few and one too many in the same block: their delimiters add up to those of even records."""
    text = "question,answer\n" + "a,b\n" * rows_before + "c,d,e\n" + "f\n" + "g,h\n"
    _, records, troubles = table(tmp_path, text)
    assert records == [["a", "b"]] * rows_before + [["g", "h"]]
    assert troubles == ["c,d,e", "f"]
    _, records, troubles = table(tmp_path, "question,answer\n" + "a,b\n" * rows_before + "c,d,\nf\ng,h\n")
    assert records == [["a", "b"]] * rows_before + [["c", "d"], ["g", "h"]]
    assert troubles == ["f"]


def test_a_quote_never_closed_costs_only_its_own_line(tmp_path):
    good = "".join(f'{i},"question {i}, with a comma","answer\n{i}"\n' for i in range(50))
    _, truth, none = table(tmp_path, "id,question,answer\n" + good)
    assert (len(truth), none) == (50, [])
    for broken in ('x,"never closed,answer', 'x,"never "closed,answer', 'x,"never closed, it has five,cells,answer'):
        for where in (0, 20, 50):
            lines = [f'{i},"question {i}, with a comma","answer\n{i}"\n' for i in range(50)]
            lines.insert(where, broken + "\n")
            _, records, troubles = table(tmp_path, "id,question,answer\n" + "".join(lines))
            assert [r for r in records if r[0] != "x"] == truth
            assert troubles == ([broken] if broken.count(",") > 2 else [])
            assert [r for r in records if r[0] == "x"] == ([] if troubles else [broken.split(",")])


def test_many_broken_quotes_stay_fast(tmp_path):
    text = "question,answer\n" + 'say "" it,"and never close\n' * 20_000
    _, records, troubles = table(tmp_path, text)
    assert len(records) + len(troubles) == 20_000


@pytest.mark.parametrize(
    ("text", "header", "records"),
    [
        ("\ufeff ID ,Question ,answer,\r\n1,a,b,\r\n2,c,d\r\n", ["ID", "Question", "answer", ""], 2),
        ('date, question, answer\n2011, a, b\n2012, "c, d", e\n', ["date", "question", "answer"], 2),
        ("'question','answer'\n'a, b','c'\n'd','e, f'\n", ["question", "answer"], 2),
        ('question,answer\n"say \\"hi\\", please",hi\n"a","b"\n', ["question", "answer"], 2),
        ("question\tanswer\nhello, you\thi, you\nbye, now\tbye, then\n", ["question", "answer"], 2),
        ("A title of this table\n\nquestion;answer\na;b\nc;d\ne;f\n", ["question", "answer"], 3),
        ("text\nHello, you\nGood morning, all\n", ["text"], 2),
        ("a,b,c\n1,2,3\n", ["a", "b", "c"], 1),
        ("你好吗？,我很好。\n再见！,再见。\n", ["1", "2"], 2),
        ("只有一句话\n又一句话\n", ["1"], 2),
    ],
)
def test_dialects_and_headers(tmp_path, text: str, header: list[str], records: int):
    found, rows, _ = table(tmp_path, text)
    assert (found, len(rows)) == (header, records)
    assert {len(row) for row in rows} == {len(header)}


def test_zero_characters_do_not_cut_a_cell(tmp_path):
    assert table(tmp_path, "question,answer\na\0bc,d\ne,f\n")[1] == [["abc", "d"], ["e", "f"]]


@pytest.mark.parametrize("text", ["", "\n\n", " \r\n\t\r\n", "\ufeff"])
def test_nothing_is_refused_as_empty(tmp_path, text: str):
    with pytest.raises(InputError, match="empty"):
        table(tmp_path, text)


def test_limits_are_named(tmp_path, monkeypatch):
    with pytest.raises(FormatError, match="10001 columns; a table may have 10000"):
        table(tmp_path, ",".join("a" * 10_001) + "\n")
    monkeypatch.setattr(reading, "MAX_LINE", 1000)
    with pytest.raises(FormatError, match="a line of more than 1000 characters"):
        table(tmp_path, "question,answer\n" + "x" * 2000 + "\n")
    monkeypatch.undo()
    monkeypatch.setattr(reading, "_RATIO_FROM", 1 << 20)
    bomb = tmp_path / "bomb.csv.gz"
    bomb.write_bytes(gzip.compress(b"question,answer\n" + b"a,b\n" * 2_000_000))
    with pytest.raises(FormatError, match="more than 200 times its size"):
        read_table(bomb)


def test_a_damaged_archive_is_told(tmp_path):
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"question,answer\n" + bytes(range(48, 120)) * 99)[:-20])
    with pytest.raises(FormatError, match="cannot be unpacked"):
        read_table(path)


def test_without_a_listener_a_trouble_stops_the_reading(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("question,answer\na,b\nc\n")
    _, records = read_table(path)
    with pytest.raises(FormatError, match=r"record 2 of a\.csv could not be read: it has 1 cells"):
        list(records)


# What is known of the files in ../shared/data/dirty_csv.


def by_csv(path: Path, encoding: str, **settings) -> list[list[str]]:
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [record for record in csv.reader(io.StringIO(raw.decode(encoding), newline=""), **settings) if record]


REAL = {  # (encoding, settings of the csv module); the header's cells are stripped of padding
    "BL-Flickr-Images-Book.csv.gz": ("utf-8", {}),
    "clevercsv/airedale.csv": ("utf-8", {}),
    "clevercsv/imdb.csv": ("utf-8", {"escapechar": "\\"}),
    "clevercsv/milk.csv": ("utf-8", {"delimiter": "\t"}),
    "derived_dirty/dirty_qa_a.csv": ("utf-8-sig", {}),
    "derived_encodings/qa_zh_gbk.csv": ("gbk", {}),
    "derived_encodings/qa_zh_utf16.csv": ("utf-16", {}),
    "derived_encodings/qa_zh_utf8_expected.csv": ("utf-8", {}),
    "derived_encodings/qa_zh_utf8sig.csv": ("utf-8-sig", {}),
    "messytables/begrotingsanalyse-2011.csv": ("utf-8", {}),
    "messytables/characters.csv": ("cp950", {}),
    "messytables/complex.csv": ("utf-8", {"skipinitialspace": True}),
    "messytables/example.tsv": ("utf-8", {"delimiter": "\t"}),
    "messytables/excel_pasting.csv": ("utf-8", {}),
    "messytables/long.csv": ("utf-8", {}),
    "messytables/mixedGLB.csv": ("utf-8", {}),
    "messytables/null.csv": ("utf-8", {}),
    "messytables/simple.psv": ("utf-8", {"delimiter": "|"}),
    "messytables/simple.ssv": ("utf-8", {"delimiter": ";"}),
    "messytables/skip_initials.csv": ("utf-8", {}),
    "messytables/utf-16le_encoded.csv": ("utf-16", {}),
    "messytables/utf8bom.csv": ("utf-8-sig", {}),
    "olympics.csv": ("utf-8", {}),
    "pandas/airline.csv": ("utf-8", {}),
    "pandas/banklist.csv": ("utf-8", {}),
    "pandas/salaries.csv": ("utf-8", {"delimiter": "\t"}),
    "pandas/salaries.csv.gz": ("utf-8", {"delimiter": "\t"}),
    "pandas/sauron.SHIFT_JIS.csv": ("shift_jis", {}),
    "pandas/tips.csv": ("utf-8", {}),
    "pandas/unicode_series.csv": ("latin-1", {}),
    "pandas/utf16_ex.txt": ("utf-16", {"delimiter": "\t"}),
    "raha/beers_clean.csv": ("utf-8", {}),
    "raha/beers_dirty.csv": ("utf-8", {}),
    "raha/hospital_clean.csv": ("utf-8", {}),
    "raha/hospital_dirty.csv": ("utf-8", {}),
}


@pytest.mark.parametrize("name", REAL)
def test_real_tables_are_read_as_the_csv_module_reads_them_when_told_how(shared_data, name: str):
    encoding, told = REAL[name]
    truth = by_csv(shared_data / "dirty_csv" / name, encoding, **told)
    troubles: list[tables.Trouble] = []
    header, records = read_table(shared_data / "dirty_csv" / name, troubles=troubles.append)
    found = list(records)
    if header[0] != "1":
        found.insert(0, header)
        truth[0] = [cell.strip() for cell in truth[0]]
    assert found == truth
    assert troubles == []


@pytest.mark.parametrize(
    "name",
    [
        *("comma_in_quotes", "empty", "empty_crlf", "escaped_quotes", "json", "newlines", "newlines_crlf"),
        *("quotes_and_newlines", "simple", "simple_crlf", "utf8"),
    ],
)
def test_csv_spectrum_gives_its_expected_records(shared_data, name: str):
    folder = shared_data / "dirty_csv" / "csv_spectrum"
    header, records = read_table(folder / "csvs" / f"{name}.csv")
    expected = json.loads((folder / "json" / f"{name}.json").read_text(encoding="utf-8"))
    if name == "newlines_crlf":  # the copy of the table at hand has lost its carriage returns
        expected = json.loads(json.dumps(expected).replace("\\r\\n", "\\n"))
    assert [dict(zip(header, record, strict=True)) for record in records] == expected


def test_csv_spectrum_coordinates(shared_data):
    """Its expected record has another number, so the table is compared with what stands in it."""
    header, records = read_table(shared_data / "dirty_csv/csv_spectrum/csvs/location_coordinates.csv")
    assert header == ["Contact Phone Number", "Location Coordinates", "Cities", "Counties"]
    assert list(records) == [["2095257564", "37\ufffd36'37.8\"N 121\ufffd2'17.9\"W", "Modesto", "Stanislaus"]]


def test_a_table_without_a_name_for_its_first_column(shared_data):
    """As R writes it: pandas takes the first column for names of the rows."""
    import pandas as pd

    path = shared_data / "dirty_csv/pandas/test2.csv"
    frame = pd.read_csv(path, dtype=str)
    header, records = read_table(path)
    assert header == ["", *frame.columns]
    assert list(records) == [[name, *row] for name, row in zip(frame.index, frame.values.tolist(), strict=True)]


def test_what_stands_around_a_table_is_told(shared_data):
    path = shared_data / "dirty_csv/messytables/weird_head_padding.csv"
    troubles: list[tables.Trouble] = []
    _, records = read_table(path, troubles=troubles.append)
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip('" ')]
    assert len(list(records)) + len(troubles) == len(lines)
    assert all(t.text.strip() and t.text.count(";") != 10 for t in troubles)


def test_the_broken_quote_costs_nothing_else(shared_data):
    folder = shared_data / "dirty_csv/derived_dirty"
    clean = list(read_table(folder / "dirty_qa_a.csv")[1])
    broken = list(read_table(folder / "dirty_qa_a_brokenquote.csv")[1])
    assert broken[:-1] == clean
    assert broken[-1] == ["bad1", '"unterminated quote in question', "some answer", ""]
    truth = [json.loads(t)["id"] for t in (folder / "dirty_qa_a_truth.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [record[0] for record in clean] == truth


def test_chinese_is_the_same_from_every_encoding(shared_data):
    folder = shared_data / "dirty_csv/derived_encodings"
    expected = list(read_table(folder / "qa_zh_utf8_expected.csv")[1])
    assert len(expected) == 467
    for name in ("qa_zh_gbk", "qa_zh_utf16", "qa_zh_utf8sig"):
        assert list(read_table(folder / f"{name}.csv")[1]) == expected
