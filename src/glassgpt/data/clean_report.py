"""What cleaning did: as JSON, as a table for the console, and as a page with bars and examples."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassgpt.core.html import Html, bars, element, page, table
from glassgpt.core.words import Sentence, say
from glassgpt.data.filters import FILTERS, FilterCount
from glassgpt.data.repair import UNSEEN
from glassgpt.data.which_language import LANGUAGES

if TYPE_CHECKING:
    from rich.table import Table

# Upper ends of the bins that lengths are counted in; the last bin is open.
LENGTH_BINS = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 100_000)
UNREADABLE = "unreadable"

WHAT_IT_DOES = {
    "mojibake": Sentence("text decoded with the wrong encoding"),
    "html": Sentence("tags and entities"),
    "control": Sentence("control and zero-width characters"),
    "normalize": Sentence("full-width letters, composed characters"),
    "whitespace": Sentence("spaces and line breaks that mean nothing"),
    "personal": Sentence("personal data (masked)"),
    "missing": Sentence("nothing there"),
    "length": Sentence("too short or too long"),
    "language": Sentence("another language"),
    "duplicates": Sentence("said before, word for word"),
    "near-duplicates": Sentence("said before, nearly word for word"),
}
_LANGUAGE_NAMES = {
    "en": Sentence("English"),
    "zh": Sentence("Chinese"),
    "ja": Sentence("Japanese"),
    "ko": Sentence("Korean"),
    "other": Sentence("another language"),
    "none": Sentence("no letters"),
}
_KIND_NAMES = {
    "EMAIL": Sentence("e-mail addresses"),
    "ID": Sentence("identity numbers"),
    "CARD": Sentence("bank card numbers"),
    "PASSPORT": Sentence("passport numbers"),
    "PHONE": Sentence("telephone numbers"),
}


@dataclass(slots=True)
class Census:
    """How many rows have which length (by `LENGTH_BINS`) and which language."""

    lengths: list[int] = field(default_factory=lambda: [0] * (len(LENGTH_BINS) + 1))
    languages: dict[str, int] = field(default_factory=lambda: dict.fromkeys(LANGUAGES, 0))

    def add(self, other: Census, sign: int = 1) -> None:
        """Count the other's rows in, or out with sign -1."""
        self.lengths = [a + sign * b for a, b in zip(self.lengths, other.lengths, strict=True)]
        for name, count in other.languages.items():
            self.languages[name] += sign * count


