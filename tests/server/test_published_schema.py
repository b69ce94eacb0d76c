"""What we send, held to the API's published description and to what the real service once sent."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import yaml
from jsonschema import Draft202012Validator
from openai.lib.streaming.chat import ChatCompletionStreamState
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

pytestmark = pytest.mark.slow

ASK = {"model": "smollm2", "messages": [{"role": "user", "content": "Weather in 北京?"}], "max_tokens": 12, "seed": 1}
TOOL = {"name": "get_weather", "description": "d", "parameters": {
    "type": "object", "properties": {"city": {"type": "string", "enum": ["北京"]}}, "required": ["city"],
    "additionalProperties": False}}  # fmt: skip
CHAT_CASES: list[dict[str, Any]] = [
    {}, {"n": 2}, {"logprobs": True, "top_logprobs": 3}, {"response_format": {"type": "json_object"}},
    {"tools": [{"type": "function", "function": TOOL}], "tool_choice": "required", "max_tokens": 60},
    {"stop": ["a"]}, {"max_tokens": 1},
]  # fmt: skip
RESPONSE_CASES: list[dict[str, Any]] = [
    {}, {"instructions": "Be brief.", "temperature": 0.0, "top_p": 0.5, "metadata": {"a": "b"}},
    {"include": ["message.output_text.logprobs"], "top_logprobs": 2},
    {"tools": [{"type": "function", "strict": True} | TOOL], "tool_choice": "required", "max_output_tokens": 60},
    {"tools": [{"type": "function", "strict": True} | TOOL], "tool_choice": {"type": "function", "name": "get_weather"},
     "max_output_tokens": 60},
    {"text": {"format": {"type": "json_schema", "name": "s", "schema": TOOL["parameters"], "strict": True}}},
]  # fmt: skip


@pytest.fixture(scope="module")
def check(shared_data: Path) -> Callable[[str, Any], None]:
    """Holds a value to one of the description's schemas."""
    text = gzip.decompress((shared_data / "peers/openai_api/openapi.yaml.gz").read_bytes())
    described = with_nulls(yaml.load(text, Loader=yaml.CSafeLoader))
    registry: Registry[Any] = Registry().with_resource(
        "urn:api", Resource(contents=described, specification=DRAFT202012)
    )

    def held(name: str, value: Any) -> None:
        schema = {"$ref": f"urn:api#/components/schemas/{name}"}
        errors = list(Draft202012Validator(schema, registry=registry).iter_errors(value))
        assert not errors, f"{errors[0].json_path}: {errors[0].message[:300]}"

    return held


def with_nulls(schema: Any) -> Any:
    """The description says `nullable` in some places, which is of an older version than it names."""
    if isinstance(schema, list):
        return [with_nulls(value) for value in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: with_nulls(value) for name, value in schema.items() if name != "nullable"}
    return {"anyOf": [found, {"type": "null"}]} if schema.get("nullable") is True else found


