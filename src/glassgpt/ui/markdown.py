"""What a model wrote, as HTML that cannot do anything: CommonMark, tables, highlighted code and formulas.

Two walls: the renderer knows no raw HTML, no other links than to pages and mail, and loads no images; and what it gives
goes through a sanitizer with lists of its own (nh3).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from typing import Any
from urllib.parse import urlsplit

import nh3
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from mdit_py_plugins.dollarmath import dollarmath_plugin
from mdit_py_plugins.texmath import texmath_plugin

from glassgpt.ui.formula import MATHML, MATHML_ATTRIBUTES, formula
from glassgpt.ui.highlight import highlight

LONGEST = 200_000  # characters that are read as Markdown; what is longer is shown as it is
DEEPEST = 60  # blocks in each other; what is deeper is shown as it is
_FORMULAS = ("math_inline", "math_inline_double", "math_single", "math_block", "math_block_label", "math_block_eqno")
SCHEMES = {"http", "https", "mailto"}
TAGS = {"p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "strong", "em", "s", "code", "pre", "blockquote", "ul",
        "ol", "li", "a", "table", "thead", "tbody", "tr", "th", "td", "span", "div"} | MATHML  # fmt: skip
ATTRIBUTES: dict[str, set[str]] = {
    "a": {"href", "title", "target", "rel"}, "ol": {"start"}, "td": {"class"}, "th": {"class"}, "span": {"class"},
    "div": {"class"}, "code": {"class"}, "pre": {"class"}, **dict.fromkeys(MATHML, MATHML_ATTRIBUTES),
}  # fmt: skip


class _Renderer(RendererHTML):
    """HTML from tokens, where it differs from the usual."""

    def fence(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        """Code, with its language above it. Code that is still being written is not coloured yet."""
        token = tokens[idx]
        language = token.info.strip().split(maxsplit=1)[0] if token.info.strip() else ""
        body = escape(token.content) if env.get("unfinished") else highlight(token.content, language)
        head = f'<div class="gg-language">{escape(language[:40])}</div>' if language else ""
        return f"{head}<pre><code>{body}</code></pre>\n"

    def image(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        """Never loaded: its text, with a link to it where it does not stand in one already."""
        token = tokens[idx]
        alt = self.renderInlineAsText(token.children or [], options, env)
        source = str(token.attrGet("src") or "")
        if token.meta.get("in_link") or not source:
            return escape(alt)
        return f"{_open_link(source, str(token.attrGet('title') or ''))}{escape(alt or source)}</a>"

    def link_open(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        """A link that tells nothing to where it leads."""
        if tokens[idx].meta.get("nowhere"):
            return ""
        return _open_link(str(tokens[idx].attrGet("href")), str(tokens[idx].attrGet("title") or ""))

    def link_close(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        """Its end."""
        return "" if tokens[idx].meta.get("nowhere") else "</a>"

    def th_open(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        """A cell; how it is aligned is said by a class."""
        return _open_cell("th", tokens[idx])

    def td_open(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        """As above."""
        return _open_cell("td", tokens[idx])

    def math_inline(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        """A formula in a line."""
        return formula(tokens[idx].content, block=False, around=_around(tokens[idx]))

    def math_block(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        """A formula of its own."""
        return f"<p>{formula(tokens[idx].content, block=True, around=_around(tokens[idx]))}</p>\n"

    math_inline_double = math_single = math_inline
    math_block_label = math_block_eqno = math_block


def _make() -> tuple[MarkdownIt, _Renderer]:
    found = MarkdownIt("commonmark", {"html": False, "maxNesting": DEEPEST}, renderer_cls=_Renderer)
    found.enable(["table", "strikethrough"])
    found.use(dollarmath_plugin, allow_labels=False, allow_space=False, allow_digits=False, double_inline=True)
    found.use(texmath_plugin, delimiters="brackets")
    renderer = found.renderer
    assert isinstance(renderer, _Renderer)
    renderer.rules |= {name: getattr(renderer, name) for name in _FORMULAS}  # in the place of the plugins' own
    found.validateLink = is_harmless  # type: ignore[method-assign]
    found.core.ruler.push("links", _mark)
    return found, renderer


def is_harmless(url: str) -> bool:
    """Whether a link may be followed: only to pages and mail."""
    try:
        parts = urlsplit(url.strip())
        # "http:v1/models" is an address of the page's own host.
        return parts.scheme.lower() == "mailto" or (parts.scheme.lower() in SCHEMES and bool(parts.netloc))
    except ValueError:
        return False


def to_html(text: str) -> str:
    """The whole of a text as safe HTML."""
    return "".join(blocks_of(text))


def blocks_of(text: str) -> list[str]:
    """A text's blocks (paragraphs, lists, tables, ...) as safe HTML. What is longer than `LONGEST` is one block, as it
    is."""
    text = storable(text)
    if len(text) > LONGEST:
        return [_as_it_is(text)]
    return [html for html, _ in _parsed(text)]


class Stream:
    """A text that grows. Only its last block can still change: the others are not read again.

    A link whose address is given in a later block is drawn when the whole text is (`blocks_of`).
    """

    def __init__(self) -> None:
        self._tail = ""
        self._settled = 0  # blocks before the tail

    def push(self, piece: str) -> tuple[int, list[str]]:
        """More of the text. Gives the first block that has changed, and all from there on."""
        self._tail += storable(piece)
        first = self._settled
        if len(self._tail) > LONGEST:
            return first, [_as_it_is(self._tail)]
        found = _parsed(self._tail, unfinished=True)
        lines = self._tail.splitlines(keepends=True)
        # A block has ended where another began in a line that is whole: "*" alone could begin a list, or bold words.
        whole = len(lines) - (not lines[-1].endswith("\n")) if lines else 0
        ended = max((number for number, (_, line) in enumerate(found) if line < whole), default=0)
        if ended:
            self._settled += ended
            self._tail = "".join(lines[found[ended][1] :])
        return first, [html for html, _ in found]


def storable(text: str) -> str:
    """Without halves of characters, which no HTML can hold."""
    return text.encode("utf-8", "replace").decode() if not text.isascii() and _SURROGATE.search(text) else text


_SURROGATE = re.compile("[\ud800-\udfff]")
_machine: list[tuple[MarkdownIt, _Renderer]] = []


def _parsed(text: str, unfinished: bool = False) -> list[tuple[str, int]]:
    """Each block as HTML, with the line that it begins in. `unfinished`: the last one may go on."""
    if not _machine:
        _machine.append(_make())
    markdown, renderer = _machine[0]
    env: dict[str, Any] = {}
    groups: list[list[Token]] = []
    for token in markdown.parse(text, env):
        if token.level == 0 and token.nesting >= 0:
            groups.append([])
        groups[-1].append(token)
    found, lines = [], text.splitlines(keepends=True)
    for number, group in enumerate(groups):
        begin, end = group[0].map or (0, len(lines))
        if max(token.level for token in group) >= DEEPEST - 1:  # whatever is deeper was left out
            html = _as_it_is("".join(lines[begin:end]))
        else:
            last = unfinished and number == len(groups) - 1
            html = clean(renderer.render(group, markdown.options, {**env, "unfinished": last}))
        found.append((html, begin))
    return found


def _as_it_is(text: str) -> str:
    return f"<pre><code>{escape(text)}</code></pre>"


def clean(html: str) -> str:
    """The second wall."""
    return nh3.clean(html, tags=TAGS, attributes=ATTRIBUTES, url_schemes=SCHEMES, link_rel=None, strip_comments=True)


def _open_link(url: str, title: str) -> str:
    named = f' title="{escape(title)}"' if title else ""
    return f'<a href="{escape(url)}"{named} target="_blank" rel="noopener noreferrer nofollow">'


def _open_cell(tag: str, token: Token) -> str:
    style = str(token.attrGet("style") or "")
    side = style.removeprefix("text-align:").strip()
    return f'<{tag} class="gg-{side}">' if side in ("left", "center", "right") else f"<{tag}>"


def _around(token: Token) -> tuple[str, str]:
    """The signs around a formula, as they were written."""
    return {"$": ("$", "$"), "$$": ("$$", "$$"), "\\(": ("\\(", "\\)"), "\\[": ("\\[", "\\]")}.get(
        token.markup, ("\\[", "\\]") if "block" in token.type else ("\\(", "\\)")
    )


def _mark(state: Any) -> None:
    """Which images stand in a link, since a link in a link is none; and which links lead nowhere: `[a]()`."""
    for block in state.tokens:
        opened: list[Token] = []
        for token in block.children or ():
            if token.type == "link_open":
                opened.append(token)
                token.meta = {**token.meta, "nowhere": not is_harmless(str(token.attrGet("href") or ""))}
            elif token.type == "link_close" and opened:
                token.meta = {**token.meta, "nowhere": opened.pop().meta["nowhere"]}
            elif token.type == "image" and opened:
                token.meta = {**token.meta, "in_link": True}
