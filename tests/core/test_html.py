"""Pages: what a user's file holds is shown, never obeyed."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from glassgpt.core.html import bars, element, page, table

NAUGHTY = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</td></table><h1>x", "&lt;b&gt;", "退货 <b>"]


class Seen(HTMLParser):
    """An independent reading of a page: its tags and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.words = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.words += data


def read(markup: str) -> Seen:
    seen = Seen()
    seen.feed(markup)
    return seen


@pytest.mark.parametrize("word", NAUGHTY)
def test_text_from_outside_never_becomes_markup(word):
    plain = read(page("t", "en", table(["h"], [["w"]]), element("p", "w", title="w"), bars(["w"], [1], ["a", "b"])))
    made = read(
        page(word, "zh", table([word], [[word]]), element("p", word, title=word), bars([word], [1], [word, "b"]))
    )
    assert made.tags == plain.tags
    assert made.words.count(word) == 7


def test_a_page_is_whole_and_loads_nothing():
    made = page("标题", "zh", element("p", "一"))
    assert made.startswith("<!doctype html>") and made.rstrip().endswith("</html>") and 'lang="zh"' in made
    assert "http" not in made.replace("http-equiv", "")
    assert "default-src 'none'" in made
