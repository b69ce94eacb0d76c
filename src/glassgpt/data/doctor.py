"""The data doctor: looks at every example as training gets it, before a single step.

It takes the examples that training takes, counts their tokens, gathers what is wrong, and looks for held-out rows
that are known from the training rows. `data.checkup` has the rules, `data.doctor_page` the page.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from glassgpt.core.errors import InputError
from glassgpt.core.words import Sentence
from glassgpt.data.checkup import FAULTS, Checkup, Examiner
from glassgpt.data.examples import Example, Refused, make_example
from glassgpt.data.report import Problem
from glassgpt.data.rows import Row
from glassgpt.data.shards import Shards
from glassgpt.data.split import leakage
from glassgpt.text.template import Template
from glassgpt.text.tokenizer import Tokenizer

TRAIN, HELD_OUT = "train", "validation"
SHOWN = 5  # rows that are named for each kind of fault
PERCENTS = (0, 10, 50, 90, 99, 100)


@dataclass(frozen=True, slots=True)
class Found:
    """An example with its checkup, kept to be shown."""

    side: str
    example: Example
    checkup: Checkup


@dataclass(frozen=True, slots=True)
class Known:
    """A held-out row that is known from the training rows: the source and number of both, and how alike they are."""

    held_out: tuple[str, int]
    train: tuple[str, int]
    similarity: float


@dataclass
class Side:
    """The counts of one side of the split. `tokens` has four numbers for each row, in the order of `Checkup`."""

    rows: int = 0
    few: int = 0
    refused: int = 0
    first_refused: list[Refused] = field(default_factory=list)
    tokens: array[int] = field(default_factory=lambda: array("q"))

    def counts(self) -> np.ndarray:
        """[rows, 4]: learned, context, cut off, left out."""
        return np.array(self.tokens, dtype=np.int64).reshape(-1, 4)

    def totals(self) -> dict[str, int]:
        """The sums of all four."""
        names = ("trained", "context", "truncated", "dropped")
        return dict(zip(names, self.counts().sum(axis=0).tolist(), strict=True))

    def percentiles(self) -> dict[str, list[int]]:
        """Of the examples their length and their learned tokens at `PERCENTS`; empty lists where there are none."""
        counts = self.counts()
        made = counts[counts[:, :2].sum(axis=1) > 0]
        told = {"length": made[:, :2].sum(axis=1), "trained": made[:, 0]}
        return {n: np.percentile(v, PERCENTS, method="lower").tolist() if len(v) else [] for n, v in told.items()}


@dataclass
class Report:
    """What the doctor found. `faulty` counts examples, `faults` those of each kind with the first few."""

    sides: dict[str, Side] = field(default_factory=dict)
    faulty: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    first: dict[str, list[Found]] = field(default_factory=dict)
    samples: list[Found] = field(default_factory=list)
    leaks: list[Known] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[Sentence] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """The counts, as `glassgpt doctor --json` prints them."""
        return self.about | {
            "hard_errors": self.faulty,
            "faults": {
                kind: {"count": count, "first": [_place(f) for f in self.first[kind]]}
                for kind, count in self.faults.items()
            },
            "leaks": len(self.leaks),
            "unreadable": len(self.problems),
            "notes": [str(note) for note in self.notes],
            "sides": {
                name: {"rows": side.rows, "refused": side.refused, "few_trained": side.few}
                | side.totals()
                | {"percentiles": {"at": list(PERCENTS)} | side.percentiles()}
                for name, side in self.sides.items()
            },
        }

    def warnings(self) -> list[Sentence]:
        """What need not stop a training, but should be known."""
        told = list(self.notes)
        if self.problems:
            one = self.problems[0]
            told.append(
                Sentence("records that cannot be read: {count}; the first: {source}, {row}: {reason}",
                         count=len(self.problems), source=one.source, row=one.number, reason=one.reason)
            )  # fmt: skip
        if refused := sum(side.refused for side in self.sides.values()):
            first = next(row for side in self.sides.values() for row in side.first_refused)
            told.append(
                Sentence("rows that make no example: {count}; the first: {source}, {row}: {reason}", count=refused,
                         source=first.source, row=first.number, reason=first.reason)
            )  # fmt: skip
        if few := sum(side.few for side in self.sides.values()):
            told.append(Sentence("rows of which next to nothing is learned: {count}", count=few))
        if self.leaks:
            known = self.leaks[0]
            told.append(
                Sentence(
                    "held-out rows known from training, which measure memory: {count}; the first: {source}, {row}, as "
                    "{other}, {other_row}",
                    count=len(self.leaks), source=known.held_out[0], row=known.held_out[1], other=known.train[0],
                    other_row=known.train[1],
                )
            )  # fmt: skip
        return told

    def refuse(self) -> None:
        """Raises InputError when an example must not be trained on."""
        if self.faulty:
            first = next(iter(self.first.values()))[0]
            raise InputError(
                "unfit to train on: {count} of {rows} examples, the first of them {source}, {row}: {kinds}",
                hint="Their tokens stand coloured on the page of `glassgpt doctor FILE`; repair or drop these rows.",
                count=self.faulty,
                source=first.example.source,
                row=first.example.number,
                rows=sum(side.rows - side.refused for side in self.sides.values()),
                kinds=_Listed(
                    [Sentence("{what} ({count} of them)", what=FAULTS[k], count=n) for k, n in self.faults.items()]
                ),
            )
        if not self.sides[TRAIN].totals()["trained"]:
            raise InputError("no row has anything to learn", hint="Give other rows, or a longer --context.")


class _Listed(Sentence):
    """Sentences in a row."""

    def __init__(self, parts: Sequence[Sentence]) -> None:
        super().__init__("")
        self.parts = parts

    def text(self, language: str) -> str:
        """All of them in `language`."""
        return ("、" if language == "zh" else ", ").join(part.text(language) for part in self.parts)


def check(
    sides: Mapping[str, Iterable[Example | Refused]],
    tokenizer: Tokenizer,
    template: Template | None,
    *,
    context: int = 0,
    whole_texts: bool = True,
    samples: int = 0,
    watch: Callable[[str, Example | Refused, Checkup], None] = lambda side, example, checkup: None,
) -> Report:
    """Examine every example of each side; they are read once and not kept.

    Args:
        samples: how many examples are kept to be shown: as many of the faulty, and where there are fewer, others.
        watch: told every row.
    """
    examiner = Examiner(tokenizer, template, context, whole_texts=whole_texts)
    report = Report()
    faulty: list[Found] = []
    good: list[Found] = []
    for name, examples in sides.items():
        side = report.sides.setdefault(name, Side())
        for example in examples:
            checkup = examiner(example)
            watch(name, example, checkup)
            side.rows += 1
            side.few += checkup.few
            side.tokens.extend((checkup.trained, checkup.context, checkup.truncated, checkup.dropped))
            if isinstance(example, Refused):
                side.refused += 1
                side.first_refused += [example] if len(side.first_refused) < SHOWN else []
                continue
            report.faulty += bool(checkup.faults)
            found = Found(name, example, checkup)
            kept = faulty if checkup.faults else good
            if len(kept) < samples:
                kept.append(found)
            for kind in dict.fromkeys(fault.kind for fault in checkup.faults):
                report.faults[kind] = report.faults.get(kind, 0) + 1
                first = report.first.setdefault(kind, [])
                first += [found] if len(first) < SHOWN else []
    report.samples = [*faulty, *good][:samples]
    return report


def doctor(
    train: Sequence[Row],
    held_out: Sequence[Row],
    tokenizer: Tokenizer,
    template: Template | None,
    context: int,
    *,
    samples: int = 0,
    watch: Callable[[str, Example | Refused, Checkup], None] = lambda side, example, checkup: None,
) -> Report:
    """Make the examples of these rows as training does, examine each, and look for held-out rows that are known.

    Raises:
        InputError: conversations without a template.
    """

    def made(rows: Sequence[Row]) -> Iterator[Example | Refused]:
        return (make_example(r, tokenizer, None if r.kind == "text" else template, context) for r in rows)

    sides = {TRAIN: made(train), HELD_OUT: made(held_out)}
    report = check(sides, tokenizer, template, context=context, samples=samples, watch=watch)
    for leak in leakage(train, held_out):
        one, other = held_out[leak.held_out], train[leak.train]
        report.leaks.append(Known((one.source, one.number), (other.source, other.number), leak.similarity))
    return report


def documents(shards: Shards) -> Iterator[Example]:
    """The examples in shards, as training reads them."""
    for number in range(shards.documents):
        start, stop = shards.span(number)
        origin = shards.origin(start)
        yield Example(shards.tokens(start, stop).tolist(), shards.mask(start, stop).tolist(), origin.source, origin.row)


def known_questions(train: Shards, held_out: Shards) -> list[Known]:
    """Held-out examples whose tokens up to their last answer (of a text: all) stand in training just so."""
    seen = {_question(example): (example.source, example.number) for example in documents(train)}
    return [Known((e.source, e.number), seen[_question(e)], 1.0) for e in documents(held_out) if _question(e) in seen]


def _question(example: Example) -> bytes:
    mask = np.asarray(example.loss_mask, dtype=bool)
    unlearned = np.flatnonzero(~mask[: _last(mask)])
    stop = int(unlearned[-1]) + 1 if len(unlearned) > 1 else len(mask)  # one: the start token of a text
    return np.asarray(example.ids[:stop], dtype=np.int64).tobytes()


def _last(mask: np.ndarray) -> int:
    return int(np.flatnonzero(mask)[-1]) if mask.any() else 0


def _place(found: Found) -> dict[str, Any]:
    return {"side": found.side, "source": found.example.source, "row": found.example.number}
