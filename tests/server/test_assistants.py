"""An assistant as a model of the server: all four APIs reach it, and what it does not do is refused."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import anthropic
import openai
import pytest
from serving import Running, serve, tiny_model

from glassgpt.assistant.assistant import Assistant
from glassgpt.assistant.knowledge import Knowledge, Scale
from glassgpt.assistant.passage import Passage
from glassgpt.assistant.persona import persona_from
from glassgpt.core.errors import ConfigError

ANSWER, FOOTER = "Within 30 days.", "\n\n(Quoted from faq.csv, row 2, which answers “How do I return a teapot?”.)"
ASK = [{"role": "user", "content": "How do I return a teapot?"}]


def make(only_known: bool):
    knowledge = Knowledge(scales={0: Scale(words=1.0, known=0.3, known_text=0.3, step=0.1)})
    question = ASK[0]["content"]
    knowledge.add("faq.csv", "1", [Passage(f"{question}\n{ANSWER}", question, ANSWER, "row 2", 0)])
    persona = persona_from({"name": "Shop", "only_known": only_known, "unknown": "No idea."}, Path())
    return lambda model: Assistant(model, persona, knowledge)


@pytest.fixture(scope="module")
def shop() -> Iterator[Running]:
    for running in serve({"tiny": tiny_model()}):
        running.hub.add_assistant("shop", make(only_known=True))
        running.hub.add_assistant("chatty", make(only_known=False))
        yield running


@pytest.fixture
def client(shop: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=shop.url + "/v1", api_key=shop.key, max_retries=0, timeout=60)


def test_it_is_listed_and_answers_whole_and_streamed_with_its_source(client, shop):
    assert [model.id for model in client.models.list()] == ["tiny", "shop", "chatty"]
    assert client.models.retrieve("shop").id == "shop"
    whole = client.chat.completions.create(model="shop", messages=ASK)
    assert whole.choices[0].message.content == ANSWER + FOOTER and whole.choices[0].finish_reason == "stop"
    assert whole.model == "shop" and whole.usage.completion_tokens == 0
    chunks = list(client.chat.completions.create(model="shop", messages=ASK, stream=True))
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == ANSWER + FOOTER
    assert client.responses.create(model="shop", input=ASK[0]["content"]).output_text == ANSWER + FOOTER
    claude = anthropic.Anthropic(base_url=shop.url, api_key=shop.key, max_retries=0)
    message = claude.messages.create(model="shop", max_tokens=50, messages=ASK)
    assert message.content[0].text == ANSWER + FOOTER


def test_what_it_does_not_know_it_says_or_leaves_to_the_model(client):
    other = [{"role": "user", "content": "Do zebras dream?"}]
    known = client.chat.completions.create(model="shop", messages=other)
    assert known.choices[0].message.content == "No idea."
    told = [{"role": "system", "content": "Be brief."}, *other]
    free = client.chat.completions.create(model="chatty", messages=told, max_tokens=5, seed=1)
    assert free.usage.completion_tokens == 5 and free.choices[0].finish_reason == "length"
    assert free.usage.prompt_tokens > 10
    assert free.choices[0].message.content.endswith("(From the model alone, which may be wrong.)")
    again = client.chat.completions.create(model="chatty", messages=told, max_tokens=5, seed=1)
    assert again.choices[0].message.content == free.choices[0].message.content


@pytest.mark.parametrize(("more", "why"), [
    ({"n": 2}, "one reply"), ({"stop": "x"}, "end by themselves"), ({"logprobs": True}, "no probabilities"),
    ({"response_format": {"type": "json_object"}}, "plain text"),
    ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "its persona"),
    ({"messages": [*ASK, {"role": "assistant", "content": "x"}]}, "must be the user's"),
    ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}, *ASK]}, "its persona"),
    ({"temperature": 1.9, "messages": [{"role": "user", "content": "x" * 5000}]}, "4000"),
])  # fmt: skip
def test_what_an_assistant_does_not_do_is_refused(client, more, why):
    with pytest.raises(openai.BadRequestError, match=why):
        client.chat.completions.create(**({"model": "shop", "messages": ASK} | more))


def test_other_paths_say_that_it_is_an_assistant(client, shop):
    for call in (lambda: client.completions.create(model="shop", prompt="x"),
                 lambda: client.embeddings.create(model="shop", input="x")):  # fmt: skip
        with pytest.raises(openai.BadRequestError, match="is an assistant"):
            call()
    count = shop.client().post("/v1/messages/count_tokens", json={"model": "shop", "messages": ASK})
    assert count.status_code == 400 and "is an assistant" in count.text


def test_a_client_that_goes_away_frees_the_engine(client, shop):
    zebra = [{"role": "user", "content": "zebra"}]
    stream = client.chat.completions.create(model="chatty", messages=zebra, stream=True, max_tokens=400)
    next(iter(stream))
    stream.close()
    engine = shop.hub.engines()["tiny"]
    deadline = time.monotonic() + 5
    while engine.scheduler.running and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not engine.scheduler.running
    again = client.chat.completions.create(model="tiny", messages=ASK, max_tokens=3)
    assert again.usage.completion_tokens == 3


def test_a_name_that_a_model_has_is_refused(shop):
    with pytest.raises(ConfigError, match="called tiny already"):
        shop.hub.add_assistant("tiny", make(only_known=True))
