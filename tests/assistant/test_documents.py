"""Tables, Markdown and text as passages that are in their file word for word."""

from __future__ import annotations

import csv
import hashlib
import io
import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from glassgpt.assistant import documents
from glassgpt.assistant.documents import read_document
from glassgpt.assistant.passage import Document, Passage
from glassgpt.core.errors import FormatError, InputError
from glassgpt.data.filters import MISSING

SHOP = Path(documents.__file__).parents[1] / "samples" / "shop.csv"
FAQ = "question,answer\nHow do I return it?,Within 30 days.\n怎么退货？,三十天内可以退。\n"


def read(folder: Path, name: str, content: str | bytes) -> Document:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_document(path)


def packed(text: str) -> str:
    return re.sub(r"\s+", "", text)


# Tables


def test_a_row_is_a_passage_with_both_cells_and_the_row_that_a_spreadsheet_shows(tmp_path):
    found = read(tmp_path, "faq.csv", FAQ)
    assert [(p.question, p.answer, p.place) for p in found.passages] == [
        ("How do I return it?", "Within 30 days.", "row 2"),
        ("怎么退货？", "三十天内可以退。", "row 3"),
    ]
    assert found.passages[1] == Passage("怎么退货？\n三十天内可以退。", "怎么退货？", "三十天内可以退。", "row 3", 1)
    assert found.source == "faq.csv" and found.sha256 == hashlib.sha256(FAQ.encode()).hexdigest()


def test_rows_of_the_shop_are_where_the_csv_module_finds_them():
    rows = list(csv.reader(io.StringIO(SHOP.read_text(encoding="utf-8"), newline="")))
    found = read_document(SHOP)
    assert len(found.passages) > 450
    for passage in found.passages:
        row = rows[int(passage.place.removeprefix("row ")) - 1]
        assert passage.answer == row[4].strip()
        assert passage.question in (row[3].strip(), None)
    assert any(note.startswith("rows without an answer, left out: ") for note in found.notes)
    assert any(note.startswith("rows that could not be read, left out: 2 (123, 337)") for note in found.notes)
    assert not {p.answer for p in found.passages} & {"N/A", "nan", "null", "#N/A", "-", ""}


def test_blank_lines_line_breaks_in_cells_and_lines_above_the_table_count_as_rows(tmp_path):
    text = 'Our shop\n\nquestion,answer\n\n"a\nb?",one\n\nc?,"two\n\nlines"\nd?,four\n'
    found = read(tmp_path, "faq.csv", text)
    assert [(p.answer, p.place) for p in found.passages] == [
        ("one", "row 5"), ("two\n\nlines", "row 7"), ("four", "row 8")
    ]  # fmt: skip


def test_an_answer_keeps_the_white_space_within_it_and_loses_that_around_it(tmp_path):
    found = read(tmp_path, "faq.csv", 'question,answer\nq?,"  two  spaces\t\nand a line  "\n')
    assert found.passages[0].answer == "two  spaces\t\nand a line"


def test_an_answer_that_says_there_is_none_is_never_quoted(tmp_path):
    found = read(tmp_path, "faq.csv", "question,answer\na?,N/A\nb?,nan\nc?,\nd?,&nbsp;\ne?,\u200b\nf?,real\n")
    assert [p.answer for p in found.passages] == ["real"]
    assert found.notes[0] == "rows without an answer, left out: 5 (2, 3, 4, 5, 6)"
    assert found.notes[0].text("zh").startswith("没有答案的行")


def test_an_answer_without_its_question_is_kept(tmp_path):
    found = read(tmp_path, "faq.csv", "question,answer\n,We open at nine.\nb?,x\n")
    assert (found.passages[0].text, found.passages[0].question) == ("We open at nine.", None)


def test_a_table_without_questions_is_written_out_row_by_row(tmp_path):
    found = read(tmp_path, "prices.csv", "article,price,colour\nTeapot,25.00,red\n茶杯,8.00,\n")
    assert [(p.text, p.place) for p in found.passages] == [
        ("article: Teapot; price: 25.00; colour: red", "row 2"),
        ("article: 茶杯; price: 8.00", "row 3"),
    ]
    assert all(p.question is None and p.answer is None for p in found.passages)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16", "utf-16-le"])
