"""The official OpenAI client, unchanged, against our server."""

from __future__ import annotations

import json

import numpy as np
import openai
import pydantic
import pytest

from glassgpt.server.ask import Ask, Turn, prepare

pytestmark = pytest.mark.slow

HELLO = [{"role": "user", "content": "Say hello."}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather", "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string", "enum": ["Paris", "北京"]},
                       "days": {"type": "integer", "minimum": 1, "maximum": 9}}, "required": ["city", "days"],
                       "additionalProperties": False},
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def client(server) -> openai.OpenAI:
    return openai.OpenAI(base_url=server.url + "/v1", api_key=server.key, max_retries=0, timeout=60)


def test_a_reply_is_the_one_that_the_library_gives(client, server):
    got = client.chat.completions.create(model="smollm2", messages=HELLO, seed=5, max_completion_tokens=20)
    model = server.models["smollm2"]
    prepared = prepare(model, Ask(turns=(Turn("user", "Say hello."),), most=20, sampling={"seed": 5}))
    alone = model.repeat(prepared.requests[0])
    choice = got.choices[0]
    assert choice.message.content == alone.text and choice.finish_reason == alone.finish_reason
    assert got.usage.completion_tokens == len(alone.tokens) and got.usage.prompt_tokens == prepared.prompt_tokens
    assert got.usage.total_tokens == got.usage.prompt_tokens + got.usage.completion_tokens
    assert got.model == "smollm2" and got.object == "chat.completion" and choice.message.role == "assistant"


def test_a_stream_is_the_same_reply_in_pieces(client):
    asked = dict(model="smollm2", messages=HELLO, seed=5, max_tokens=20)
    whole = client.chat.completions.create(**asked)
    chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole.choices[0].message.content
    assert len({c.id for c in chunks}) == 1 and chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == whole.choices[0].finish_reason
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens and chunks[-1].choices == []
    assert all(c.usage is None for c in chunks[:-1]) and len(chunks) > 5


def test_several_choices_differ_and_repeat(client):
    asked = dict(model="smollm2", messages=HELLO, seed=1, max_tokens=12, n=3, temperature=1.5)
    first, second = (client.chat.completions.create(**asked) for _ in range(2))
    texts = [c.message.content for c in first.choices]
    assert [c.index for c in first.choices] == [0, 1, 2] and len(set(texts)) > 1
    assert texts == [c.message.content for c in second.choices]
    streamed = {0: "", 1: "", 2: ""}
    for chunk in client.chat.completions.create(**asked, stream=True):
        streamed[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert list(streamed.values()) == texts


def test_log_probabilities_belong_to_the_text(client):
    got = client.chat.completions.create(model="smollm2", messages=HELLO, max_tokens=12, temperature=0, logprobs=True,
                                         top_logprobs=4)  # fmt: skip
    content = got.choices[0].logprobs.content
    assert b"".join(bytes(t.bytes) for t in content).decode() == got.choices[0].message.content
    for token in content:
        assert len(token.top_logprobs) == 4 and token.top_logprobs[0].token == token.token  # greedy
        assert [t.logprob for t in token.top_logprobs] == sorted((t.logprob for t in token.top_logprobs), reverse=True)
        assert token.logprob == pytest.approx(token.top_logprobs[0].logprob, abs=1e-5) and token.logprob <= 1e-6
        assert sum(np.exp([t.logprob for t in token.top_logprobs])) <= 1 + 1e-5


def test_a_stop_string_ends_the_text_before_it(client):
    asked = dict(model="smollm2", messages=[{"role": "user", "content": "Count: 1, 2, 3"}], temperature=0)
    whole = client.chat.completions.create(**asked, max_tokens=30).choices[0].message.content
    word = whole.split()[2]
    cut = client.chat.completions.create(**asked, max_tokens=30, stop=[word])
    assert cut.choices[0].message.content == whole.split(word)[0] and cut.choices[0].finish_reason == "stop"


def test_the_end_by_length_is_told(client):
    got = client.chat.completions.create(model="smollm2", messages=HELLO, max_tokens=2)
    assert got.choices[0].finish_reason == "length" and got.usage.completion_tokens == 2


def test_a_biased_token_is_the_one_that_comes(client, server):
    (token,) = server.models["smollm2"].tokenizer.encode(" banana")[:1]
    got = client.chat.completions.create(model="smollm2", messages=HELLO, max_tokens=3, logit_bias={str(token): 100})
    word = server.models["smollm2"].tokenizer.decode([token])
    assert got.choices[0].message.content == word * 3


class Person(pydantic.BaseModel):
    name: str
    age: int
    languages: list[str]


def test_structured_output_parses(client):
    got = client.chat.completions.parse(
        model="smollm2", messages=[{"role": "user", "content": "Ada, 36, speaks English and French."}],
        response_format=Person, max_tokens=120, seed=3,
    )  # fmt: skip
    if got.choices[0].finish_reason == "stop":
        assert isinstance(got.choices[0].message.parsed, Person)
    short = client.chat.completions.create(model="smollm2", messages=HELLO, max_tokens=150, seed=2,
                                           response_format={"type": "json_object"})  # fmt: skip
    if short.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(short.choices[0].message.content), dict)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
