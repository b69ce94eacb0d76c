"""What this page's Markdown has beyond CommonMark, and what it leaves out: the parser.

Formulas, tables of a bounded size, images that never nest deep. Raw HTML is text, and links lead only to pages and
mail.

Each rule decides by the line that it begins in and at most one more, so that a text that is still being written is
parted into the same blocks as when it is whole (`markdown_stream` relies on it).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import ClassVar

from markdown_it import MarkdownIt
from markdown_it.ruler import RuleOptionsType
from markdown_it.rules_block import StateBlock
from markdown_it.rules_block import table as usual_table
from markdown_it.rules_inline import StateInline
from markdown_it.rules_inline import image as usual_image

from glassgpt.ui.math import MAX_SOURCE

MAX_NESTING = 20  # blocks within each other; a list counts two
_MAX_IMAGES = 4  # images in the texts of images

# "http:x" without slashes is a path on this page's own host to a browser.
_LINK = re.compile(r"https?://[^/?#\s]|mailto:[^\s]", re.IGNORECASE)
_DOLLARS = re.compile(r"\$\$((?:[^\\$]|\\.)+?)\$\$(?!\$)", re.DOTALL)
_DOLLAR = re.compile(r"\$(?![\s$])((?:[^\\$`]|\\.)*?[^\\$`\s]|(?:[^\\$`]|\\.)*?\\[^\s`])\$(?![0-9A-Za-z$])", re.DOTALL)
_BRACKETS = {
    "(": re.compile(r"\\\(((?:[^\\]|\\[^)])+?)\\\)", re.DOTALL),
    "[": re.compile(r"\\\[((?:[^\\]|\\[^\]])+?)\\\]", re.DOTALL),
}
# "$5 and 6$" has a number and then a word, which no formula has.
_MONEY = re.compile(r"\d[\d.,]*[kKmMbB+%]?[,;:]?\s+[A-Za-z]{2,}|\d[\d.,]*[,;:]\s")
_OPENING = re.compile(r"(\$\$|\\\[)(?:[ \t]*\\begin\{.*|[ \t]*)")


@dataclass
class Spent:
    """What a text has used up of its limits so far, counted over its blocks in their order."""

    marks: int = 0
    cells: int = 0
    code: int = 0
    formulas: int = 0

    MAX_MARKS: ClassVar[int] = 20_000  # signs that may mean something within lines
    MAX_CELLS: ClassVar[int] = 10_000  # cells of tables; two short lines can make thousands
    MAX_CODE: ClassVar[int] = 40_000  # characters of code that are coloured
    MAX_FORMULAS: ClassVar[int] = 12_000  # characters of formulas that are drawn

    def copy(self) -> Spent:
        """As it is now."""
        return replace(self)


class Parser(MarkdownIt):
    """CommonMark with tables, strikethrough and formulas."""

    def __init__(self) -> None:
        super().__init__("commonmark", {"html": False, "xhtmlOut": False, "maxNesting": MAX_NESTING})
        self.enable(["table", "strikethrough"])
        self.core.ruler.enableOnly(["normalize", "block"])  # what stands in a block is read when the block is drawn
        self.block.ruler.at("table", _table, {"alt": ["paragraph", "reference"]})
        formula: RuleOptionsType = {"alt": ["paragraph", "reference", "blockquote", "list"]}
        self.block.ruler.before("fence", "formula", _formula_block, formula)
        self.inline.ruler.at("image", _image)
        self.inline.ruler.before("escape", "formula", _formula)

    def validateLink(self, url: str) -> bool:  # noqa: N802
        """Whether a link may lead there; otherwise it is text."""
        return is_link(url)


def is_link(url: str) -> bool:
    """Whether an address is one of a page (http, https) or of mail."""
    return _LINK.match(url) is not None


def _table(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """As usual, but it ends where the text has had its share of cells."""
    if start + 2 > end or "-" not in _line(state, start + 1):
        return False
    spent: Spent = state.env["spent"]
    columns = max(1, _line(state, start + 1).count("|") + 1)
    rows = (spent.MAX_CELLS - spent.cells) // columns
    index = len(state.tokens)
    if rows < 1 or not usual_table(state, start, min(end, start + 1 + rows), silent):
        return False
    if not silent:
        cells = columns * (state.line - start - 1)
        spent.cells += cells
        state.tokens[index].meta["cells"] = cells
    return True


def _line(state: StateBlock, line: int) -> str:
    return state.src[state.bMarks[line] + state.tShift[line] : state.eMarks[line]]


def _image(state: StateInline, silent: bool) -> bool:
    """As usual, but only so many in each other's texts: each level is read again from its beginning."""
    if silent:
        return usual_image(state, silent)
    depth = state.env.get("images", 0)
    if depth >= _MAX_IMAGES:
        return False
    state.env["images"] = depth + 1
    try:
        return usual_image(state, silent)
    finally:
        state.env["images"] = depth


def _formula(state: StateInline, silent: bool) -> bool:
    r"""`$...$`, `$$...$$`, `\(...\)` and `\[...\]` within a paragraph."""
    source, pos = state.src, state.pos
    end = min(state.posMax, pos + MAX_SOURCE + 4)
    if source[pos] == "$":
        if source.startswith("$$$", pos):  # no formula: the whole run is passed over
            rest = source[pos : state.posMax]
            run = len(rest) - len(rest.lstrip("$"))
            if not silent:
                state.pending += rest[:run]
            state.pos += run
            return True
        display = source.startswith("$$", pos)
        before = source[pos - 1 : pos]
        if before.isascii() and before.isalnum() and not display:
            return False
        found = (_DOLLARS if display else _DOLLAR).match(source, pos, end)
        if found and not display and _MONEY.match(found[1]):
            return False
    elif source[pos] == "\\" and source[pos + 1 : pos + 2] in _BRACKETS:
        kind = source[pos + 1]
        display = kind == "["
        if source.find("\\)" if kind == "(" else "\\]", pos + 2, end) < 0:
            return False
        found = _BRACKETS[kind].match(source, pos, end)
    else:
        return False
    if found is None or not any(character.isalnum() for character in found[1]):
        return False
    if not silent:
        _push(state, found[1], found[0], display)
    state.pos = found.end()
    return True


def _formula_block(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    r"""Lines between `$$` and `$$`, or `\[` and `\]`. A line that opens one always begins a block; where no end comes
    before an empty line, its lines are a paragraph."""
    if state.is_code_block(start):
        return False
    first = _line(state, start).rstrip()
    opening = _OPENING.fullmatch(first)
    closing = {"$$": "$$", "\\[": "\\]"}[opening[1]] if opening else ""
    if opening is None or (first.endswith(closing) and len(first) > 2):
        return False
    if silent:
        return True
    line, closed = start + 1, False
    while line < end and not closed and not state.isEmpty(line) and state.sCount[line] >= state.blkIndent:
        closed = _line(state, line).rstrip().endswith(closing)
        line += 1
    content = state.getLines(start, line, state.blkIndent, False).strip()
    state.line = line
    opened = state.push("paragraph_open", "p", 1)
    opened.map = [start, line]
    token = state.push("inline", "", 0)
    token.content, token.map, token.children = content, [start, line], []
    if closed and len(content) <= MAX_SOURCE and content.find(closing, 2) == len(content) - 2:
        token.meta = {"formula": content[2:-2].strip()}
    state.push("paragraph_close", "p", -1)
    return True


def _push(state: StateInline, formula: str, source: str, display: bool) -> None:
    token = state.push("formula", "math", 0)
    token.content, token.markup = formula, source
    token.meta = {"display": display}
