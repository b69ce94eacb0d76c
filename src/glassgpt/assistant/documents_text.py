"""Plain text and Markdown: passages are slices of the file, so that each is in it word for word."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from glassgpt.assistant.outline import Reading, Section, add_sections
from glassgpt.assistant.split_text import Span
from glassgpt.core.errors import FormatError, InputError
from glassgpt.core.words import Sentence
from glassgpt.data.languages import MARK
from glassgpt.data.reading import TextFile

MAX_CHARACTERS = 64 << 20  # of a text, unpacked; a file may be packed with gzip whatever its name

_LINE = re.compile(r"[^\r\n]*(?:\r\n?|\n|\Z)")
_FENCE = re.compile(r" {0,3}(`{3,}(?=[^`]*\Z)|~{3,})")
_RULE = re.compile(r"[ \t]*\|?[ \t]*:?-[-:| \t]*\Z")


def decoded(path: Path, reading: Reading, encoding: str | None = None) -> str:
    """The text of a file. A byte that its encoding does not explain becomes U+FFFD, and is told.

    Raises:
        InputError: the file is empty, or holds nothing but white space.
        FormatError: it is no text, damaged, or too long.
    """
    file = TextFile(path, reading.name, encoding=encoding)
    parts, size = [], 0
    for part in file.texts():
        size += len(part)
        check_size(reading, size)
        parts.append(part)
    text, unknown = MARK.subn("\ufffd", "".join(parts))
    tell_encoding(file, reading)
    if unknown:
        reading.note(
            Sentence(
                "characters that {encoding} does not explain, shown as \ufffd: {count}",
                encoding=file.encoding.name,
                count=unknown,
            )
        )
    if not text.strip():
        raise InputError("{name} is empty", hint="Give a file that holds some text.", name=reading.name)
    return text


def check_size(reading: Reading, characters: int) -> None:
    """Raises FormatError where a file holds too many characters; a small one may unpack to them."""
    if characters > MAX_CHARACTERS:
        raise FormatError(
            "{name} holds more than {limit} characters",
            hint="Split it into several files, and add those that are asked about.",
            name=reading.name,
            limit=f"{MAX_CHARACTERS:,}",
        )


def tell_encoding(file: TextFile, reading: Reading) -> None:
    """What the user should know of how the bytes were read."""
    found = file.encoding
    if found.found and found.rival:
        reading.note(
            Sentence(
                "read as {encoding}, which is a close guess; it may be {rival}", encoding=found.name, rival=found.rival
            )
        )
    elif found.found:
        reading.note(Sentence("read as {encoding}, found from its bytes", encoding=found.name))
    if file.zeros:
        reading.note(Sentence("zero characters taken out: {count}", count=file.zeros))


def read_text(path: Path, reading: Reading, encoding: str | None = None) -> None:
    """The passages of a plain text: paragraphs together up to a length; their places are lines."""
    text = decoded(path, reading, encoding)
    lines = Lines(text)
    add_sections(reading, text, [Section(0, len(text), ())], (), lines.place)


def read_markdown(path: Path, reading: Reading, encoding: str | None = None) -> None:
    """The passages of a Markdown file: no passage reaches over a heading, tables and code stay whole."""
    text = decoded(path, reading, encoding)
    lines = Lines(text)
    sections, whole = outline_of(text, lines)
    add_sections(reading, text, sections, whole, lines.place)


class Lines:
    """Where the lines of a text begin."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.lengths = [len(m[0]) for m in _LINE.finditer(text) if m[0]]
        self.starts = list(accumulate(self.lengths[:-1], initial=0))

    def place(self, start: int, end: int) -> str:
        """The lines of a slice, counted from 1."""
        first, last = bisect_right(self.starts, start), bisect_right(self.starts, max(start, end - 1))
        return f"line {first}" if first == last else f"lines {first}-{last}"

    def __iter__(self) -> Iterator[tuple[int, int, str]]:
        """(start, end, the line without its end) of each."""
        for start, length in zip(self.starts, self.lengths, strict=True):
            yield start, start + length, self.text[start : start + length].rstrip("\r\n")


