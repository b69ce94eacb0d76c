"""Byte-level tokenizers, against llama.cpp's published vectors, transformers, and properties."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glassgpt.core.errors import FormatError, InputError
from glassgpt.text.tokenizer import Tokenizer, TokenizerLists

NAMES = ["<|im_end|>", "<|im_start|>", "<|endoftext|>", "<s>", "</s>", "<repo_name>", "<think>", "<|im_", "end|>"]
TEXTS = st.lists(st.one_of(st.sampled_from(NAMES), st.text(max_size=12)), max_size=6).map("".join)


def expressible(tokenizer: Tokenizer, text: str) -> bool:
    try:
        tokenizer.encode(text)
    except InputError:
        return False
    return True


def test_gpt2_ids_equal_the_vectors_that_llama_cpp_publishes(gpt2: Tokenizer, shared_data: Path) -> None:
    folder = shared_data / "peers" / "tokenizer" / "llamacpp"
    texts = (folder / "ggml-vocab-gpt-2.gguf.inp").read_text(encoding="utf-8").split("\n__ggml_vocab_test__\n")
    lines = (folder / "ggml-vocab-gpt-2.gguf.out").read_text(encoding="utf-8").splitlines()
    wanted = [[int(n) for n in line.split()] for line in lines]
    assert len(texts) == len(wanted) + 1 and not texts[-1]  # the file ends with a separator
    for text, ids in zip(texts, wanted, strict=False):
        assert gpt2.encode(text) == ids, text
        assert gpt2.decode(ids) == text


def test_gpt2_ids_equal_openais_published_test_plans(gpt2: Tokenizer, shared_data: Path) -> None:
    plans = (shared_data / "peers" / "tokenizer" / "gpt_tokenizer_TestPlans.txt").read_text(encoding="utf-8")
    checked = 0
    for block in plans.split("EncodingName: ")[1:]:
        name, sample, encoded = (line.split(": ", 1)[-1] for line in block.splitlines()[:3])
        if name == "r50k_base" and "<|" not in sample:
            assert gpt2.encode(sample) == json.loads(encoded)
            checked += 1
    assert checked > 50


def test_smollm2_ids_equal_those_of_its_published_design(
    smollm2: Tokenizer, smollm2_lists: TokenizerLists, sample: str
) -> None:
    """SmolLM2's tokenizer.json cuts single digits, then as GPT-2; built here by hand from the same lists."""
    from tokenizers import Tokenizer as Library
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

    vocabulary = {t: i for i, t in enumerate(smollm2_lists.tokens)}
    merges = [tuple(m.split(" ")) for m in smollm2_lists.merges or []]
    library = Library(BPE(vocabulary, merges))
    library.pre_tokenizer = Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False)])
    assert smollm2.encode(sample) == library.encode(sample).ids
    assert smollm2.decode(smollm2.encode(sample)) == sample


@pytest.mark.parametrize("pre", ["gpt-2", "qwen2", "llama-bpe"])
def test_control_tokens_typed_by_us_encode_as_transformers_does(chat_twins, samples: list[str], pre: str) -> None:
    ours, theirs = chat_twins(pre)
    for text in [*samples, "<|im_start|>user\nHi <|im_end|>\n\n<think>\n</think>x<|endoftext|>"]:
        assert ours.encode_with_control(text) == theirs.encode(text, add_special_tokens=False)


def test_digits_stand_alone_in_qwen2_and_go_by_three_in_llama3(chat_twins) -> None:
    qwen, llama = chat_twins("qwen2")[0], chat_twins("llama-bpe")[0]
    assert [qwen.decode([i]) for i in qwen.encode("x 12345")] == ["x", " ", "1", "2", "3", "4", "5"]
    for i in llama.encode("x 12345"):
        assert len(llama.decode([i]).strip()) <= 3


@given(text=TEXTS)
@settings(max_examples=300, deadline=None)
def test_no_text_ever_becomes_a_control_token(smollm2: Tokenizer, text: str) -> None:
    if expressible(smollm2, text):
        ids = smollm2.encode(text)
        assert not any(smollm2.is_control(i) for i in ids)
        assert smollm2.decode(ids) == text


