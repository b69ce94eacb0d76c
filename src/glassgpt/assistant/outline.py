"""A text with headings, whatever kind of file it comes from, and its passages."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from glassgpt.assistant.passage import Note, Passage
from glassgpt.assistant.split_text import Span, spans
from glassgpt.core.errors import FormatError
from glassgpt.core.words import Sentence

MAX_PASSAGES = 200_000
_HEADING_SHOWN = 120  # characters of a heading in a place
_PATH_SHOWN = 6  # headings of one


@dataclass
class Reading:
    """What is being read of one file: its passages so far, what the user will be told, and which rows were long."""

    name: str
    passages: list[Passage] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    long: list[str] = field(default_factory=list)

    def add(self, text: str, place: str, question: str | None = None, answer: str | None = None) -> None:
        """One more passage; raises FormatError where there are too many."""
        if len(self.passages) >= MAX_PASSAGES:
            raise FormatError(
                "{name} has more than {limit} passages",
                hint="Split it into several files, and add those that are asked about.",
                name=self.name,
                limit=f"{MAX_PASSAGES:,}",
            )
        self.passages.append(Passage(text, question, answer, place, len(self.passages)))

    def note(self, sentence: Sentence) -> None:
        """Tell the user something."""
        self.notes.append(Note(sentence))


@dataclass(frozen=True)
class Section:
    """`text[start:end]` stands under the headings of `path`, outermost first."""

    start: int
    end: int
    path: tuple[str, ...]


def under(path: Sequence[str]) -> str:
    """The place that headings tell: "section A > B"."""
    shown = [" ".join(h.split()) for h in path if h.strip()][:_PATH_SHOWN]
    cut = [h if len(h) <= _HEADING_SHOWN else h[: _HEADING_SHOWN - 1] + "…" for h in shown]
    return "section " + " > ".join(cut) if cut else ""


def add_sections(reading: Reading, text: str, sections: Sequence[Section], whole: Sequence[Span],
                 place: Callable[[int, int], str]) -> None:  # fmt: skip
    """The passages of a text: no passage reaches over two sections.

    Args:
        whole: parts that are not cut, in order.
        place: where a piece stands that is under no heading.
    """
    firsts, at = [span[0] for span in whole], 0
    for section in sections:
        at = max(bisect_right(firsts, section.start) - 1, 0)
        last = bisect_right(firsts, section.end)
        for start, end in spans(text, section.start, section.end, whole[at:last]):
            reading.add(text[start:end], under(section.path) or place(start, end))


class Outline:
    """Blocks and headings, one after the other, as a reader of HTML or DOCX finds them."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._length = 0
        self._blocks: list[int] = []
        self._whole: list[Span] = []
        self._headings: list[tuple[int, str]] = []
        self._sections: list[Section] = []
        self._start, self._bare = 0, False

    def heading(self, level: int, text: str) -> None:
        """A heading, from 1 the highest; its text belongs to the passages under it."""
        if not text.strip():
            return
        deeper = bool(self._headings) and level > self._headings[-1][0]
        if not (self._bare and deeper):  # a heading with nothing under it but a smaller one stays with that
            self._close()
        while self._headings and self._headings[-1][0] >= level:
            self._headings.pop()
        self._headings.append((level, text))
        self._put(text)
        self._bare = True

    def block(self, text: str, *, whole: bool = False) -> None:
        """A paragraph, a table or a piece of code; `whole`: not to be cut."""
        if not text.strip():
            return
        start = self._put(text)
        if whole:
            self._whole.append((start, self._length - 2))
        self._bare = False

    def _put(self, text: str) -> int:
        start = self._length
        self._blocks.append(start)
        self._parts += (text, "\n\n")
        self._length += len(text) + 2
        return start

    def _close(self) -> None:
        if self._length > self._start:
            path = tuple(text for _, text in self._headings)
            self._sections.append(Section(self._start, self._length, path))
        self._start, self._bare = self._length, False

    def add_to(self, reading: Reading, title: str = "") -> None:
        """Put the passages into `reading`; what is under no heading is placed by the title, or counted."""
        self._close()

        def place(start: int, end: int) -> str:
            first, last = bisect_right(self._blocks, start), bisect_right(self._blocks, max(start, end - 1))
            counted = f"paragraph {first}" if first == last else f"paragraphs {first}-{last}"
            return under([title]) or counted

        add_sections(reading, "".join(self._parts), self._sections, self._whole, place)
