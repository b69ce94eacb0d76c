"""What a model or a user wrote, as HTML that cannot do anything.

Two walls. The first: a parser that knows no raw HTML, no link but to pages and mail and no image to load
(`markdown_rules`), and a renderer that escapes all text. The second: whatever it gives goes through the lists of
`allowed`. Each text has limits (`Spent`, `LONGEST`, `MOST_LINES`); what goes beyond them is shown plain, and whole.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import OptionsDict

from glassgpt.ui.allowed import REL, clean
from glassgpt.ui.highlight import highlight, highlight_css, language_name
from glassgpt.ui.markdown_rules import MAX_NESTING, Parser, Spent, is_link
from glassgpt.ui.math import to_mathml

LONGEST = 200_000  # characters that are read as Markdown
MOST_LINES = 5_000
PLAIN_PART = 4_000  # characters of a plain block: a long text that grows is not sent again and again

log = logging.getLogger("glassgpt.ui")
_SURROGATES = re.compile("[\ud800-\udfff]")
_MARKS, _FAINT_MARKS = (
    "[]*_~`<&$\\|!",
    "{}=:+-#%@^>\n",
)  # where the parser stops: what can begin something, and the rest


class Draft:
    """The code of a block that is still being written. It is coloured anew when it has grown by a quarter; what has
    come since is shown plain after it."""

    def __init__(self) -> None:
        self._coloured: dict[int, tuple[str, str, str]] = {}  # number of the code: its word, the code, its HTML
        self._number = 0

    def begin(self) -> None:
        """The block is drawn from its beginning."""
        self._number = 0

    def highlight(self, code: str, word: str) -> str | None:
        """As `highlight.highlight`, nearly."""
        number = self._number
        self._number += 1
        known, before, html = self._coloured.get(number, ("", "", ""))
        new = len(code) - len(before)
        if before and known == word and 0 <= new < max(200, len(before) // 4) and code.startswith(before):
            return html + escape(code[len(before) :])
        found = highlight(code, word)
        if found is not None:
            self._coloured[number] = (word, code, found)
        return found


@dataclass(frozen=True)
class Block:
    """A block at the top: its first line, the line after its last, and what the parser found in it."""

    begin: int
    end: int
    tokens: list[Token]

    @property
    def cells(self) -> int:
        """How many cells of tables it took from the text's share."""
        return sum(token.meta.get("cells", 0) for token in self.tokens)


class Reading:
    """A text parted into its blocks, which are drawn one by one, in their order.

    Args:
        text: cleaned (`cleaned`), within the limits.
        spent: what was used up before this text; its count of cells goes on here.
        references: the addresses of links that were defined before; those of this text are added.
    """

    def __init__(self, text: str, spent: Spent, references: dict[str, Any]) -> None:
        self.lines = text.split("\n")
        self.references = references
        self._env: dict[str, Any] = {"spent": spent, "references": references}
        self.blocks: list[Block] = []
        group: list[Token] = []
        for token in _parser.parse(text, self._env):
            group.append(token)
            if token.level == 0 and token.nesting <= 0:
                begin, end = group[0].map or (0, len(self.lines))
                self.blocks.append(Block(begin, end, group))
                group = []

    def draw(self, block: Block, spent: Spent, draft: Draft | None = None) -> str:
        """A block as safe HTML; `spent` goes on. With `draft` its code may be coloured in part only."""
        source = "\n".join(self.lines[block.begin : block.end])
        if any(t.nesting == 1 and t.level + 1 >= MAX_NESTING and t.type in _CONTAINERS for t in block.tokens):
            return plain(source)  # the parser leaves out what is deeper
        env = {**self._env, "spent": spent, "draft": draft, "link": ""}
        try:
            for token in block.tokens:
                if token.type == "inline":
                    _read_inline(token, spent, env)
            return clean(_renderer.render(block.tokens, _parser.options, env))
        except Exception:  # a mistake in a library must not take the conversation with it
            log.exception("a text could not be drawn; it is shown plain")
            return plain(source)


def to_html(text: str) -> str:
    """The whole of a text as safe HTML."""
    return "".join(blocks_of(text))


def blocks_of(text: str) -> list[str]:
    """A text's blocks (paragraphs, lists, tables, ...) as safe HTML; together they are `to_html(text)`."""
    text = cleaned(text)
    reading = None if too_large(text) else read(text, Spent(), {})
    if reading is None:
        return [plain(part) for part in split_plain(text)]
    spent = Spent()
    return [reading.draw(block, spent) for block in reading.blocks]


def read(text: str, spent: Spent, references: dict[str, Any]) -> Reading | None:
    """A text parted into blocks; None if the parser failed."""
    try:
        return Reading(text, spent, references)
    except Exception:
        log.exception("a text could not be read; it is shown plain")
        return None


