"""The official Anthropic client, unchanged, against our server."""

from __future__ import annotations

import anthropic
import pytest

pytestmark = pytest.mark.slow

HELLO = [{"role": "user", "content": "Say hello."}]
TOOL = {
    "name": "get_weather", "description": "The weather in a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string", "enum": ["Paris", "北京"]}},
                     "required": ["city"], "additionalProperties": False},
}  # fmt: skip


@pytest.fixture(scope="module")
def client(server) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=server.url, api_key=server.key, max_retries=0, timeout=60)


def test_a_message_and_its_stream_are_the_same(client):
    asked = dict(model="smollm2", messages=HELLO, max_tokens=20, system="Be kind.",
                 extra_body={"temperature": 0})  # fmt: skip
    got = client.messages.create(**asked)
    assert got.role == "assistant" and got.type == "message" and got.content[0].type == "text"
    assert got.stop_reason in ("end_turn", "max_tokens") and got.usage.output_tokens <= 20
    with client.messages.stream(**asked) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == got.content[0].text == final.content[0].text
    assert final.stop_reason == got.stop_reason and final.usage.output_tokens == got.usage.output_tokens


def test_tokens_are_counted_without_an_answer(client):
    count = client.messages.count_tokens(model="smollm2", messages=HELLO, system="Be kind.").input_tokens
    got = client.messages.create(model="smollm2", messages=HELLO, max_tokens=1, system="Be kind.")
    assert count == got.usage.input_tokens + got.usage.cache_read_input_tokens


def test_a_stop_sequence_is_named(client):
    whole = (
        client.messages.create(model="smollm2", messages=HELLO, max_tokens=20, extra_body={"temperature": 0})
        .content[0]
        .text
    )
    word = whole.split()[1]
    got = client.messages.create(model="smollm2", messages=HELLO, max_tokens=20,
                                 extra_body={"temperature": 0}, stop_sequences=[word])  # fmt: skip
    assert (got.stop_reason, got.stop_sequence) == ("stop_sequence", word)
    assert (got.content[0].text if got.content else "") == whole.split(word)[0]


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "get_weather"}])
def test_a_tool_is_used_and_its_result_goes_back(client, choice):
    ask = [{"role": "user", "content": [{"type": "text", "text": "Weather in Paris?"}]}]
    asked = dict(model="smollm2", max_tokens=60, tools=[TOOL], tool_choice=choice, messages=ask)
    got = client.messages.create(**asked)
    assert got.stop_reason == "tool_use"
    (use,) = got.content
    assert use.type == "tool_use" and use.name == "get_weather" and use.input["city"] in ("Paris", "北京")
    with client.messages.stream(**asked) as stream:
        streamed = stream.get_final_message().content[0]
    assert streamed.type == "tool_use" and streamed.input["city"] in ("Paris", "北京")
    back = client.messages.create(
        model="smollm2", max_tokens=5, tools=[TOOL],
        messages=[*ask, {"role": "assistant", "content": [use.model_dump(include={"type", "id", "name", "input"})]},
                  {"role": "user", "content": [{"type": "tool_result", "tool_use_id": use.id, "content": "sunny"},
                                               {"type": "text", "text": "So?"}]}],
    )  # fmt: skip
    assert back.content


def test_what_is_wrong_is_said_in_the_shape_of_this_api(client, server):
    with pytest.raises(anthropic.NotFoundError) as error:
        client.messages.create(model="claude", messages=HELLO, max_tokens=1)
    assert error.value.body["type"] == "error" and error.value.body["error"]["type"] == "not_found_error"
    with pytest.raises(anthropic.BadRequestError, match="max_tokens"):
        client.post("/v1/messages", body={"model": "smollm2", "messages": HELLO}, cast_to=object)
    with pytest.raises(anthropic.BadRequestError, match="thinking"):
        client.messages.create(model="smollm2", messages=HELLO, max_tokens=2000,
                               thinking={"type": "enabled", "budget_tokens": 1024})  # fmt: skip
    with pytest.raises(anthropic.AuthenticationError):
        anthropic.Anthropic(base_url=server.url, api_key="nobody-knows-this-key", max_retries=0).messages.create(
            model="smollm2", messages=HELLO, max_tokens=1
        )


def test_models_are_listed(client):
    assert [m.id for m in client.models.list()] == ["smollm2"]
