"""How a tokenizer fares on a text, counted again character by character."""

from __future__ import annotations

from collections import Counter

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from glassgpt.text import usage as module
from glassgpt.text.bpe import train_bpe, train_characters
from glassgpt.text.tokenizer import Tokenizer
from glassgpt.text.usage import Usage

TEXT = "The quick brown fox, déjà vu; 今天天气很好，我们去北京看故宫。 x = 12345 😀\n"


@pytest.fixture(scope="module")
def bpe() -> Tokenizer:
    return train_bpe([TEXT * 30], 330)


def script_of(character: str) -> str:
    if regex.match(r"\p{Han}", character):
        return "chinese"
    return "english" if regex.match(r"[A-Za-z\u00c0-\u024f]", character) else "other"


def test_the_chinese_characters_are_those_of_unicode():
    ours = {c for first, last in module._HAN for c in range(first, last + 1)}
    every = "".join(map(chr, range(0x110000)))
    theirs, unknown = ({ord(c) for c in regex.findall(pattern, every)} for pattern in (r"\p{Han}", r"\p{Cn}"))
    radicals = set(range(0x2E80, 0x2FE0))  # no text is written with them
    assert len(theirs - ours - radicals) < 20
    assert len(ours - theirs - unknown) < 5


@given(st.lists(st.sampled_from([*TEXT, " the", "你好", "é", "\r\n"]), max_size=40))
@settings(max_examples=200, deadline=None)
def test_every_token_is_counted_for_the_highest_script_in_it(bpe: Tokenizer, parts: list[str]):
    text = "".join(parts)
    usage = Usage(bpe)
    usage.add(text)
    raw = text.encode()
    owner = [(script_of(c), i) for c in text for i in range(len(c.encode()))]
    assert len(owner) == len(raw)
    want = {name: [0, 0, 0] for name in module.SCRIPTS}
    at = 0
    for number in bpe.encode(text):
        mine = owner[at : at + len(bpe.token_bytes(number))]
        at += len(mine)
        script = max((s for s, _ in mine), key=module.SCRIPTS.index)
        for i, more in enumerate((1, sum(i == 0 for _, i in mine), len(mine))):
            want[script][i] += more
    got = {name: [part.tokens, part.characters, part.bytes] for name, part in usage.parts.items()}
    assert got == want
    assert (usage.whole.characters, usage.whole.bytes) == (len(text), len(raw))


def test_of_single_characters_each_is_a_token():
    usage = Usage(train_characters([TEXT]))
    usage.add(TEXT)
    assert usage.parts["chinese"].characters_per_token == usage.parts["english"].characters_per_token == 1
    assert usage.parts["chinese"].bytes_per_token == 3
    assert usage.parts["chinese"].tokens == sum(script_of(c) == "chinese" for c in TEXT)


def test_the_most_frequent_are_those_of_a_plain_count(bpe: Tokenizer):
    usage = Usage(bpe)
    usage.add(TEXT * 3)
    usage.add("the the")
    plain = Counter(bpe.encode(TEXT * 3) + bpe.encode("the the"))
    found = usage.most_frequent(1000)
    assert dict(found) == plain
    assert [n for _, n in found] == sorted(plain.values(), reverse=True)
    assert len(usage.most_frequent(3)) == 3


def test_a_long_text_in_pieces_has_the_tokens_of_the_whole(bpe: Tokenizer, monkeypatch: pytest.MonkeyPatch):
    text = (TEXT + "\n  indented\r\n\n\nnext 段落\n") * 20
    monkeypatch.setattr(module, "_PIECE", 10)
    assert len(list(module._pieces(text))) > 20
    assert [i for piece in module._pieces(text) for i in bpe.encode(piece)] == bpe.encode(text)


def test_nothing_added_gives_no_rates(bpe: Tokenizer):
    usage = Usage(bpe)
    usage.add("")
    assert usage.whole.tokens == 0 and usage.whole.characters_per_token == 0 and usage.most_frequent(5) == []
