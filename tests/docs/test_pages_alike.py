"""Both languages of a page say the same: the same sections, code, tables, pictures and exercises."""

from __future__ import annotations

import re
from pathlib import Path

import pages
import pytest

PAIRS = pytest.mark.parametrize("pair", pages.pairs(), ids=lambda pair: pages.name(pair[0]))
CHAPTERS = pytest.mark.parametrize("page", pages.chapters(), ids=pages.name)
PICTURE_OF_A_LANGUAGE = re.compile(r"\.(en|zh)(?=\.\w+$)")


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


@PAIRS
def test_a_page_and_its_translation_link_to_each_other_at_the_top(pair):
    for page in pair:
        assert page.is_file(), f"{pages.name(page)} is missing; is the page for developers alone? (pages.ENGLISH_ONLY)"
        other = pages.translation(page).name
        above = [line for line, link in pages.links(page) if link == other]
        assert above and above[0] <= 8, f"{pages.name(page)} leads to no {other} in its first lines"


def test_no_page_is_chinese_alone():
    assert [pages.name(page) for page in pages.PAGES if not pages.translation(page).is_file()] == sorted(
        pages.ENGLISH_ONLY
    )


@PAIRS
def test_both_languages_have_the_same_code_with_the_same_marks(pair):
    def shape(page: Path) -> list[object]:
        found = []
        for block in pages.blocks(page):
            if block.language:
                left_out = pages.why_not_run(page, block) is not None
                as_it_stands = page in pages.chapters() and block.language in ("python", "sh") and not left_out
                code = block.text if as_it_stands else re.sub(r'"[^"]*"', '""', block.text)  # may say 你好
                marks = {mark: value for mark, value in block.marks.items() if mark != "not run"}
                found.append((block.language, pages.without_comments(code), marks, left_out))
        return found

    english, chinese = map(shape, pair)
    for ours, theirs in zip(english, chinese, strict=True):
        assert ours == theirs
    marks = [{k: "" if "not run" in k else v for k, v in pages.page_marks(page).items()} for page in pair]
    assert marks[0] == marks[1]


@PAIRS
def test_both_languages_have_the_same_sections_tables_and_pictures(pair):
    english, chinese = pair
    assert [level for level, _ in pages.headings(english)] == [level for level, _ in pages.headings(chinese)]
    rows = [[token.type for token in pages.tokens(page)].count("tr_open") for page in pair]
    assert rows[0] == rows[1], "tables have as many rows"
    pictures = [[PICTURE_OF_A_LANGUAGE.sub("", link) for link in pages.images(page)] for page in pair]
    assert pictures[0] == pictures[1]


def test_a_picture_in_a_language_stands_on_that_languages_page():
    for page in pages.PAGES:
        for link in pages.images(page):
            language = PICTURE_OF_A_LANGUAGE.search(link)
            assert not language or (language[1] == "zh") == pages.is_chinese(page), f"{pages.name(page)}: {link}"
            if pages.is_chinese(page) and not language:
                chinese = (page.parent / link).with_suffix(".zh" + Path(link).suffix)
                assert not chinese.exists(), f"{pages.name(page)} shows {link}, and {chinese.name} exists"


@CHAPTERS
def test_a_chapter_has_all_its_parts_in_order(page):
    zh = pages.is_chinese(page)
    (level, title), *rest = pages.headings(page)
    assert level == 1 and re.match(rf"{int(page.name[:2])}\. \S", title), title
    assert re.search(r"\A# .+\n\n(中文：|English: )\[\d+\. .+\]\(", text(page)), (
        "the link to the other language comes first"
    )
    sections = [name for level, name in rest if level == 2]
    assert sections[-2:] == (["练习", "来源"] if zh else ["Exercises", "Sources"])
    look = "> **看里面。**" if zh else "> **Look inside.**"
    assert text(page).count(look) == 1, f"one quotation begins {look}"
    assert len(pages.images(page)) >= 1
    assert any(block.language == "python" for block in pages.blocks(page))


@CHAPTERS
def test_every_exercise_of_a_chapter_has_an_answer(page):
    zh = pages.is_chinese(page)
    part = re.search(r"^## (?:Exercises|练习)\n(.*?)^## ", text(page), re.S | re.M)
    assert part
    exercises = re.findall(r"^\*\*(\d+)\.\*\* \S", part[1], re.M)
    assert exercises and exercises == [str(n + 1) for n in range(len(exercises))]
    answer = rf"<details>\n<summary>{'答案' if zh else 'Answer'}</summary>\n\n\S[^\0]*?\n\n</details>\n"
    pieces = re.split(r"^\*\*\d+\.\*\* ", part[1], flags=re.M)[1:]
    for number, piece in enumerate(pieces, 1):
        assert len(re.findall(answer, piece)) == 1, f"exercise {number}"


@CHAPTERS
def test_both_languages_of_a_chapter_have_as_many_exercises(page):
    """Both languages have as many exercises, and the numbers of the chapters have no gap."""
    other = pages.translation(page)
    count = [len(re.findall(r"^\*\*\d+\.\*\* ", text(one), re.M)) for one in (page, other)]
    assert count[0] == count[1]


def test_the_chapters_are_numbered_without_a_gap():
    numbers = [int(page.name[:2]) for page in pages.chapters() if not pages.is_chinese(page)]
    assert numbers == list(range(1, len(numbers) + 1))


@CHAPTERS
def test_a_chapters_pictures_are_small_and_can_be_made_again(page):
    for link in pages.images(page):
        picture = page.parent / link
        assert picture.stat().st_size < 100_000 or picture.suffix == ".png", f"{link} is large: as PNG?"
    made = re.findall(r"`python (docs/course/pictures/\d\d_\w+\.py)", text(page))
    assert made, "the command that makes the pictures again stands below them"
    assert [script for script in made if not (pages.ROOT / script).is_file()] == []
