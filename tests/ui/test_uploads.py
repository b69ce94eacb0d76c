"""Files from a browser: their names, their size, and what stands there already."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glassgpt.core.errors import FormatError, InputError
from glassgpt.data.sources import read_rows
from glassgpt.ui.uploads import keep_upload, safe_name, sample_file


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("常见问题.csv", "常见问题.csv"),
        ("茶具 问答（终稿）.CSV", "茶具 问答（终稿）.csv"),
        ("../../etc/passwd.txt", "passwd.txt"),
        ("C:\\Users\\me\\a.tsv", "a.tsv"),
        (".csv", "file.csv"),
        ("...csv", "file.csv"),
        ("con.csv", "_con.csv"),
        ("a\0b\nc.json", "a_b_c.json"),
        ("café.jsonl", "café.jsonl"),
        ("a.csv.gz", "a.csv.gz"),
        ("a:b*?.csv", "a_b__.csv"),
        ("-rf.csv", "-rf.csv"),
    ],
)
def test_a_name_is_kept_as_far_as_it_is_safe(tmp_path, given, kept):
    path = keep_upload(tmp_path, given, b"question,answer\nwhat?,that\n")
    assert path == tmp_path / kept and path.read_bytes().startswith(b"question")


@given(st.text(max_size=300))
def test_every_name_stays_in_the_folder_and_is_its_own_safe_name(name):
    safe = safe_name(name)
    assert safe not in ("", ".", "..") and not set(safe) & set('/\\\0:*?"<>|\n\r\t')
    assert len(safe.encode("utf-8", "surrogatepass")) <= 455 and not safe.startswith(".")
    assert safe_name(safe) == safe


def test_nothing_is_overwritten(tmp_path):
    paths = [keep_upload(tmp_path, "a.csv", [b"one ", str(n).encode()]) for n in range(3)]
    assert [path.name for path in paths] == ["a.csv", "a-2.csv", "a-3.csv"]
    assert [path.read_text() for path in paths] == ["one 0", "one 1", "one 2"]
    (tmp_path / "b.csv").symlink_to(tmp_path / "a.csv")
    assert keep_upload(tmp_path, "b.csv", b"other").name == "b-2.csv" and paths[0].read_text() == "one 0"


def test_what_is_too_large_or_empty_or_of_another_kind_leaves_nothing(tmp_path):
    def endless():
        while True:
            yield b"x" * 1000

    with pytest.raises(InputError, match="larger than 5,000 bytes"):
        keep_upload(tmp_path, "a.csv", endless(), limit=5000)
    assert keep_upload(tmp_path, "a.csv", b"x" * 5000, limit=5000).stat().st_size == 5000
    (tmp_path / "a.csv").unlink()
    with pytest.raises(InputError, match="is empty"):
        keep_upload(tmp_path, "a.csv", [b"", b""])
    for name in ("a.xlsx", "a.exe", "a", "", "csv", "a.gz", "a.csv.exe", "a.pkl"):
        with pytest.raises(FormatError):
            keep_upload(tmp_path, name, b"x")
    assert list(tmp_path.iterdir()) == []


def test_the_sample_can_be_read():
    assert len(list(read_rows(sample_file()))) > 400
