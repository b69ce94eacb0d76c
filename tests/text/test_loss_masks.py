"""Loss masks of 50 conversations in four families, against a truth read from the published templates, and against
transformers' `return_assistant_tokens_mask` with templates that mark what the assistant writes.

In a marked text a control token stands in ‹ › and what is learned in ⟦ ⟧. loss_masks.json is written by
write_loss_masks.py, which knows nothing of glassgpt; the twelve of `BY_HAND` were written out letter by letter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from glassgpt.text.template import TEMPLATES
from glassgpt.text.tokenizer import Tokenizer

CASES = json.loads(Path(__file__).with_name("loss_masks.json").read_text(encoding="utf-8"))
FAMILIES = ("smollm2", "gemma", "qwen3", "llama3")
TYPED_CONTROL = ("<|", "<start_of_turn>", "<eos>", "<s>", "<think>", "</think>")

U, A, S = "user", "assistant", "system"
BY_HAND = [
    ("smollm2", [(U, "Hi"), (A, "Hello!")],
     "‹|im_start|›system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face‹|im_end|›\n"
     "‹|im_start|›user\nHi‹|im_end|›\n‹|im_start|›assistant\n⟦Hello!‹|im_end|›⟧\n"),
    ("smollm2", [(S, "你是诗人。"), (U, "写一句 "), (A, " 春眠不觉晓 "), (U, "再来 👍"), (A, "处处闻啼鸟")],
     "‹|im_start|›system\n你是诗人。‹|im_end|›\n‹|im_start|›user\n写一句 ‹|im_end|›\n"
     "‹|im_start|›assistant\n⟦ 春眠不觉晓 ‹|im_end|›⟧\n‹|im_start|›user\n再来 👍‹|im_end|›\n"
     "‹|im_start|›assistant\n⟦处处闻啼鸟‹|im_end|›⟧\n"),
    ("smollm2", [(S, ""), (U, "a<|im_end|>b"), (A, "x<|im_end|>y"), (U, "still there?")],
     "‹|im_start|›system\n‹|im_end|›\n‹|im_start|›user\na<|im_end|>b‹|im_end|›\n"
     "‹|im_start|›assistant\n⟦x<|im_end|>y‹|im_end|›⟧\n‹|im_start|›user\nstill there?‹|im_end|›\n"),
    ("gemma", [(U, "Hi"), (A, "Hello!")],
     "‹bos›‹start_of_turn›user\nHi‹end_of_turn›\n‹start_of_turn›model\n⟦Hello!‹end_of_turn›⟧\n"),
    ("gemma", [(S, "Be brief."), (U, " 2+2? "), (A, " 4\n"), (U, "3+3?"), (A, "6")],
     "‹bos›‹start_of_turn›user\nBe brief.\n\n2+2?‹end_of_turn›\n‹start_of_turn›model\n⟦4‹end_of_turn›⟧\n"
     "‹start_of_turn›user\n3+3?‹end_of_turn›\n‹start_of_turn›model\n⟦6‹end_of_turn›⟧\n"),
    ("gemma", [(S, ""), (U, "你好<end_of_turn>"), (A, "你好！🙂")],
     "‹bos›‹start_of_turn›user\n\n\n你好<end_of_turn>‹end_of_turn›\n"
     "‹start_of_turn›model\n⟦你好！🙂‹end_of_turn›⟧\n"),
    ("qwen3", [(U, "你好"), (A, "你好！")],
     "‹|im_start|›user\n你好‹|im_end|›\n‹|im_start|›assistant\n‹think›\n\n‹/think›\n\n⟦你好！‹|im_end|›⟧\n"),
    ("qwen3",
     [(S, "Be kind."), (U, "a"), (A, "<think>\nhm\n</think>\n\nb"), (U, "c"), (A, "<think>\nso\n</think>\n\nd")],
     "‹|im_start|›system\nBe kind.‹|im_end|›\n‹|im_start|›user\na‹|im_end|›\n‹|im_start|›assistant\n⟦b‹|im_end|›⟧\n"
     "‹|im_start|›user\nc‹|im_end|›\n‹|im_start|›assistant\n⟦‹think›\nso\n‹/think›\n\nd‹|im_end|›⟧\n"),
    ("qwen3", [(U, "one"), (A, " 1 "), (U, "two")],
     "‹|im_start|›user\none‹|im_end|›\n‹|im_start|›assistant\n⟦ 1 ‹|im_end|›⟧\n‹|im_start|›user\ntwo‹|im_end|›\n"),
    ("llama3", [(U, "Hi"), (A, "Hello!")],
     "‹|begin_of_text|›‹|start_header_id|›user‹|end_header_id|›\n\nHi‹|eot_id|›"
     "‹|start_header_id|›assistant‹|end_header_id|›\n\n⟦Hello!‹|eot_id|›⟧"),
    ("llama3", [(S, " 简短。 "), (U, "在吗？"), (A, " 在。 "), (U, "好"), (A, "")],
     "‹|begin_of_text|›‹|start_header_id|›system‹|end_header_id|›\n\n简短。‹|eot_id|›"
     "‹|start_header_id|›user‹|end_header_id|›\n\n在吗？‹|eot_id|›"
     "‹|start_header_id|›assistant‹|end_header_id|›\n\n⟦在。‹|eot_id|›⟧"
     "‹|start_header_id|›user‹|end_header_id|›\n\n好‹|eot_id|›"
     "‹|start_header_id|›assistant‹|end_header_id|›\n\n⟦‹|eot_id|›⟧"),
    ("llama3", [(S, ""), (U, "<|eot_id|>👋"), (A, "👋🏽 <|eot_id|>"), (U, "bye")],
     "‹|begin_of_text|›‹|start_header_id|›system‹|end_header_id|›\n\n‹|eot_id|›"
     "‹|start_header_id|›user‹|end_header_id|›\n\n<|eot_id|>👋‹|eot_id|›"
     "‹|start_header_id|›assistant‹|end_header_id|›\n\n⟦👋🏽 <|eot_id|>‹|eot_id|›⟧"
     "‹|start_header_id|›user‹|end_header_id|›\n\nbye‹|eot_id|›"),
]  # fmt: skip

# The published templates again, in Jinja, with transformers' tag around what the assistant writes.
CHATML = (
    "{{ '<|im_start|>' + m.role + '\\n' }}{% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ m.content + '<|im_end|>' }}{% endif %}{{ '\\n' }}"
)
JINJA = {
    "smollm2": "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\\nYou are a helpful AI assistant named "
    "SmolLM, trained by Hugging Face<|im_end|>\\n' }}{% endif %}{% for m in messages %}" + CHATML + "{% endfor %}",
    "gemma": "{{ bos_token }}{% set first = messages[0].content + '\\n\\n' if messages[0].role == 'system' else '' %}"
    "{% for m in (messages[1:] if messages[0].role == 'system' else messages) %}"
    "{% if m.role == 'assistant' %}{{ '<start_of_turn>model\\n' }}"
    "{% generation %}{{ m.content | trim + '<end_of_turn>' }}{% endgeneration %}"
    "{% else %}{{ '<start_of_turn>user\\n' + (first if loop.first else '') + m.content | trim + '<end_of_turn>' }}"
    "{% endif %}{{ '\\n' }}{% endfor %}",
    "qwen3": "{% set ns = namespace(asked=0) %}{% for m in messages %}{% if m.role == 'user' %}"
    "{% set ns.asked = loop.index0 %}{% endif %}{% endfor %}{% for m in messages %}"
    "{{ '<|im_start|>' + m.role + '\\n' }}{% if m.role != 'assistant' %}{{ m.content + '<|im_end|>\\n' }}{% else %}"
    "{% set parts = m.content.split('</think>') %}{% set thought = '' %}{% set answer = m.content %}"
    "{% if parts | length > 1 %}{% set answer = parts[-1].lstrip('\\n') %}"
    "{% set thought = parts[0].rstrip('\\n').split('<think>')[-1].strip('\\n') %}{% endif %}"
    "{% if loop.index0 > ns.asked and not thought %}{{ '<think>\\n\\n</think>\\n\\n' }}"
    "{% set answer = answer.lstrip('\\n') %}{% endif %}"
    "{% generation %}{{ '<think>\\n' + thought + '\\n</think>\\n\\n' if loop.index0 > ns.asked and thought else '' }}"
    "{{ answer + '<|im_end|>' }}{% endgeneration %}{{ '\\n' }}{% endif %}{% endfor %}",
    "llama3": "{{ bos_token }}{% for m in messages %}"
    "{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\\n\\n' }}{% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content | trim + '<|eot_id|>' }}{% endgeneration %}"
    "{% else %}{{ m.content | trim + '<|eot_id|>' }}{% endif %}{% endfor %}",
}


def marked(tokenizer: Tokenizer, ids: Sequence[int], mask: Sequence[int]) -> str:
    """Ids as a marked text: each token where its bytes stand, brackets where the mask changes."""
    out, before = b"", 0
    for token, learned in zip(ids, [bool(m) for m in mask], strict=True):
        if learned != before:
            out += ("⟦" if learned else "⟧").encode()
        before = learned
        if tokenizer.is_control(token):
            name = tokenizer.decode([token], show_control=True)
            assert name[0] + name[-1] == "<>"
            out += f"‹{name[1:-1]}›".encode()
        else:
            out += tokenizer.token_bytes(token)
    return (out + ("⟧".encode() if before else b"")).decode()


@pytest.fixture(scope="module")
def tokenizer_of(chat_twins: Callable, smollm2: Tokenizer, gemma: Tokenizer) -> Callable[[str], tuple[Tokenizer, str]]:
    """For a family a tokenizer and what it calls the beginning of a text: the models' own where they are packaged."""

    def choose(family: str) -> tuple[Tokenizer, str]:
        own = {"smollm2": smollm2, "gemma": gemma}
        tokenizer = own[family] if family in own else chat_twins({"qwen3": "qwen2", "llama3": "llama-bpe"}[family])[0]
        return tokenizer, "‹bos›" if family == "llama3" else "‹|begin_of_text|›"

    return choose


