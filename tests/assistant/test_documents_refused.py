"""Files and folders as documents: what is refused, what is left out, and that both are told."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glassgpt.assistant import documents, outline
from glassgpt.assistant.documents import checked_name, read_document, read_documents
from glassgpt.assistant.passage import Document
from glassgpt.core.errors import FormatError, GlassError, InputError, NotFoundError

FAQ = "question,answer\nHow do I return it?,Within 30 days.\n怎么退货？,三十天内可以退。\n"


def read(folder: Path, name: str, content: str | bytes) -> Document:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_document(path)


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.csv"])
@pytest.mark.parametrize("content", [os.urandom(5000), b"%PDF-1.4 ...", b"PK\x03\x04 zip", b"\x7fELF" + bytes(100)])
def test_what_is_no_text_is_refused_whatever_its_name(tmp_path, name, content):
    with pytest.raises(FormatError):
        read(tmp_path, name, content)


@pytest.mark.parametrize("suffix", sorted(documents.KINDS))
def test_an_empty_file_is_told(tmp_path, suffix):
    with pytest.raises(InputError, match="is empty"):
        read(tmp_path, f"a{suffix}", b"")


@pytest.mark.parametrize("name", ["a.txt", "a.md"])
def test_a_file_of_blanks_is_told(tmp_path, name):
    with pytest.raises(InputError, match="is empty"):
        read(tmp_path, name, b" \n\t\n")


def test_a_file_that_is_too_large_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "MAX_BYTES", 1 << 20)
    with pytest.raises(FormatError, match="is larger than 1 MB"):
        read(tmp_path, "a.txt", b"a " * (1 << 20))


def test_a_file_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("glassgpt.assistant.documents_text.MAX_CHARACTERS", 100_000)
    for name, text in (("a.txt", "word " * 40_000), ("a.csv", "question,answer\n" + "a?,b\n" * 40_000),
                       ("a.jsonl", '{"question": "a", "answer": "b"}\n' * 60_000)):  # fmt: skip
        with pytest.raises(FormatError, match="holds more than 100,000 characters"):
            read(tmp_path, name, gzip.compress(text.encode()))


def test_too_many_passages_are_refused_and_none_is_dropped(tmp_path, monkeypatch):
    monkeypatch.setattr(outline, "MAX_PASSAGES", 10)
    with pytest.raises(FormatError, match="more than 10 passages"):
        read(tmp_path, "a.csv", "question,answer\n" + "a?,b\n" * 11)


def test_a_table_in_one_endless_line_is_refused(tmp_path):
    with pytest.raises(FormatError, match="has a line of more than"):
        read(tmp_path, "a.csv", b"question,answer\na?," + b"b" * (17 << 20))


@pytest.mark.parametrize("name", ["a.xlsx", "a.exe", "a", "a.csv.gz"])
def test_other_kinds_are_refused_with_the_kinds_that_are_read(tmp_path, name):
    with pytest.raises(FormatError, match="of a kind that is not read") as caught:
        read(tmp_path, name, b"hello")
    assert ".docx" in caught.value.hint() and ".docx" in caught.value.hint("zh")


@pytest.mark.parametrize(
    "name", ["../a.csv", "a/../../b.csv", "/etc/a.csv", "..\\a.csv", "C:\\a.csv", "a\nb.csv", "", "."]
)
def test_a_name_that_leads_elsewhere_is_refused(name):
    with pytest.raises(InputError):
        checked_name(name)
    assert checked_name("faq/常见 问题.v1..csv") == "faq/常见 问题.v1..csv"


def test_nothing_there_and_what_may_be_meant_is_told(tmp_path):
    (tmp_path / "faq.csv").write_text(FAQ, encoding="utf-8")
    with pytest.raises(NotFoundError) as caught:
        read_documents(tmp_path / "fag.csv")
    assert "faq.csv" in caught.value.hint()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.csv")
    with pytest.raises(FormatError, match="neither a file nor a folder"):
        read_documents(tmp_path / "a.csv")


# Folders


@pytest.mark.skipif(os.name == "nt", reason="links need a right of their own there")
def test_a_folder_is_read_in_order_and_what_is_left_out_is_told(tmp_path):
    home, away = tmp_path / "home", tmp_path / "away"
    (home / "b").mkdir(parents=True)
    away.mkdir()
    (away / "secret.txt").write_text("secret", encoding="utf-8")
    (home / "b" / "z.md").write_text("# Z\n\ntext", encoding="utf-8")
    (home / "a.csv").write_text(FAQ, encoding="utf-8")
    (home / "c.txt").write_text("text", encoding="utf-8")
    (home / "empty.txt").write_bytes(b"")
    (home / "song.mp3").write_bytes(b"x")
    (home / ".hidden.txt").write_text("x", encoding="utf-8")
    (home / "out.txt").symlink_to(away / "secret.txt")
    (home / "folder").symlink_to(away)
    (home / "in.txt").symlink_to(home / "c.txt")
    (home / "dead.txt").symlink_to(home / "nothing")
    found = read_documents(home)
    assert [d.source for d in found] == ["a.csv", "b/z.md", "c.txt", "in.txt"]
    assert "secret" not in "".join(p.text for d in found for p in d.passages)
    assert found.notes == [
        "files of kinds that are not read: 1 (.mp3 1)",
        "links to folders or out of the folder, not followed: 2",
        "names that begin with a full stop, left out: 1",
        "no files, or links to nothing, left out: 1",
        "empty.txt was not read: empty.txt is empty",
    ]


def test_a_folder_without_files_is_an_error(tmp_path):
    with pytest.raises(InputError, match="holds no file that can be read"):
        read_documents(tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="names there are always text")
def test_a_name_of_bytes_that_are_no_text_is_written_out(tmp_path):
    try:
        (tmp_path / os.fsdecode(b"a\xff\n.txt")).write_text("text", encoding="utf-8")
    except OSError:
        pytest.skip("the disk takes no such name")
    assert read_documents(tmp_path)[0].source == "a\\xff\\n.txt"


@settings(max_examples=150, deadline=10_000)
@given(content=st.binary(max_size=400), suffix=st.sampled_from([".csv", ".tsv", ".md", ".txt", ".json", ".jsonl"]))
def test_any_bytes_give_passages_or_a_named_error(tmp_path_factory, content, suffix):
    path = tmp_path_factory.mktemp("f") / f"a{suffix}"
    path.write_bytes(content)
    try:
        found = read_document(path)
    except GlassError as error:
        assert "\n" not in error.line("zh")
        return
    for passage in found.passages:
        assert passage.text.strip()
        passage.text.encode()  # no halves of characters
