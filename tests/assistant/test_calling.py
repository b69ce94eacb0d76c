"""A model's step: an answer, or a call that fits its schema; here with a small random network."""

from __future__ import annotations

import json
from typing import Literal

import jsonschema
import pytest
import torch

from glassgpt.assistant.calling import (
    ToolCall,
    called_text,
    next_step,
    read_call,
    result_message,
    tools_text,
    with_instructions,
)
from glassgpt.assistant.tool import tool
from glassgpt.core.errors import ConfigError
from glassgpt.engine.engine import Engine, EngineSettings
from glassgpt.engine.language_model import LanguageModel, Piece
from glassgpt.engine.load import network_tensors
from glassgpt.engine.network import Network
from glassgpt.engine.packing import pack
from glassgpt.model.config import ModelConfig
from glassgpt.model.gpt import GPT
from glassgpt.text.bpe import train_bpe
from glassgpt.text.template import Message, get_template

TEXT = 'hello there {"name":"way","arguments":{"by":"air","count":1}} <tool_call> 你好'
SAID: list[Message] = [{"role": "user", "content": "hello"}]


@tool
def way(by: Literal["air", "sea"], fast: bool) -> str:
    """Chooses."""
    return f"{by} {fast}"


@tool
def hour() -> int:
    """Which hour it is."""
    return 3


@pytest.fixture
def model(engine_of) -> LanguageModel:
    """With a loop that tests may put words into."""
    network, tokenizer, engine = engine_of
    return LanguageModel("small", network, tokenizer, "float32", get_template("chatml"), engine=lambda: engine)


@pytest.fixture(scope="module")
def engine_of():
    torch.manual_seed(0)
    tokenizer = train_bpe([TEXT * 20], 360)
    config = ModelConfig.modern(vocab_size=tokenizer.vocab_size, n_layer=1, n_head=2, n_embd=32, context_length=1200)
    network = GPT(config).eval().requires_grad_(False)
    packed = Network(config, pack(config, network_tensors(network), "float32", "it"), "float32")
    engine = Engine(packed, tokenizer, EngineSettings(threads=1))
    yield network, tokenizer, engine
    engine.close()


@pytest.mark.parametrize("seed", range(5))
def test_whatever_the_model_a_wanted_call_fits_its_schema(model, seed):
    step = next_step(model, SAID, [way, hour], "required", temperature=1.5, seed=seed)
    assert step.call is not None and step.text == "" and step.tokens > 0
    of = {"way": way, "hour": hour}[step.call.name]
    assert jsonschema.Draft202012Validator(of.parameters).is_valid(json.loads(step.call.arguments))
    assert of.accept(step.call.arguments) is not None


def test_a_named_function_is_the_one_that_is_called(model):
    step = next_step(model, SAID, [way, hour], "hour", seed=1)
    assert step.call is not None and (step.call.name, step.call.arguments) == ("hour", "{}")


def test_a_limit_of_tokens_that_cuts_a_call_off_gives_none(model):
    step = next_step(model, SAID, [way], "way", max_new_tokens=2, seed=1)
    assert (step.call, step.finish_reason, step.tokens) == (None, "length", 2)


def test_a_model_that_is_free_answers_and_what_it_writes_is_heard(model):
    heard: list[str] = []
    step = next_step(model, SAID, [way], max_new_tokens=9, write=heard.append, seed=3)
    assert step.call is None and step.tokens <= 9
    assert "".join(heard) == step.text
    plain = next_step(model, SAID, [], max_new_tokens=9, seed=3)
    assert plain.call is None


def test_a_free_model_that_begins_a_call_can_only_end_it(model, monkeypatch):
    """The small network never begins one by itself, so the words before it are put into its mouth."""
    loop = model.loop
    start, asked = loop.start, []

    def first_then_real(requests):
        asked.extend(requests)
        if len(asked) > 1:
            return start(requests)
        return [iter([Piece("Let me see. ", 5), Piece("", 6, finish_reason="stop", stop="<tool_call>")])]

    monkeypatch.setattr(loop, "start", first_then_real)
    step = next_step(model, SAID, [way, hour], seed=4)
    assert step.text == "Let me see. " and step.call is not None
    assert {"way": way, "hour": hour}[step.call.name].accept(step.call.arguments) is not None
    assert "<tool_call>" in asked[0].stops and asked[1].format is not None
    assert asked[1].prompt[: len(asked[0].prompt)] == asked[0].prompt, "what was read is not read again"
    assert model.tokenizer.decode(asked[1].prompt).endswith("Let me see. <tool_call>\n")


def test_a_function_that_is_not_there_cannot_be_asked_for(model):
    with pytest.raises(ConfigError, match="'delete'"):
        next_step(model, SAID, [way], "delete")


def test_calls_and_results_are_shown_to_the_model_again():
    call = ToolCall("1", "way", '{"by":"海"}')
    assert (
        called_text("Well.", [call]) == 'Well.\n<tool_call>\n{"name": "way", "arguments": {"by": "海"}}\n</tool_call>'
    )
    assert called_text("", []) == ""
    assert result_message("r", True) == {"role": "tool", "content": "r"}
    assert result_message("r", False)["role"] == "user" and "r" in result_message("r", False)["content"]


def test_a_written_call_is_read_and_a_broken_one_is_none():
    found = read_call('{"name":"way","arguments":{"by":"海"}}')
    assert found is not None and (found.name, found.arguments) == ("way", '{"by":"海"}') and found.id
    assert read_call('{"name":"way","argum') is None


def test_instructions_join_the_system_message():
    system: Message = {"role": "system", "content": "Be kind."}
    told = with_instructions([system, *SAID], tools_text([way]))
    assert told[0]["content"].startswith("Be kind.\n\n# Tools") and len(told) == 2
    assert with_instructions(SAID, "x") == [{"role": "system", "content": "x"}, *SAID]
    assert with_instructions([{"role": "system", "content": ""}], "x") == [{"role": "system", "content": "x"}]
