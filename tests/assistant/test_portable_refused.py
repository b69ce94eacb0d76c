"""Files that hold no conversations, or hold them to do harm, are refused in one line and leave everything as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from portable_records import packed, record, write

from glassgpt.assistant import portable_files
from glassgpt.assistant.portable import import_file
from glassgpt.assistant.store import Store
from glassgpt.core.errors import FormatError, GlassError, NotFoundError


def refused(store: Store, path: Path, says: str) -> None:
    with pytest.raises(FormatError, match=says) as error:
        import_file(store, path)
    line = error.value.line("en") + error.value.line("zh")
    assert "\n" not in line and error.value.hint()
    assert store.conversations().conversations == ()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is not valid JSON"),
        (b"\xff\xfe{}", "is not UTF-8"),
        (b"{", "is not valid JSON"),
        (b"[" * 100_000, "is not valid JSON"),
        (b'{"a":' * 100_000, "is not valid JSON"),
        (b"[" + b"9" * 5000 + b"]", "is not valid JSON"),
        (b"{}", "holds no conversations that are known"),
        (b"[1, 2]", "holds no conversations that are known"),
        (b'{"format": "glassgpt-conversations", "version": 2}', "is of version 2; this glassgpt knows 1"),
        (b'{"format": "glassgpt-conversations", "version": 1, "conversations": {}}', "is of version 1"),
        (b"PK\x03\x04 no zip", "is a damaged zip"),
    ],
)
def test_a_file_that_holds_no_conversations_is_refused_in_one_line(kept, tmp_path, content, says):
    (tmp_path / "x.json").write_bytes(content)
    refused(kept, tmp_path / "x.json", says)


def test_deep_nesting_inside_a_conversation_is_refused_and_can_never_be_unreadable(kept, tmp_path):
    """What was parsed with much room on the stack must be readable with little."""
    deep: Any = []
    for _ in range(400):
        deep = [deep]
    messages = record()["messages"]
    messages[0]["extras"] = {"a": deep}
    imported = import_file(kept, write(tmp_path / "x.json", record(messages=messages)))
    assert imported.conversations == [] and "is not JSON" in str(imported.problems[0][1])


def test_a_file_that_is_not_there_is_said_to_be(kept, tmp_path):
    with pytest.raises(NotFoundError, match="there is no file"):
        import_file(kept, tmp_path / "no.json")
    with pytest.raises(NotFoundError, match="there is no file"):
        import_file(kept, tmp_path)


def test_huge_files_are_refused_before_they_take_memory(kept, tmp_path, monkeypatch):
    monkeypatch.setattr(portable_files, "MAX_FILE", 1 << 20)
    (tmp_path / "x.json").write_bytes(b" " * ((1 << 20) + 1))
    refused(kept, tmp_path / "x.json", "is larger than 1 MB")
    (tmp_path / "x.md").write_bytes(b" " * ((1 << 20) + 1))
    refused(kept, tmp_path / "x.md", "is larger than 1 MB")
    monkeypatch.setattr(portable_files, "_MAX_MARKS", 1000)
    (tmp_path / "many.json").write_bytes(b"[" + b"[]," * 1000 + b"[]]")
    refused(kept, tmp_path / "many.json", "holds more values than can be read")


def test_zip_bombs_are_refused_by_what_they_say_and_by_what_they_do(kept, tmp_path, monkeypatch):
    bomb = packed(tmp_path / "bomb.zip", {"conversations.json": b" " * (40 << 20)})
    assert bomb.stat().st_size < 1 << 20
    refused(kept, bomb, "is larger than 256 MB unpacked")
    # The same, and both of its directories say that it is small.
    content = bomb.read_bytes()
    true, said = (40 << 20).to_bytes(4, "little"), (1 << 19).to_bytes(4, "little")
    assert content.count(true) == 2
    liar = tmp_path / "liar.zip"
    liar.write_bytes(content.replace(true, said))
    refused(kept, liar, "is a damaged zip|is not valid JSON")
    monkeypatch.setattr(portable_files, "MAX_FILE", 3000)
    parts = packed(
        tmp_path / "parts.zip", {f"conversations-{i}.json": b'[{"mapping": {}}]' + b" " * 1000 for i in range(4)}
    )
    refused(kept, parts, "is larger than")
    monkeypatch.setattr(portable_files, "MAX_ENTRIES", 3)
    refused(kept, parts, "is larger than")


def test_an_encrypted_zip_is_refused(kept, tmp_path):
    content = bytearray(packed(tmp_path / "x.zip", {"conversations.json": b"[]"}).read_bytes())
    content[6] |= 1  # the flag in the file's own header, and in the directory's
    content[content.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "x.zip").write_bytes(content)
    refused(kept, tmp_path / "x.zip", "is encrypted; only plain zips are read")


def test_a_zip_without_conversations_or_with_a_damaged_one_is_refused(kept, tmp_path):
    refused(kept, packed(tmp_path / "a.zip", {"chat.html": b"<script>alert(1)</script>"}), "holds no conversations")
    path = packed(tmp_path / "b.zip", {"conversations.json": json.dumps([{"mapping": {}}] * 50).encode()})
    content = bytearray(path.read_bytes())
    content[45:50] = b"XXXXX"
    path.write_bytes(content)
    refused(kept, path, "is a damaged zip")
    content[8] = content[content.index(b"PK\x01\x02") + 10] = 99  # a way of packing that nobody knows
    path.write_bytes(content)
    refused(kept, path, "is a damaged zip")


def test_names_that_lead_out_of_a_zip_lead_nowhere(kept, tmp_path):
    folder = tmp_path / "in" / "here"
    folder.mkdir(parents=True)
    names = ("../conversations.json", "/etc/conversations.json", "..\\..\\conversations-1.json", "../../evil.txt")
    path = packed(folder / "x.zip", {name: json.dumps([{"mapping": {}}]).encode() for name in names})
    before = sorted(p for p in tmp_path.rglob("*"))
    imported = import_file(kept, path)
    assert len(imported.problems) == 3 and sorted(p for p in tmp_path.rglob("*")) == before


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_a_damaged_file_is_never_more_than_an_error_of_ours(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("d")
    ours = json.dumps({"format": "glassgpt-conversations", "version": 1, "conversations": [record()]}).encode()
    kind = data.draw(st.sampled_from(["json", "zip", "md"]))
    content = ours if kind == "json" else b"# t\n\n<!-- glassgpt: user 1.0 -->\n## User\n\nhello\n"
    if kind == "zip":
        content = packed(
            folder / "x.zip", {"conversations.json": b'[{"mapping": {"a": {"message": null}}}]' * 3}
        ).read_bytes()
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path = folder / f"x.{kind}"
    path.write_bytes(damaged[: data.draw(st.integers(0, len(damaged)))] if data.draw(st.booleans()) else damaged)
    with Store(folder / "x.db") as store:
        try:
            import_file(store, path)
        except GlassError as error:
            assert "\n" not in error.line()
