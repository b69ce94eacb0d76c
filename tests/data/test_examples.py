"""Rows to examples: what is learned, what is refused, and how a conversation that is too long loses its first turns."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glassgpt.core.errors import InputError
from glassgpt.data.examples import Example, Refused, make_example
from glassgpt.data.rows import Row
from glassgpt.text.bpe import train_bpe, train_characters
from glassgpt.text.template import TEMPLATES

CHATML = TEMPLATES["chatml"]
BYTES = train_bpe(["x"], 256 + 3, control=("<|endoftext|>", "<|im_start|>", "<|im_end|>"))  # one token a byte


def row(*texts: str, roles: str = "uauaua") -> Row:
    names = {"s": "system", "u": "user", "a": "assistant", "t": "text", "c": "chosen", "r": "rejected"}
    return Row("f.csv", 7, tuple(names[r] for r in roles[: len(texts)]), list(texts))


def example(made: Example | Refused) -> Example:
    assert isinstance(made, Example)
    return made


def shown(made: Example | Refused) -> str:
    return BYTES.decode(example(made).ids, show_control=True)


def learned(made: Example | Refused) -> str:
    made = example(made)
    return BYTES.decode([i for i, m in zip(made.ids, made.loss_mask, strict=True) if m], show_control=True)


def test_a_conversation_is_read_whole_and_its_answers_are_learned():
    made = make_example(row("Be kind.", "你好", "Hi 🙂", "?", "!", roles="suaua"), BYTES, CHATML, 500)
    assert shown(made) == (
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n你好<|im_end|>\n"
        "<|im_start|>assistant\nHi 🙂<|im_end|>\n<|im_start|>user\n?<|im_end|>\n<|im_start|>assistant\n!<|im_end|>\n"
    )
    assert learned(made) == "Hi 🙂<|im_end|>!<|im_end|>"
    assert (made.source, made.number, made.truncated, made.trained) == ("f.csv", 7, 0, 10)


def test_what_is_too_long_is_refused_with_its_length():
    long = row("q", "a" * 100)
    tokens = len(example(make_example(long, BYTES, CHATML, 500)).ids)
    assert isinstance(make_example(long, BYTES, CHATML, tokens), Example)
    refused = make_example(long, BYTES, CHATML, tokens - 1)
    assert isinstance(refused, Refused) and (refused.source, refused.number, refused.tokens) == ("f.csv", 7, tokens)
    assert str(tokens) in str(refused.reason) and str(tokens - 1) in str(refused.reason)


def test_a_long_conversation_loses_its_first_exchanges_but_not_its_system_message():
    whole = row("SYS", "first", "1", "second", "2", "third", "3", roles="suauaua")
    tokens = len(example(make_example(whole, BYTES, CHATML, 500)).ids)
    made = make_example(whole, BYTES, CHATML, tokens - 1, too_long="cut")
    assert shown(made) == shown(
        make_example(row("SYS", "second", "2", "third", "3", roles="suaua"), BYTES, CHATML, 500)
    )
    assert example(made).truncated == tokens - len(example(made).ids) > 0
    made = make_example(whole, BYTES, CHATML, 60, too_long="cut")
    assert shown(made) == shown(make_example(row("SYS", "third", "3", roles="sua"), BYTES, CHATML, 500))


def test_an_answer_is_never_cut_so_one_exchange_that_is_too_long_is_refused():
    made = make_example(row("first", "1", "second", "a" * 100), BYTES, CHATML, 90, too_long="cut")
    assert isinstance(made, Refused)


def test_two_answers_in_a_row_stay_with_their_question():
    whole = row("q", "1", "q2", "2", "2b", roles="uauaa")
    tokens = len(example(make_example(whole, BYTES, CHATML, 500)).ids)
    made = make_example(whole, BYTES, CHATML, tokens - 1, too_long="cut")
    assert learned(made) == "2<|im_end|>2b<|im_end|>"


def test_a_text_is_learned_whole_and_ends():
    made = make_example(row("Es war", roles="t"), BYTES, None, 50)
    assert learned(made) == shown(made) == "Es war<|endoftext|>"
    assert example(made).trained == 6  # the first follows from nothing


def test_a_start_token_is_not_learned():
    tokenizer = train_bpe(["x"], 256 + 2, control=("<e>", "<b>"))
    tokenizer.bos_id, tokenizer.add_bos = tokenizer.token_id("<b>"), True
    made = example(make_example(row("ab", roles="t"), tokenizer, None, 50))
    assert tokenizer.decode(made.ids, show_control=True) == "<b>ab<e>"
    assert made.loss_mask == [False, True, True, True] and made.trained == 3


def test_a_long_text_is_refused_or_cut_at_its_end():
    assert isinstance(make_example(row("abcdef", roles="t"), BYTES, None, 6), Refused)
    made = make_example(row("abcdef", roles="t"), BYTES, None, 4, too_long="cut")
    assert shown(made) == "abcd" and example(made).truncated == 3


def test_of_a_preference_the_chosen_or_the_rejected_answer_is_taken():
    pair = row("q", "good", "bad", roles="ucr")
    assert learned(make_example(pair, BYTES, CHATML, 99)) == "good<|im_end|>"
    assert learned(make_example(pair, BYTES, CHATML, 99, last="rejected")) == "bad<|im_end|>"


def test_a_conversation_needs_a_template():
    with pytest.raises(InputError, match="no chat template"):
        make_example(row("q", "a"), BYTES, None, 99)


def test_a_row_that_the_tokenizer_or_the_template_cannot_express_is_refused_with_the_reason():
    characters = train_characters(["User: Assistant: ab\n"])
    refused = make_example(row("a", "é"), characters, TEMPLATES["plain"], 99)
    assert isinstance(refused, Refused) and "é" in str(refused.reason)
    assert isinstance(make_example(row("é", roles="t"), characters, None, 99), Refused)
    gemma = train_bpe(["x"], 256 + 3, control=("<bos>", "<start_of_turn>", "<end_of_turn>"))
    refused = make_example(row("a", "b", "c", roles="uaa"), gemma, TEMPLATES["gemma"], 99)
    assert isinstance(refused, Refused) and "assistant" in str(refused.reason)


@given(st.lists(st.text("ab你 \n", max_size=20), min_size=2, max_size=8), st.integers(20, 200), st.booleans())
@settings(max_examples=150, deadline=None)
def test_whatever_the_length_nothing_exceeds_the_context_and_no_token_is_unaccounted(texts, context, system):
    texts = texts[: len(texts) // 2 * 2]
    said = row(*(["s"] if system else []), *texts, roles=("s" if system else "") + "uaua" * 4)
    whole = len(example(make_example(said, BYTES, CHATML, 10_000)).ids)
    made = make_example(said, BYTES, CHATML, context, too_long="cut")
    if isinstance(made, Refused):
        assert made.tokens == whole > context
    else:
        assert len(made.ids) <= context and len(made.ids) + made.truncated == whole
        assert learned(made).endswith(texts[-1] + "<|im_end|>")
        assert len(made.ids) == len(made.loss_mask)