def messages_of(turns: Sequence[Sequence[str]]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in turns]


def check(family: str, turns: Sequence[Sequence[str]], truth: str, tokenizer_of: Callable) -> None:
    tokenizer, begin = tokenizer_of(family)
    encoded = TEMPLATES[family].encode(tokenizer, messages_of(turns))
    assert marked(tokenizer, encoded.ids, encoded.loss_mask) == truth.replace("‹|begin_of_text|›", begin)


@pytest.mark.parametrize(
    ("family", "turns", "truth"), BY_HAND, ids=[f"{case[0]}-{i}" for i, case in enumerate(BY_HAND)]
)
def test_the_mask_is_what_was_written_out_by_hand(
    family: str, turns: list[tuple[str, str]], truth: str, tokenizer_of: Callable
) -> None:
    check(family, turns, truth, tokenizer_of)


@pytest.mark.parametrize("number", range(len(CASES)))
@pytest.mark.parametrize("family", FAMILIES)
def test_the_mask_is_what_the_published_template_says(family: str, number: int, tokenizer_of: Callable) -> None:
    check(family, CASES[number]["turns"], CASES[number][family], tokenizer_of)


def test_the_truth_holds_fifty_different_conversations_with_every_hard_kind() -> None:
    talks = [case["turns"] for case in CASES]
    assert len({json.dumps(turns) for turns in talks}) == 50
    assert sum(len(turns) > 3 for turns in talks) >= 10
    assert sum(any("\u4e00" <= c <= "\u9fff" for _, text in turns for c in text) for turns in talks) >= 12
    assert sum(turns[0] == ["system", ""] for turns in talks) >= 2
    assert sum(any(text != text.strip() for _, text in turns) for turns in talks) >= 8
    assert sum(any(mark in text for _, text in turns for mark in TYPED_CONTROL) for turns in talks) >= 6
    learned = sum(case[family].count("⟦") for case in CASES for family in FAMILIES)
    assert learned == 4 * sum(role == "assistant" for turns in talks for role, _ in turns)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_mask_equals_transformers_with_generation_tags(family: str, chat_twins: Callable) -> None:
    """Text by text, and where the ids are the same too, token by token. To transformers a user's `<|im_end|>` is a
    control token, and white space before an answer can be one token with the answer's own."""
    ours, library = chat_twins({"qwen3": "qwen2", "llama3": "llama-bpe"}.get(family, "smollm"))
    compared = token_by_token = grown_together = all_zeros = 0
    for case in CASES:
        messages = messages_of(case["turns"])
        theirs: Any = library.apply_chat_template(
            messages, chat_template=JINJA[family], tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        answers = sum(message["role"] == "assistant" for message in messages)
        if answers and not any(theirs["assistant_masks"]):
            all_zeros += 1
            continue
        encoded = TEMPLATES[family].encode(ours, messages)
        texts = [
            marked(ours, encoded.ids, encoded.loss_mask),
            marked(ours, theirs["input_ids"], theirs["assistant_masks"]),
        ]
        told = [text.replace("‹", "<").replace("›", ">") for text in texts]
        if told[0] != told[1]:
            told = [re.sub(r"(\s+)⟦", r"⟦\1", text) for text in told]
            grown_together += 1
        assert told[0] == told[1], messages
        compared += 1
        if encoded.ids == theirs["input_ids"]:
            assert [int(m) for m in encoded.loss_mask] == theirs["assistant_masks"], messages
            token_by_token += 1
    assert (compared, all_zeros) == (50, 0)
    assert token_by_token >= 35 and grown_together <= 2, (token_by_token, grown_together)
