"""Template ids against transformers' `apply_chat_template` with the models' own Jinja templates."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from glassgpt.core.errors import FormatError
from glassgpt.formats.gguf import read_gguf
from glassgpt.text.template import TEMPLATES, Message, recognise


def talk(*contents: str, system: str | None = None) -> list[Message]:
    roles = ("user", "assistant")
    start = [] if system is None else [{"role": "system", "content": system}]
    return start + [{"role": roles[i % 2], "content": c} for i, c in enumerate(contents)]


CONVERSATIONS = {
    "one question": talk("Hello!"),
    "system and question": talk("What is 2+2?", system="Be brief."),
    "Chinese": talk("你好，介绍一下北京。", "北京是中国的首都。", "谢谢"),
    "Chinese with system": talk("写一句", "春眠不觉晓", "再来 👍", "处处闻啼鸟", system="你是诗人。"),
    "white space": talk(" padded ", "two\n\nlines", "x\n\n\ty  ", "def f():\n    return 1", "  ok"),
    "empty": talk("", "", "x", system=""),
}

# Written here after the models' own templates, which the shared data does not hold.
GEMMA3 = """{{ bos_token }}{% if messages[0]['role'] == 'system' %}
{%- set first_user_prefix = messages[0]['content'] + '\\n\\n' %}{% set rest = messages[1:] %}
{%- else %}{% set first_user_prefix = '' %}{% set rest = messages %}{% endif %}
{%- for m in rest %}{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\\n'
+ (first_user_prefix if loop.first else '') }}{{ m['content'] | trim }}{{ '<end_of_turn>\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"""
_TURN = "{%% if message['role'] == '%s' %%}{{ '<|%s|>\\n'%s+ message['content'] + eos_token }}\n{%% endif %%}"
ZEPHYR = (
    "{% for message in messages %}"
    + "".join(_TURN % (r, r, "  " if r == "assistant" else " ") for r in ("user", "system", "assistant"))
    + "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)
QWEN25 = """{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nYou are Qwen, created by Alibaba \
Cloud. You are a helpful assistant.<|im_end|>\\n' }}{% endif %}{% for message in messages %}
{%- if message.role != 'tool' %}{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- else %}{% if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{ '<|im_start|>user' }}{% endif %}
{{- '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}
{%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{ '<|im_end|>\\n' }}{% endif %}{% endif %}
{%- endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

# Templates in the shared data that belong to a family that we know; all others there must be refused.
KNOWN = {
    "teknium/OpenHermes-2.5-Mistral-7B": "chatml",
    "cognitivecomputations/dolphin-2.5-mixtral-8x7b": "chatml",
    "Llama-3": "llama3",
    "meta-llama/Llama-3.1-8B-Instruct": "llama3.1",
    "Phi-3-vision": "phi3",
    "phi-4": "phi4",
    "Qwen/Qwen3-0.6B": "qwen3",
}


@pytest.fixture(scope="module")
def published(shared_data: Path) -> dict[str, str]:
    """Real templates by model name."""
    folder = shared_data / "peers" / "chat_template"
    first = json.loads((folder / "llamacpp_chat_template_cases.json").read_text(encoding="utf-8"))["cases"]
    second = json.loads((folder / "hf_jinja_e2e_cases.json").read_text(encoding="utf-8"))["cases"]
    return {c["name"]: c["template_str"] for c in first} | {c["name"]: c["chat_template"] for c in second}


@pytest.fixture(scope="module")
def jinja_of(published: dict[str, str], smollm2_path: Path) -> dict[str, str]:
    """A template text for each family that has one."""
    smollm2 = read_gguf(smollm2_path).get("tokenizer.chat_template", str)
    sentence = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
    assert sentence in smollm2
    return {
        "smollm2": smollm2,
        "qwen2": smollm2.replace(sentence, "You are a helpful assistant."),
        "qwen2.5": QWEN25,
        "gemma": GEMMA3,
        "gemma2": "{{ bos_token }}" + published["google/gemma-7b-it"],
        "zephyr": ZEPHYR,
    } | {family: published[name] for name, family in KNOWN.items()}


def theirs(tokenizer: Any, jinja: str, messages: list[Message], generate: bool) -> list[int]:
    ids = tokenizer.apply_chat_template(
        messages, chat_template=jinja, add_generation_prompt=generate, enable_thinking=False, tokenize=True
    )
    return ids["input_ids"] if hasattr(ids, "keys") else ids


def comparable(family: str, messages: list[Message], generate: bool) -> bool:
    """Where a model's own template is defined and does not add a reply's beginning unasked."""
    roles = [m["role"] for m in messages]
    if family in ("llama3", "phi4"):  # these begin a reply whether asked or not
        return generate and (family == "llama3" or roles[-1] == "user")
    if family == "phi3":  # never begins a second reply
        return not (generate and roles[-1] == "assistant")
    return not (family == "gemma2" and roles[0] == "system")


@pytest.mark.parametrize("generate", [False, True], ids=["no prompt", "prompt"])
@pytest.mark.parametrize("which", list(CONVERSATIONS))
@pytest.mark.parametrize("family", [name for name in TEMPLATES if name != "plain"])
def test_ids_equal_transformers(
    family: str, which: str, generate: bool, jinja_of: dict[str, str], chat_twins: Callable
) -> None:
    # Llama 3's and Qwen's own cutting keeps "\n\n" whole; GPT-2's does not (see the test below).
    ours, library = chat_twins({"llama3": "llama-bpe", "llama3.1": "llama-bpe", "qwen3": "qwen2"}.get(family, "smollm"))
    messages = CONVERSATIONS[which]
    template = recognise(jinja_of[family], ours)
    assert template.name == family
    if comparable(family, messages, generate):
        encoded = template.encode(ours, messages, add_generation_prompt=generate)
        assert encoded.ids == theirs(library, jinja_of[family], messages, generate)
        assert len(encoded.loss_mask) == len(encoded.ids)


def test_every_conversation_is_compared_for_every_family() -> None:
    for family in TEMPLATES:
        compared = sum(comparable(family, c, g) for c in CONVERSATIONS.values() for g in (False, True))
        assert compared >= 3, family


@pytest.mark.parametrize("family", ["qwen2.5", "qwen3"])
def test_tool_results_share_one_turn_as_in_the_models_own_template(
    family: str, jinja_of: dict[str, str], chat_twins: Callable
) -> None:
    ours, library = chat_twins("qwen2")
    tools = [{"role": "tool", "content": "21°C"}, {"role": "tool", "content": "晴"}]
    messages = [*talk("Weather?", "Let me look."), *tools, {"role": "assistant", "content": "Sunny."}]
    template, jinja = TEMPLATES[family], jinja_of[family]
    if family == "qwen2.5":  # its own template writes these marks as text, as Qwen 2.5's tokenizer has them not
        jinja = jinja.replace("<tool_response>", "<tool_answer>").replace("</tool_response>", "</tool_answer>")
        wanted = library.decode(theirs(library, jinja, messages, True)).replace("tool_answer", "tool_response")
        assert ours.decode(template.encode(ours, messages, add_generation_prompt=True).ids, show_control=True) == wanted
    else:
        assert template.encode(ours, messages, add_generation_prompt=True).ids == theirs(library, jinja, messages, True)


@pytest.mark.parametrize(
    "reply", ["<think>\nhm\n</think>\n\nYes.", "<think>\n\n</think>\n\nYes.", "Yes.", "</think>Yes."]
)
def test_qwen3_keeps_the_thoughts_of_its_last_reply_and_drops_earlier_ones(
    reply: str, jinja_of: dict[str, str], chat_twins: Callable
) -> None:
    ours, library = chat_twins("qwen2")
    template, jinja = TEMPLATES["qwen3"], jinja_of["qwen3"]
    tool = [{"role": "tool", "content": "21"}, {"role": "assistant", "content": reply}]
    for messages in (
        talk("Sure?", reply),
        talk("Sure?", reply, "Really?"),
        talk("a", reply, "b", reply),
        talk("a", reply) + tool,
    ):
        assert template.encode(ours, messages).ids == theirs(library, jinja, messages, False)


def test_a_template_is_either_recognised_for_what_it_is_or_refused(
    published: dict[str, str], chat_twins: Callable
) -> None:
    ours, _ = chat_twins("smollm")
    assert len(published) > 60
    for name, jinja in published.items():
        if name in KNOWN:
            assert recognise(jinja, ours).name == KNOWN[name]
        else:
            with pytest.raises(FormatError, match="unknown family"):
                recognise(jinja, ours)


def test_a_reply_has_the_same_ids_in_training_as_after_the_prompt(chat_twins: Callable) -> None:
    """Even where joining would change them: GPT-2's cutting takes "\\n\\n" and "both" apart otherwise."""
    ours, _ = chat_twins("smollm")
    for name, template in TEMPLATES.items():
        question, reply = talk("Sides?"), "both\n\n  sides"
        prompt = template.encode(ours, question, add_generation_prompt=True).ids
        whole = template.encode(ours, [*question, {"role": "assistant", "content": reply}]).ids
        content = ours.encode_segment(template.family.lead + reply, after="text")
        assert whole[: len(prompt) + len(content)] == prompt + content, name
