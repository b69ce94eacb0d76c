"""The pages of the documentation as data: blocks of code with marks, headings, links and pictures (CONTRIBUTING.md).

markdown-it reads them, the CommonMark reader that the package itself depends on.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
# For those who change the code: these have no translation.
ENGLISH_ONLY = {"CHANGELOG.md", "CONTRIBUTING.md", "docs/architecture.md", "docs/log.md", "docs/performance.md"}

MARK = re.compile(r"\s*<!-- ([a-z ]+): (.+?) -->\s*|\s*<!-- (prints) -->\s*")
BLOCK_MARKS = {"not run", "raises", "exits", "file", "prints"}
PAGE_MARKS = {"needs", "slow", "sh not run"}


@dataclass(frozen=True)
class Block:
    """A block between fences: its language, its text, the line of its first row (from 1) and its marks."""

    language: str
    text: str
    line: int
    marks: dict[str, str] = field(default_factory=dict)

    @property
    def commands(self) -> list[list[str]]:
        """The words of each command of a `sh` block."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [words for line in lines if (words := shlex.split(line, comments=True))]


def name(page: Path) -> str:
    """What a test calls a page."""
    return page.relative_to(ROOT).as_posix() if page.is_relative_to(ROOT) else page.name


def is_chinese(page: Path) -> bool:
    return page.name.endswith(".zh.md")


def translation(page: Path) -> Path:
    """Where the same page in the other language stands."""
    return page.with_name(
        page.name.removesuffix(".zh.md") + ".md" if is_chinese(page) else page.name.removesuffix(".md") + ".zh.md"
    )


def pairs() -> list[tuple[Path, Path]]:
    """Each English page with its translation."""
    return [(page, translation(page)) for page in PAGES if not is_chinese(page) and name(page) not in ENGLISH_ONLY]


def chapters() -> list[Path]:
    """The chapters of the course, both languages, in order."""
    return [page for page in PAGES if page.parent.name == "course" and page.name[:2].isdigit()]


@cache
def tokens(page: Path) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))


def blocks(page: Path) -> list[Block]:
    """The blocks between fences, from top to bottom, each with the marks on the lines before it."""
    lines = page.read_text(encoding="utf-8").splitlines()
    found = []
    for token in tokens(page):
        if token.type != "fence":
            continue
        assert token.map is not None
        marks, above = {}, token.map[0] - 1
        while above >= 0 and (match := MARK.fullmatch(lines[above])):
            key = match[1] or match[3]
            assert key in BLOCK_MARKS | PAGE_MARKS, f"{name(page)}:{above + 1}: there is no mark {key!r}"
            if key in BLOCK_MARKS:
                marks[key] = match[2] or ""
            above -= 1
        found.append(Block(token.info.strip(), token.content, token.map[0] + 2, marks))
    return found


def page_marks(page: Path) -> dict[str, str]:
    """The marks of the whole page: models it needs, how long it takes, why no command of it is run."""
    found = {}
    for token in tokens(page):
        if token.type == "fence":
            break
        for match in map(MARK.fullmatch, token.content.splitlines() if token.type == "html_block" else []):
            if match and match[1] in PAGE_MARKS:
                found[match[1]] = match[2]
    return found


def why_not_run(page: Path, block: Block) -> str | None:
    """The reason why a block of code is not run; None where it is."""
    return block.marks.get("not run", page_marks(page).get("sh not run") if block.language == "sh" else None)


def code_blocks(page: Path) -> list[Block]:
    """The blocks that are run unless a mark says why not."""
    return [block for block in blocks(page) if block.language in ("python", "sh")]


def runs(page: Path) -> bool:
    return any(why_not_run(page, block) is None for block in code_blocks(page))


def without_comments(code: str) -> list[str]:
    """The lines of a block without their comments (a `#` within quotes ends a line too, in both languages alike)."""
    return [line.partition("#")[0].rstrip() for line in code.splitlines()]


def inline(page: Path) -> Iterator[tuple[int, Token]]:
    """All that stands in running text, with its line."""
    for token in tokens(page):
        for child in token.children or []:
            yield (token.map or [0])[0] + 1, child


def links(page: Path) -> list[tuple[int, str]]:
    """Where the page's links and pictures lead, as written, with their lines."""
    return [
        (line, str(token.attrGet("href") or token.attrGet("src") or ""))
        for line, token in inline(page)
        if token.type in ("link_open", "image")
    ]


def images(page: Path) -> list[str]:
    return [str(token.attrGet("src")) for _, token in inline(page) if token.type == "image"]


def headings(page: Path) -> list[tuple[int, str]]:
    """Level and text of each heading, without its markup."""
    found = tokens(page)
    return [
        (int(token.tag[1]), "".join(child.content for child in found[at + 1].children or []))
        for at, token in enumerate(found)
        if token.type == "heading_open"
    ]


def anchors(page: Path) -> set[str]:
    """The anchors that a code host gives the page's headings: small letters, hyphens for spaces, no punctuation."""
    found: dict[str, int] = {}
    for _, text in headings(page):
        anchor = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
        found[anchor] = found.get(anchor, -1) + 1
        if found[anchor]:
            found[f"{anchor}-{found[anchor]}"] = 0
    return set(found)
