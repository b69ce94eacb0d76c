"""Streaming decode: no prefix ever ends within a character."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glassgpt.text.tokenizer import Tokenizer

TEXTS = [
    "你好，世界！龘",
    "👩‍👩‍👧‍👦 and 🏳️‍🌈 and 🇨🇳",
    "e\u0301 n\u0303 한국어 a\u0323\u0302",
    "plain text",
]


def pushed(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    decoder = tokenizer.stream_decoder()
    return [decoder.push(i) for i in ids] + [decoder.finish()]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("which", ["smollm2", "gemma"])
def test_every_prefix_of_a_streamed_text_is_a_prefix_of_the_text(
    which: str, text: str, request: pytest.FixtureRequest
) -> None:
    tokenizer: Tokenizer = request.getfixturevalue(which)
    shown = ""
    for piece in pushed(tokenizer, tokenizer.encode(text)):
        shown += piece
        assert text.startswith(shown)
    assert shown == text


def test_a_character_of_several_tokens_appears_with_its_last_one(smollm2: Tokenizer) -> None:
    ids = smollm2.encode("龘")
    assert len(ids) == 3
    assert pushed(smollm2, ids) == ["", "", "龘", ""]


def test_a_broken_character_shows_u_fffd_as_soon_as_it_is_certain(smollm2: Tokenizer) -> None:
    first, second, _ = smollm2.encode("龘")
    (letter,) = smollm2.encode("a")
    assert pushed(smollm2, [first, second, letter]) == ["", "", "\ufffda", ""]
    assert pushed(smollm2, [second, letter]) == ["\ufffd", "a", ""]


def test_an_unfinished_character_shows_u_fffd_at_the_end(smollm2: Tokenizer) -> None:
    assert pushed(smollm2, smollm2.encode("x龘")[:-1])[-1] == "\ufffd"


def test_control_tokens_stream_as_nothing(smollm2: Tokenizer) -> None:
    assert pushed(smollm2, smollm2.encode_with_control("a<|im_end|>b")) == ["a", "", "b", ""]


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_the_pieces_of_any_ids_join_to_what_decode_gives(smollm2: Tokenizer, data: st.DataObject) -> None:
    # Ids below 300 hold the single bytes, so that broken UTF-8 is common; beyond the vocabulary is allowed.
    ids = data.draw(st.lists(st.one_of(st.integers(0, 300), st.integers(0, smollm2.vocab_size + 5)), max_size=40))
    assert "".join(pushed(smollm2, ids)) == smollm2.decode(ids)


@given(st.lists(st.integers(238, 493), max_size=40))
@settings(max_examples=200, deadline=None)
def test_gemmas_byte_tokens_join_to_what_python_decodes(gemma: Tokenizer, ids: list[int]) -> None:
    wanted = bytes(i - 238 for i in ids).decode("utf-8", "replace")
    assert "".join(pushed(gemma, ids)) == gemma.decode(ids) == wanted
