"""Whatever the text, its HTML is harmless, whole, and there soon."""

from __future__ import annotations

import html
import logging
import re
import time
from pathlib import Path

import pytest
from html_walk import attacks, check_harmless
from hypothesis import given, settings
from hypothesis import strategies as st

from glassgpt.ui import allowed
from glassgpt.ui.markdown import LONGEST, MOST_LINES, blocks_of, to_html

PIECES = [*"<>&\"'[]()!*_`~#|-+=:;/\\$ \n\t0aj{}^.%@\0\r", "javascript:", "onerror=", "中", "](", "http://a.b",
          "<script>", "```python\n", "\n\n", "\n- ", "\n> ", "$$\n", "\\[", "\\(x\\)", "[a]: http://a.b\n",
          "| a | b |\n|-|-|\n", "&#x6a;", "\ud800", "\u202e", "\u200b", "\\frac{a}{b}", "\\text{<b>}"]  # fmt: skip
anything = st.one_of(st.text(max_size=300), st.lists(st.sampled_from(PIECES), max_size=120).map("".join))


@pytest.fixture(autouse=True)
def no_mistakes(caplog: pytest.LogCaptureFixture):
    """A mistake in a library is caught and told in the log; here it is a failure."""
    yield
    assert [one for one in caplog.records if one.levelno >= logging.ERROR] == []


def test_attacks_are_harmless(shared_data: Path):
    texts = attacks(shared_data)
    assert len(texts) > 600
    for text in texts:
        check_harmless(to_html(text))


def test_markup_that_is_pasted_is_shown_with_all_its_words(shared_data: Path):
    for text in attacks(shared_data):
        shown, written = (re.sub(r"[^A-Za-z]", "", one) for one in (check_harmless(to_html(text)).text, text))
        if not re.search(r"&|[\[$`~*\\]|^ *\d+[.)]", text):  # which mean something in Markdown
            assert shown == written


@given(anything)
@settings(max_examples=300, deadline=None)
def test_any_text_is_harmless(text: str):
    check_harmless(to_html(text)).text.encode()


@given(
    st.text(alphabet="abc \n,;?'\"中é<>&\u202e\u200b", max_size=200).map(
        lambda text: re.sub("^>", "", text, flags=re.M)
    )
)
@settings(max_examples=300, deadline=None)
def test_text_without_marks_is_whole(text: str):
    text = re.sub(r"(?m)^[ >]+", "", re.sub(r"&[a-z]*;|<(?=[a-z])", "", text))
    assert "".join(check_harmless(to_html(text)).text.split()) == "".join(text.split())


@given(st.text(max_size=200), st.sampled_from(["a", "math", "p", "svg", "style", "mtext", "annotation-xml"]))
@settings(max_examples=100, deadline=None)
def test_the_second_wall_stands_alone(text: str, tag: str):
    """Even markup that never went through the first."""
    text = text.encode("utf-8", "replace").decode()
    markup = f'<{tag} onload="x()" style="x" id="a" href="javascript:x()" class="q-page">{text}<img src=x onerror=x()>'
    cleaned = allowed.clean(f"{markup}</{tag}>" + '<a href="/v1/delete">x</a><a href="//e.example">x</a>')
    assert "/v1" not in cleaned and "e.example" not in cleaned
    found = check_harmless(cleaned)
    assert not any("class" in attributes and "q-page" in str(attributes["class"]) for _, attributes in found.tags)


@pytest.mark.parametrize(
    "url",
    ["javascript:alert(1)", "JaVaScRiPt:alert(1)", "java&#10;script:alert(1)", "&#106;avascript:alert(1)",
     "javascript&colon;alert(1)", "\x01javascript:alert(1)", "java\tscript:alert(1)", "data:text/html,x", "vbscript:x",
     "file:///etc/passwd", "//e.example/x", "/v1/models", "http:v1/models", "https:/v1", "blob:x", "about:blank",
     "view-source:http://a.b", "feed:javascript:x", "%6aavascript:x", "ws://a.b", "ftp://a.b", "tel:1", "#here", "?x"],
)  # fmt: skip
@pytest.mark.parametrize("form", ["[x]({})", "[x](<{}>)", "<{}>", "![x]({})", "[x]\n\n[x]: {}", "[x]: {}\n\n[x][]"])
def test_a_link_leads_only_to_pages_and_mail(form: str, url: str):
    assert "<a" not in to_html(form.format(url))


