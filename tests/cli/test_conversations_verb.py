"""`chat --store` and `glassgpt conversations`: what is said is kept, found, moved, judged and learned from."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from glassgpt.cli.main import main


@pytest.fixture
def store(tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> Path:
    """One conversation of two turns, the second reply corrected."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO("hello there\n/good\n你好，退货\n/right 三十天内可以退。\n/exit\n"))
    assert main(["chat", tiny, "--store", "c.db", "--max-new-tokens", "6", "--seed", "1", "--lang", "en"]) == 0
    assert capsys.readouterr().out.count("Kept;") == 2
    return tmp_path / "c.db"


def asked(capsys, *words: str) -> object:
    assert main(["conversations", *words, "--store", "c.db", "--lang", "en", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_what_is_said_is_kept_and_found_in_both_languages(store, capsys):
    (one,) = asked(capsys, "list")["conversations"]
    assert one["title"] == "hello there" and one["model"].endswith("tiny")
    shown = asked(capsys, "show", one["id"])
    assert [m["role"] for m in shown["messages"]] == ["user", "assistant"] * 2
    assert shown["messages"][1]["extras"]["tokens"] > 0
    assert asked(capsys, "search", "退货")[0]["conversation"] == one["id"]
    assert (
        asked(capsys, "search", "退貨") and asked(capsys, "search", "HELLO") and asked(capsys, "search", "zebra") == []
    )
    asked(capsys, "rename", one["id"], "茶壶")
    assert asked(capsys, "list")["conversations"][0]["title"] == "茶壶"


def test_a_conversation_goes_on_where_it_was(store, tiny, capsys):
    begin = ["chat", tiny, "--store", "c.db", "--max-new-tokens", "6", "--seed", "1", "--lang", "en"]
    assert main([*begin, "--continue", "last", "--message", "and now?", "--json"]) == 0
    id = json.loads(capsys.readouterr().out)["conversation"]
    (one,) = asked(capsys, "list")["conversations"]
    assert one["id"] == id and len(asked(capsys, "show", id)["messages"]) == 6
    assert main([*begin, "--message", "a new one", "--json"]) == 0
    capsys.readouterr()
    assert len(asked(capsys, "list")["conversations"]) == 2


def test_export_delete_import_brings_everything_back(store, capsys):
    (one,) = asked(capsys, "list")["conversations"]
    before = asked(capsys, "show", one["id"])
    asked(capsys, "export", "all.json")
    asked(capsys, "export", "one.md", "--id", one["id"])
    assert "退货" in (store.parent / "one.md").read_text(encoding="utf-8")
    asked(capsys, "delete", one["id"])
    assert asked(capsys, "list")["conversations"] == [] and "退货".encode() not in store.read_bytes()
    assert asked(capsys, "import", "all.json")["messages"] == 4
    assert asked(capsys, "show", one["id"]) == before
    assert asked(capsys, "import", "all.json")["there_already"] == 1


def test_feedback_becomes_what_build_learns_from(store, capsys):
    told = asked(capsys, "lessons", "lessons")
    assert told["conversations"] == 2 and told["preferences"] == 1 and told["left_out"] == {}
    lines = (store.parent / "lessons" / "conversations.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(lines[-1])["messages"][-1] == {"role": "assistant", "content": "三十天内可以退。"}
    assert main(["doctor", "lessons/conversations.jsonl", "--lang", "en"]) == 0  # build's own reader takes it
    capsys.readouterr()


@pytest.mark.parametrize(("words", "problem"), [
    (["list", "--store", "none.db"], "no database none.db"), (["show", "x"], "no conversation"),
    (["search", ""], "search"), (["export", "c.db"], "exists already"), (["export", "x.md"], "one Markdown file"),
    (["import", "none.json"], "no file"), (["delete", "x"], "no conversation"), (["list", "--limit", "0"], "0"),
])  # fmt: skip
def test_what_goes_wrong_is_one_line(store, capsys, words, problem):
    more = [] if "--store" in words else ["--store", "c.db"]
    assert main(["conversations", *words, *more, "--lang", "en"]) == 1
    error = capsys.readouterr().err
    assert problem in error and "Traceback" not in error


def test_judging_needs_a_store_and_going_on_too(tiny, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("/good\n/exit\n"))
    assert main(["chat", tiny, "--lang", "en"]) == 0
    assert "/good needs --store" in capsys.readouterr().err
    assert main(["chat", tiny, "--continue", "last", "--message", "x", "--lang", "en"]) == 1
    assert "--continue needs --store" in capsys.readouterr().err