def test_chinese_tables_are_read_in_every_usual_encoding(tmp_path, encoding):
    text = "问题,答案\n" + "".join(f"第{n}个问题怎么办？,请您联系客服，我们会在{n}天内处理。\n" for n in range(1, 40))
    found = read(tmp_path, "faq.csv", text.encode(encoding))
    assert found.passages[4].answer == "请您联系客服，我们会在5天内处理。"


def test_columns_are_what_the_user_says_they_are(tmp_path):
    path = tmp_path / "faq.csv"
    path.write_text("frage,antwort,nr\nWann offen?,Um neun.,1\nWo?,Hier.,2\n", encoding="utf-8")
    found = read_document(path, columns={"prompt": "frage", "response": "antwort"})
    assert [p.answer for p in found.passages] == ["Um neun.", "Hier."]


def test_json_lines_are_questions_and_answers_too(tmp_path):
    found = read(
        tmp_path, "faq.jsonl", '{"question": "几点开门？", "answer": "九点。"}\n{"question": "b", "answer": "c"}\n'
    )
    assert found.passages[0] == Passage("几点开门？\n九点。", "几点开门？", "九点。", "record 1", 0)


def test_a_row_that_is_too_long_to_quote_is_split_and_not_cut(tmp_path):
    answer = "This is a sentence of the long answer. " * 600
    found = read(tmp_path, "faq.csv", f'question,answer\nq?,"{answer}"\n')
    assert len(found.passages) > 10 and {p.place for p in found.passages} == {"row 2"}
    assert packed("".join(p.text for p in found.passages)) == packed("q?" + answer)
    assert all(p.answer is None for p in found.passages) and "several passages: 1 (row 2)" in found.notes[0]


cells = st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=60)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(cells, cells), min_size=1, max_size=8))
@example(rows=[("=1+1", '"quoted", and more'), ("\u3000x ", "\ufeff y")])
def test_every_answer_is_in_its_cell_word_for_word(tmp_path_factory, rows):
    written = io.StringIO()
    csv.writer(written).writerows([("question", "answer"), *rows])
    path = tmp_path_factory.mktemp("t") / "faq.csv"
    path.write_bytes(written.getvalue().encode())
    try:
        found = read_document(path)
    except InputError:
        found = Document("", "", [], [])
    again = list(csv.reader(io.StringIO(written.getvalue(), newline="")))
    for passage in found.passages:
        cell = again[int(passage.place[4:]) - 1]
        assert (passage.answer, passage.question) == (cell[1].strip(), cell[0].strip() if passage.question else None)
    lost = [a for _, a in rows if a.strip() and a.strip() not in {p.answer for p in found.passages}]
    assert all(
        MISSING.fullmatch(a.strip()) or all(unicodedata.category(c) in ("Cf", "Zs") for c in a.strip()) or "&" in a
        for a in lost
    )


# Markdown and plain text

GUIDE = """---
title: Guide
---
# Tea

Intro to tea.

## Green tea

Brew at 80 degrees.

```python
# not a heading
x = 1


y = 2
```

| tea | minutes |
|---|---|
| green | 2 |
| black | 4 |

红茶
----

用开水泡四分钟。

# Empty
## Small # print ##
Text.
"""


def test_markdown_is_parted_at_headings_which_are_its_places(tmp_path):
    found = read(tmp_path, "guide.md", GUIDE)
    assert [p.place for p in found.passages] == [
        "lines 1-3", "section Tea", "section Tea > Green tea", "section Tea > 红茶", "section Empty > Small # print"
    ]  # fmt: skip
    assert "# not a heading\nx = 1\n\n\ny = 2\n```" in found.passages[2].text
    assert found.passages[4].text == "# Empty\n## Small # print ##\nText."
    assert found.passages[3].text == "红茶\n----\n\n用开水泡四分钟。"


def test_code_and_tables_are_not_cut(tmp_path):
    code = "```\n" + "".join(f"line {n} of the code.\n\n" for n in range(60)) + "```"
    table = "| a | b |\n|---|---|\n" + "| cell one. | cell two. |\n" * 60
    words = "A sentence with some words in it. " * 30
    found = read(tmp_path, "guide.md", f"# H\n\n{words}\n\n{code}\n\n{words}\n\n{table}\n{words}")
    assert sum(code in p.text for p in found.passages) == 1
    assert sum(table.strip() in p.text for p in found.passages) == 1


