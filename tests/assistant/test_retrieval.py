"""With the real encoders, on questions of customers that are worded differently from the rows: it stays as good as it
was measured (docs/performance.md; `make bench ARGS="retrieval"`)."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from glassgpt.assistant.documents import read_document
from glassgpt.assistant.encoders import load_encoders
from glassgpt.assistant.knowledge import Knowledge
from glassgpt.assistant.search_text import plain

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
SHOP = HERE.parents[1] / "src" / "glassgpt" / "samples" / "shop.csv"


@pytest.fixture(scope="module")
def knowledge(encoders_path) -> Knowledge:
    found = Knowledge(None, load_encoders())
    shop = read_document(SHOP)
    found.add("shop.csv", shop.sha256, shop.passages)
    return found


def questions(name: str, language: str) -> list[dict[str, str]]:
    with (HERE / "questions" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if (row["language"], row["part"]) == (language, "test")]


def squeezed(text: str) -> str:
    return "".join(plain(text).split())


@pytest.mark.parametrize(
    ("language", "first", "three", "declined"), [("en", 0.70, 0.85, 0.08), ("zh", 0.69, 0.87, 0.15)]
)
def test_the_right_row_is_found_as_often_as_was_measured(knowledge, language, first, three, declined):
    asked = questions("shop", language)
    found = [(knowledge.search(row["question"], 3), [squeezed(f) for f in row["fact"].split("|")]) for row in asked]

    def right(hit, facts: list[str]) -> bool:
        return any(fact in squeezed(hit.passage.answer or hit.passage.text) for fact in facts)

    assert sum(right(hits[0], facts) for hits, facts in found) >= first * len(found)
    assert sum(any(right(hit, facts) for hit in hits) for hits, facts in found) >= three * len(found)
    assert sum(not hits[0].known for hits, _ in found) <= declined * len(found)


@pytest.mark.parametrize(("language", "least"), [("en", 0.86), ("zh", 0.94)])
def test_questions_of_another_subject_are_declined_as_often_as_was_measured(knowledge, language, least):
    asked = [row["question"] for row in questions("unanswerable", language) if row["kind"] == "far"]
    assert sum(not knowledge.search(question, 1)[0].known for question in asked) >= least * len(asked)


def test_each_row_of_the_sample_finds_itself_or_one_with_the_same_question(knowledge):
    rows = [p for p in read_document(SHOP).passages if p.question][::7]
    for row in rows:
        (hit, *_) = knowledge.search(row.question)
        assert hit.known and squeezed(hit.passage.question or "") == squeezed(row.question)
