"""HTML: what a reader sees becomes passages; what runs, loads or hides in a page does not."""

from __future__ import annotations

import time
from contextlib import suppress
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glassgpt.assistant import documents_html
from glassgpt.assistant.documents import read_document
from glassgpt.assistant.documents_html import read_html
from glassgpt.assistant.html_tokens import Start, tokens
from glassgpt.assistant.outline import Reading
from glassgpt.core.errors import FormatError, GlassError, InputError


def page(html: str | bytes, encoding: str | None = None) -> Reading:
    reading = Reading("a.html")
    read_html(html.encode() if isinstance(html, str) else html, reading, encoding)
    return reading


def seen(html: str | bytes) -> str:
    return "\n".join(p.text for p in page(html).passages)


def test_headings_are_places_and_blocks_are_paragraphs(tmp_path: Path):
    path = tmp_path / "shop.html"
    path.write_text(
        "<!DOCTYPE html><title>Shop &amp; Tea</title><p>Before.</p><h1>退货</h1><p>三十天<b>内</b>可以退。<h2>How</h2>"
        "<ul><li>Open&nbsp;it<li>Choose <i>Return</i></ul><h1>Other</h1>Text<br>with a break",
        encoding="utf-8",
    )
    found = read_document(path)
    assert [(p.text, p.place) for p in found.passages] == [
        ("Before.", "section Shop & Tea"),
        ("退货\n\n三十天内可以退。", "section 退货"),
        ("How\n\nOpen\u00a0it\n\nChoose Return", "section 退货 > How"),
        ("Other\n\nText\nwith a break", "section Other"),
    ]


def test_a_page_without_headings_counts_its_paragraphs():
    assert [p.place for p in page("<p>" + "one. " * 100 + "<p>" + "two. " * 100).passages] == [
        "paragraph 1",
        "paragraph 2",
    ]


@pytest.mark.parametrize(
    "html",
    [
        "<script>evil()</script>",
        "<SCRIPT\n src=x>evil</ScRiPt >",
        "<script>document.write('<p>evil</p>')</script>",
        "<script>if (a </b/.test(c)) evil</script>",
        "<style>evil{}</style>",
        "<!-- evil -->",
        "<!-- > evil <p>evil</p> -->",
        "<!--evil--!>",
        "<? evil ?>",
        "<![CDATA[evil]]>",
        "<!doctype evil>",
        "<iframe src='//evil'>evil</iframe>",
        "<iframe><p>evil</p></iframe>",
        "<object data=x>evil</object><embed src=evil>",
        "<noscript>evil</noscript>",
        "<template><p>evil</p></template>",
        "<svg><script>evil</script><text>evil</text></svg>",
        "<img src=x onerror='evil()' alt=x>",
        '<img src="x" title="> evil" onload=evil>',
        "<p onclick=\"evil('<b>evil</b>')\"></p>",
        "<a href='javascript:evil'></a>",
        "<div hidden>evil</div>",
        "<div hidden><div>a</div>evil</div>",
        "<p hidden>evil<p>",
        "<p hidden>evil <b>evil <div></div>",
        "<li hidden>evil<li>",
        "<div style='color:red; DISPLAY : none'>evil</div>",
        "<span style=visibility:hidden>evil</span>",
        "<span style='font-size:0'>evil</span>",
        "<span style='opacity: 0;'>evil</span>",
        "<dialog>evil</dialog>",
        "<select><option>evil</select>",
        "<input type=hidden value=evil>",
        "<canvas>evil</canvas><audio>evil</audio><video>evil</video>",
        "<meta http-equiv=refresh content='0; url=evil'>",
        "<base href=evil><link rel=stylesheet href=evil>",
        "</ evil><//evil>",
        "<x" + " evil" * 3 + ">",
        "<table><tr><td hidden>evil<td></table>",
        "<title></title><div hidden><title>evil</title></div>",
    ],
)
def test_what_a_reader_does_not_see_is_not_in_a_passage(html):
    found = page(f"<p>good start</p>{html}<p>good end</p>")
    text = "\n".join(p.text + p.place for p in found.passages)
    assert "good start" in text and "good end" in text
    assert "evil" not in text.lower()