def test_passages_of_text_are_whole_sentences_of_a_few_hundred_characters(tmp_path):
    english = "Mr. Smith pays 3.50 for tea. Does he like it? Yes! He told us so, e.g. yesterday. " * 40
    chinese = "我们的茶壶都有两年保修。您喜欢吗？喜欢！“今天就可以发货。”他说。" * 60
    for text, ends in ((english, ".?!"), (chinese, "。？！”")):
        found = read(tmp_path, "a.txt", text)
        assert all(250 <= len(p.text) <= 720 for p in found.passages[:-1])
        assert all(p.text[-1] in ends and not p.text.endswith(("Mr.", "e.g.")) for p in found.passages)
        assert not any(p.text.startswith("”") for p in found.passages)


def test_paragraphs_stay_together_where_they_fit_and_lines_are_their_places(tmp_path):
    paragraphs = [f"Paragraph {n} says something. " * 8 for n in range(6)]
    found = read(tmp_path, "a.txt", "\r\n\r\n".join(paragraphs))
    assert [p.place for p in found.passages] == ["lines 1-3", "lines 5-7", "lines 9-11"]
    assert found.passages[0].text == "\r\n\r\n".join(paragraphs[:2]).strip()


def test_a_line_of_a_million_characters_is_split_in_a_moment_and_nothing_is_lost(tmp_path):
    for text in ("字" * 1_000_000, "word " * 200_000, "e\u0301" * 300_000):
        found = read(tmp_path, "a.txt", text)
        assert packed("".join(p.text for p in found.passages)) == packed(text)
        assert max(len(p.text) for p in found.passages) <= 720
        assert not any(unicodedata.combining(p.text[0]) for p in found.passages)


@pytest.mark.parametrize("encoding", ["gb18030", "utf-16", "utf-16-be", "big5"])
def test_text_in_other_encodings_is_read(tmp_path, encoding):
    text = "我們的茶壺都有兩年保修。" if encoding == "big5" else "我们的茶壶都有两年保修。请您放心购买。"
    assert read(tmp_path, "a.txt", (text * 20).encode(encoding)).passages[0].text.startswith(text)


def test_bytes_that_are_no_text_are_shown_and_told(tmp_path):
    found = read(tmp_path, "a.txt", "\ufeff正常的文字。".encode() + b"\xff\xfe bad" + "更多文字。".encode())
    assert found.passages[0].text == "正常的文字。\ufffd\ufffd bad更多文字。"
    assert found.notes == ["characters that utf-8-sig does not explain, shown as \ufffd: 2"]


markdown = st.lists(
    st.one_of(
        st.sampled_from(["# A", "## B ##", "Title\n===", "x\n---", "```", "~~~~", "| a | b |\n|---|---|\n| 1 | 2 |",
                         "---", "- item", "    code", "", "\r", "> quote", "a. b? 好。", "#no", "|"]),
        st.text(max_size=300), st.text("ab .。!？\n", min_size=500, max_size=1500),
    ), max_size=12,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(blocks=markdown, joint=st.sampled_from(["\n", "\n\n", "\r\n", "\r"]), suffix=st.sampled_from([".md", ".txt"]))
def test_every_passage_is_a_slice_of_its_file_and_nothing_of_it_is_lost(tmp_path_factory, blocks, joint, suffix):
    source = joint.join(blocks).replace("\0", "").lstrip("\ufeff")
    path = tmp_path_factory.mktemp("t") / f"a{suffix}"
    path.write_bytes(source.encode("utf-8", "replace"))
    source = source.encode("utf-8", "replace").decode()
    try:
        found = read_document(path, encoding="utf-8")
    except InputError:
        assert not source.strip()
        return
    except FormatError as error:  # it begins as another kind of file does
        assert "not a text file" in str(error)
        return
    position = 0
    for number, passage in enumerate(found.passages):
        assert passage.number == number
        position = source.index(passage.text, position) + len(passage.text)
    assert packed("".join(p.text for p in found.passages)) == packed(source)