def test_a_required_call_fits_its_schema(client, choice):
    asked = dict(model="smollm2", messages=[{"role": "user", "content": "Weather in 北京 for two days?"}], seed=4,
                 tools=[WEATHER], tool_choice=choice, max_tokens=60)  # fmt: skip
    got = client.chat.completions.create(**asked).choices[0]
    assert got.finish_reason == "tool_calls" and got.message.content is None
    (call,) = got.message.tool_calls
    arguments = json.loads(call.function.arguments)
    assert (
        call.function.name == "get_weather" and arguments["city"] in ("Paris", "北京") and 1 <= arguments["days"] <= 9
    )
    chunks = list(client.chat.completions.create(**asked, stream=True))
    deltas = [d for c in chunks for d in c.choices[0].delta.tool_calls or []]
    assert deltas[0].function.name == "get_weather" and deltas[0].id.startswith("call_")
    assert json.loads("".join(d.function.arguments for d in deltas)) == arguments
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_a_free_choice_gives_text_or_a_call_that_fits(client):
    got = client.chat.completions.create(
        model="smollm2", messages=[{"role": "user", "content": "Weather in Paris?"}], tools=[WEATHER], max_tokens=80,
        seed=1, logit_bias={},
    ).choices[0]  # fmt: skip
    if got.finish_reason == "tool_calls":
        assert json.loads(got.message.tool_calls[0].function.arguments)["city"] in ("Paris", "北京")
    else:
        assert got.message.content and "<tool_call>" not in got.message.content


def test_a_call_that_the_model_begins_is_finished_by_the_schema(client, server):
    """The model is made to write the opening of a call; what follows can only be one."""
    model = server.models["smollm2"]
    ids = model.tokenizer.encode("<tool_call>")
    messages = [{"role": "user", "content": "Weather in Paris?"}]
    for _ in range(1):
        got = client.chat.completions.create(
            model="smollm2", messages=messages, tools=[WEATHER], max_tokens=90, temperature=0,
            logit_bias={str(i): 60 - n for n, i in enumerate(dict.fromkeys(ids))}, frequency_penalty=2,
            presence_penalty=2,
        ).choices[0]  # fmt: skip
        if got.finish_reason == "tool_calls":
            assert got.message.tool_calls[0].function.name == "get_weather"


