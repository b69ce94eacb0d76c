"""A piece of what the user knows, as it stands in a file."""

from __future__ import annotations

from dataclasses import dataclass

from glassgpt.core.words import Sentence, say


@dataclass(frozen=True)
class Passage:
    """One row of questions and answers, or one piece of a text.

    - `text`: what it says, word for word.
    - `question`, `answer`: the cells, where it is a row of questions and answers.
    - `place`: where it stands in its file, such as "row 17" or "page 3".
    - `number`: counts from 0 in its file.
    """

    text: str
    question: str | None
    answer: str | None
    place: str
    number: int


# What a place begins with, and what may follow it, as the readers of files write it.
_PLACES = {
    "row": Sentence("row {at}"), "record": Sentence("record {at}"), "page": Sentence("page {at}"),
    "line": Sentence("line {at}"), "lines": Sentence("lines {at}"), "paragraph": Sentence("paragraph {at}"),
    "paragraphs": Sentence("paragraphs {at}"), "section": Sentence("section {at}"),
}  # fmt: skip


def place_text(place: str, language: str) -> str:
    """A passage's place in `language`."""
    kind, _, at = place.partition(" ")
    return say(_PLACES[kind].template, language, at=at) if kind in _PLACES and at else place


class Note(str):
    """Something the user is told about a file: English as a text, and in another language when asked."""

    sentence: Sentence

    def __new__(cls, sentence: Sentence) -> Note:
        note = super().__new__(cls, sentence.text("en"))
        note.sentence = sentence
        return note

    def text(self, language: str) -> str:
        """The note in `language` ("en" or "zh")."""
        return self.sentence.text(language)


@dataclass(frozen=True)
class Document:
    """A file that was read.

    - `source`: its name, relative to the folder that was given.
    - `sha256`: of its bytes, in hex.
    - `passages`: in the order of the file.
    - `notes`: what was assumed, left out or could not be read, with counts; each a `Note`.
    """

    source: str
    sha256: str
    passages: list[Passage]
    notes: list[str]