@pytest.mark.parametrize("times", [10_000, 100_000])
@pytest.mark.parametrize(
    "piece",
    ["[", "]", "*", "_", "`", "~", "<", ">", "&", "!", "$", "|", "\\", "(", "{", "#", "\n", " ", "\t", "\0", "\ud800",
     "\u202e", "\u200b", "a", "中", "![", "[](", "[a](<b", "![[]()", "*a_", "**a *a ", "> ", "- ", "1. ", "a\n\n",
     "- a\n",
     "`a``b", "<http://a.b>", "[a](http://b)", "[a]: http://b\n", "$x$ ", "\\(a", "\\(a\\)", "$$\n", "```\n", "[^",
     "&#x6a;",
     "a|b\n-|-\n", "\\\n", "a\n===\n", "  - a\n", "> " * 18 + "a\n", "```c\n" + "\n" * 99 + "```\n"],
)  # fmt: skip
def test_repeated_marks_are_drawn_soon(piece: str, times: int):
    text = piece * (times // len(piece))
    began = time.process_time()
    html = to_html(text)
    # Each takes well under a second; what grows with the square of the length would take minutes.
    assert time.process_time() - began < 6
    check_harmless(html)


@pytest.mark.parametrize(
    "text",
    ["[" * 10_000 + "a" + "](http://b)" * 10_000, "![" * 5_000 + "](http://b)" * 5_000, "x" * 1_000_000,
     "*[_" * 300_000, "|a" * 100 + "\n" + "|-" * 100 + "\n" + "|\n" * 4_000,
     ("|a" * 100 + "\n" + "|-" * 100 + "\n" + "|\n" * 50 + "\n") * 70,
     "".join(" " * (2 * n % 18) + "- a\n" for n in range(4_900)),
     "".join(f"$x_{{{n}}}^2$ " for n in range(5_000)), "".join(f"[{n}]: http://b\n" for n in range(4_900))],
)  # fmt: skip
def test_large_odd_texts_are_drawn_soon(text: str):
    began = time.process_time()
    html = to_html(text)
    assert time.process_time() - began < 6
    check_harmless(html)


@pytest.mark.parametrize("text", ["a *b* <c>\n" * (LONGEST // 5), "- x\n" * (MOST_LINES + 1), "x" * (LONGEST + 1)])
def test_what_is_beyond_the_limits_is_plain_and_whole(text: str):
    blocks = blocks_of(text)
    assert len(blocks) > 1
    assert all(block.startswith('<div class="gg-plain">') for block in blocks)
    inside = [block.removeprefix('<div class="gg-plain">').removesuffix("</div>\n") for block in blocks]
    assert html.unescape("".join(inside)) == text


@pytest.mark.parametrize("mark", ["> ", "- ", "1. "])
def test_what_stands_deeper_than_the_parser_goes_is_not_lost(mark: str):
    for depth in range(1, 60):
        assert "at the bottom" in to_html(mark * depth + "at the bottom")


def test_what_stands_after_the_last_cell_that_is_drawn_is_not_lost():
    text = "|a" * 50 + "|\n" + "|-" * 50 + "|\n" + "".join(f"|row{n}|\n" for n in range(400))
    shown = check_harmless(to_html(text)).text
    assert [n for n in range(400) if f"row{n}" not in shown] == []


def test_beyond_their_share_marks_are_text():
    shown = to_html("*a* " * 9_000 + "\n\n*b*\n\n" + "*c* " * 5_000 + "\n\n*d*")
    assert "<em>b</em>" in shown
    assert "<em>d</em>" not in shown and "<p>*d*</p>" in shown
