"""What would come of a file: read, cleaned and made into examples as `glassgpt build` does it, and nothing trained."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from glassgpt.core.errors import NotFoundError
from glassgpt.core.words import say
from glassgpt.data.clean import clean, read_kept
from glassgpt.data.clean_report import UNREADABLE, WHAT_IT_DOES, CleanReport, visible
from glassgpt.data.doctor import Report, check
from glassgpt.data.doctor_page import COUNTS, STYLE, coloured
from glassgpt.data.examples import make_example
from glassgpt.data.filters import REPAIRS, CleanSettings
from glassgpt.data.report import Problem, SourceReport
from glassgpt.data.rows import Row
from glassgpt.data.sources import read_rows
from glassgpt.engine.load import load_layout
from glassgpt.text.template import Template, get_template
from glassgpt.text.tokenizer import Tokenizer
from glassgpt.training.usual import ANSWERS, PLAIN, SCRATCH, SCRATCH_CONTEXT, SCRATCH_TEMPLATE, vocabulary

SHOWN = 5  # rows of a kind
CELL = 500  # characters of a text that is shown
EXAMINED = 10_000  # rows that are counted in tokens, which takes some seconds
COLOURED = 6  # rows that are shown token by token


@dataclass(frozen=True)
class Source:
    """How one file was read. `delimiter` is that of a table; `columns` are {role: column}, `notes` sentences."""

    name: str
    format: str
    encoding: str
    delimiter: str
    columns: dict[str, str]
    ignored: list[str]
    notes: list[str]


@dataclass(frozen=True)
class Count:
    """What a filter of the cleaning did: its name, what it looks for in words, and how many rows it changed and
    dropped."""

    filter: str
    words: str
    changed: int
    dropped: int


@dataclass(frozen=True)
class Kept:
    """A clean row: who says what."""

    source: str
    row: int
    turns: list[tuple[str, str]]


@dataclass(frozen=True)
class Changed:
    """An excerpt of a row before and after a repair."""

    source: str
    row: int
    filter: str
    words: str
    before: str
    after: str


@dataclass(frozen=True)
class Dropped:
    """A row that is left out, by which filter, and why."""

    source: str
    row: int
    filter: str
    reason: str
    text: str


@dataclass(frozen=True)
class Preview:
    """What would come of a file, in the language that was asked for.

    Attributes:
        error: one line that says why there is nothing else; empty where there is.
        limited: there are more rows than were looked at.
        lines: the cleaning in a few sentences.
        examined: how many of the clean rows were made into tokens; 0 where the model is not on this machine, and
            `model_note` says so.
        tokens: (what, how many) of these rows: learned, only read, cut off, left out.
        too_long: how many of them make no example.
        faults: how many must not be trained on.
        html: their first, token by token in colours; safe to be put into a page that has `style`.
    """

    error: str = ""
    sources: list[Source] = field(default_factory=list)
    rows_in: int = 0
    kept: int = 0
    changed: int = 0
    unreadable: int = 0
    limited: bool = False
    lines: list[str] = field(default_factory=list)
    counts: list[Count] = field(default_factory=list)
    kept_rows: list[Kept] = field(default_factory=list)
    changed_rows: list[Changed] = field(default_factory=list)
    dropped_rows: list[Dropped] = field(default_factory=list)
    model_note: str = ""
    examined: int = 0
    tokens: list[tuple[str, int]] = field(default_factory=list)
    too_long: int = 0
    faults: int = 0
    html: str = ""
    style: str = STYLE

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Preview:
        """What `dataclasses.asdict` made of one, after a way through JSON."""
        inner: dict[str, Any] = {"sources": Source, "counts": Count, "kept_rows": Kept, "changed_rows": Changed,
                                 "dropped_rows": Dropped}  # fmt: skip
        made: dict[str, Any] = {name: [kind(**one) for one in values.get(name, [])] for name, kind in inner.items()}
        made["kept_rows"] = [
            Kept(one.source, one.row, [(who, text) for who, text in one.turns]) for one in made["kept_rows"]
        ]
        made["tokens"] = [(what, count) for what, count in values.get("tokens", [])]
        return cls(**{**values, **made})


def examine(
    data: Path, base: str, folder: Path, *, columns: Mapping[str, str] | None = None, mask_personal: bool = False,
    language: str = "en", limit_rows: int = 100_000, processes: int = 1,
) -> Preview:  # fmt: skip
    """Look at a file in this process.

    Args:
        folder: for temporary files; the caller deletes it.
        processes: how many clean at the same time.

    Raises:
        GlassError: whatever reading and cleaning refuse.
    """
    problems: list[Problem] = []
    reports: list[SourceReport] = []
    rows = read_rows(data, columns=dict(columns or {}), report=reports, problems=problems.append)
    report = clean(
        islice(rows, limit_rows), folder / "cleaning", settings=CleanSettings(mask_personal=mask_personal),
        processes=processes, problems=problems, language=language,
    )  # fmt: skip
    limited = next(rows, None) is not None
    kept = read_kept(folder / "cleaning")
    tokens = _tokens(kept[:EXAMINED], base, language) if kept else {}
    return Preview(
        sources=[_source(one, language) for one in reports],
        rows_in=report.rows_in,
        kept=report.kept,
        changed=report.changed,
        unreadable=report.unreadable,
        limited=limited,
        lines=report.lines(language),
        counts=_counts(report, language),
        kept_rows=[Kept(row.source, row.number, _turns(row)) for row in kept[:SHOWN]],
        changed_rows=list(_changed(report, language)),
        dropped_rows=list(_dropped(folder / "cleaning" / "rejects.csv")),
        **tokens,
    )


def _tokens(rows: list[Row], base: str, language: str) -> dict[str, Any]:
    """What the rows are in tokens, as parts of a `Preview`."""
    try:
        tokenizer, template, context = _layout(base, rows)
    except NotFoundError as error:
        return {"model_note": error.line(language)}
    examples = (make_example(row, tokenizer, None if row.kind == "text" else template, context) for row in rows)
    found: Report = check({"train": examples}, tokenizer, template, context=context, samples=COLOURED)
    side = found.sides["train"]
    totals = side.totals()
    return {
        "examined": side.rows,
        "tokens": [(what.text(language), totals[name]) for name, what in COUNTS.items()],
        "too_long": side.refused,
        "faults": found.faulty,
        "html": str(coloured(found.samples, tokenizer, language)) if found.samples else "",
    }


def _layout(base: str, rows: Iterable[Row]) -> tuple[Tokenizer, Template, int]:
    """Tokenizer, template and context as a build has them. Raises NotFoundError: the model is not here; a look at a
    file fetches none."""
    if base == SCRATCH:
        return vocabulary(rows), get_template(SCRATCH_TEMPLATE), SCRATCH_CONTEXT
    tokenizer, template, room = load_layout(base, pull_missing=False)
    return tokenizer, template or get_template(PLAIN), min(room, ANSWERS["context"])


def _source(report: SourceReport, language: str) -> Source:
    notes = [sentence.text(language) for sentence in report.sentences()]
    return Source(report.name, report.format, report.encoding, report.delimiter, dict(report.columns),
                  list(report.ignored), notes)  # fmt: skip


def _counts(report: CleanReport, language: str) -> list[Count]:
    """The filters that did something, and the rows that could not be read."""
    counts = [
        Count(name, words.text(language), report.filters[name].changed, report.filters[name].dropped)
        for name, words in WHAT_IT_DOES.items()
        if name in report.filters and (report.filters[name].changed or report.filters[name].dropped)
    ]
    if report.unreadable:
        counts.append(Count(UNREADABLE, say("not readable", language), 0, report.unreadable))
    return counts


def _turns(row: Row) -> list[tuple[str, str]]:
    return [(role, _cut(text)) for role, text in zip(row.roles, row.texts, strict=True)]


def _changed(report: CleanReport, language: str) -> Iterator[Changed]:
    for name in (*REPAIRS, "personal"):
        for one in report.filters[name].examples[:SHOWN] if name in report.filters else ():
            yield Changed(one.source, one.number, name, WHAT_IT_DOES[name].text(language), _cut(visible(one.before)),
                          _cut(visible(one.after)))  # fmt: skip


def _dropped(path: Path) -> Iterator[Dropped]:
    """The first dropped rows of each filter."""
    seen: Counter[str] = Counter()
    with path.open(encoding="utf-8-sig", newline="") as file:
        for record in csv.DictReader(file):
            name = record["filter"]
            seen[name] += 1
            if seen[name] <= SHOWN:
                number = int(record["row"]) if record["row"].isdecimal() else 0
                yield Dropped(record["source"], number, name, record["reason"], _cut(record["text"]))


def _cut(text: str) -> str:
    return text if len(text) <= CELL else text[: CELL - 1] + "…"
