"""DOCX: paragraphs, headings and tables become passages; archives made to do harm are refused."""

from __future__ import annotations

import io
import re
import struct
import time
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glassgpt.assistant import documents_docx
from glassgpt.assistant.documents import read_document
from glassgpt.assistant.documents_docx import read_docx
from glassgpt.assistant.outline import Reading
from glassgpt.core.errors import FormatError, GlassError, InputError

W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
STYLES = f"""<w:styles xmlns:w="{W}">
<w:style w:styleId="1"><w:name w:val="heading 1"/></w:style>
<w:style w:styleId="a3"><w:name w:val="Unterpunkt"/><w:pPr><w:outlineLvl w:val="1"/></w:pPr></w:style>
<w:style w:styleId="x"><w:name w:val="标题 2"/></w:style></w:styles>"""


def document(body: str, more: str = "") -> str:
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>{more}<w:document xmlns:w="{W}" '
        f'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"><w:body>{body}</w:body></w:document>'
    )


def paragraph(text: str, style: str = "") -> str:
    settings = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f"<w:p>{settings}<w:r><w:t>{text}</w:t></w:r></w:p>"


def archive(parts: dict[str, str | bytes], packing: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", packing) as file:
        for name, content in parts.items():
            file.writestr(name, content)
    return out.getvalue()


def docx(body: str, **parts: str | bytes) -> bytes:
    return archive(
        {"word/document.xml": document(body), "word/styles.xml": STYLES}
        | {f"word/{k}.xml": v for k, v in parts.items()}
    )


def read(data: bytes) -> Reading:
    reading = Reading("a.docx")
    read_docx(data, reading)
    return reading


def texts(data: bytes) -> list[str]:
    return [p.text for p in read(data).passages]


def test_headings_are_places_in_any_language_of_the_program(tmp_path: Path):
    body = paragraph("Before.") + paragraph("退货", "1") + paragraph("三十天内可以退。") + paragraph("How", "a3")
    body += paragraph("Choose Return.") + paragraph("Second", "x") + paragraph("More.") + paragraph("Own", "Heading1")
    body += paragraph("Last.")
    path = tmp_path / "a.docx"
    path.write_bytes(docx(body))
    assert [(p.text, p.place) for p in read_document(path).passages] == [
        ("Before.", "paragraph 1"),
        ("退货\n\n三十天内可以退。", "section 退货"),
        ("How\n\nChoose Return.", "section 退货 > How"),
        ("Second\n\nMore.", "section 退货 > Second"),
        ("Own\n\nLast.", "section Own"),
    ]


def test_a_table_is_whole_and_its_cells_stand_in_their_rows():
    cell = "<w:tc>{}</w:tc>".format
    inner = f"<w:tbl><w:tr>{cell(paragraph('in'))}</w:tr></w:tbl>"
    rows = [[paragraph("tea"), paragraph("price")], [paragraph("绿") + paragraph("茶"), paragraph("8") + inner]]
    table = "<w:tbl>" + "".join("<w:tr>" + "".join(map(cell, row)) + "</w:tr>" for row in rows) + "</w:tbl>"
    assert texts(docx(paragraph("a") + table + paragraph("b"))) == ["a\n\ntea | price\n绿 茶 | 8 in\n\nb"]


def test_what_a_reader_of_the_document_does_not_see_is_left_out_and_told():
    body = paragraph("seen") + "<w:p><w:r><w:rPr><w:vanish/></w:rPr><w:t>evil</w:t></w:r>"
    body += "<w:del><w:r><w:delText>evil</w:delText></w:r></w:del>"
    body += (
        '<w:r><w:instrText>evil</w:instrText></w:r><w:r><w:rPr><w:vanish w:val="0"/></w:rPr><w:t> too</w:t></w:r></w:p>'
    )
    found = read(docx(body, comments=document(paragraph("evil")), header1=document(paragraph("evil"))))
    assert [p.text for p in found.passages] == ["seen\n\ntoo"]
    assert found.notes == [
        "hidden or deleted pieces of text, left out: 2", "headers and footers were left out", "comments were left out"
    ]  # fmt: skip


def test_tabs_breaks_text_boxes_and_footnotes_are_read_once():
    box = f"<mc:Choice>{paragraph('boxed')}</mc:Choice><mc:Fallback>{paragraph('boxed')}</mc:Fallback>"
    box = f"<mc:AlternateContent>{box}</mc:AlternateContent>"
    body = f"<w:p><w:r><w:t>a</w:t><w:tab/><w:t>b</w:t><w:br/><w:t>c</w:t></w:r><w:r>{box}</w:r></w:p>"
    body += f"<w:moveFrom>{paragraph('moved')}</w:moveFrom><w:moveTo>{paragraph('moved')}</w:moveTo>"
    assert texts(docx(body, footnotes=document(paragraph("note")))) == ["boxed\n\na\tb\nc\n\nmoved\n\nnote"]


def test_a_long_document_loses_nothing():
    sentences = [f"Sentence number {n} of the document. 第{n}句。" for n in range(2000)]
    found = texts(docx("".join(map(paragraph, sentences))))
    assert "".join("".join(found).split()) == "".join("".join(sentences).split())
    assert max(map(len, found)) <= 720


def test_utf_16_parts_are_read():
    xml = document(paragraph("中文")).replace("UTF-8", "UTF-16").encode("utf-16")
    assert texts(archive({"word/document.xml": xml})) == ["中文"]


def refused(data: bytes, words: str) -> None:
    with pytest.raises(FormatError, match=words) as caught:
        read(data)
    assert caught.value.hint() and caught.value.line("zh")


def test_a_bomb_is_refused_before_it_is_unpacked():
    spaces = document(paragraph("a") + " " * (80 << 20))
    began = time.perf_counter()
    refused(archive({"word/document.xml": spaces}), "unpacks to more than any document does")
    assert time.perf_counter() - began < 5


def test_a_bomb_that_lies_about_its_size_is_refused():
    data = bytearray(archive({"word/document.xml": document(paragraph("a") + " " * (40 << 20))}))
    real = struct.pack("<I", zipfile.ZipFile(io.BytesIO(data)).infolist()[0].file_size)
    told = struct.pack("<I", 1000)
    refused(bytes(data.replace(real, told)), "damaged|unpacks")


def test_the_part_is_limited_by_what_comes_out_and_not_only_by_its_ratio(monkeypatch):
    monkeypatch.setattr(documents_docx, "MAX_PART", 1000)
    refused(docx(paragraph("word " * 1000)), "unpacks to more")


@pytest.mark.parametrize("name", ["../evil.xml", "word/../../evil", "/etc/passwd", "..\\evil", "C:\\evil", "word/.."])
def test_an_entry_that_leads_elsewhere_is_refused_and_nothing_is_written(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    refused(archive({"word/document.xml": document(paragraph("a")), name: "evil"}), "an entry is named")
    assert list(tmp_path.iterdir()) == [] and not (tmp_path.parent / "evil.xml").exists()


@pytest.mark.parametrize(
    "kind",
    [
        '<!DOCTYPE d [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>',
        '<!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE d SYSTEM "http://example.com/evil.dtd">',
        "<!DOCTYPE d>",
    ],
)
def test_entities_and_document_types_are_refused(kind):
    refused(archive({"word/document.xml": document(paragraph("a &amp;"), kind)}), "document type")


def test_an_archive_with_two_entries_of_one_name_or_too_many_is_refused():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file, pytest.warns(UserWarning):
        file.writestr("word/document.xml", document(paragraph("a")))
        file.writestr("word/document.xml", document(paragraph("b")))
    refused(out.getvalue(), "two entries")
    refused(archive({f"word/{n}": "" for n in range(10_001)}), "10001 entries")


def test_elements_nested_without_end_are_refused():
    refused(docx("<w:p>" * 20_000 + "</w:p>" * 20_000), "nested deeper")


def test_a_document_with_a_password_is_told():
    refused(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(1000), "protected by a password")
    data = bytearray(archive({"word/document.xml": document(paragraph("a"))}))
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + at] |= 1
    refused(bytes(data), "is encrypted")


@pytest.mark.parametrize(
    "data",
    [b"no zip", b"PK\x03\x04", archive({"a": "b"}), archive({"word/document.xml": "<a"}), docx(paragraph("a"))[:-30],
     archive({"word/document.xml": b"\xff\xfe\x00"}),
     archive({"word/document.xml": '<?xml version="1.0" encoding="x"?><a/>'}),
     archive({"word/document.xml": document("")}, zipfile.ZIP_BZIP2)],
)  # fmt: skip
def test_what_is_damaged_is_told(data):
    refused(data, "damaged or no DOCX")


def test_a_document_without_text_is_told():
    with pytest.raises(InputError, match="holds no text"):
        read(docx("<w:p/>"))


def test_damaged_styles_do_not_keep_the_text_back():
    assert texts(docx(paragraph("a", "1"), styles="<broken")) == ["a"]


SINGLE = re.split(
    " ",
    "<w:p/> <w:r/> <w:t>x</w:t> <w:tbl/> <w:tr/> <w:tc/> <w:br/> <w:vanish/> <mc:Fallback/> <w:delText/> "
    '<w:outlineLvl\nw:val="999999999999"/> <w:outlineLvl\nw:val="x"/> <w:pStyle\nw:val="Heading3"/>',
)
pieces = st.recursive(
    st.one_of(st.text("abc 中\t", max_size=8).map(paragraph), st.sampled_from(SINGLE)),
    lambda inner: st.tuples(
        st.sampled_from(["w:p", "w:r", "w:t", "w:tbl", "w:tr", "w:tc", "w:del", "mc:Fallback", "w:style", "x"]),
        st.lists(inner, max_size=4),
    ).map(lambda pair: f"<{pair[0]}>" + "".join(pair[1]) + f"</{pair[0]}>"),
    max_leaves=25,
)  # fmt: skip


@settings(max_examples=200, deadline=10_000)
@given(body=st.lists(pieces, max_size=6).map("".join))
def test_any_order_of_elements_gives_passages_or_a_named_error(body):
    try:
        found = read(docx(body))
    except GlassError as error:
        assert "\n" not in error.line("zh")
        return
    assert all(p.text.strip() for p in found.passages)


WHOLE = docx(paragraph("a sentence", "1") + paragraph("第二句。") * 20, footnotes=document(paragraph("n")))


@settings(max_examples=300, deadline=10_000)
@given(changes=st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=6),
       cut=st.integers(0, 60))  # fmt: skip
def test_a_document_with_changed_bytes_gives_passages_or_a_named_error(changes, cut):
    data = bytearray(WHOLE)
    for place, value in changes:
        data[place] = value
    try:
        found = read(bytes(data[: len(data) - cut]))
    except GlassError as error:
        assert "\n" not in error.line("zh")
        return
    assert all(p.text.strip() for p in found.passages)


@settings(max_examples=150, deadline=10_000)
@given(xml=st.binary(max_size=300), junk=st.binary(max_size=300))
def test_any_bytes_are_refused_with_a_named_error(xml, junk):
    for data in (junk, b"PK\x03\x04" + junk, archive({"word/document.xml": xml}),
                 archive({"word/document.xml": document(paragraph("a")), "word/styles.xml": xml})):  # fmt: skip
        try:
            read(data)
        except GlassError as error:
            assert error.line("zh")


def test_what_comes_out_is_checked_against_the_archives_own_sum():
    data = docx(paragraph("a sentence that is long enough to be packed and then found damaged " * 5))
    entry = zipfile.ZipFile(io.BytesIO(data)).getinfo("word/document.xml")
    wrong = data.replace(struct.pack("<I", entry.CRC), struct.pack("<I", zlib.crc32(b"other")))
    refused(wrong, "damaged")
