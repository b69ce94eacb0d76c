"""DOCX: paragraphs, headings, tables and notes, read from the few parts of the archive that hold them.

The archive and its XML come from outside. Only parts with known names are unpacked, each up to a limit that counts what
really comes out; document types, and with them entities, are refused; no part is written to disk. The standard
library's expat reads a part in one pass: the usual library for such files would load all of them, with a large parser
in C, for the sake of writing them.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Callable
from typing import Any
from xml.parsers import expat

from glassgpt.assistant.outline import Outline, Reading
from glassgpt.core.errors import FormatError, InputError
from glassgpt.core.words import Sentence

MAX_ENTRIES = 10_000
MAX_PART = 64 << 20  # bytes of a part, unpacked
MAX_RATIO, _RATIO_FROM = 200, 1 << 20  # real documents pack at most 60 to 1; a trap packs 1,000 to 1
MAX_DEPTH = 500  # elements within elements; tables within tables take about 10 each

_NAMESPACES = (
    "http://schemas.openxmlformats.org/wordprocessingml/2006/main",
    "http://purl.oclc.org/ooxml/wordprocessingml/main",
)
_HEADING = re.compile(r"(?:heading|标题|標題|überschrift|titre|título)\s*([1-9])\Z", re.IGNORECASE)
_TWICE = ("Fallback", "moveFrom")  # what stands elsewhere too: for old programs, and where it was moved to
_UNSEEN = {"header": Sentence("headers and footers"), "comments": Sentence("comments")}


def read_docx(data: bytes, reading: Reading) -> None:
    """The passages of a document, placed by its headings.

    Raises:
        FormatError: it is no DOCX, damaged, encrypted, or made to unpack to more than any document does.
        InputError: there is no text in it.
    """
    archive = _opened(data, reading.name)
    names = set(archive.namelist())
    levels = _heading_levels(_part(archive, "word/styles.xml", reading.name)) if "word/styles.xml" in names else {}
    outline = Outline()
    body = _Body(outline, levels)
    _parse(_part(archive, "word/document.xml", reading.name), body.start, body.end, body.text, reading.name)
    for notes in ("word/footnotes.xml", "word/endnotes.xml"):
        if notes in names:
            reader = _Body(outline, {})
            _parse(_part(archive, notes, reading.name), reader.start, reader.end, reader.text, reading.name)
            body.hidden += reader.hidden
    if body.hidden:
        reading.note(Sentence("hidden or deleted pieces of text, left out: {count}", count=body.hidden))
    for kind, what in _UNSEEN.items():
        if any(re.fullmatch(rf"word/{kind}\d*\.xml", n) or (kind == "header" and "word/footer" in n) for n in names):
            reading.note(Sentence("{what} were left out", what=what))
    outline.add_to(reading)
    if not reading.passages:
        raise InputError(
            "{name} holds no text",
            hint="A document of pictures has to be read by text recognition (OCR) first.",
            name=reading.name,
        )


def _damaged(name: str, what: Sentence | str) -> FormatError:
    return FormatError(
        "{name} is damaged or no DOCX ({reason})",
        hint="Open it in a word processor and save it as DOCX again.",
        name=name,
        reason=what,
    )


def _refused(name: str, what: Sentence) -> FormatError:
    return FormatError(
        "{name} is refused: {reason}",
        hint="Such a file is made to do harm, or badly damaged; do not open it.",
        name=name,
        reason=what,
    )


def _opened(data: bytes, name: str) -> zipfile.ZipFile:
    """The archive, after a look at its list of entries."""
    if data.startswith(b"\xd0\xcf\x11\xe0"):
        raise FormatError(
            "{name} is protected by a password, or a document of an old kind",
            hint="Open it in a word processor and save it as DOCX without a password.",
            name=name,
        )
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError) as error:
        raise _damaged(name, str(error)) from None
    entries = archive.infolist()
    if len(entries) > MAX_ENTRIES:
        raise _refused(name, Sentence("it has {count} entries", count=len(entries)))
    for entry in entries:
        inner = entry.orig_filename.replace("\\", "/")
        if inner.startswith("/") or re.match(r"[A-Za-z]:", inner) or ".." in inner.split("/"):
            raise _refused(name, Sentence("an entry is named {entry}", entry=repr(entry.orig_filename[:80])))
    if len({entry.filename for entry in entries}) < len(entries):
        raise _refused(name, Sentence("two entries have the same name"))
    return archive


def _part(archive: zipfile.ZipFile, part: str, name: str) -> bytes:
    """One entry, unpacked up to the limits."""
    try:
        entry = archive.getinfo(part)
    except KeyError:
        raise _damaged(name, Sentence("{part} is missing", part=part)) from None
    if entry.flag_bits & 1:
        raise FormatError("{name} is encrypted", hint="Save it without a password and add it again.", name=name)
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _damaged(name, Sentence("{part} is packed in an unusual way", part=part))
    most = min(MAX_PART, max(_RATIO_FROM, MAX_RATIO * entry.compress_size))
    try:
        with archive.open(entry) as file:
            data = file.read(most + 1)
    except (zipfile.BadZipFile, zlib.error, OSError, ValueError, EOFError, NotImplementedError, RuntimeError) as error:
        raise _damaged(name, str(error)) from None
    if len(data) > most or entry.file_size > most:
        raise _refused(name, Sentence("{part} unpacks to more than any document does", part=part))
    return data


def _parse(data: bytes, start: Callable[[str, dict[str, str]], None], end: Callable[[str], None],
           text: Callable[[str], None], name: str) -> None:  # fmt: skip
    """XML to calls with the names that WordprocessingML gives, without their namespace; others' are ""."""
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
    parser.buffer_text = True
    depth = 0

    def local(qualified: str) -> str:
        space, _, own = qualified.rpartition(" ")
        return own if space in _NAMESPACES or own == "Fallback" else ""

    def started(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_DEPTH:
            raise _refused(name, Sentence("its elements are nested deeper than {limit}", limit=MAX_DEPTH))
        start(local(tag), {local(k): v for k, v in attributes.items()})

    def ended(tag: str) -> None:
        nonlocal depth
        depth -= 1
        end(local(tag))

    def document_type(*_: Any) -> None:
        raise _refused(name, Sentence("its XML has a document type, which no document needs"))

    parser.StartElementHandler, parser.EndElementHandler = started, ended
    parser.CharacterDataHandler = text
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = document_type
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise _damaged(name, str(error)) from None
    except (ValueError, LookupError) as error:  # an encoding that expat does not know
        raise _damaged(name, str(error)) from None


def _heading_levels(styles: bytes) -> dict[str, int]:
    """The level of the heading that each style makes, by the style's id."""
    levels: dict[str, int] = {}
    style = ""

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal style
        if tag == "style":
            style = attributes.get("styleId", "")
        elif tag == "name" and style:
            named = _HEADING.match(attributes.get("val", "").strip())
            if named or attributes.get("val", "").strip().lower() == "title":
                levels.setdefault(style, int(named[1]) if named else 1)
        elif tag == "outlineLvl" and style:
            levels.setdefault(style, _level(attributes))

    try:
        _parse(styles, start, lambda tag: None, lambda text: None, "word/styles.xml")
    except FormatError:  # without its styles a document can still be read
        return {}
    return {name: level for name, level in levels.items() if 1 <= level <= 9}


def _level(attributes: dict[str, str]) -> int:
    value = attributes.get("val", "")
    return int(value) + 1 if value.isascii() and value.isdecimal() and len(value) < 3 else 0


class _Body:
    """Paragraphs and tables as their tags come by."""

    def __init__(self, outline: Outline, levels: dict[str, int]) -> None:
        self.outline, self.levels, self.hidden = outline, levels, 0
        self._paragraphs: list[list[str]] = []  # a text box is a paragraph within a paragraph
        self._level = 0
        self._texts = self._skip = self._tables = 0
        self._vanished = False
        self._row: list[str] = []
        self._rows: list[str] = []
        self._cells: list[list[str]] = []

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """A start tag."""
        if tag in _TWICE:
            self._skip += 1
        elif self._skip:
            return
        elif tag == "p":
            self._paragraphs.append([])
            self._level = 0
        elif tag == "pStyle":
            name = attributes.get("val", "")
            named = re.match(r"heading\s*([1-9])\Z", name, re.IGNORECASE)
            self._level = self.levels.get(name) or (int(named[1]) if named else 0)
        elif tag == "outlineLvl" and self._paragraphs:
            level = _level(attributes)
            self._level = level if 1 <= level <= 9 else 0
        elif tag == "r":
            self._vanished = False
        elif tag in ("vanish", "webHidden"):
            self._vanished = attributes.get("val", "1") not in ("0", "false", "off")
        elif tag == "t":
            self._texts += 1
            if self._vanished:
                self.hidden += 1
        elif tag == "delText":
            self.hidden += 1
        elif tag in ("tab", "br", "cr", "noBreakHyphen") and self._paragraphs:
            self._paragraphs[-1].append({"tab": "\t", "noBreakHyphen": "\u2011"}.get(tag, "\n"))
        elif tag == "tbl":
            self._tables += 1
        elif tag == "tc":
            self._cells.append([])

    def text(self, text: str) -> None:
        """Characters; those of fields and settings stand in other elements than `t`."""
        if self._texts and not self._skip and not self._vanished and self._paragraphs:
            self._paragraphs[-1].append(text)

    def end(self, tag: str) -> None:
        """An end tag."""
        if tag in _TWICE:
            self._skip -= 1
        elif self._skip:
            return
        elif tag == "t":
            self._texts -= 1
        elif tag == "r":
            self._vanished = False
        elif tag == "p" and self._paragraphs:
            self._paragraph("".join(self._paragraphs.pop()))
        elif tag == "tc" and self._cells:
            cell = " ".join(" ".join(self._cells.pop()).split())
            if self._cells:  # a table within a cell
                self._cells[-1].append(cell)
            elif cell:
                self._row.append(cell)
        elif tag == "tr" and self._tables == 1 and self._row:
            self._rows.append(" | ".join(self._row))
            self._row = []
        elif tag == "tbl":
            self._tables -= 1
            if not self._tables:
                self.outline.block("\n".join(self._rows), whole=True)
                self._rows = []

    def _paragraph(self, text: str) -> None:
        if self._cells:
            self._cells[-1].append(text)
        elif self._level:
            self.outline.heading(self._level, text.strip())
        else:
            self.outline.block(text.strip())
        self._level = 0
