"""What is told about the files that were read: a report on each, and each record that could not become a row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from glassgpt.core.words import Sentence
from glassgpt.data.encoding import show_marks

TextUnit = Literal["file", "paragraph", "line"]
_NAMED = 20  # columns that are named to the user
SHOWN = 500  # characters of a problem's text


@dataclass(frozen=True)
class Problem:
    """A record that could not become a row.

    Attributes:
        source: the file's name, as in `Row`.
        number: the record's number, as in `Row`; 0 when it is the whole file, or stands before the first record.
        reason: why, a clause without a final stop.
        text: what stood there, shortened; bytes that are no text as \\xNN.
    """

    source: str
    number: int
    reason: Sentence
    text: str


@dataclass
class SourceReport:
    """What was found in one file. It is complete when the file's last row was given.

    Attributes:
        format: "table", "jsonl", "json", "parquet", "text", "hub", or "skipped" for a file that was not read.
        encoding: as Python names it; "" where the format says it.
        delimiter: of a table; "" for one column.
        columns: {role: column}.
        ignored: columns that are not part of a row.
        rows: how many were given.
        problems: how many records could not become one.
        notes: what was assumed, repaired or skipped.
    """

    name: str
    format: str
    encoding: str = ""
    delimiter: str = ""
    columns: dict[str, str] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    rows: int = 0
    problems: int = 0
    notes: list[Sentence] = field(default_factory=list)

    def sentences(self) -> list[Sentence]:
        """The notes, and what became of the columns."""
        used = ", ".join(f"{role}={column}" for role, column in self.columns.items())
        if not self.ignored:
            return [*self.notes, *([Sentence("columns used: {used}", used=used)] if used else [])]
        ignored = ", ".join(self.ignored[:_NAMED]) + (", …" if len(self.ignored) > _NAMED else "")
        return [*self.notes, Sentence("columns used: {used}; not used: {ignored}", used=used, ignored=ignored)]


@dataclass
class Job:
    """What the readers of one file share."""

    report: SourceReport
    columns: Mapping[str, str]
    text_unit: TextUnit
    tell: Callable[[Problem], None] | None
    encoding: str | None
    advance: Callable[[int], None] | None

    def problem(self, number: int, reason: Sentence, text: str) -> None:
        self.report.problems += 1
        if self.tell:
            shown = text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"
            self.tell(Problem(self.report.name, number, reason, show_marks(shown)))

    def note(self, sentence: Sentence) -> None:
        self.report.notes.append(sentence)
