"""PDF: pages become passages; encrypted, huge, damaged and scanned ones are told, in bounded time."""

from __future__ import annotations

import io
import sys
import time
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glassgpt.assistant import documents_pdf, pdf_pages
from glassgpt.assistant.documents import read_document
from glassgpt.assistant.documents_pdf import read_pdf
from glassgpt.assistant.outline import Reading
from glassgpt.assistant.pdf_pages import pages_of
from glassgpt.core.errors import ConfigError, FormatError, GlassError, InputError

pypdf = pytest.importorskip("pypdf", reason="needs pypdf")

CMAP = """/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapType 2 def
1 begincodespacerange <0000> <FFFF> endcodespacerange
1 beginbfrange <0020> <007E> <0020> endbfrange
%d beginbfchar %s endbfchar endcmap end end"""


def pdf(pages: list[str], *, size: int = 12) -> bytes:
    """A PDF written by hand: its characters are UTF-16, which its font explains."""
    objects: list[bytes] = [b"", b""]

    def stream(content: bytes) -> bytes:
        packed = zlib.compress(content)
        return b"<</Filter/FlateDecode/Length %d>>stream\n%s\nendstream" % (len(packed), packed)

    objects.append(
        b"<</Type/Font/Subtype/Type0/BaseFont/F/Encoding/Identity-H/ToUnicode 4 0 R/DescendantFonts[5 0 R]>>"
    )
    others = [f"<{ord(c):04x}> <{ord(c):04x}>" for c in sorted(set("".join(pages))) if ord(c) > 126]
    objects.append(stream((CMAP % (len(others), " ".join(others))).encode()))
    objects.append(
        b"<</Type/Font/Subtype/CIDFontType2/BaseFont/F/CIDSystemInfo<</Registry(A)/Ordering(I)/Supplement 0>>/DW 500>>"
    )
    kids = []
    for page in pages:
        lines = "".join(f"<{line.encode('utf-16-be').hex()}> Tj 0 -14 Td\n" for line in page.split("\n") if line)
        objects.append(stream(f"BT /F {size} Tf 50 700 Td\n{lines}ET".encode() if page else b""))
        objects.append(
            b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Contents %d 0 R/Resources<</Font<</F 3 0 R>>>>>>"
            % len(objects)
        )
        kids.append(b"%d 0 R" % len(objects))
    objects[0] = b"<</Type/Catalog/Pages 2 0 R>>"
    objects[1] = b"<</Type/Pages/Count %d/Kids[%s]>>" % (len(kids), b" ".join(kids))
    out, places = b"%PDF-1.7\n", []
    for number, content in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    return out + b"xref\n0 %d\n0000000000 65535 f \n%strailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (
        len(objects) + 1, table, len(objects) + 1, len(out)
    )  # fmt: skip


def read(data: bytes, **settings: float) -> Reading:
    reading = Reading("a.pdf")
    read_pdf(data, reading, **settings)
    return reading


def refused(data: bytes, words: str, error: type[GlassError] = FormatError, **settings: float) -> None:
    with pytest.raises(error, match=words) as caught:
        read(data, **settings)
    assert caught.value.hint() and caught.value.line("zh")


GUIDE = pdf(["How to return a teapot.\nSend it back within 30 days.", "", "怎么退货？\n三十天内可以退。"])


def test_pages_are_places_and_chinese_is_read(tmp_path: Path):
    (tmp_path / "guide.pdf").write_bytes(GUIDE)
    found = read_document(tmp_path / "guide.pdf")
    assert [(p.text, p.place) for p in found.passages] == [
        ("How to return a teapot.\nSend it back within 30 days.", "page 1"),
        ("怎么退货？\n三十天内可以退。", "page 3"),
    ]
    assert found.notes == ["pages without text, scanned or blank: 1 of 3 (2)"]
    assert found.notes[0].text("zh") == "没有文字的页（扫描页或空白页）：3 页中有 1 页（2）"


def test_a_long_page_loses_nothing():
    lines = [f"This is line {n} of a long page. 第{n}行。" for n in range(50)]
    found = read(pdf(["\n".join(lines)]))
    assert len(found.passages) > 2 and {p.place for p in found.passages} == {"page 1"}
    assert "".join("".join(p.text for p in found.passages).split()) == "".join("".join(lines).split())


@pytest.mark.parametrize("font", [3, 42])
def test_what_another_program_wrote_is_read(tmp_path, font):
    import matplotlib.figure

    figure = matplotlib.figure.Figure()
    figure.text(0.1, 0.9, "Teapots hold 300 ml for two people.")
    figure.text(0.1, 0.5, "Second line of the page.")
    with matplotlib.rc_context({"pdf.fonttype": font}):
        figure.savefig(tmp_path / "a.pdf")
    (found,) = read_document(tmp_path / "a.pdf").passages
    assert found.text == "Teapots hold 300 ml for two people.\nSecond line of the page."


