"""What a model wrote as HTML: right by CommonMark's own examples, and harmless whatever it is."""

from __future__ import annotations

import html
import json
import re
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glassgpt.ui.markdown import ATTRIBUTES, LONGEST, SCHEMES, TAGS, Stream, blocks_of, to_html

# Why an example of CommonMark's is drawn otherwise here on purpose.
RAW, IMAGE, LINK, MATH = "raw HTML is shown as text", "no image is loaded", "leads to no page", "a formula"
_RAW = re.compile(r"<[a-zA-Z/!?]")
_KNOWN = re.compile(r"</?(p|em|strong|code|pre|a|h\d|ul|ol|li|blockquote|hr|br|img|del)\b[^>]*>")


class Walk(HTMLParser):
    """Notes the tags and attributes of markup, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.other: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def handle_comment(self, data: str) -> None:
        self.other.append(data)

    handle_decl = handle_pi = unknown_decl = handle_comment


def walk(markup: str) -> Walk:
    found = Walk()
    found.feed(markup)
    found.close()
    return found


def check_harmless(markup: str) -> None:
    """By an independent parser: nothing but what is on the lists, and links to pages and mail alone."""
    found = walk(markup)
    assert not found.other
    for tag, attributes in found.tags:
        assert tag in TAGS
        allowed = ATTRIBUTES.get(tag, set()) | ({"target", "rel"} if tag == "a" else set())
        assert set(attributes) <= allowed
        assert not any(name.startswith("on") or name in ("style", "src", "id") for name in attributes)
        if "href" in attributes:
            assert urlsplit((attributes["href"] or "").strip()).scheme.lower() in SCHEMES
            assert attributes["rel"] == "noopener noreferrer nofollow"


@pytest.fixture(scope="module")
def commonmark(shared_data: Path) -> list[dict[str, Any]]:
    return json.loads((shared_data / "peers/web_chat/commonmark_spec_examples.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def attacks(shared_data: Path) -> list[str]:
    peers = shared_data / "peers"
    found = [one["payload"] for one in json.loads((peers / "web_chat/dompurify_xss_fixtures.json").read_text("utf-8"))]
    return found + json.loads((peers / "robustness/blns.json").read_text(encoding="utf-8"))


def normal(markup: str) -> str:
    """Without what we add to links and code, and without white space between blocks."""
    markup = re.sub(r' (target|rel)="[^"]*"', "", markup)
    markup = re.sub(r'<div class="gg-language">.*?</div>', "", markup)
    markup = re.sub(r'</?span[^>]*>| class="language-[^"]*"', "", markup)
    markup = re.sub(r"\s*\n\s*", "\n", markup).replace("<br />", "<br>").replace("<hr />", "<hr>")
    markup = re.sub(r">\n", ">", re.sub(r"\n<", "<", markup)).strip()
    # One writes " as &quot; in text, the other does not: compared as characters, and addresses too.
    return re.sub(
        r'href="([^"]*)"',
        lambda m: f'href="{html.unescape(m[1])}"',
        markup.replace("&quot;", '"').replace("&nbsp;", "\xa0"),
    )


def why_other(example: dict[str, Any]) -> str | None:
    source, wanted = example["markdown"], example["html"]
    known = _KNOWN.sub("", wanted)
    if example["section"] in ("HTML blocks", "Raw HTML") or _RAW.search(known):
        return RAW
    if "<img" in wanted:
        return IMAGE
    if any(urlsplit(html.unescape(url)).scheme not in SCHEMES for url in re.findall(r'href="([^"]*)"', wanted)):
        return LINK
    if re.search(r"\]:\s*/ur[li]", source):  # an address for links, which is none here and so text
        return LINK
    if "$" in source or "\\[" in source or "\\(" in source:
        return MATH
    return None


def test_commonmarks_examples_are_drawn_as_it_says(commonmark: list[dict[str, Any]]):
    compared, wrong = 0, []
    for example in commonmark:
        if why_other(example) is not None:
            continue
        compared += 1
        if normal(to_html(example["markdown"])) != normal(example["html"]):
            wrong.append((example["example"], example["markdown"], to_html(example["markdown"]), example["html"]))
    assert compared > 400
    assert wrong == []


def test_every_example_is_harmless_and_raw_markup_is_shown(commonmark: list[dict[str, Any]]):
    for example in commonmark:
        check_harmless(to_html(example["markdown"]))


def test_attacks_are_harmless(attacks: list[str]):
    assert len(attacks) > 600
    for text in attacks:
        markup = to_html(text)
        check_harmless(markup)
        stream, blocks = Stream(), list[str]()
        for at in range(0, len(text), 5):
            first, new = stream.push(text[at : at + 5])
            blocks[first:] = new
        check_harmless("".join(blocks))


PIECES = [*"<>&\"'[]()!*_`~#|-+=:;/\\$ \n\tajs1x{}^.", "javascript:", "onerror=", "中", "](", "http://a", "<script>"]


@given(st.lists(st.sampled_from(PIECES), max_size=120).map("".join))
@settings(max_examples=400, deadline=None)
def test_any_text_is_harmless(text: str):
    check_harmless(to_html(text))


@given(st.text(alphabet="abc <&'\"中文é", min_size=1, max_size=80))
@settings(max_examples=200, deadline=None)
def test_no_character_of_a_plain_text_is_lost(text: str):
    assert "".join("".join(walk(to_html(text)).text).split()) == "".join(text.split())


@st.composite
def growing(draw: Any) -> tuple[str, list[int]]:
    blocks = draw(st.lists(st.sampled_from([
        "a paragraph\nof two lines", "# a title", "- one\n- two\n\n  more", "1. one\n2. two",
        "```python\nx = 1\n\ny = 2\n```", "> quoted\n> text", "| a | b |\n|---|---|\n| 1 | 2 |", "    indented", "---",
        "text\n===", "$$x^2$$", "**b** `c`",
        "```\nunclosed", "* other\n+ bullets",
    ]), min_size=1, max_size=8))  # fmt: skip
    gaps = draw(st.lists(st.sampled_from(["\n", "\n\n", "\n\n\n"]), min_size=len(blocks), max_size=len(blocks)))
    text = "".join(block + gap for block, gap in zip(blocks, gaps, strict=True))
    return text, draw(st.lists(st.integers(1, 12), min_size=1, max_size=40))


@given(growing())
@settings(max_examples=300, deadline=None)
def test_a_text_that_grows_ends_as_the_whole_text(case: tuple[str, list[int]]):
    text, sizes = case
    stream, blocks, at, turn = Stream(), list[str](), 0, 0
    while at < len(text):
        size = sizes[turn % len(sizes)]
        first, new = stream.push(text[at : at + size])
        assert first <= len(blocks)
        blocks[first:] = new
        at, turn = at + size, turn + 1
    # The last block may go on, and its code is not coloured before it ends.
    assert [plain(one) for one in blocks] == [plain(one) for one in blocks_of(text)]


def plain(block: str) -> str:
    return re.sub(r"</?span[^>]*>", "", block)


def test_settled_blocks_are_not_sent_again():
    stream = Stream()
    stream.push("one\n\n")
    assert stream.push("two")[0] == 0
    # Only a line that is whole says that another block has begun.
    assert stream.push(" more\n\nthree") == (0, ["<p>one</p>\n", "<p>two more</p>\n", "<p>three</p>\n"])
    assert stream.push(" and\nmore") == (1, ["<p>two more</p>\n", "<p>three and\nmore</p>\n"])
    assert stream.push(" words") == (2, ["<p>three and\nmore words</p>\n"])


@pytest.mark.parametrize(
    "text",
    ["[" * 10_000, ">" * 10_000 + "x", "*" * 10_000 + "a", "*a **a " * 5_000, "`" * 10_000 + "a", "![" * 10_000,
     "[a](" * 5_000, "- " * 5_000 + "x", "$" + "{" * 1_000 + "$", "$" + "\\left(" * 300 + "$", "\\[" * 5_000,
     "<" * 20_000,
     "a_" * 10_000, "$" * 10_000, "|a" * 2_000 + "|\n" + "|-" * 2_000 + "|\n", "&" * 20_000, "~" * 10_000],
    ids=lambda text: text[:6],
)  # fmt: skip
def test_text_made_to_take_long_does_not(text: str):
    began = time.process_time()
    markup = to_html(text)
    assert time.process_time() - began < 5  # a hundredth of that is usual; without limits some take minutes
    check_harmless(markup)


def test_what_is_nested_too_deep_is_shown_and_not_dropped():
    assert "at the bottom" in to_html(">" * 500 + " at the bottom")
    assert "at the bottom" in to_html(
        "".join("  " * depth + "- x\n" for depth in range(200)) + "  " * 200 + "at the bottom"
    )


def test_what_is_too_long_is_shown_as_it_is():
    text = "**" + "x" * LONGEST
    assert to_html(text) == f"<pre><code>{text}</code></pre>"


@pytest.mark.parametrize("text", ["a\x00b", "half \ud83d of one", "\u202edesrever", "a\u200bb"])
def test_strange_characters_do_no_harm(text: str):
    check_harmless(to_html(text))
    to_html(text).encode("utf-8")


@pytest.mark.parametrize(
    "url",
    ["javascript:alert(1)", "JaVaScRiPt:alert(1)", "java\tscript:alert(1)", "&#106;avascript:alert(1)",
     "\x01javascript:1", "data:text/html,x", "vbscript:x", "file:///etc/passwd", "//other.example/x", "/v1/models",
     "x:y", " javascript:alert(1)"],
)  # fmt: skip
@pytest.mark.parametrize("form", ["[a](<{}>)", "![a](<{}>)", "<{}>", "[a][r]\n\n[r]: <{}>"])
def test_links_that_lead_to_no_page_are_none(url: str, form: str):
    markup = to_html(form.format(url))
    check_harmless(markup)
    assert not [tag for tag, attributes in walk(markup).tags if tag == "a"]


def test_a_link_without_a_host_is_none():
    assert "<a" not in to_html("[x](http:v1/models)") and "<a" not in to_html("<https:a>")


def test_formulas_that_double_or_move_what_is_drawn_are_shown_as_they_were():
    nested = "x"
    for _ in range(13):
        nested = "\\sideset{_1}{_2}{" + nested + "}"
    for text in (f"${nested}$", "$\\hspace{-40em} x$"):
        began = time.process_time()
        markup = to_html(text)
        assert "<math" not in markup and time.process_time() - began < 0.5
        assert text in "".join(walk(markup).text)


def test_images_are_links_and_load_nothing():
    assert '<a href="http://e.example/a.png"' in to_html("![a cat](http://e.example/a.png)")
    markup = to_html("[![a cat](http://e.example/a.png)](http://e.example/)")
    assert len([tag for tag, _ in walk(markup).tags if tag == "a"]) == 1 and "a cat" in markup


@pytest.mark.parametrize("text", ["$x^2$", "\\(x^2\\)", "$$x^2$$", "\\[x^2\\]", "where $a$ is \\(b\\)"])
def test_formulas_are_drawn(text: str):
    assert "<math" in to_html(text)


@pytest.mark.parametrize("text", ["$5 and $6", "costs $5.", "a $ b $ c", "US$10 to US$20", r"\$x\$"])
def test_money_is_no_formula(text: str):
    assert "<math" not in to_html(text)


def test_a_formula_that_cannot_be_read_is_shown_as_it_was():
    assert "$\\frac{$" in "".join(walk(to_html("$\\frac{$")).text)


def test_code_is_coloured_and_its_language_named():
    markup = to_html("```python\ndef f(): pass\n```")
    assert '<span class="hl-k">def</span>' in markup and "python" in markup
    assert "".join(walk(markup).text) == "pythondef f(): pass\n\n"
    assert "hl-" not in to_html("```nosuchlanguage\nx\n```")
