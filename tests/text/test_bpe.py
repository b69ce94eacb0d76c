"""Training tokenizers, against brute force and a published reference."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from glassgpt.core.errors import ConfigError, InputError
from glassgpt.text import bpe
from glassgpt.text.bpe import train_bpe, train_characters
from glassgpt.text.tokenizer import Tokenizer

TEXTS = ["the quick brown fox, the lazy dog. " * 30, "今天天气很好，我们去北京看故宫。" * 30, "x = 12345 + 67"]


@pytest.fixture(scope="module")
def trained() -> Tokenizer:
    return train_bpe(TEXTS, 400)


def test_each_merge_joins_a_most_frequent_pair() -> None:
    """Brute force: count all adjacent pairs before every merge; the one chosen is never beaten."""
    text = "low lower lowest newer wider 你好你好吗 banana bandana " * 3
    tokenizer = train_bpe([text], 256 + 3 + 20)
    words = Counter(tuple(bytes([b]) for b in w.encode()) for w in regex.findall(bpe._CUT, text, regex.V1))
    merges = [tokenizer.token_bytes(i) for i in range(259, tokenizer.vocab_size)]
    assert len(merges) == 20
    for merged in merges:
        pairs: Counter[tuple[bytes, bytes]] = Counter()
        for word, count in words.items():
            for pair in pairwise(word):
                pairs[pair] += count
        best = max(pairs.values())
        chosen = next(p for p, n in pairs.items() if n == best and p[0] + p[1] == merged)
        words = Counter({join(word, chosen): n for word, n in words.items()})


def join(word: tuple[bytes, ...], pair: tuple[bytes, bytes]) -> tuple[bytes, ...]:
    out: list[bytes] = []
    i = 0
    while i < len(word):
        if word[i : i + 2] == pair:
            out.append(word[i] + word[i + 1])
            i += 2
        else:
            out.append(word[i])
            i += 1
    return tuple(out)


def test_english_merges_agree_with_the_published_reference(shared_data: Path) -> None:
    """The reference breaks ties another way and cuts as GPT-2 does, so nearly all entries agree, not all."""
    folder = shared_data / "peers" / "tokenizer"
    text = (folder / "cs336_corpus.en").read_text(encoding="utf-8")
    ours = train_bpe([text], 500, control=["<|endoftext|>"])
    reference = json.loads((folder / "cs336_train-bpe-reference-vocab.json").read_text(encoding="utf-8"))
    mine = {ours._tokens[i] for i in range(ours.vocab_size)}
    assert len(mine) == len(reference) == 500
    assert len(mine & set(reference)) > 490


@given(st.text(st.characters(blacklist_categories=["Cs"]), max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_text_comes_back_and_never_as_a_control_token(trained: Tokenizer, text: str) -> None:
    for typed in (text, text + "<|im_end|>" + text):
        ids = trained.encode(typed)
        assert trained.decode(ids) == typed
        assert not any(trained.is_control(i) for i in ids)


def test_chinese_shares_no_token_with_other_scripts_and_digits_stand_alone(trained: Tokenizer) -> None:
    tokenizer = train_bpe(["你好world123你好world123 " * 50], 400)
    pieces = [tokenizer.decode([i]) for i in tokenizer.encode("你好world123")]
    assert pieces == ["你好", "world", "1", "2", "3"]


def test_control_tokens_come_first_and_the_first_ends_a_sequence(trained: Tokenizer) -> None:
    assert [trained.token_id(t) for t in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")] == [0, 1, 2]
    assert (trained.bos_id, trained.eos_id, trained.add_bos) == (0, 0, False)
    own = train_bpe(TEXTS, 300, control=["<end>"])
    assert own.token_id("<end>") == own.eos_id == 0 and own.is_control(0)


def test_control_tokens_in_the_training_text_stay_plain() -> None:
    tokenizer = train_bpe(["<|im_end|> is a token " * 50], 400)
    assert 2 not in tokenizer.encode("<|im_end|>")
    assert tokenizer.decode(tokenizer.encode("<|im_end|>")) == "<|im_end|>"


def test_training_twice_gives_the_same_tokenizer(trained: Tokenizer) -> None:
    assert train_bpe(TEXTS, 400).fingerprint() == trained.fingerprint()
    assert train_bpe(TEXTS, 300).fingerprint() != trained.fingerprint()


@pytest.mark.parametrize(
    ("size", "control", "message"),
    [
        (258, ("a", "b", "c"), "vocab_size is 258; it must be from 259"),
        (1 << 30, (), "must be from 256 to"),
        (300, ("a", "a"), "one name twice"),
        (300, ("",), "empty name"),
    ],
)
def test_settings_that_cannot_work_are_refused(size: int, control: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        train_bpe(TEXTS, size, control=control)


def test_the_smallest_vocabulary_is_bytes_and_control_tokens() -> None:
    tokenizer = train_bpe(["aaaa"], 259)
    assert tokenizer.vocab_size == 259
    assert len(tokenizer.encode("aaaa")) == 4


@pytest.mark.parametrize("texts", [[], [""], ["", ""]])
def test_no_text_is_an_error(texts: list[str]) -> None:
    for train in (lambda: train_bpe(texts, 300), lambda: train_characters(texts)):
        with pytest.raises(InputError, match="no text to train"):
            train()


def test_half_a_character_in_a_training_text_is_named_by_its_text() -> None:
    with pytest.raises(InputError, match="text 2 holds half of a character"):
        train_bpe(iter(["fine", "bad \ud83d"]), 300)


def test_one_id_for_each_character_that_occurs() -> None:
    tokenizer = train_characters(["hello\n", "世界 👍"])
    assert tokenizer.vocab_size == len(set("hello\n世界 👍"))
    ids = tokenizer.encode("hello 世界👍")
    assert len(ids) == 9
    assert tokenizer.decode(ids) == "hello 世界👍"


def test_a_character_that_did_not_occur_is_named_with_its_place() -> None:
    with pytest.raises(InputError, match="'x' at position 2"):
        train_characters(["hello"]).encode("hex")


@pytest.mark.parametrize("train", [lambda: train_bpe(TEXTS, 400), lambda: train_characters(TEXTS)])
def test_a_trained_tokenizer_comes_back_from_its_files(train, tmp_path: Path) -> None:
    tokenizer = train()
    tokenizer.save(tmp_path)
    again = Tokenizer.from_file(tmp_path)
    assert again.fingerprint() == tokenizer.fingerprint()
    assert again.encode(TEXTS[1]) == tokenizer.encode(TEXTS[1])
    assert (again.bos_id, again.eos_id, again.add_bos) == (tokenizer.bos_id, tokenizer.eos_id, tokenizer.add_bos)
