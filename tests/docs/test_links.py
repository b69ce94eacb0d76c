"""No link on any page is broken: files and folders exist, anchors are those of code hosts, addresses well formed."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pages
import pytest

EACH = pytest.mark.parametrize("page", pages.PAGES, ids=pages.name)


def broken(page: Path, link: str) -> str | None:
    """What is wrong with a link; None where nothing is."""
    parts = urlsplit(link)
    if parts.scheme or link.startswith("//"):
        if parts.scheme == "mailto":
            return None if re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", parts.path) else "no address of mail"
        if parts.scheme not in ("http", "https"):
            return f"the scheme {parts.scheme!r} is not followed everywhere"
        if not re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+|127\.0\.0\.1|localhost", parts.hostname or "", re.I):
            return "no host"
        return None if re.fullmatch(r"[!-~]*", parts.path + parts.query) else "characters that must be escaped"
    if not link:
        return "empty"
    target = page if not parts.path else (page.parent / unquote(parts.path))
    if parts.path.startswith("/") or not target.resolve().is_relative_to(pages.ROOT):
        return "leads out of the repository"
    if not target.exists():
        return "no such file"
    if parts.fragment:
        if target.suffix != ".md":
            return "an anchor in what is no page"
        anchors = pages.anchors(target.resolve())
        if unquote(parts.fragment) not in anchors:
            return f"no such heading; there are {sorted(anchors)}"
    return None


@EACH
def test_no_link_is_broken(page):
    found = [(line, link, wrong) for line, link in pages.links(page) if (wrong := broken(page, link))]
    assert found == []


@EACH
def test_no_link_is_left_as_text(page):
    """`[text](target)` with a blank in the target, and `[text][name]` without a definition, are shown as they stand."""
    for line, token in pages.inline(page):
        if token.type == "text":
            assert not re.search(r"\]\(|\]\[", token.content), f"line {line}: {token.content!r}"


@EACH
def test_raw_html_is_for_answers_and_marks_alone(page):
    html = [token.content for token in pages.tokens(page) if token.type == "html_block"]
    html += [token.content for _, token in pages.inline(page) if token.type == "html_inline"]
    left = [re.sub(r"<!--.*?-->|</?details>|<summary>[^<]*</summary>", "", text, flags=re.S).strip() for text in html]
    assert [text for text in left if text] == []


@EACH
def test_a_path_that_a_page_names_exists(page):
    """`tests/model`, `docs/x.md`, `src/glassgpt/core/errors.py`: as code in running text, without being a link."""
    for line, token in pages.inline(page):
        if token.type == "code_inline" and re.fullmatch(
            r"(tests|docs|src|tools|benchmarks|examples|recipes)/[\w./-]+", token.content
        ):
            there = (pages.ROOT / token.content).exists() or "NN" in token.content
            assert there or page.name in ("log.md", "CHANGELOG.md"), f"line {line}: {token.content}"  # of their day


@EACH
def test_a_chinese_page_leads_to_chinese_pages(page):
    """A link goes to the page in the reader's language where there is one; the link to the translation does not."""
    for line, link in pages.links(page):
        path = urlsplit(link).path
        if urlsplit(link).scheme or not path.endswith(".md"):
            continue
        target = (page.parent / unquote(path)).resolve()
        if target != pages.translation(page) and pages.is_chinese(target) != pages.is_chinese(page):
            assert pages.is_chinese(page) and not pages.translation(target).exists(), f"line {line}: {link}"


@pytest.mark.parametrize(
    ("link", "message"),
    [
        ("missing.md", "no such file"),
        ("README.md#no-such-heading", "no such heading"),
        ("#no-such-heading", "no such heading"),
        ("../outside.md", "out of the repository"),
        ("/README.md", "out of the repository"),
        ("LICENSE#top", "no page"),
        ("https:///x", "no host"),
        ("https://example.org/a b", "escaped"),
        ("javascript:alert(1)", "scheme"),
        ("mailto:nobody", "mail"),
        ("", "empty"),
    ],
)
def test_a_broken_link_is_seen(link, message):
    assert message in (broken(pages.ROOT / "README.md", link) or "")


def test_anchors_are_those_of_code_hosts(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# A `code` & *more*, 2.5 times\n\n## 放到你的网页（上）\n\n## Twice\n\n## Twice\n\n## [A link](x) in_it\n",
        encoding="utf-8",
    )
    expected = {"a-code--more-25-times", "放到你的网页上", "twice", "twice-1", "a-link-in_it"}
    assert pages.anchors(page) == expected
