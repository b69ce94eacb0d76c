"""The chain that a row goes through: small filters with names, each of which can be switched off.

Repairs change a text and are repeated until nothing changes, so that cleaning twice is cleaning once. Checks say why
a row cannot be used. What needs all rows, duplicates, is in `duplicates`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from glassgpt.core.errors import ConfigError, nearest
from glassgpt.core.words import Sentence
from glassgpt.data.duplicates import SIMILARITY
from glassgpt.data.mojibake import repair_mojibake
from glassgpt.data.personal import find_personal, mask_personal
from glassgpt.data.repair import normalize, strip_control, strip_html, tidy_whitespace
from glassgpt.data.rows import Row
from glassgpt.data.which_language import LANGUAGES, language_of

REPAIRS: dict[str, Callable[[str], str]] = {
    "mojibake": repair_mojibake,
    "html": strip_html,
    "control": strip_control,
    "normalize": normalize,
    "whitespace": tidy_whitespace,
}
# In the order in which they work.
FILTERS = (*REPAIRS, "personal", "missing", "length", "language", "duplicates", "near-duplicates")
# What such a text would be changed into is itself (the tests hold that against the repairs).
_PLAIN = re.compile(
    r"[!-%'-;=-~\u4e00-\u9fff“‘（《「][ -%'-;=-~\u4e00-\u9fff，。？！、；：（）《》「」“”‘’—…·]*(?<! )\Z"
)
_ROUNDS = 20
EXAMPLES = 5
_EXCERPT = 200
# A whole cell that says that there is nothing: as spreadsheets, databases and pandas write it.
MISSING = re.compile(
    r"-?nan|-?NaN|NAN|null|NULL|Null|None|n/a|N/[Aa]|#N/A|#NA|NA|<NA>|NaT|\\N|undefined|\[deleted\]|\[removed\]|-{1,3}|—{1,2}|"
    r"#(?:REF|VALUE|DIV/0|NUM|NULL)!|#NAME\?"
)
_MAY_BE_EMPTY = ("system", "tool")
# The filter that each setting belongs to.
_SETTING_OF = {
    "mask_personal": "personal",
    "languages": "language",
    **dict.fromkeys(("min_chars", "max_chars"), "length"),
    "similarity": "near-duplicates",
}


@dataclass(frozen=True)
class CleanSettings:
    """What `clean` does. Every filter works unless it is named in `skip`, or `only` names others.

    Attributes:
        skip, only: names from `FILTERS`.
        mask_personal: put [PHONE] and the like in the place of personal data, which is otherwise only counted.
        languages: keep rows in these languages (`which_language.LANGUAGES`); empty for all.
        min_chars, max_chars: the least and most characters of a row, all its texts together.
        similarity: from which Jaccard similarity on rows are near-duplicates, above 0.5 to 1.

    Raises:
        ConfigError: an unknown name, or a value out of range.
    """

    skip: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    mask_personal: bool = False
    languages: tuple[str, ...] = ()
    min_chars: int = 1
    max_chars: int = 10_000_000
    similarity: float = SIMILARITY
    active: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in (*self.skip, *self.only):
            if name not in FILTERS:
                raise ConfigError("there is no filter {name!r}", **_known(name, FILTERS))
        for name in self.languages:
            if name not in LANGUAGES:
                raise ConfigError("{name!r} is not a language that can be told apart", **_known(name, LANGUAGES))
        if not 0 <= self.min_chars <= self.max_chars:
            raise ConfigError(
                "min_chars is {least} and max_chars is {most}",
                hint="Both count characters, and the first is the smaller one.",
                least=self.min_chars,
                most=self.max_chars,
            )
        if not 0.5 < self.similarity <= 1:
            raise ConfigError(
                "similarity is {value}; it must be above 0.5 and at most 1",
                hint="A value of 0.85 finds texts with a few letters changed.",
                value=self.similarity,
            )
        active = frozenset(self.only or FILTERS) - frozenset(self.skip)
        for setting in fields(self):
            filter_of_it = _SETTING_OF.get(setting.name)
            if filter_of_it and filter_of_it not in active and getattr(self, setting.name) != setting.default:
                raise ConfigError(
                    "{setting} needs the filter {name!r}, which is switched off",
                    hint="Leave one of the two out.",
                    setting=setting.name,
                    name=filter_of_it,
                )
        object.__setattr__(self, "active", active)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> CleanSettings:
        """Settings from a file or a request; an unknown name is a ConfigError."""
        known = [f.name for f in fields(cls) if f.init]
        for name in values:
            if name not in known:
                raise ConfigError("there is no setting {name!r}", **_known(name, known))
        given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**given)


def _known(name: str, known: Sequence[str]) -> dict[str, Any]:
    """The hint of an error about an unknown name, and its facts."""
    near = nearest(name, list(known))
    hint = "Did you mean {near}?" if near else "Known: {names}."
    return {"hint": hint, "name": name, "near": near, "names": ", ".join(known)}


@dataclass(slots=True)
class Example:
    """One change or drop, cut to an excerpt around the first difference."""

    source: str
    number: int
    before: str
    after: str


@dataclass(slots=True)
class FilterCount:
    """What one filter did: rows changed, rows dropped, and the first few of either."""

    changed: int = 0
    dropped: int = 0
    examples: list[Example] = field(default_factory=list)

    def add(self, other: FilterCount) -> None:
        """Count what came later in."""
        self.changed += other.changed
        self.dropped += other.dropped
        self.examples += other.examples[: EXAMPLES - len(self.examples)]


@dataclass(slots=True)
class Drop:
    """A row that was left out, by which filter, and why. `texts` are as they came."""

    source: str
    number: int
    filter: str
    reason: Sentence
    texts: list[str]


Reason = tuple[str, Sentence]  # the filter, and why


class Chain:
    """The filters that look at one row at a time. It counts as it goes: `counts` by filter, `personal` by kind."""

    def __init__(self, settings: CleanSettings) -> None:
        self.settings = settings
        self.repairs = [(name, repair) for name, repair in REPAIRS.items() if name in settings.active]
        self.counts: dict[str, FilterCount] = {}
        self.personal: dict[str, int] = {}
        self._touched: set[str] = set()

    def __call__(self, row: Row) -> Row | Drop:
        """The row with its texts repaired (the same row, if nothing was wrong), or why it must go."""
        self._touched = set()
        given, reason = row, None
        for at, text in enumerate(given.texts):
            if not _PLAIN.match(text):
                row, reason = self._repair(row, at)
                if reason:
                    break
        if "personal" in self.settings.active:
            row = self._personal(row)
        reason = reason or self._check(row)
        if reason is None:
            return row
        name, why = reason
        self.count(name).dropped += 1
        self._example(name, row, " | ".join(given.texts), "")
        return Drop(row.source, row.number, name, why, given.texts)

    def count(self, name: str) -> FilterCount:
        """The tally of one filter."""
        return self.counts.setdefault(name, FilterCount())

    def _repair(self, row: Row, at: int) -> tuple[Row, Reason | None]:
        text = row.texts[at]
        for _ in range(_ROUNDS):
            before = text
            for name, repair in self.repairs:
                better = repair(text)
                if better != text:
                    self._changed(name, row, text, better)
                    text = better
            if text == before:
                return _with_text(row, at, text), None
        return row, ("html", Sentence("{count} rounds of repair did not settle it", count=_ROUNDS))

    def _personal(self, row: Row) -> Row:
        for at, text in enumerate(row.texts):
            found = find_personal(text)
            for kind, number in found.items():
                self.personal[kind] = self.personal.get(kind, 0) + number
            if found and self.settings.mask_personal:
                masked = mask_personal(text)
                self._changed("personal", row, text, masked)
                row = _with_text(row, at, masked)
        return row

    def _check(self, row: Row) -> Reason | None:
        settings, active = self.settings, self.settings.active
        if "missing" in active:
            for role, text in zip(row.roles, row.texts, strict=True):
                if (
                    len(text) < 12
                    and (not text or text.isspace() or MISSING.fullmatch(text))
                    and role not in _MAY_BE_EMPTY
                ):
                    if text.strip():
                        return "missing", Sentence("the {role} is only {value}", role=role, value=text)
                    return "missing", Sentence("the {role} is empty", role=role)
        length = sum(map(len, row.texts))
        if "length" in active and not settings.min_chars <= length <= settings.max_chars:
            return "length", Sentence(
                "{count} characters, not from {least} to {most}",
                count=length,
                least=settings.min_chars,
                most=settings.max_chars,
            )
        if "language" in active and settings.languages:
            found = language_of(" ".join(row.texts))
            if found not in settings.languages and found != "none":  # sums and names of things suit every language
                return "language", Sentence("the language is {found}", found=found)
        return None

    def _changed(self, name: str, row: Row, before: str, after: str) -> None:
        if name not in self._touched:  # rows are counted, not texts
            self._touched.add(name)
            self.count(name).changed += 1
        self._example(name, row, before, after)

    def _example(self, name: str, row: Row, before: str, after: str) -> None:
        examples = self.count(name).examples
        if len(examples) < EXAMPLES:
            examples.append(excerpt(row.source, row.number, before, after))


def _with_text(row: Row, at: int, text: str) -> Row:
    if text == row.texts[at]:
        return row
    return Row(row.source, row.number, row.roles, [*row.texts[:at], text, *row.texts[at + 1 :]])


def excerpt(source: str, number: int, before: str, after: str) -> Example:
    """An example of two texts, from shortly before they differ."""
    same = next((at for at, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), 0)
    start = max(same - 40, 0)
    return Example(source, number, _cut(before, start), _cut(after, start))


def _cut(text: str, start: int) -> str:
    shown = text[start : start + _EXCERPT]
    return ("…" if start else "") + shown + ("…" if start + _EXCERPT < len(text) else "")