def cleaned(text: str) -> str:
    """A text with one kind of line ends, and without NULs and halves of characters, which no HTML can hold."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\ufffd")
    return text if text.isascii() else _SURROGATES.sub("\ufffd", text)


def too_large(text: str) -> bool:
    """Whether a text is shown plain because of its size."""
    return len(text) > LONGEST or text.count("\n") >= MOST_LINES


def plain(text: str) -> str:
    """Text as it is, with its line ends (`.gg-plain` keeps them)."""
    return clean(f'<div class="gg-plain">{escape(text)}</div>\n')


def split_plain(text: str) -> list[str]:
    """A long text in parts, at line ends where it can be; a part that is not the last stays when the text grows."""
    parts, at = [], 0
    while len(text) - at > PLAIN_PART:
        end = text.rfind("\n", at, at + PLAIN_PART) + 1 or at + PLAIN_PART
        parts.append(text[at:end])
        at = end
    return [*parts, text[at:]]


def markdown_css() -> str:
    """The style sheet of what `to_html` gives: code, plain text, formulas."""
    return highlight_css() + (
        ".gg-plain { white-space: pre-wrap; overflow-wrap: anywhere; }\n"
        ".gg-wide { overflow-x: auto; }\n"
        # Browsers draw formulas, but leave these two to the page.
        'mtd[columnalign="left"] { text-align: left; } mtd[columnalign="right"] { text-align: right; }\n'
        "math { max-width: 100%; } math[display=block] { overflow-x: auto; overflow-y: hidden; }\n"
    )


_CONTAINERS = {"blockquote_open", "list_item_open"}


def _read_inline(token: Token, spent: Spent, env: dict[str, Any]) -> None:
    """What stands in the lines of a block. Beyond the text's share of marks they are plain text."""
    content = token.content
    spent.marks += sum(map(content.count, _MARKS)) + sum(map(content.count, _FAINT_MARKS)) // 4
    token.children = []
    if spent.marks > Spent.MAX_MARKS:
        token.children.append(Token("text", "", 0, content=content))
    elif "formula" in token.meta:
        meta = {"display": True}
        token.children.append(Token("formula", "math", 0, content=token.meta["formula"], markup=content, meta=meta))
    else:
        _parser.inline.parse(content, _parser, env, token.children)


class _Renderer(RendererHTML):
    """HTML from tokens, where it differs from the usual. The keys of `env`: see `Reading.draw`."""

    def formula(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Any) -> str:
        """A formula, or its source where it cannot be read."""
        token, spent = tokens[idx], env["spent"]
        spent.formulas += len(token.content)
        drawn = to_mathml(token.content, token.meta["display"]) if spent.formulas <= Spent.MAX_FORMULAS else None
        return drawn or f'<code class="gg-formula">{escape(token.markup)}</code>'

    def fence(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Any) -> str:
        """Code, under the name of its language."""
        token, spent, draft = tokens[idx], env["spent"], env["draft"]
        word = token.info.split(maxsplit=1)[0] if token.info.split() else ""
        html = None
        if language_name(word):
            spent.code += len(token.content)
            if spent.code <= Spent.MAX_CODE:
                html = draft.highlight(token.content, word) if draft else highlight(token.content, word)
        name = language_name(word) or (word if len(word) <= 40 else word[:39] + "…")
        return _code(escape(token.content) if html is None else html, name)

    def code_block(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Any) -> str:
        """Code without a language."""
        return _code(escape(tokens[idx].content), "")

    def link_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Any) -> str:
        """A link that tells nobody where it stands; `[a]()` leads nowhere and is none."""
        url = str(tokens[idx].attrGet("href") or "")
        env["link"] = url if is_link(url) else ""
        return _link(url, tokens[idx]) if env["link"] else ""

    def link_close(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Any) -> str:
        """Its end."""
        inside, env["link"] = env["link"], ""
        return "</a>" if inside else ""

    def image(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Any) -> str:
        """Never loaded: its text, as a link to it where it does not stand in one."""
        token = tokens[idx]
        url, words = str(token.attrGet("src") or ""), _words(token.children or [])
        if env["link"] or not is_link(url):
            return escape(words)
        return _link(url, token, "gg-image") + escape(words.strip() or url) + "</a>"

    def text_special(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Any) -> str:
        """An escaped sign, or an entity."""
        return escape(tokens[idx].content)

    def list_item_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Any) -> str:
        """An item; of a task, `[ ]` and `[x]` become a box that is only looked at."""
        first = tokens[idx + 2] if idx + 2 < len(tokens) and tokens[idx + 1].type == "paragraph_open" else None
        text = first.children[0] if first is not None and first.children else None
        if text is not None and text.type == "text" and text.content[:4] in _BOXES:
            text.content = _BOXES[text.content[:4]] + text.content[3:]
        return self.renderToken(tokens, idx, options, env)

    def table_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Any) -> str:
        """A table in a box that can be moved sideways, by keyboard too."""
        return '<div class="gg-wide" tabindex="0"><table>\n'

    def table_close(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Any) -> str:
        """Its end."""
        return "</table></div>\n"

    def th_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Any) -> str:
        """A cell, with its side as an attribute of its own instead of a style."""
        style = str(tokens[idx].attrGet("style") or "")
        side = f' align="{escape(style.removeprefix("text-align:"))}"' if style else ""
        return f"<{tokens[idx].tag}{side}>"

    td_open = th_open


_BOXES: Mapping[str, str] = {"[ ] ": "☐", "[x] ": "☑", "[X] ": "☑"}


def _code(html: str, name: str) -> str:
    head = f'<div class="gg-language">{escape(name)}</div>' if name else ""
    return f'<div class="gg-code">{head}<pre tabindex="0"><code>{html}</code></pre></div>\n'


def _link(url: str, token: Token, kind: str = "") -> str:
    title = str(token.attrGet("title") or "")
    more = (f' title="{escape(title)}"' if title else "") + (f' class="{kind}"' if kind else "")
    return f'<a href="{escape(url)}"{more} target="_blank" rel="{REL}">'


def _words(tokens: Sequence[Token]) -> str:
    """The text of an image's tokens, without their markup."""
    parts = []
    for token in tokens:
        if token.type == "image":
            parts.append(_words(token.children or []))
        elif token.type in ("softbreak", "hardbreak"):
            parts.append("\n")
        else:
            parts.append(token.markup if token.type == "formula" else token.content)
    return "".join(parts)


_parser = Parser()
_renderer = _Renderer(_parser)