def test_a_document_of_pictures_is_told_with_its_pages():
    refused(pdf(["", "", ""]), "has 3 pages and no text", InputError)


@pytest.mark.parametrize(("user", "owner"), [("secret", "owner"), ("", "owner")])
def test_an_encrypted_document_is_refused(user, owner):
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(GUIDE))
    writer.encrypt(user, owner, algorithm="RC4-128")
    out = io.BytesIO()
    writer.write(out)
    refused(out.getvalue(), "is encrypted")


@pytest.mark.parametrize(
    "data",
    [b"hello", b"", GUIDE[:200], b"%PDF-1.7\n", b"%PDF-1.7\n" + bytes(1000), b"x" * 2000 + GUIDE,
     b"%PDF-1.7\n1 0 obj<</Pages 1 0 R>>endobj\ntrailer<</Root 1 0 R>>", b"<html>%PDF-1.7</html>"],
)  # fmt: skip
def test_what_is_damaged_or_no_pdf_is_told(data):
    refused(data, "is damaged or no PDF|no text", GlassError)


def test_too_many_pages_and_characters_are_refused(monkeypatch):
    assert pages_of(pdf([""] * 5_001)) == {"error": "pages", "count": 5_001}
    monkeypatch.setattr(pdf_pages, "MAX_CHARACTERS", 50)
    assert pages_of(pdf(["word " * 20])) == {"error": "characters"}


def test_what_the_other_process_says_becomes_a_sentence(monkeypatch):
    refused(pdf(["a"] * 5_001), "it has 5001 pages; 5000 are allowed")

    def said(what: str):
        monkeypatch.setattr(
            documents_pdf.subprocess, "run", lambda *a, **k: type("Done", (), {"stdout": what.encode()})
        )

    said('{"error": "characters"}')
    refused(GUIDE, "holds more than 20,000,000 characters")
    said('{"error": "missing"}')
    refused(GUIDE, "pypdf is needed", ConfigError)
    said("")
    refused(GUIDE, "too much memory, or failed")
    said('{"pages": ["", ""], "failed": [1, 2]}')
    refused(GUIDE, "none of its pages can be read")
    said('{"pages": ["a", "", ""], "failed": [2]}')
    assert read(GUIDE).notes == [
        "pages that could not be read: 1 (2)", "pages without text, scanned or blank: 1 of 3 (3)"
    ]  # fmt: skip


def test_a_document_that_takes_too_long_is_given_up():
    began = time.perf_counter()
    refused(pdf(["some text\n" * 40] * 2_000), "takes more than 1 seconds", seconds=1.0)
    assert time.perf_counter() - began < 8


@pytest.mark.slow
def test_a_page_that_unpacks_to_a_gigabyte_does_no_harm():
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(b" " * (1 << 20)) for _ in range(1024)) + packer.flush()
    bomb = b"<</Filter/FlateDecode/Length %d>>stream\n%s\nendstream" % (len(packed), packed)
    start = GUIDE.index(b"6 0 obj\n") + 8
    data = GUIDE[:start] + bomb + GUIDE[GUIDE.index(b"\nendobj", start) :]
    began = time.perf_counter()
    try:
        assert "page 1" not in {p.place for p in read(data).passages}
    except GlassError as error:
        assert error.line("zh")
    assert time.perf_counter() - began < 30


def test_nothing_in_the_folder_where_the_user_is_gets_imported(tmp_path, monkeypatch):
    for name in ("pypdf.py", "json.py", "glassgpt.py"):
        (tmp_path / name).write_text("open('ran', 'w')\nraise SystemExit", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    assert len(read(GUIDE).passages) == 2
    assert not (tmp_path / "ran").exists()


changed = st.lists(st.tuples(st.integers(0, len(GUIDE) - 1), st.integers(0, 255)), min_size=1, max_size=8)


@settings(max_examples=120, deadline=10_000)
@given(changes=changed, cut=st.integers(0, len(GUIDE)))
def test_a_changed_document_has_pages_or_a_named_reason(changes, cut):
    data = bytearray(GUIDE)
    for place, value in changes:
        data[place] = value
    for given_bytes in (bytes(data), bytes(data[:cut])):
        found = pages_of(given_bytes)
        assert found.get("error") in (None, "damaged", "encrypted", "pages", "characters")
        assert "error" in found or all(isinstance(page, str) for page in found["pages"])


@settings(max_examples=8, deadline=20_000)
@given(changes=changed, tail=st.binary(max_size=100))
def test_any_bytes_give_passages_or_a_named_error(changes, tail):
    data = bytearray(GUIDE)
    for place, value in changes:
        data[place] = value
    for given_bytes in (bytes(data) + tail, b"%PDF-" + tail):
        try:
            found = read(given_bytes)
        except GlassError as error:
            assert "\n" not in error.line("zh")
            continue
        for passage in found.passages:
            assert passage.text.strip()
            passage.text.encode()