def test_what_is_left_out_is_told_with_counts():
    found = page("<p>a<script>1</script><script>2</script><div hidden>b</div><iframe></iframe>")
    assert found.notes == ["parts of the page that a reader does not see, left out: 4 (hidden 1, iframe 1, script 2)"]


@pytest.mark.parametrize("html", ["<script>x</script>", "<!-- only -->", "<div hidden>x</div>", "<p", "   ", "<p></p>"])
def test_a_page_with_nothing_to_see_is_told(html):
    with pytest.raises(InputError, match="holds no text that a reader would see"):
        page(html)


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("a < b & c > d &lt;b&gt; &amp;lt; &#20013;&#x6587; &copy; &notit;", "a < b & c > d <b> &lt; 中文 © ¬it;"),
        ("x<!-->y<!--->z<!---->", "xyz"),
        ("1 <2 <3", "1 <2 <3"),
        ("<p>one<p>two", "one\n\ntwo"),
        ("<div>one<div>two</div>three</div>", "one\n\ntwo\n\nthree"),
        ("<pre>  a\n    b  &lt;</pre>", "  a\n    b  <"),
        ("a\n  b\t c", "a b c"),
        ("<textarea><b>x</b></textarea>", "<b>x</b>"),
        ("<p>visible</p><p hidden>no<p>again", "visible\n\nagain"),
        ("<span style='opacity: 0.5'>half</span>", "half"),
        ("<dialog open>there</dialog>", "there"),
        ("a<b", "a"),
        ("a<script>b", "a"),
        ("a<!-- b", "a"),
        ("a<p title='b>c", "a"),
    ],
)
def test_text_is_what_a_browser_shows(html, text):
    assert "\n\n".join(p.text for p in page("s" + html).passages).removeprefix("s").lstrip("\n") == text


def test_a_table_of_data_stays_whole_and_one_that_lays_out_a_page_has_headings():
    data = "<table><caption>Prices</caption><tr><th>tea<th>price</tr><tr><td>绿茶<td>8<td></table>"
    assert seen(data) == "Prices\ntea | price\n绿茶 | 8"
    layout = "<table><tr><td>menu<td><h1>Title</h1><p>text one<p>text two<table><tr><td>in</table></table>after"
    assert [(p.text, p.place) for p in page(layout).passages] == [
        ("menu", "paragraph 1"), ("Title\n\ntext one text two\nin\n\nafter", "section Title")
    ]  # fmt: skip
    assert seen("<p>x</p><table><tr><td>never closed") == "x\n\nnever closed"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("<meta charset=gbk><p>我们的茶壶都有两年保修".encode("gbk"), "我们的茶壶都有两年保修"),
        ("<meta http-equiv=x content='text/html; charset=big5'><p>我們的茶壺".encode("big5"), "我們的茶壺"),
        ("<?xml version='1.0' encoding='gb2312'?><p>我们的茶壶".encode("gb2312"), "我们的茶壶"),
        (("<p>" + "我们的茶壶都有两年保修，请放心。" * 3).encode("gb18030"), "我们的茶壶都有两年保修，请放心。" * 3),
        ("<p>我们的茶壶".encode("utf-16"), "我们的茶壶"),
        ("<meta charset=iso-8859-1><p>caf\xe9 \u20ac".encode("cp1252"), "café €"),
        ("<meta charset=iso-8859-1><p>我们的茶壶".encode(), "我们的茶壶"),
        ("<meta charset=utf-16><p>我们的茶壶".encode(), "我们的茶壶"),
        ("<meta charset=punycode><p>我们的茶壶".encode(), "我们的茶壶"),
        ("<meta charset=unicode_escape><p>\\u0041 我".encode(), "\\u0041 我"),
        ("<meta charset=no-such><p>我们的茶壶".encode(), "我们的茶壶"),
    ],
)
def test_the_encoding_is_the_pages_own_where_its_bytes_agree(data, text):
    assert seen(data) == text


def test_bytes_that_are_no_text_are_shown_and_told():
    found = page("<meta charset=utf-8><p>好的文字".encode() + b"\xff", encoding="utf-8")
    assert found.passages[0].text == "好的文字\ufffd" and "\ufffd: 1" in found.notes[0]


MEGABYTE = 1 << 20


