"""Choosing a template, what it needs, and conversations that it refuses."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from glassgpt.core.errors import ConfigError, FormatError, InputError
from glassgpt.text.bpe import train_bpe
from glassgpt.text.template import TEMPLATES, get_template, recognise
from glassgpt.text.tokenizer import Tokenizer

USER, ASSISTANT = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
SYSTEM = {"role": "system", "content": "s"}


@pytest.fixture(scope="module")
def small() -> Tokenizer:
    """A tokenizer with ChatML's control tokens."""
    return train_bpe(["the quick brown fox " * 20, "你好世界" * 20], 300)


def test_smollm2_brings_its_own_system_message_where_there_is_none(small: Tokenizer) -> None:
    text = small.decode(get_template("smollm2").encode(small, [USER]).ids, show_control=True)
    assert text == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nq<|im_end|>\n"
    )


def test_plain_reads_as_a_dialogue_and_stops_at_the_users_next_line(small: Tokenizer) -> None:
    plain = get_template("plain")
    encoded = plain.encode(small, [SYSTEM, USER, ASSISTANT, USER], add_generation_prompt=True)
    text = small.decode(encoded.ids, show_control=True)
    assert text == "s\n\nUser: q\nAssistant: a<|endoftext|>\nUser: q\nAssistant:"
    assert plain.stop_strings == ("\nUser:",)
    assert plain.reply(" a \n") == "a"
    assert not any(t.stop_strings for name, t in TEMPLATES.items() if name != "plain")


def test_plain_begins_with_bos_where_the_tokenizer_wants_it(chat_twins: Callable) -> None:
    tokenizer, _ = chat_twins("smollm")
    tokenizer.add_bos = True
    try:
        assert get_template("plain").encode(tokenizer, [USER]).ids[0] == tokenizer.bos_id
        assert get_template("chatml").encode(tokenizer, [USER]).ids[0] != tokenizer.bos_id
    finally:
        tokenizer.add_bos = False
    assert get_template("plain").encode(tokenizer, [USER]).ids[0] != tokenizer.bos_id


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("<think>\nhm\n</think>\n\nYes.", "Yes."),
        ("hm\n</think>\n\nYes.", "Yes."),
        ("Yes.", "Yes."),
        ("<think>\nnever finished", ""),
    ],
)
def test_qwen3_drops_the_thoughts_from_a_reply(text: str, kept: str) -> None:
    assert get_template("qwen3").reply(text) == kept
    assert get_template("smollm2").reply(text) == text


def test_stop_ids_hold_the_end_of_turn_and_the_end_of_sequence(small: Tokenizer) -> None:
    ends = {small.token_id("<|im_end|>"), small.token_id("<|endoftext|>")}
    assert get_template("chatml").stop_ids(small) == ends
    assert get_template("plain").stop_ids(small) == {small.eos_id}


@pytest.mark.parametrize(
    ("family", "messages", "message"),
    [
        ("chatml", [], "no messages"),
        ("chatml", [USER, {"role": "wizard", "content": "x"}], "message 2 has the role 'wizard'"),
        ("chatml", [{"role": "user"}], "message 1 holds role;"),
        ("chatml", [USER, {"role": "user", "content": "x", "name": "Bo"}], "message 2 holds role, content, name"),
        ("chatml", ["hello"], "message 1 holds str"),
        ("chatml", [{"role": "user", "content": 5}], r"content of message 1 \(user\) is of the kind int"),
        ("chatml", [{"role": "tool", "content": "x"}], "message 1 has the role 'tool'"),
        ("chatml", [{"role": ["user"], "content": "x"}], "message 1 has the role"),
        ("gemma", [ASSISTANT, USER], "message 1 has the role assistant where the template gemma expects user"),
        ("gemma", [SYSTEM, USER, USER], "message 3 has the role user where the template gemma expects assistant"),
        ("gemma", [USER, SYSTEM], "message 2 has the role 'system'"),
        ("gemma", [SYSTEM], "only a system message"),
        ("gemma2", [SYSTEM, USER], "message 1 has the role 'system'"),
        ("phi4", [USER, USER], "message 2 has the role user"),
    ],
)  # fmt: skip
def test_conversations_that_cannot_be_used_are_refused_with_the_place(
    family: str, messages: list, message: str, chat_twins: Callable
) -> None:
    tokenizer, _ = chat_twins("smollm")
    with pytest.raises(InputError, match=message):
        get_template(family).encode(tokenizer, messages)


def test_a_template_whose_tokens_are_missing_names_them(small: Tokenizer) -> None:
    with pytest.raises(FormatError, match=r"needs the control tokens <\|end_header_id\|>"):
        get_template("llama3").encode(small, [USER])


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match="no template 'smolm2'") as caught:
        get_template("smolm2")
    assert "The nearest is smollm2" in caught.value.hint()


@pytest.mark.parametrize("jinja", [None, "", "  \n"])
def test_a_model_without_a_template_says_how_to_choose_one(jinja: str | None, small: Tokenizer) -> None:
    with pytest.raises(FormatError, match="base-model brings no chat template") as caught:
        recognise(jinja, small, name="base-model")
    assert "--template NAME" in caught.value.hint() and "plain" in caught.value.hint()


def test_a_template_is_read_and_never_run(small: Tokenizer) -> None:
    bomb = "{% for i in range(10**9) %}{{ cycler.__init__.__globals__.os.system('false') }}{% endfor %}"
    with pytest.raises(FormatError, match="unknown family") as caught:
        recognise(bomb, small)
    assert "--template NAME" in caught.value.hint()


def test_a_changed_chatml_is_not_mistaken_for_chatml(small: Tokenizer) -> None:
    plain = (
        "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + "
        "'<|im_end|>' + '\\n'}}{% endfor %}"
    )
    assert recognise(plain, small).name == "chatml"
    for changed in (
        plain.replace("message['content']", "message['content'] | trim"),
        plain + "{{ eos_token }}",
        "{{ '<|im_start|>system\\nYou are a pirate.<|im_end|>\\n' }}" + plain,
    ):
        with pytest.raises(FormatError, match="unknown family"):
            recognise(changed, small)
