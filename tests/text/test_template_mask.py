"""The loss mask: exactly what the assistant wrote, and the token that ends its turn."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glassgpt.text.bpe import train_characters
from glassgpt.text.template import TEMPLATES, Encoded
from glassgpt.text.tokenizer import Tokenizer


def learned(tokenizer: Tokenizer, encoded: Encoded) -> list[str]:
    """The masked stretches as text with control tokens shown, in order."""
    stretches: list[list[int]] = []
    before = False
    for token_id, mask in zip(encoded.ids, encoded.loss_mask, strict=True):
        if mask and not before:
            stretches.append([])
        if mask:
            stretches[-1].append(token_id)
        before = mask
    return [tokenizer.decode(s, show_control=True) for s in stretches]


def said(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    roles = {"s": "system", "u": "user", "a": "assistant", "t": "tool"}
    return [{"role": roles[r], "content": c} for r, c in pairs]


# Read from the conversations by eye: family, conversation, what must be learned.
CASES = [
    ("smollm2", said(("u", "Hi"), ("a", "Hello!")), ["Hello!<|im_end|>"]),
    ("smollm2", said(("s", "x"), ("u", "Hi"), ("a", "A"), ("u", "B"), ("a", "C")), ["A<|im_end|>", "C<|im_end|>"]),
    ("smollm2", said(("u", "你好"), ("a", "你好！很高兴见到你。")), ["你好！很高兴见到你。<|im_end|>"]),
    ("smollm2", said(("u", "only a question")), []),
    ("chatml", said(("u", "Hi"), ("a", "")), ["<|im_end|>"]),
    ("chatml", said(("u", "a<|im_end|>b"), ("a", "x<|im_end|>y")), ["x<|im_end|>y<|im_end|>"]),
    ("chatml", said(("a", "first word"), ("u", "ok")), ["first word<|im_end|>"]),
    ("qwen2", said(("u", "1"), ("a", " 2\n")), [" 2\n<|im_end|>"]),
    ("qwen2.5", said(("u", "w?"), ("a", "look"), ("t", "21"), ("a", "warm")), ["look<|im_end|>", "warm<|im_end|>"]),
    ("qwen3", said(("u", "q"), ("a", "yes")), ["yes<|im_end|>"]),
    (
        "qwen3",
        said(("u", "q"), ("a", "<think>\nhm\n</think>\n\nyes"), ("u", "r"), ("a", "<think>\nso\n</think>\n\nno")),
        ["yes<|im_end|>", "<think>\nso\n</think>\n\nno<|im_end|>"],
    ),
    ("llama3", said(("u", "q"), ("a", " yes ")), ["yes<|eot_id|>"]),
    ("llama3.1", said(("s", "be kind"), ("u", "q"), ("a", "好")), ["好<|eot_id|>"]),
    ("gemma", said(("s", "x"), ("u", "q"), ("a", "A"), ("u", "r"), ("a", "B")), ["A<end_of_turn>", "B<end_of_turn>"]),
    ("zephyr", said(("u", "q"), ("a", "yes")), ["yes</s>"]),
    ("phi3", said(("u", "q"), ("a", "yes\n")), ["yes\n<|end|>"]),
    ("phi4", said(("u", "q"), ("a", "yes"), ("u", "r")), ["yes<|im_end|>"]),
    ("plain", said(("s", "sys"), ("u", "q"), ("a", "yes"), ("u", "r"), ("a", "no")), [" yes</s>", " no</s>"]),
]  # fmt: skip


@pytest.mark.parametrize(("family", "messages", "wanted"), CASES)
def test_exactly_the_assistants_words_and_end_of_turn_are_learned(
    family: str, messages: list[dict[str, str]], wanted: list[str], chat_twins: Callable
) -> None:
    tokenizer, _ = chat_twins("smollm")
    assert learned(tokenizer, TEMPLATES[family].encode(tokenizer, messages)) == wanted


@pytest.mark.parametrize("family", list(TEMPLATES))
def test_a_generation_prompt_is_never_learned(family: str, chat_twins: Callable) -> None:
    tokenizer, _ = chat_twins("smollm")
    messages = said(("u", "q"), ("a", "yes"), ("u", "r"))
    without = TEMPLATES[family].encode(tokenizer, messages)
    prompt = TEMPLATES[family].encode(tokenizer, messages, add_generation_prompt=True)
    assert learned(tokenizer, prompt) == learned(tokenizer, without)
    assert not prompt.loss_mask[-1]


@pytest.mark.parametrize("family", list(TEMPLATES))
def test_each_learned_end_of_turn_is_a_stop_id(family: str, chat_twins: Callable) -> None:
    tokenizer, _ = chat_twins("smollm")
    encoded = TEMPLATES[family].encode(tokenizer, said(("u", "q"), ("a", "yes")))
    last = max(i for i, mask in enumerate(encoded.loss_mask) if mask)
    assert encoded.ids[last] in TEMPLATES[family].stop_ids(tokenizer)


def test_without_an_end_of_sequence_a_plain_reply_ends_with_its_line() -> None:
    tokenizer = train_characters(["User: Assistant: yes\nq"])
    encoded = TEMPLATES["plain"].encode(tokenizer, said(("u", "q"), ("a", "yes"), ("u", "q")))
    assert tokenizer.decode(encoded.ids) == "User: q\nAssistant: yes\nUser: q\n"
    assert learned(tokenizer, encoded) == [" yes\n"]


@given(contents=st.lists(st.text("ab你<|im_end|>\n ", max_size=12), min_size=1, max_size=6), data=st.data())
@settings(max_examples=200, deadline=None)
def test_no_content_adds_a_control_token_to_any_family(
    chat_twins: Callable, contents: list[str], data: st.DataObject
) -> None:
    """The control tokens of a conversation are those of the same conversation with other words."""
    tokenizer, _ = chat_twins("smollm")
    template = TEMPLATES[data.draw(st.sampled_from(sorted(TEMPLATES)))]
    names = ["<|im_start|>", "<end_of_turn>", "<|eot_id|>", "</s>", "<think>", "<bos>"]
    words = [c + data.draw(st.sampled_from(["", *names])) for c in contents]

    def control(texts: list[str]) -> list[int]:
        messages = [{"role": ("user", "assistant")[i % 2], "content": t} for i, t in enumerate(texts)]
        return [i for i in template.encode(tokenizer, messages).ids if tokenizer.is_control(i)]

    assert control(words) == control(["x"] * len(words))
