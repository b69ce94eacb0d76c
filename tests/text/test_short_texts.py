"""A first short text is encoded before there is an engine, and with its ids."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glassgpt.core.errors import GlassError
from glassgpt.text import short_texts
from glassgpt.text.tokenizer import Tokenizer, TokenizerLists

TEXT = st.text() | st.text("aeinrst  \n\t019.'!ü你😀é<|im_end|>AB") | st.text("a ", min_size=90)


@pytest.fixture(scope="module")
def both(smollm2_lists: TokenizerLists) -> tuple[Tokenizer, Tokenizer]:
    """A tokenizer that has no engine yet, and one that encodes with nothing else."""
    young, old = Tokenizer.from_lists(smollm2_lists), Tokenizer.from_lists(smollm2_lists)
    old._short = None
    return young, old


def ids_or_error(tokenizer: Tokenizer, text: str) -> list[int] | str:
    try:
        return tokenizer.encode(text)
    except GlassError as error:
        return error.line()


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=TEXT)
def test_the_ids_are_the_engines_for_any_text(both, text):
    young, old = both
    short = short_texts.short_texts(young._spec, young._control)
    assert short is not None
    young._short = short
    assert ids_or_error(young, text) == ids_or_error(old, text)


def test_samples_of_many_languages_too(both, sample):
    young, old = both
    young._short = short_texts.short_texts(young._spec, young._control)
    assert ids_or_error(young, sample) == ids_or_error(old, sample)
    assert ids_or_error(young, sample * 40) == ids_or_error(old, sample * 40)


def test_a_prompt_needs_no_engine_and_much_text_or_a_long_word_makes_one(smollm2_lists):
    tokenizer = Tokenizer.from_lists(smollm2_lists)
    tokenizer.encode("How are you?")
    assert "_engine" not in tokenizer.__dict__
    tokenizer.encode("a" * 200)
    assert "_engine" in tokenizer.__dict__ and tokenizer._short is None
    tokenizer = Tokenizer.from_lists(smollm2_lists)
    for _ in range(short_texts.BUDGET // 1000 + 1):
        tokenizer.encode("word " * 200)
    assert tokenizer._short is None


def test_a_merge_that_gives_a_control_token_is_left_to_the_engine(smollm2_lists):
    tokens, merges = list(smollm2_lists.tokens), smollm2_lists.merges
    types = list(smollm2_lists.types)
    types[tokens.index("Ġthe")] = 3
    lists = dataclasses.replace(smollm2_lists, types=types)
    tokenizer = Tokenizer.from_lists(lists)
    ids = tokenizer.encode("what is the cat")
    assert tokens.index("Ġthe") not in ids and tokenizer.decode(ids) == "what is the cat"
    assert tokenizer._short is None and "_engine" in tokenizer.__dict__ and len(merges) == len(lists.merges)


@pytest.mark.parametrize("change", [{"pre": "llama-bpe"}, {"pre": "qwen2"}])
def test_tokenizers_that_do_more_than_merge_have_their_engine_at_once(change, smollm2_lists):
    tokenizer = Tokenizer.from_lists(dataclasses.replace(smollm2_lists, **change))
    assert tokenizer._short is None and "_engine" in tokenizer.__dict__