@pytest.mark.parametrize("name", ["<|im_end|>", "<|im_start|>", "<|endoftext|>", "<repo_name>"])
def test_a_user_who_types_a_control_token_gets_plain_text_tokens(smollm2: Tokenizer, name: str) -> None:
    plain, control = smollm2.encode(f"a {name} b"), smollm2.encode_with_control(f"a {name} b")
    assert smollm2.token_id(name) in control and smollm2.token_id(name) not in plain
    assert smollm2.decode(plain) == f"a {name} b"
    assert smollm2.decode(control) == "a  b"
    assert smollm2.decode(control, show_control=True) == f"a {name} b"


def test_structural_tokens_are_control_even_where_the_file_calls_them_normal(
    smollm2_lists: TokenizerLists,
) -> None:
    types = list(smollm2_lists.types or [])
    types[2] = 1  # <|im_end|>
    tokenizer = Tokenizer.from_lists(dataclasses.replace(smollm2_lists, types=types))
    assert tokenizer.is_control(2) and 2 not in tokenizer.encode("<|im_end|>")


def test_a_control_token_that_is_a_word_or_a_letter_is_not_produced_by_that_word_or_letter() -> None:
    """Llama 3 takes a whole word that is in its vocabulary without merging."""
    tokens = ["h", "i", "q", "hi", "hq"]
    lists = TokenizerLists(
        "gpt2", "llama-bpe", tokens, None, [1, 1, 3, 3, 1], ["h q"], None, None, None, None, False, False
    )
    tokenizer = Tokenizer.from_lists(lists)
    assert tokenizer.encode("hi") == [0, 1]
    assert tokenizer.encode_with_control("hihq") == [3, 0, 2]
    with pytest.raises(InputError, match="'q' at position 1"):
        tokenizer.encode("hq")


def test_user_defined_tokens_are_text_and_are_found_whole(smollm2_lists: TokenizerLists) -> None:
    lists = dataclasses.replace(
        smollm2_lists, tokens=[*smollm2_lists.tokens, "<table>"], types=[*(smollm2_lists.types or []), 4]
    )
    tokenizer = Tokenizer.from_lists(lists)
    assert tokenizer.encode("<table>") == [len(smollm2_lists.tokens)]
    assert tokenizer.decode(tokenizer.encode("a<table>b")) == "a<table>b"


def test_a_character_without_ids_is_named_with_its_place(smollm2: Tokenizer) -> None:
    """SmolLM2's vocabulary lacks some rare bytes; other libraries drop such characters without a word."""
    with pytest.raises(InputError, match=r"'\\x13' at position 2"):
        smollm2.encode("ab\x13c")
    with pytest.raises(InputError, match=r"'\\ud800' at position 1"):
        smollm2.encode("a\ud800")


def test_bos_is_added_when_wanted_and_only_then(smollm2: Tokenizer, smollm2_lists: TokenizerLists) -> None:
    plain = smollm2.encode("Hi")
    assert smollm2.encode("Hi", add_bos=True) == [smollm2.bos_id, *plain]
    wanting = Tokenizer.from_lists(dataclasses.replace(smollm2_lists, add_bos=True))
    assert wanting.encode("Hi") == [wanting.bos_id, *plain]
    assert wanting.encode("Hi", add_bos=False) == plain


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pre": "klingon"}, "unknown way: 'klingon'"),
        ({"model": "bert"}, "of the kind 'bert'"),
        ({"merges": None}, "with 0 merges"),
        ({"merges": ["a b c"]}, "is not a pair"),
        ({"merges": ["qqqq zzzz"]}, "cannot be built"),
        ({"types": [1, 1]}, "2 types"),
        ({"eos_id": 10**9}, "token 1000000000"),
    ],
)
def test_lists_that_do_not_fit_are_refused(smollm2_lists: TokenizerLists, change: dict, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        Tokenizer.from_lists(dataclasses.replace(smollm2_lists, **change))


def test_an_entry_listed_twice_is_refused(smollm2_lists: TokenizerLists) -> None:
    lists = dataclasses.replace(
        smollm2_lists, tokens=[*smollm2_lists.tokens, "the"], types=[*(smollm2_lists.types or []), 1]
    )
    with pytest.raises(FormatError, match="'the' twice"):
        Tokenizer.from_lists(lists)
