"""Bodies: what passes, what is refused, and how it is said."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glassgpt.assistant.calling import ToolCall, ToolDescription, calls_format
from glassgpt.server.ask import Ask, Turn, _joined, _message
from glassgpt.server.chat import ChatRequest
from glassgpt.server.completions import CompletionRequest
from glassgpt.server.embeddings import EmbeddingsRequest
from glassgpt.server.fields import parse
from glassgpt.server.messages import CountRequest, MessagesRequest
from glassgpt.server.problems import Problem
from glassgpt.server.responses import ResponsesRequest

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
KINDS = [ChatRequest, CompletionRequest, ResponsesRequest, MessagesRequest, CountRequest, EmbeddingsRequest]


def chat(**more: Any) -> ChatRequest:
    return parse(ChatRequest, json.dumps(CHAT | more).encode())


def refused(param: str | None, **more: Any) -> Problem:
    with pytest.raises(Problem) as error:
        chat(**more).ask()
    assert error.value.status == 400 and error.value.param == param, error.value.message
    return error.value


@pytest.mark.parametrize(
    ("param", "more"),
    [
        ("audio", {"audio": {}}), ("functions", {"functions": []}), ("store", {"store": True}),
        ("temperature", {"temperature": 2.1}), ("temperature", {"temperature": "1"}),
        ("temperature", {"temperature": True}),
        ("n", {"n": 0}), ("n", {"n": 17}), ("n", {"n": 1.5}), ("seed", {"seed": 2**64}),
        ("logit_bias.x", {"logit_bias": {"x": 1}}), ("logit_bias.5", {"logit_bias": {"5": 101}}),
        ("top_logprobs", {"logprobs": True, "top_logprobs": 21}), ("top_logprobs", {"top_logprobs": 2}),
        ("stream_options", {"stream_options": {}}), ("max_tokens", {"max_tokens": 1, "max_completion_tokens": 1}),
        ("max_tokens", {"max_tokens": 0}), ("messages", {"messages": []}), ("messages[0]", {"messages": ["x"]}),
        ("messages[0]", {"messages": [{"role": "king", "content": "x"}]}),
        ("messages[0].content", {"messages": [{"role": "user"}]}),
        ("messages[0].extra", {"messages": [{"role": "user", "content": "x", "extra": 1}]}),
        ("messages", {"messages": [{"role": "assistant"}]}),
        ("tool_choice", {"tool_choice": "required"}), ("modalities[0]", {"modalities": ["audio"]}),
        ("tools", {"tools": [{"type": "function", "function": {"name": "f"}}] * 2}),
        ("tool_choice", {"tool_choice": {"type": "function", "function": {"name": "g"}},
                         "tools": [{"type": "function", "function": {"name": "f"}}]}),
        ("reasoning_effort", {"reasoning_effort": "high"}),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_named(param: str, more: dict[str, Any]):
    problem = refused(param, **more)
    assert problem.message and "\n" not in problem.message and len(problem.message) < 400


@pytest.mark.parametrize("stop", [["a"] * 17, [""], "", ["x" * 257], [1]])
def test_stops_have_limits(stop: Any):
    with pytest.raises(Problem):
        chat(stop=stop)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"null", b"{", b"\xff\xfe{}", b'{"model":NaN}', b'{"model":' + b"[" * 100_000, b'{"a":' * 5000,
     b'{"model":"\\ud800"}', b'{"model": ' + b"9" * 100_000 + b"}"],
)  # fmt: skip
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_body_is_refused(kind: Any, body: bytes):
    with pytest.raises(Problem) as error:
        parse(kind, body)
    assert error.value.status == 400


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
                    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
                        st.sampled_from([*ChatRequest.model_fields, "role", "content", "type", "text", "x"]), inner,
                        max_size=6), max_leaves=20))  # fmt: skip
def test_any_json_is_taken_or_refused(value: Any):
    for kind in KINDS:
        try:
            parse(kind, json.dumps(value).encode())
        except Problem as problem:
            assert problem.status == 400 and problem.message


def test_every_api_gives_the_same_conversation():
    tool = {"name": "f", "description": "d", "parameters": {"type": "object"}}
    openai = chat(
        messages=[{"role": "developer", "content": "S"}, {"role": "user", "content": [{"type": "text", "text": "U"}]},
                  {"role": "assistant", "content": None, "tool_calls": [
                      {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}]},
                  {"role": "tool", "tool_call_id": "c", "content": "R"}],
        tools=[{"type": "function", "function": tool}], tool_choice="required", max_tokens=5, top_p=0.5,
    ).ask()  # fmt: skip
    anthropic = parse(MessagesRequest, json.dumps({
        "model": "m", "system": "S", "max_tokens": 5, "top_p": 0.5, "tool_choice": {"type": "any"},
        "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"}}],
        "messages": [{"role": "user", "content": "U"},
                     {"role": "assistant", "content": [
                         {"type": "tool_use", "id": "c", "name": "f", "input": {"a": 1}}]},
                     {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": "R"}]}],
    }).encode()).ask()  # fmt: skip
    responses = parse(ResponsesRequest, json.dumps({
        "model": "m", "instructions": "S", "max_output_tokens": 5, "top_p": 0.5, "tool_choice": "required",
        "tools": [{"type": "function", **tool}],
        "input": [{"role": "user", "content": "U"},
                  {"type": "function_call", "call_id": "c", "name": "f", "arguments": '{"a": 1}'},
                  {"type": "function_call_output", "call_id": "c", "output": "R"}],
    }).encode()).ask()  # fmt: skip
    expected = Ask(
        turns=(Turn("system", "S"), Turn("user", "U"), Turn("assistant", "", (ToolCall("c", "f", '{"a": 1}'),)),
               Turn("tool", "R")),
        tools=(ToolDescription("f", "d", {"type": "object"}),), choice="required", most=5, sampling={"top_p": 0.5},
    )  # fmt: skip
    assert openai == anthropic == responses == expected


def test_turns_are_joined_where_a_template_wants_it():
    said = [{"role": r, "content": c} for r, c in [("system", "a"), ("system", "b"), ("user", "c"), ("user", "d")]]
    assert [m["content"] for m in _joined(said, False)] == ["a\n\nb", "c", "d"]
    assert [m["content"] for m in _joined(said, True)] == ["a\n\nb", "c\n\nd"]


def test_calls_and_results_become_text_where_a_template_has_no_place_for_them():
    call = Turn("assistant", "Let me see.", (ToolCall("c", "f", '{"城市": "北京"}'),))
    shown = _message(call, False)["content"]
    assert shown.startswith("Let me see.\n<tool_call>\n") and "北京" in shown
    assert _message(Turn("tool", "r"), False)["role"] == "user" and _message(Turn("tool", "r"), True)["role"] == "tool"
    schema = calls_format((ToolDescription("f"), ToolDescription("g")), "g").schema
    assert schema["properties"]["name"] == {"const": "g"}  # type: ignore[index]
