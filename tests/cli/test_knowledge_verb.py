"""`glassgpt knowledge`, and `chat` with a persona and files."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from glassgpt.cli.main import main

FAQ = "question,answer\nHow do I return a teapot?,Within 30 days.\n怎么退货？,三十天内可以退。\n"


@pytest.fixture
def faq(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "faq.csv").write_text(FAQ, encoding="utf-8")
    return tmp_path / "faq.csv"


def said(capsys, *words: str) -> str:
    assert main(["knowledge", *words, "--lang", "en"]) == 0
    return capsys.readouterr().out


def test_files_are_added_listed_asked_and_removed(faq, capsys):
    assert said(capsys, "add", "faq.csv", "--words-only") == "faq.csv: 2 passages added\n"
    assert said(capsys, "add", "faq.csv", "--words-only") == "faq.csv: unchanged, 2 passages\n"
    assert said(capsys, "list").startswith("faq.csv: 2 passages, added 20")
    shown = said(capsys, "ask", "怎么退货", "--words-only")
    assert "faq.csv, row 3" in shown and "    三十天内可以退。" in shown
    found = json.loads(said(capsys, "ask", "退货", "--words-only", "--json"))
    assert found["hits"][0]["answer"] == "三十天内可以退。" and found["hits"][0]["place"] == "row 3"
    assert "would say that it does not know" in said(capsys, "ask", "zebra", "--words-only")
    assert said(capsys, "remove", "faq.csv") == "Forgotten: faq.csv\n"
    assert said(capsys, "list") == "The index is empty.\n"


@pytest.mark.parametrize(("words", "problem"), [
    (["list"], "no index knowledge.db"), (["ask", "x", "--words-only"], "no index knowledge.db"),
    (["add", "none.csv", "--words-only"], "no file none.csv"), (["remove", "x"], "no index"),
    (["add", "faq.csv", "--words-only", "--columns", "prompt=nosuch,response=answer"], "nosuch"),
])  # fmt: skip
def test_what_goes_wrong_is_one_line(faq, capsys, words, problem):
    assert main(["knowledge", *words, "--lang", "en"]) == 1
    error = capsys.readouterr().err
    assert problem in error and "Traceback" not in error and len(error.strip().splitlines()) <= 2


def test_a_chat_with_a_persona_and_an_index(faq, tiny, capsys, monkeypatch):
    monkeypatch.setattr("glassgpt.assistant.encoders.load_encoders", lambda **_: None)
    persona = faq.parent / "shop.toml"
    persona.write_text('name = "Shop"\nonly_known = true\ngreeting = "Welcome!"\nknowledge = ["faq.csv"]\n'
                       'handover = { when = ["a person"], say = "Call us." }\n', encoding="utf-8")  # fmt: skip
    monkeypatch.setenv("GLASSGPT_CACHE", str(faq.parent / "cache"))
    begin = ["chat", tiny, "--persona", str(persona), "--lang", "en"]
    assert main([*begin, "--message", "How do I return a teapot?", "--json"]) == 0
    reply = json.loads(capsys.readouterr().out)
    assert (reply["reply"], reply["kind"]) == ("Within 30 days.", "quoted")
    assert reply["sources"][0]["place"] == "row 2"
    monkeypatch.setattr("sys.stdin", io.StringIO("zebra crossing\na person\n/exit\n"))
    assert main(begin) == 0
    out = capsys.readouterr().out
    assert "Welcome!" in out and "I do not know that. Call us." in out and out.count("Call us.") == 2


def test_a_persona_that_is_none_is_one_line(faq, tiny, capsys):
    assert main(["chat", tiny, "--persona", "customer-servis", "--message", "hi", "--lang", "en"]) == 1
    assert "customer-service" in capsys.readouterr().err
