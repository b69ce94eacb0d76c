"""The files of the page's assistants: those that were dropped in, and those that the server was given."""

from __future__ import annotations

from pathlib import Path

from glassgpt.assistant.knowledge import Knowledge
from glassgpt.assistant.knowledge_files import add_files, open_knowledge
from glassgpt.ui.shelf import Shelf


def row(folder: Path, name: str, question: str, answer: str) -> Path:
    path = folder / name
    path.write_text(f"question,answer\n{question},{answer}\n", encoding="utf-8")
    return path


def shelf(folder: Path, beside: Knowledge | None = None) -> Shelf:
    return Shelf(folder / "knowledge.db", lambda path, fetching: Knowledge(path), beside)


def test_nothing_is_opened_before_there_is_something_to_search(tmp_path: Path):
    one = shelf(tmp_path)
    assert one.search("anything") == [] and one.sources() == []
    assert not one.ready and not (tmp_path / "knowledge.db").exists()


def test_given_files_and_dropped_ones_are_searched_together_the_best_first(tmp_path: Path):
    given = Knowledge()
    add_files(given, [row(tmp_path, "given.csv", "When do you open?", "At nine.")])
    one = shelf(tmp_path, given)
    one.add([row(tmp_path, "dropped.csv", "Do you ship to Norway?", "Yes.")], lambda done, all: None)
    assert one.search("When do you open?")[0].source == "given.csv"
    assert one.search("Do you ship to Norway?")[0].source == "dropped.csv"
    assert [source.name for source in one.sources()] == ["dropped.csv"]
    assert len(one.search("do you open ship", 1)) == 1


def test_what_was_dropped_in_outlives_another_start_with_given_files(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("GLASSGPT_CACHE", str(tmp_path / "cache"))
    file = row(tmp_path, "given.csv", "When do you open?", "At nine.")
    for start in range(2):
        knowledge, _ = open_knowledge([file], None)
        one = shelf(tmp_path, knowledge)
        if not start:
            one.add([row(tmp_path, "dropped.csv", "Do you ship to Norway?", "Yes.")], lambda done, all: None)
        assert one.search("Do you ship to Norway?")[0].source == "dropped.csv"
        one.close()
