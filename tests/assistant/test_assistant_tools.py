"""What an assistant may call: sums and orders that are spotted, calls of the model's, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import glassgpt
from glassgpt.assistant.assistant import MAX_CALLS, Assistant, AssistantChat
from glassgpt.assistant.calculator import spot_sum
from glassgpt.assistant.calling import CALL, Step, ToolCall
from glassgpt.assistant.persona import persona_from
from glassgpt.assistant.persona_tools import persona_tools
from glassgpt.core.errors import ConfigError, GlassError, NotFoundError
from glassgpt.engine.language_model import LanguageModel
from glassgpt.engine.request import Piece
from glassgpt.model.config import ModelConfig
from glassgpt.model.gpt import GPT
from glassgpt.text.bpe import train_bpe
from glassgpt.text.template import get_template

ORDERS = "order,state,customer\nK10002,sent on Monday,Ann\nK10004,waiting,Bea\n"


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    torch.manual_seed(0)
    tokenizer = train_bpe(["hello there, how are you today? 你好,今天天气很好。" * 20], 360)
    config = ModelConfig.modern(vocab_size=tokenizer.vocab_size, n_layer=1, n_head=2, n_embd=16, context_length=4096)
    return LanguageModel(
        "small", GPT(config).eval().requires_grad_(False), tokenizer, "float32", get_template("qwen2.5")
    )


def shop(folder: Path, **more: object):
    (folder / "orders.csv").write_text(ORDERS, encoding="utf-8")
    base = {"name": "Shop", "only_known": True, "orders": {"file": "orders.csv", "column": "order"},
            "tools": ["calculator"], "handover": {"say": "Call us."}}  # fmt: skip
    return persona_from(base | more, folder)


def talk(model: LanguageModel, persona, tools=None) -> AssistantChat:
    tools = persona_tools(persona).tools if tools is None else tools
    return AssistantChat(Assistant(model, persona, None, tools), max_new_tokens=8, seed=1)


def test_an_order_is_looked_up_where_its_number_is_said_and_nobody_elses(model, tmp_path):
    chat = talk(model, shop(tmp_path))
    reply = chat.say("Hello, where is my order K10002 please?")
    assert reply.plan.kind == "tool" and "sent on Monday" in reply and "Bea" not in reply and "K10004" not in reply
    assert reply.plan.footer() == "(From the tool order_lookup.)"
    assert json.loads(reply.plan.calls[0].arguments) == {"number": "K10002"}
    assert chat.say("Ｋ１０００４ 到哪了").plan.calls[0].result.text.startswith("order: K10004")
    assert chat.say("Where is my order K10003?").plan.kind == "unknown"


def test_orders_that_cannot_be_read_are_told_with_the_hand_over(model, tmp_path):
    chat = talk(model, shop(tmp_path))
    (tmp_path / "orders.csv").unlink()
    assert chat.say("Where is my order K10002?").plan.kind == "unknown"
    with pytest.raises(NotFoundError):
        persona_tools(shop(tmp_path, orders={"file": "none.csv", "column": "order"}))


@pytest.mark.parametrize(("message", "expression"), [
    ("What is 23*7?", "23*7"), ("12 + 30 =", "12 + 30"), ("3 x 4", "3 * 4"), ("帮我算一下 １２×３", "12×3"),
    ("1,200 / 4 等于多少？", "1,200 / 4"), ("(2+3)^2", "(2+3)^2"), ("2026-11-26", None),
    ("020-7946-0958 call me", None),
    ("How do I return 3 pots?", None), ("42", None), ("", None), ("1/0", None),
])  # fmt: skip
def test_a_sum_is_spotted_and_nothing_else(message: str, expression: str | None):
    found = spot_sum(message)
    assert (found and found["expression"]) == expression


def test_a_sum_is_calculated_by_the_tool_and_not_by_the_model(model, tmp_path):
    reply = talk(model, shop(tmp_path)).say("What is 123456789 * 987654321?")
    assert reply.plan.kind == "tool" and str(123456789 * 987654321) in reply.replace(",", "") and reply.tokens == 0


def test_what_the_persona_does_not_name_is_not_there(model, tmp_path):
    persona = persona_from({"name": "Shop", "only_known": True}, tmp_path)
    assert persona_tools(persona).tools == ()
    assert talk(model, persona).say("What is 2+2?").plan.kind == "unknown"
    with pytest.raises(ConfigError, match="calculater"):
        persona_tools(persona_from({"name": "Shop", "tools": ["calculater"]}, tmp_path))


def scripted(monkeypatch, *steps: Step) -> list[list[dict[str, str]]]:
    """The model does these steps; gives what it was told at each."""
    told: list[list[dict[str, str]]] = []
    left = list(steps)

    def step_pieces(model, messages, functions, **settings):
        told.append(list(messages))
        step = left.pop(0) if functions else Step("No more.", None, "stop", 1)
        if step.text:
            yield Piece(step.text, token=1)
        return step

    monkeypatch.setattr("glassgpt.assistant.assistant.step_pieces", step_pieces)
    return told


def test_what_the_model_calls_is_called_and_told_to_it_and_to_the_user(model, tmp_path, monkeypatch):
    @glassgpt.tool
    def stock(item: str) -> int:
        """How many there are."""
        if item == "cup":
            raise ValueError("no cups")
        return 7

    call = lambda item: Step("", ToolCall("1", "stock", json.dumps({"item": item})), "stop", 3)  # noqa: E731
    told = scripted(monkeypatch, call("pot"), call("cup"), Step("Seven pots.", None, "stop", 4))
    persona = persona_from({"name": "Shop"}, tmp_path)
    reply = talk(model, persona, [stock]).say("How many pots and cups?")
    assert reply == "Seven pots." and reply.plan.kind == "model" and reply.finish_reason == "stop"
    assert [(made.name, made.result.ok) for made in reply.plan.calls] == [("stock", True), ("stock", False)]
    assert "7" in told[1][-1]["content"] and CALL in told[1][-2]["content"] and "no cups" in told[2][-1]["content"]
    assert "with the tool stock" in reply.plan.footer() and "no cups" in reply.plan.footer()


def test_calls_come_to_an_end(model, tmp_path, monkeypatch):
    @glassgpt.tool
    def again() -> str:
        return "again"

    told = scripted(monkeypatch, *[Step("", ToolCall("1", "again", "{}"), "stop", 1)] * 50)
    reply = talk(model, persona_from({"name": "Shop"}, tmp_path), [again]).say("Go on.")
    assert len(reply.plan.calls) == MAX_CALLS and len(told) == MAX_CALLS + 1 and reply == "No more."


def test_of_an_mcp_server_only_what_the_persona_allows_is_there(tmp_path, monkeypatch):
    @glassgpt.tool
    def read() -> str:
        return "x"

    @glassgpt.tool(name="stock_write")
    def write() -> str:
        return "x"

    class Servers:
        def __init__(self, config, taken):
            self.tools, self.problems = [read, write], []
            assert config["stock"] == {"command": "python", "args": ["stock.py"], "env": {}}

    monkeypatch.setattr("glassgpt.assistant.mcp_client.McpServers", Servers)

    def allowed(**more: object) -> list[str]:
        server = {"command": "python", "args": ["stock.py"], **more}
        return [t.name for t in persona_tools(persona_from({"name": "S", "mcp": {"stock": server}}, tmp_path)).tools]

    assert allowed() == ["read", "stock_write"] and allowed(allow=[]) == []
    assert allowed(allow=["write"]) == ["stock_write"] and allowed(allow=["read"]) == ["read"]
    with pytest.raises(ConfigError, match="offers no tool raed"):
        allowed(allow=["raed"])


def test_a_model_whose_template_knows_no_tools_is_told_of_none(model, tmp_path):
    plain = LanguageModel("plain", model.network, model.tokenizer, "float32", get_template("chatml"))
    persona = persona_from({"name": "Shop", "tools": ["calculator", "dates"]}, tmp_path)
    told, same = talk(model, persona), talk(plain, persona)
    assert told.say("tell me more").read > same.say("tell me more").read + 100
    assert same.say("What is 3*4?") == "12"  # what is spotted is called all the same


def test_a_real_model_without_knowledge_of_tools_still_answers(model, tmp_path):
    persona = persona_from({"name": "Shop", "tools": ["calculator", "dates"]}, tmp_path)
    reply = talk(model, persona).say("tell me more")
    assert reply.plan.kind == "model" and 0 < reply.tokens <= 8 and not isinstance(reply.plan, GlassError)
