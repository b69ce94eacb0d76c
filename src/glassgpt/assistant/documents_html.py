"""HTML: what a reader of the page sees, and nothing of what runs, loads or hides in it."""

from __future__ import annotations

import codecs
import re
from collections import Counter

from glassgpt.assistant.html_tokens import Start, tokens
from glassgpt.assistant.outline import Outline, Reading
from glassgpt.core.errors import FormatError, InputError
from glassgpt.core.words import Sentence
from glassgpt.data.encoding import ERRORS, check_encoding, find_encoding
from glassgpt.data.languages import MARK

MAX_PAGE = 16 << 20  # bytes; the worst that was found to read takes two seconds a megabyte


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_UNSEEN = _names(
    "script style template noscript iframe object embed noembed noframes audio video canvas select datalist math svg "
    "map applet frameset"
)
_VOID = _names("area base basefont br col embed frame hr img input link meta param source track wbr")
_BLOCKS = _names(
    "address article aside blockquote body button caption center dd details dialog dir div dl dt fieldset figcaption "
    "figure footer form head header hgroup hr html legend li main menu nav ol p pre section summary table tbody "
    "textarea tfoot thead tr ul xmp"
)
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_HIDDEN = re.compile(
    r"display\s*:\s*none|visibility\s*:\s*(?:hidden|collapse)|(?:opacity|font-size)\s*:\s*0(?![.\d])", re.IGNORECASE
)
# An element that ends where one of these begins, unless one of the others stands between them.
_ENDED_BY: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "li": (frozenset(["li"]), frozenset(["ul", "ol", "menu"])),
    "dd": (frozenset(["dd", "dt"]), frozenset(["dl"])),
    "dt": (frozenset(["dd", "dt"]), frozenset(["dl"])),
    "td": (frozenset(["td", "th"]), frozenset(["table", "tr"])),
    "th": (frozenset(["td", "th"]), frozenset(["table", "tr"])),
    "tr": (frozenset(["tr"]), frozenset(["table"])),
}
_NONE, _PARAGRAPH = frozenset[str](), frozenset(["p"])
_BARRIERS = _BLOCKS | frozenset(_HEADINGS) | frozenset(["td", "th"])  # they end a paragraph; none ends outside them
_LOOK_BACK = 32  # open elements among which one that ends by itself is looked for
_CHARSET = re.compile(
    rb"<(?:meta[^>]{0,300}?charset|\?xml[^>]{0,100}?encoding)\s*=\s*[\"']?\s*([\w.:-]{2,40})", re.IGNORECASE
)
# What a page may claim. Python knows others, some of which take very long, and some that are no encodings of pages.
_CLAIMED = re.compile(
    r"utf-8|gb18030|big5hkscs|cp9(?:32|49|50)|shift_jis|euc_(?:jp|kr)|iso2022_jp|cp125\d|cp8(?:66|74)|koi8-[ru]|"
    r"iso8859-\d+|mac-(?:roman|cyrillic)|tis-620"
)
_BLANKS = re.compile(r"[ \t\n\f\r]+")
_BREAK = "\0"  # a line break, until white space is folded; no text of a page holds it


def read_html(data: bytes, reading: Reading, encoding: str | None = None) -> None:
    """The passages of a page, placed by its headings.

    Raises:
        InputError: there is nothing on it to read.
        FormatError: it is no text, or too large.
    """
    if len(data) > MAX_PAGE:
        raise FormatError(
            "{name} is larger than {limit} MB",
            hint="Split it into several files, and add those that are asked about.",
            name=reading.name,
            limit=MAX_PAGE >> 20,
        )
    page = _Page()
    for token in tokens(_decoded(data, reading, encoding).replace(_BREAK, "")):
        if isinstance(token, str):
            page.text(token)
        elif isinstance(token, Start):
            page.start(token)
        else:
            page.end(token.name)
    page.close()
    if page.unseen:
        reading.note(
            Sentence("parts of the page that a reader does not see, left out: {count} ({kinds})",
                     count=sum(page.unseen.values()),
                     kinds=", ".join(f"{kind} {n}" for kind, n in sorted(page.unseen.items())))
        )  # fmt: skip
    page.outline.add_to(reading, page.title)
    if not reading.passages:
        raise InputError(
            "{name} holds no text that a reader would see",
            hint="If the page is written by a script, save it from the browser as text.",
            name=reading.name,
        )


def _decoded(data: bytes, reading: Reading, encoding: str | None) -> str:
    """The page as text: by a byte order mark, the user, the page's own word for it, or by what its bytes look like."""
    found = check_encoding(encoding).name if encoding else ""
    if not found and not data.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        told = _CHARSET.search(data[:4096])
        found = _told(data, told[1].decode("ascii").lower()) if told else ""
    if not found:
        found = find_encoding(iter([data]), reading.name).name
    text, unknown = MARK.subn("\ufffd", data.decode(found, ERRORS))
    if unknown:
        reading.note(
            Sentence("characters that {encoding} does not explain, shown as \ufffd: {count}", encoding=found,
                     count=unknown)
        )  # fmt: skip
    return text


