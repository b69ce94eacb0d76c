"""A text that is still being written is drawn block by block, and in the end as if it had come at once."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import pytest
from html_walk import attacks, check_harmless, examples
from hypothesis import given, settings
from hypothesis import strategies as st

from glassgpt.ui.markdown import LONGEST, blocks_of, to_html
from glassgpt.ui.markdown_stream import SMALL, Stream

LINES = ["# a", "a *b* `c`", "- a", "  - b", "    code", "", "", "", "> q", "```python", "x = 1", "```",
         "~~~", "| a | b |", "|---|---|", "| 1 | 2 |", "---", "===", "$$", "x^2", "\\[", "\\]", "[n]: http://a.b",
         "[n]: http://c.d", "[n]", "[n][]", "'title", "end'", "1. one",
         "2) two", "$x$ and $y$", "<div>", "\t", "[n]:", "http://a.b", "\\", "**",
         "$$ x $$", "$$\\begin{aligned}", "- [ ] t", "\r", "x" * 40, "![i](http://a.b)"]  # fmt: skip
PIECES = st.lists(st.sampled_from([*LINES, *"-=*_#>`|[]()$\\ \n\ra"]), max_size=12).map("".join)
texts = st.one_of(
    st.lists(st.sampled_from(LINES), max_size=40).map("\n".join),
    st.lists(st.one_of(st.sampled_from(LINES), PIECES), max_size=25).map("\n".join),
    st.text(max_size=200),
)


@pytest.fixture(autouse=True)
def no_mistakes(caplog: pytest.LogCaptureFixture):
    yield
    assert [one for one in caplog.records if one.levelno >= logging.ERROR] == []


def written(stream: Stream, pieces: list[str]) -> list[str]:
    """What a page shows in the end that does as it is told with each piece."""
    shown: list[str] = []
    for piece in pieces:
        first, blocks = stream.push(piece)
        assert 0 <= first <= len(shown)
        shown[first:] = blocks
        assert shown == stream.blocks
    first, blocks = stream.end()
    shown[first:] = blocks
    return shown


def parted(text: str, cuts: list[int]) -> list[str]:
    places = sorted({min(cut, len(text)) for cut in cuts})
    return [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]


@given(texts, st.lists(st.integers(0, 400), max_size=30))
@settings(max_examples=500, deadline=None)
def test_the_end_is_as_if_it_had_come_at_once(text: str, cuts: list[int]):
    assert written(Stream(), parted(text, cuts)) == blocks_of(text)


@given(texts)
@settings(max_examples=150, deadline=None)
def test_sign_by_sign_too(text: str):
    assert written(Stream(), list(text)) == blocks_of(text)


@pytest.mark.full
@given(st.lists(st.one_of(st.sampled_from(LINES), PIECES), max_size=40).map("\n".join), st.integers(1, 9))
@settings(max_examples=4_000, deadline=None)
def test_the_end_is_the_same_for_many_texts(text: str, size: int):
    assert written(Stream(), [text[at : at + size] for at in range(0, len(text), size)]) == blocks_of(text)


@given(st.lists(st.sampled_from(LINES), min_size=100, max_size=300).map("\n".join), st.integers(1, 60))
@settings(max_examples=30, deadline=None)
def test_long_texts_too(text: str, size: int):
    assert written(Stream(), [text[at : at + size] for at in range(0, len(text), size)]) == blocks_of(text)


def test_attacks_are_harmless_at_each_moment(shared_data: Path):
    texts = attacks(shared_data) + [str(example["markdown"]) for example in examples(shared_data)]
    for text in texts:
        stream = Stream()
        for at in range(0, min(len(text), 600), 7):
            for block in stream.push(text[at : at + 7])[1]:
                check_harmless(block)
        stream = Stream()
        assert "".join(written(stream, [text[at : at + 40] for at in range(0, len(text), 40)])) == to_html(text)


def test_finished_blocks_are_not_given_again():
    stream = Stream()
    assert stream.push("one\n\ntw") == (0, ["<p>one</p>\n", "<p>tw</p>\n"])
    assert stream.push("o") == (1, ["<p>two</p>\n"])
    assert stream.push("\n\n\nthree") == (2, ["<p>three</p>\n"])
    assert stream.push("") == (3, [])
    assert stream.end() == (3, [])


def test_an_address_that_comes_late_is_there_in_the_end():
    stream = Stream()
    for piece in ("see [here]\n\n", "words\n\n" * 5, "[here]: http://a.b\n\nthe end\n"):
        stream.push(piece)
    assert "<a" not in stream.blocks[0]
    first, blocks = stream.end()
    assert first == 0 and '<a href="http://a.b"' in blocks[0]


def test_a_line_end_in_two_pieces_is_one():
    assert written(Stream(), ["a\r", "\nb\r", "c\r"]) == blocks_of("a\r\nb\rc\r") == ["<p>a\nb\nc</p>\n"]


def test_code_is_coloured_while_it_is_written():
    stream = Stream()
    for line in range(60):
        stream.push(f"{'' if line else '```python' + chr(10)}x{line} = 'a'\n")
    assert "hl-s" in stream.blocks[0] and "x59" in stream.blocks[0]


@pytest.mark.parametrize(
    "line", ["- *a* b\n", "words and *more* words\n", "| a | b |\n|-|-|\n| c | d |\n", "```c\nint x;\n"]
)
def test_all_that_came_is_shown_at_each_moment(line: str):
    stream, told = Stream(), 0
    for number in range(400):
        stream.push(f"{line[:-1]} w{number} \n" if "|" not in line else f"| w{number} | b |\n" + line * (number == 0))
        if number % 20 == 0:
            shown = check_harmless("".join(stream.blocks)).text
            assert f"w{number}" in shown
            told += 1
    assert told == 20


@pytest.mark.slow
@pytest.mark.parametrize(
    "line", ["- *a* `b` c\n", "*a* `b` c\n", "x = [1, 'a']  # c\n", "| *a* | `b` |\n", "[a]: http://b\n", "> a\n"]
)
def test_a_long_block_in_small_pieces_does_not_take_long(line: str):
    """Reading the whole again with each of these pieces would take minutes."""
    head = {"x": "```python\n", "|": "| a | b |\n|-|-|\n"}.get(line[0], "")
    text = (head + line * 20_000)[:20_000]
    began = time.process_time()
    assert "".join(written(Stream(), [text[at : at + 10] for at in range(0, len(text), 10)])) == to_html(text)
    assert time.process_time() - began < 30
    assert len(text) > SMALL * 10


def test_beyond_the_limits_all_is_plain_and_only_the_last_part_is_given_again():
    stream, text = Stream(), f"a *b* {'c' * 93}\n" * (LONGEST // 100)
    stream.push(text[: LONGEST - 10])
    assert "<em>" in stream.blocks[0]
    first, _ = stream.push(text[LONGEST - 10 :] + "a *b*\n" * 40)
    assert first == 0 and "<em>" not in "".join(stream.blocks)
    before = len(stream.blocks)
    first, blocks = stream.push("a *b*\n")
    assert first == before - 1 and len(blocks) == 1
    stream.push(" and more\n" * 900)
    stream.end()
    assert stream.blocks == blocks_of(text + "a *b*\n" * 41 + " and more\n" * 900)
