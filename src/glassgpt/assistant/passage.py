"""A piece of what the user knows, as it stands in a file."""

from __future__ import annotations

from dataclasses import dataclass


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