def _told(data: bytes, name: str) -> str:
    """The encoding that a page claims, where its bytes agree; as browsers understand the name."""
    if name in ("gb2312", "gbk", "x-gbk", "gb_2312-80", "chinese"):
        name = "gb18030"
    elif name in ("iso-8859-1", "latin1", "us-ascii", "ascii", "iso8859-1"):
        name = "cp1252"
    elif name.startswith("utf-16"):  # the word was read as single bytes, so this it is not
        name = "utf-8"
    if name in ("big5", "big5-hkscs"):
        name = "big5hkscs"
    try:
        name = codecs.lookup(name).name
        if not _CLAIMED.fullmatch(name):
            return ""
        text = data.decode(name)
    except (LookupError, ValueError):
        return ""
    if len(text) == len(data) and not data.isascii():  # one byte a character explains anything
        try:
            data.decode("utf-8")
        except ValueError:
            return name
        return "utf-8"
    return name


class _Page:
    """What of the page is seen, as it is read from its beginning to its end."""

    def __init__(self) -> None:
        self.outline, self.title = Outline(), ""
        self.unseen: Counter[str] = Counter()
        self._open: list[str] = []
        self._count: Counter[str] = Counter()
        self._hidden = 0  # how many elements were open when the one began that is not seen, or 0
        self._said: list[str] = []
        self._rows: list[str] = []
        self._cells: list[str] = []
        self._heading = 0

    def text(self, text: str) -> None:
        """Text that stands between tags."""
        if self._hidden:
            return
        if self._open and self._open[-1] == "title":
            self.title = self.title or _BLANKS.sub(" ", text).strip()
        else:
            self._said.append(text if self._count["pre"] or self._count["xmp"] else _BLANKS.sub(" ", text))

    def start(self, tag: Start) -> None:
        """A start tag."""
        name = tag.name
        ended, barrier = _ENDED_BY.get(name) or ((_PARAGRAPH, _BARRIERS) if name in _BARRIERS else (_NONE, _NONE))
        for back, there in enumerate(reversed(self._open[-_LOOK_BACK:]) if ended else ()):
            if there in ended:
                self._pop(len(self._open) - back - 1)
                break
            if there in barrier:
                break
        if not self._hidden:
            self._border(name, begins=True)
            if name == "br":
                self._said.append(_BREAK)
        if name in _VOID:
            if name == "embed":
                self.unseen[name] += 1
            return
        self._open.append(name)
        self._count[name] += 1
        if not self._hidden and (name in _UNSEEN or _is_hidden(tag)):
            self._hidden = len(self._open)
            self.unseen[name if name in _UNSEEN else "hidden"] += 1

    def end(self, name: str) -> None:
        """An end tag; one without a beginning means nothing, except that </p> and </br> break a line."""
        if self._count[name]:
            at = len(self._open) - 1
            while self._open[at] != name:
                at -= 1
            self._pop(at)
        elif name in ("p", "br") and not self._hidden:
            self.flush()

    def _pop(self, at: int) -> None:
        """The element that was opened as number `at` ends, with all that are open within it."""
        while len(self._open) > at:
            name = self._open.pop()
            self._count[name] -= 1
            if not self._hidden:
                self._border(name, begins=False)
            elif self._hidden > len(self._open):
                self._hidden = 0

    def _border(self, name: str, *, begins: bool) -> None:
        """What a visible element's beginning or end means for the text around it."""
        if name in _HEADINGS:
            if self._count["table"] and begins:  # a table that lays a page out, rather than one of data
                self._table()
            else:
                self.flush()
            self._heading = _HEADINGS[name] if begins else 0
        elif name in ("td", "th") and self._count["table"]:
            self._cell()
        elif self._count["table"] or name == "table":
            if name == "table" and begins:
                if self._count["table"]:
                    self._cell()
                else:
                    self.flush()
            elif name in ("tr", "caption"):
                self._row()
            elif name == "table" and not self._count["table"]:
                self._table()
            elif name in _BLOCKS:
                self._said.append(" ")
        elif name in _BLOCKS:
            self.flush(whole=name in ("pre", "xmp") and not begins)

    def _taken(self) -> str:
        raw = "".join(self._said)
        self._said = []
        lines = raw.split(_BREAK)
        if "\n" in raw or "\r" in raw:  # white space counts here
            return "\n".join(lines).strip("\r\n").rstrip()
        return "\n".join(_BLANKS.sub(" ", line).strip() for line in lines).strip()

    def flush(self, *, whole: bool = False) -> None:
        """The text since the last border is a block of its own."""
        if self._count["table"] and not self._heading:
            self._said.append(" ")
            return
        text = self._taken()
        if self._heading and text:
            self.outline.heading(self._heading, text)
        else:
            self.outline.block(text, whole=whole)

    def _cell(self) -> None:
        text = " ".join(self._taken().split())
        if text:
            self._cells.append(text)

    def _row(self) -> None:
        self._cell()
        if self._cells:
            self._rows.append(" | ".join(self._cells))
            self._cells = []

    def _table(self) -> None:
        self._row()
        self.outline.block("\n".join(self._rows), whole=True)
        self._rows = []

    def close(self) -> None:
        """The page ends, and with it whatever is still open."""
        self._pop(0)
        self.flush()


def _is_hidden(tag: Start) -> bool:
    attributes = tag.attributes
    style = attributes.get("style", "")
    return (
        ("hidden" in attributes and attributes["hidden"].lower() != "until-found")
        or bool(style and _HIDDEN.search(style[:10_000]))
        or (tag.name == "dialog" and "open" not in attributes)
    )