@dataclass(slots=True)
class CleanReport:
    """The account of one run. Every row that came in was kept, dropped or unreadable."""

    settings: dict[str, Any]
    rows_in: int = 0
    kept: int = 0
    changed: int = 0
    unreadable: int = 0
    filters: dict[str, FilterCount] = field(default_factory=dict)
    personal: dict[str, int] = field(default_factory=dict)
    before: Census = field(default_factory=Census)
    after: Census = field(default_factory=Census)
    seconds: float = 0.0
    out: str = ""

    @property
    def dropped(self) -> dict[str, int]:
        """Rows dropped, by filter; only filters that dropped some."""
        return {
            name: self.filters[name].dropped for name in FILTERS if name in self.filters and self.filters[name].dropped
        }

    @property
    def rows_per_s(self) -> float:
        """Rows read in a second, from the first to the finished files."""
        return self.rows_in / self.seconds if self.seconds else 0.0

    def summary(self) -> dict[str, Any]:
        """The counts alone, as `glassgpt clean --json` prints them."""
        return {
            "rows_in": self.rows_in,
            "kept": self.kept,
            "changed": self.changed,
            "dropped": self.dropped,
            "unreadable": self.unreadable,
            "personal": self.personal,
            "seconds": round(self.seconds, 3),
            "rows_per_s": round(self.rows_per_s, 1),
            "out": self.out,
        }

    def to_dict(self) -> dict[str, Any]:
        """Everything, for report.json."""
        return self.summary() | {
            "settings": self.settings,
            "filters": {name: asdict(self.filters[name]) for name in FILTERS if name in self.filters},
            "length_bins": list(LENGTH_BINS),
            "before": asdict(self.before),
            "after": asdict(self.after),
        }

    def write(self, folder: Path, language: str = "en") -> None:
        """report.json and report.html."""
        # Half of a surrogate pair, which a file can hold, is no text in UTF-8.
        text = json.dumps(self.to_dict(), ensure_ascii=False, indent=1)
        (folder / "report.json").write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
        (folder / "report.html").write_text(self.to_html(language), encoding="utf-8", errors="backslashreplace")

    def to_table(self, language: str = "en") -> Table:
        """For a rich console."""
        from rich.table import Table

        shown = Table(box=None)
        shown.add_column(say("filter", language))
        shown.add_column(say("changed", language), justify="right")
        shown.add_column(say("dropped", language), justify="right")
        shown.add_column("")
        for name, changed, dropped, words in self._filter_rows(language):
            shown.add_row(name, f"{changed:,}", f"{dropped:,}", words)
        return shown

    def lines(self, language: str = "en") -> list[str]:
        """The result in a few sentences."""
        told = [
            say(
                "{rows_in:,} rows: {kept:,} kept ({changed:,} of them changed), {dropped:,} dropped, "
                "{unreadable:,} unreadable",
                language,
                rows_in=self.rows_in,
                kept=self.kept,
                changed=self.changed,
                dropped=sum(self.dropped.values()),
                unreadable=self.unreadable,
            )
        ]
        if self.personal:
            told.append(say("personal data found: {kinds}", language, kinds=self._personal_text(language)))
        return told

    def to_html(self, language: str = "en") -> str:
        """One page that needs nothing else."""
        parts: list[Html] = [element("p", line) for line in self.lines(language)]
        parts.append(element("h2", say("What each filter did", language)))
        head = [say("filter", language), say("changed", language), say("dropped", language)]
        parts.append(table([*head, ""], self._filter_rows(language)))
        parts.append(element("h2", say("Length of a row in characters", language)))
        parts.append(self._before_after(_bin_names(), self.before.lengths, self.after.lengths, language))
        parts.append(element("h2", say("Language of a row", language)))
        names = [_LANGUAGE_NAMES[code].text(language) for code in LANGUAGES]
        before, after = list(self.before.languages.values()), list(self.after.languages.values())
        parts.append(self._before_after(names, before, after, language))
        parts.append(element("h2", say("Examples", language)))
        head = [say("source", language), say("row", language), say("before", language), say("after", language)]
        for name in FILTERS:
            counted = self.filters.get(name)
            if counted and counted.examples:
                parts.append(element("h3", f"{name}: ", WHAT_IT_DOES[name].text(language)))
                rows = [(e.source, e.number, visible(e.before), visible(e.after)) for e in counted.examples]
                parts.append(table(head, rows))
        return page(say("Cleaning report", language), language, *parts)

    def _before_after(self, labels: list[str], before: list[int], after: list[int], language: str) -> Html:
        used = [at for at, count in enumerate(before) if count or after[at]]
        label = [labels[at] for at in used]
        rows = say("rows", language)
        return element(
            "div",
            bars(label, [before[at] for at in used], [say("before", language), rows]),
            bars(label, [after[at] for at in used], [say("after", language), rows]),
        )

    def _filter_rows(self, language: str) -> Iterable[tuple[str, int, int, str]]:
        for name in FILTERS:
            counted = self.filters.get(name)
            if counted:
                yield name, counted.changed, counted.dropped, WHAT_IT_DOES[name].text(language)

    def _personal_text(self, language: str) -> str:
        comma = "，" if language == "zh" else ", "
        return comma.join(f"{_KIND_NAMES[kind].text(language)} {count:,}" for kind, count in self.personal.items())


def visible(text: str) -> str:
    """With the code of each character that a page would not show."""
    return UNSEEN.sub(lambda found: "".join(f"[U+{ord(c):04X}]" for c in found[0]), text)


def _bin_names() -> list[str]:
    starts = [0, *accumulate(LENGTH_BINS, lambda _, end: end)]
    closed = [f"{start + (at > 0):,}–{end:,}" for at, (start, end) in enumerate(zip(starts, LENGTH_BINS, strict=False))]
    return [*closed, f"> {LENGTH_BINS[-1]:,}"]