@dataclass
class _Heading:
    start: int
    end: int
    level: int
    title: str


def outline_of(text: str, lines: Lines) -> tuple[list[Section], list[Span]]:
    """The sections of a Markdown text, and its tables, blocks of code and front matter, which are not cut."""
    headings: list[_Heading] = []
    whole: list[Span] = []
    rows = list(lines)
    at = _front_matter(rows)
    if at:
        whole.append((0, rows[at - 1][1]))
    paragraph = -1  # the line where the paragraph began that goes on here
    while at < len(rows):
        start, end, line = rows[at]
        fence = _FENCE.match(line)
        if fence:
            last = _fence_end(rows, at, fence[1])
            whole.append((start, rows[last][1]))
            at, paragraph = last + 1, -1
            continue
        if "|" in line and at + 1 < len(rows) and "|" in rows[at + 1][2] and _RULE.match(rows[at + 1][2]):
            last = at + 1
            while last + 1 < len(rows) and "|" in rows[last + 1][2]:
                last += 1
            whole.append((start, rows[last][1]))
            at, paragraph = last + 1, -1
            continue
        found = _atx(line)
        if found:
            headings.append(_Heading(start, end, *found))
            paragraph = -1
        elif paragraph >= 0 and _underline(line):
            first = rows[paragraph][0]
            title = text[first:start]
            headings.append(_Heading(first, end, 1 if line.strip()[0] == "=" else 2, title.strip()))
            paragraph = -1
        elif not line.strip() or line.lstrip()[:1] in ">-*+|" or line.startswith(("    ", "\t")):
            paragraph = -1
        elif paragraph < 0:
            paragraph = at
        at += 1
    return _sections(text, headings), whole


def _front_matter(rows: list[tuple[int, int, str]]) -> int:
    """How many lines at the beginning are settings between two lines of "---"."""
    if rows and rows[0][2].rstrip() == "---":
        for at in range(1, min(len(rows), 200)):
            if rows[at][2].rstrip() in ("---", "..."):
                return at + 1
    return 0


def _fence_end(rows: list[tuple[int, int, str]], at: int, fence: str) -> int:
    """The line that closes a block of code, or the last one."""
    for last in range(at + 1, len(rows)):
        line = rows[last][2].strip()
        if len(line) >= len(fence) and line[:1] == fence[0] and not line.strip(fence[0]):
            return last
    return len(rows) - 1


def _atx(line: str) -> tuple[int, str] | None:
    """Level and title of a heading with number signs."""
    inner = line.lstrip(" ")
    marks = len(inner) - len(inner.lstrip("#"))
    if not 1 <= marks <= 6 or len(line) - len(inner) > 3 or inner[marks : marks + 1].strip():
        return None
    title = inner[marks:].strip()
    closed = title.rstrip("#")
    return marks, (closed.rstrip() if closed == "" or closed[-1:] in " \t" else title)


def _underline(line: str) -> bool:
    """Whether the line makes a heading of the paragraph above it."""
    inner = line.strip()
    return len(inner) >= 2 and not line.startswith("    ") and (not inner.strip("=") or not inner.strip("-"))


def _sections(text: str, headings: list[_Heading]) -> list[Section]:
    """What stands under each heading; one with nothing under it but smaller headings goes with the first of them."""
    sections: list[Section] = []
    if not headings or headings[0].start > 0:
        sections.append(Section(0, headings[0].start if headings else len(text), ()))
    path: list[tuple[int, str]] = []
    start = -1
    for at, heading in enumerate(headings):
        following = headings[at + 1] if at + 1 < len(headings) else None
        end = following.start if following else len(text)
        while path and path[-1][0] >= heading.level:
            path.pop()
        path.append((heading.level, heading.title))
        start = heading.start if start < 0 else start
        if following and following.level > heading.level and not text[heading.end : end].strip():
            continue
        sections.append(Section(start, end, tuple(title for _, title in path)))
        start = -1
    return sections