def test_results_of_calls_go_back(client):
    got = client.chat.completions.create(
        model="smollm2", max_tokens=8, tools=[WEATHER],
        messages=[
            {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Weather in Paris?"},
            {"role": "assistant", "content": None, "tool_calls": [{"id": "call_1", "type": "function", "function": {
                "name": "get_weather", "arguments": '{"city": "Paris", "days": 1}'}}]},
            {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
        ],
    )  # fmt: skip
    assert got.choices[0].message.content is not None and got.usage.prompt_tokens > 150


def test_the_responses_api(client):
    got = client.responses.create(model="smollm2", input="Say hello.", max_output_tokens=20, temperature=0)
    assert got.status in ("completed", "incomplete") and got.output_text
    assert got.output[0].type == "message" and got.usage.output_tokens <= 20
    said = [{"role": "user", "content": [{"type": "input_text", "text": "Say hello."}]}]
    same = client.responses.create(model="smollm2", instructions=None, temperature=0, max_output_tokens=20, input=said)
    assert same.output_text == got.output_text
    with client.responses.stream(model="smollm2", input="Say hello.", max_output_tokens=300, temperature=0) as stream:
        events = list(stream)
        whole = stream.get_final_response()  # this client takes none that was cut off
    assert whole.output_text.startswith(got.output_text)
    assert [e.sequence_number for e in events if hasattr(e, "sequence_number")] == list(range(len(events)))
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == whole.output_text


def test_the_responses_api_calls_functions_and_gives_json(client):
    tool = {"type": "function", "strict": True} | WEATHER["function"]
    got = client.responses.create(model="smollm2", input="Weather in Paris?", tools=[tool], tool_choice="required",
                                  max_output_tokens=80)  # fmt: skip
    (call,) = got.output
    assert call.type == "function_call" and json.loads(call.arguments)["city"] in ("Paris", "北京")
    back = client.responses.create(
        model="smollm2", max_output_tokens=5, tools=[tool],
        input=[{"role": "user", "content": "Weather in Paris?"}, call,
               {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}],
    )  # fmt: skip
    assert back.usage.input_tokens > 100
    parsed = client.responses.parse(model="smollm2", input="Ada is 36.", text_format=Person, max_output_tokens=200)
    if parsed.status == "completed":
        assert isinstance(parsed.output_parsed, Person)


def test_completions_go_on_with_a_text(client, server):
    got = client.completions.create(model="smollm2", prompt="The capital of France is", max_tokens=5, temperature=0)
    alone = server.models["smollm2"].generate("The capital of France is", max_new_tokens=5, temperature=0)[0]
    assert got.choices[0].text == alone.text
    echoed = client.completions.create(model="smollm2", prompt=["One", "Two"], max_tokens=3, echo=True, n=2)
    assert [c.text[:3] for c in echoed.choices] == ["One", "One", "Two", "Two"]
    assert [c.index for c in echoed.choices] == [0, 1, 2, 3]
    ids = server.models["smollm2"].encode("The capital of France is")
    scored = client.completions.create(model="smollm2", prompt=ids, max_tokens=5, temperature=0, logprobs=2)
    assert scored.choices[0].text == alone.text
    assert scored.choices[0].logprobs.token_logprobs == pytest.approx(alone.logprobs, abs=1e-4)
    chunks = client.completions.create(model="smollm2", prompt="The capital of France is", max_tokens=5, temperature=0,
                                       stream=True)  # fmt: skip
    assert "".join(c.choices[0].text for c in chunks) == alone.text


def test_embeddings_are_of_length_one_and_the_same_alone_and_together(client):
    texts = ["a cat", "a kitten", "a quarterly tax report", "一只猫"]
    got = client.embeddings.create(model="smollm2", input=texts)
    vectors = np.array([d.embedding for d in got.data])
    assert vectors.shape == (4, 576) and np.allclose((vectors**2).sum(axis=1), 1, atol=1e-4)
    alone = np.array([client.embeddings.create(model="smollm2", input=t).data[0].embedding for t in texts])
    assert (alone == vectors).all()
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]
    floats = client.embeddings.create(model="smollm2", input=texts, encoding_format="float")
    assert np.allclose([d.embedding for d in floats.data], vectors, atol=1e-6)


def test_embeddings_are_the_mean_of_what_the_network_gives(client, server):
    """Held to torch's network with the same weights."""
    import torch

    model = server.models["smollm2"]
    ids = model.encode("The quick brown fox jumps over the lazy dog")
    got = np.array(client.embeddings.create(model="smollm2", input=[ids]).data[0].embedding)
    seen = []
    hook = model.network.norm.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        model.network.hidden(torch.tensor([ids]))
    hook.remove()
    expected = seen[0][0].double().mean(dim=0).numpy()
    assert got @ (expected / np.linalg.norm(expected)) > 0.995


def test_what_is_wrong_is_said(client, server):
    with pytest.raises(openai.NotFoundError, match="there is no model 'smollm3' here; did you mean 'smollm2'"):
        client.chat.completions.create(model="smollm3", messages=HELLO)
    with pytest.raises(openai.BadRequestError, match="8192") as error:
        client.chat.completions.create(model="smollm2", messages=[{"role": "user", "content": "word " * 9000}])
    assert error.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError, match="web_search_options is not supported") as error:
        client.chat.completions.create(model="smollm2", messages=HELLO, web_search_options={})
    assert error.value.param == "web_search_options"
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(model="smollm2", messages=HELLO, temperature=3)
    assert error.value.param == "temperature"
    with pytest.raises(openai.BadRequestError, match="image"):
        client.chat.completions.create(model="smollm2", messages=[{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "http://127.0.0.1:9/x.png"}}]}])  # fmt: skip
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=server.url + "/v1", api_key="wrong-key-wrong-key", max_retries=0).models.list()


def test_harmless_fields_pass(client):
    client.chat.completions.create(model="smollm2", messages=HELLO, max_tokens=1, user="u", metadata={"a": "b"},
                                   store=False, service_tier="auto", parallel_tool_calls=True)  # fmt: skip
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="smollm2", messages=HELLO, store=True)


def test_models_are_listed(client):
    assert [m.id for m in client.models.list()] == ["smollm2"]
    assert client.models.retrieve("smollm2").id == "smollm2"