def events(text: str) -> list[dict[str, Any]]:
    """The objects of a stream of events."""
    lines = [line.removeprefix("data:").strip() for line in text.splitlines() if line.startswith("data:")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def test_the_check_finds_what_is_wrong(check):
    with pytest.raises(AssertionError, match="choices"):
        check("CreateChatCompletionResponse", {"id": "x", "object": "chat.completion", "created": 1, "model": "m"})


@pytest.mark.parametrize("more", CHAT_CASES, ids=str)
def test_chats(server, check, more: dict[str, Any]):
    with server.client() as client:
        whole = client.post("/v1/chat/completions", json=ASK | more)
        assert whole.status_code == 200, whole.text
        check("CreateChatCompletionResponse", whole.json())
        for options in ({}, {"stream_options": {"include_usage": True}}):
            sent = client.post("/v1/chat/completions", json=ASK | more | {"stream": True} | options)
            assert sent.headers["content-type"].startswith("text/event-stream") and "data: [DONE]" in sent.text
            for chunk in events(sent.text):
                check("CreateChatCompletionStreamResponse", chunk)


@pytest.mark.parametrize("more", [{}, {"n": 2, "echo": True}, {"logprobs": 2}, {"prompt": [[1, 2], [3, 4]]}], ids=str)
def test_completions(server, check, more: dict[str, Any]):
    asked = {"model": "smollm2", "prompt": "One two", "max_tokens": 5, "seed": 1} | more
    with server.client() as client:
        check("CreateCompletionResponse", client.post("/v1/completions", json=asked).json())
        sent = client.post("/v1/completions", json=asked | {"stream": True})
        for chunk in events(sent.text):  # the description has no form of its own for chunks, and wants each ended
            for choice in chunk["choices"]:
                choice["finish_reason"] = choice["finish_reason"] or "stop"
            check("CreateCompletionResponse", chunk)


@pytest.mark.parametrize("more", RESPONSE_CASES, ids=str)
def test_responses(server, check, more: dict[str, Any]):
    asked = {"model": "smollm2", "input": "Weather in 北京?", "max_output_tokens": 12, "seed": 1} | more
    with server.client() as client:
        whole = client.post("/v1/responses", json=asked)
        assert whole.status_code == 200, whole.text
        check("Response", whole.json())
        sent = client.post("/v1/responses", json=asked | {"stream": True})
        for event in events(sent.text):
            check("ResponseStreamEvent", event)


def test_the_rest(server, check):
    with server.client() as client:
        check("ListModelsResponse", client.get("/v1/models").json())
        check("Model", client.get("/v1/models/smollm2").json())
        asked = {"model": "smollm2", "input": ["a", "b"]}
        check("CreateEmbeddingResponse", client.post("/v1/embeddings", json=asked).json())
        for path, body in {"/v1/models/x": None, "/v1/chat/completions": {}, "/v1/none": {}}.items():
            got = client.request("GET" if body is None else "POST", path, json=body)
            assert got.status_code >= 400
            check("ErrorResponse", got.json())


@pytest.fixture(scope="module")
def recorded(shared_data: Path) -> list[tuple[str, dict[str, Any], str]]:
    """What was asked of the real service, and what it said: path, body, answer."""
    found = []
    for file in sorted((shared_data / "peers/openai_api/llm_cassettes").glob("*.yaml")):
        for one in yaml.load(file.read_bytes(), Loader=yaml.CSafeLoader)["interactions"]:
            answer = one["response"]["body"]["string"]
            text = gzip.decompress(answer).decode() if isinstance(answer, bytes) else answer
            found.append(("/" + one["request"]["uri"].split("/", 3)[3], json.loads(one["request"]["body"]), text))
    assert len(found) >= 15
    return found


def test_what_the_real_service_was_asked_is_answered_or_refused_by_name(server, recorded):
    """A model that reasons is another matter: that field is refused by its name, and without it all pass."""
    with server.client() as client:
        for path, body, _ in recorded:
            limit = {"max_output_tokens": 8} if "responses" in path else {"max_tokens": 8}
            body = body | {"model": "smollm2"} | limit
            got = client.post(path, json=body)
            while got.status_code == 400:
                place = got.json()["error"]["param"]
                if place == "reasoning":
                    del body["reasoning"]
                else:
                    number = int(place.split("[")[1].split("]")[0])
                    assert body["input"].pop(number)["type"] == "reasoning"
                got = client.post(path, json=body)
            assert got.status_code == 200, (body, got.text)


def replayed(text: str, kind: str) -> openai.OpenAI:
    """A client that is given this answer, whatever it asks."""
    transport = httpx.MockTransport(lambda request: httpx.Response(200, text=text, headers={"content-type": kind}))
    return openai.OpenAI(api_key="x" * 16, http_client=httpx.Client(transport=transport))


def test_recorded_streams_of_chats_and_ours_parse_the_same(server, recorded):
    real = [(body, text) for path, body, text in recorded if "chat" in path and body.get("stream")]
    assert len(real) == 2
    for body, text in real:
        calls = '"tool_calls":[' in text
        mine = body | {"model": "smollm2", "max_tokens": 300, "seed": 1}
        mine |= {"tool_choice": "required"} if calls else {}
        with server.client() as client:
            ours = client.post("/v1/chat/completions", json=mine).text
        shapes = []
        for sent in (text, ours):
            state = ChatCompletionStreamState()
            chunks = list(replayed(sent, "text/event-stream").chat.completions.create(
                model="m", messages=[{"role": "user", "content": "x"}], stream=True))  # fmt: skip
            for chunk in chunks:
                state.handle_chunk(chunk)
            final = state.get_final_completion()
            assert chunks[0].choices[0].delta.role == "assistant" and chunks[-1].choices == []
            assert len({chunk.id for chunk in chunks}) == 1 and chunks[-1].usage.completion_tokens > 0
            message = final.choices[0].message
            for call in message.tool_calls or []:
                assert isinstance(json.loads(call.function.arguments), dict)
            shapes.append((
                bool(message.content), [c.function.name for c in message.tool_calls or []],
                final.choices[0].finish_reason if calls else None,
                set(events(sent)[-1]) - {"service_tier", "obfuscation"},
            ))  # fmt: skip
        assert shapes[0] == shapes[1]


def of_the_message(stream: Iterator[Any]) -> list[str]:
    """The kinds of events in their order, repeats once, without those of reasoning."""
    kinds = [
        e.type
        for e in stream
        if "reasoning" not in e.type and getattr(getattr(e, "item", None), "type", "") != "reasoning"
    ]
    return [kind for kind, _ in groupby(kinds)]


def test_recorded_streams_of_responses_and_ours_parse_the_same(server, recorded):
    real = [(body, text) for path, body, text in recorded if "responses" in path and body.get("stream")]
    assert len(real) == 3
    for body, text in real:
        calls = '"type":"function_call"' in text
        mine = {k: v for k, v in body.items() if k != "reasoning"} | {"model": "smollm2", "seed": 1}
        mine["input"] = [item for item in body["input"] if item.get("type") != "reasoning"]
        mine |= {"max_output_tokens": 400, "temperature": 0.0} | ({"tool_choice": "required"} if calls else {})
        with server.client() as client:
            ours = client.post("/v1/responses", json=mine).text
        kinds = [of_the_message(replayed(sent, "text/event-stream").responses.create(model="m", input="x", stream=True))
                 for sent in (text, ours)]  # fmt: skip
        assert kinds[0] == kinds[1]
        fields = [{e["type"]: set(e) for e in events(sent)} for sent in (text, ours)]
        for kind, wanted in fields[0].items():
            if kind in fields[1]:
                assert wanted - {"obfuscation"} <= fields[1][kind], kind
