"""Offsets of a text's tokens, for every kind of tokenizer: a space put before it, characters cut in bytes, NFC."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glassgpt.inside.asked import Asked
from glassgpt.text.bpe import train_bpe, train_characters
from glassgpt.text.tokenizer import Tokenizer, TokenizerLists

TOKENS = ["<unk>", "<s>", "</s>", "▁", "h", "e", "l", "o", "▁h", "ll", "ell", "海"]
PIECES = Tokenizer.from_lists(
    TokenizerLists("llama", "default", TOKENS, [0.0, 0, 0, -9, -9, -9, -9, -9, -1, -2, -3, -9], [2, 3, 3, *[1] * 9],
                   None, 1, 2, 0, None, True, True)
)  # fmt: skip
BYTES = train_bpe(["the sea was calm, 小船出去找鱼 " * 30], 300)
LETTERS = train_characters(["the sea was calm"])


@settings(max_examples=60, deadline=None)
@given(st.text("hel o海é😀", min_size=1).filter(str.strip), st.sampled_from([PIECES, BYTES, LETTERS]))
def test_the_text_and_the_characters_of_its_tokens_are_those_that_were_given(text, tokenizer):
    asked = Asked(text, tokenizer)
    assert asked.text == text and asked.bytes == text.encode()
    edges = asked.edges.tolist()
    for at in range(len(text) + 1):
        byte = len(text[:at].encode())
        assert asked.character_from(byte) == asked.character_to(byte) == at
        assert asked.byte_at(at) == byte
    owners = [at for at, character in enumerate(text) for _ in character.encode()]
    firsts, lasts = asked.touched()
    for a, b, first, last in zip(edges[:-1], edges[1:], firsts.tolist(), lasts.tolist(), strict=True):
        assert a == b or (first, last) == (owners[a], owners[b - 1])


@pytest.mark.parametrize("tokenizer", [PIECES, BYTES, LETTERS])
def test_names_of_control_tokens_are_letters(tokenizer):
    asked = Asked("<s><|im_end|>", tokenizer)
    assert asked.text == "<s><|im_end|>" and len(asked.symbols) > 2
    assert not any(tokenizer.is_control(s - 1) for s in asked.symbols.tolist() if s > 0)


def test_a_tokenizer_that_normalises_gives_the_text_that_offsets_count():
    spec = BYTES._spec | {"normalizer": {"type": "NFC"}}
    asked = Asked("e\u0301 was calm", Tokenizer(spec))
    assert asked.text == "é was calm" and asked.edges[-1] == len("é was calm".encode())