@pytest.mark.slow
@pytest.mark.parametrize(
    "piece",
    ["<!--", "<", "<a ", "<a b=", "<a b='", '<a b="', "</", "<?", "<![CDATA[", "<div>", "<b><p>", "<table>", "<table>x",
     "<tr><td>", "<a\n", "<script", "<script>", "</script", "<svg>", "<li><b>", "<p hidden>", "<a b=c ", "&", "&#",
     "&#1", "&amp", "<h1>", "<pre>\n", "--", "<title>", "<select><b>", "<div style='display:'>", "</p>", "<dd><i>"],
)  # fmt: skip
def test_a_megabyte_of_anything_takes_seconds(piece):
    began = time.perf_counter()
    with suppress(GlassError):
        page("x" + piece * (MEGABYTE // len(piece)))
    assert time.perf_counter() - began < 20


def test_one_tag_with_a_million_attributes_and_a_number_of_a_million_digits():
    assert seen("a<p " + "b " * 500_000 + "c='d'>e") == "a\n\ne"
    assert seen("a&#" + "1" * MEGABYTE + ";b") == "a\ufffdb"
    assert seen("a&#x" + "f" * MEGABYTE + ";b") == "a\ufffdb"


def test_a_page_that_is_too_large_is_refused(monkeypatch):
    monkeypatch.setattr(documents_html, "MAX_PAGE", 1 << 20)
    with pytest.raises(FormatError, match="larger than 1 MB"):
        page("<p>word " * 200_000)


def test_attributes_that_run_something_are_never_taken_up():
    (start,) = [t for t in tokens("<img src=x onerror=1 ONLOAD='2' alt=y>") if isinstance(t, Start)]
    assert start.attributes == {"src": "x", "alt": "y"}


class _Texts(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def handle_data(self, data: str) -> None:
        self.said.append(data)


clean = st.recursive(
    st.text("abc &;中文 .", max_size=20).map(lambda t: t.replace("&", "&amp;")),
    lambda inner: st.tuples(
        st.sampled_from(["p", "b", "div", "i", "span", "section"]), st.lists(inner, max_size=4)
    ).map(lambda pair: f"<{pair[0]} class='x > y' id=a>" + "".join(pair[1]) + f"</{pair[0]}><!-- c -->"),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None)
@given(html=clean)
def test_the_texts_of_ordinary_pages_are_those_that_the_standard_library_finds(html):
    parser = _Texts()
    parser.feed(html)
    parser.close()
    assert "".join(t for t in tokens(html) if isinstance(t, str)) == "".join(parser.said)
    expected = "".join("".join(parser.said).split())
    try:
        assert "".join(seen(html).split()) == expected
    except InputError:
        assert not expected


PIECES = (
    "< > </ <!-- --> --!> <p> </p> <table> </table> <tr> <td> <h1> </h1> <h2> <script> </script> <pre> </pre> <li> "
    "<ul> </ul> <br> <title> </title> <a/href=' \" ' = &#0; &#xd800; &lt <plaintext> <select> </select> <caption> "
    "</td> </tr> <dialog> <p/hidden> <? \0"
)
soup = st.lists(
    st.one_of(st.sampled_from(PIECES.split()), st.text(max_size=8), st.binary(max_size=8)), max_size=40
).map(lambda parts: b"".join(p if isinstance(p, bytes) else p.encode("utf-8", "replace") for p in parts))


@settings(max_examples=300, deadline=10_000)
@given(data=soup)
def test_any_soup_gives_passages_or_a_named_error(data):
    try:
        found = page(data)
    except GlassError as error:
        assert "\n" not in error.line("zh")
        return
    for passage in found.passages:
        assert passage.text.strip()
        passage.text.encode()  # no halves of characters


@settings(max_examples=150, deadline=None)
@given(data=soup, tag=st.sampled_from(["script", "style", "iframe", "template", "noscript", "div hidden"]))
def test_a_hidden_element_hides_whatever_stands_in_it_before_its_end(data, tag):
    inner = data.decode("utf-8", "replace").replace("</", "").replace("<p", "").replace("<li", "").replace("<t", "")
    inner = inner.replace("<plaintext>", "")
    html = f"<p>good</p><{tag}>{inner}SECRET"
    assert "SECRET" not in "".join(p.text for p in page(html, encoding="utf-8").passages)
