"""How a model is told of functions and asks for one: the text of it, whichever API or chat it serves.

A model that may call writes freely until it begins a call with `CALL`. From there on, or from the start where a call
is wanted, it can write nothing but a function's name and arguments that fit that function's schema.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from glassgpt.core.errors import ConfigError, nearest
from glassgpt.engine.constrain import OutputFormat
from glassgpt.engine.language_model import LanguageModel
from glassgpt.engine.request import Piece, Request, plan_length, sampling_settings
from glassgpt.text.template import Message

CALL, END_CALL = "<tool_call>", "</tool_call>"
ANSWER_TOKENS = 512  # the most tokens of a step, unless told


@dataclass(frozen=True)
class ToolDescription:
    """A function that a model may ask for, as it is described to the model; `parameters` is a JSON schema."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = field(default_factory=lambda: {"type": "object", "properties": {}})


@dataclass(frozen=True)
class ToolCall:
    """A function that the model wants to be called; `arguments` is JSON."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class Step:
    """What a model did in its turn.

    Attributes:
        text: what it wrote before a call, or instead of one.
        call: the function that it asks for; None where it did not, or where the limit of tokens cut the call off.
        finish_reason: "stop"; "length" where the limit of tokens came first.
        tokens: how many were generated.
    """

    text: str
    call: ToolCall | None
    finish_reason: str
    tokens: int


def calls_format(functions: Sequence[ToolDescription], choice: str = "auto") -> OutputFormat:
    """What a call must look like: one of the functions, with arguments that fit its schema.

    Args:
        functions: those there are.
        choice: the name of the only one that may be called, or "auto" or "required" for all.

    Raises:
        ConfigError: there is no such function, or text cannot be held to the schema of one.
    """
    wanted = [f for f in functions if choice in ("auto", "required", f.name)]
    if not wanted:
        near = nearest(choice, [f.name for f in functions])
        raise ConfigError(
            "no function is called {name!r}", hint="Did you mean {near!r}?" if near else "", name=choice, near=near
        )
    forms = [
        {"type": "object",
         "properties": {"name": {"const": f.name}, "arguments": _moved(f.parameters, _place(number, len(wanted)))},
         "required": ["name", "arguments"], "additionalProperties": False}
        for number, f in enumerate(wanted)
    ]  # fmt: skip
    return OutputFormat(json_schema=forms[0] if len(forms) == 1 else {"anyOf": forms})


def _place(number: int, count: int) -> str:
    """The JSON pointer at which a function's own schema stands in that of all calls."""
    return ("#" if count == 1 else f"#/anyOf/{number}") + "/properties/arguments"


def _moved(schema: Any, place: str) -> Any:
    """A schema that is to stand at `place` in another one: what refers to a part of it still does."""
    if isinstance(schema, list):
        return [_moved(part, place) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: place + value[1:] if key == "$ref" and isinstance(value, str) and value.startswith("#")
        else value if key in ("const", "enum", "default", "examples") else _moved(value, place)
        for key, value in schema.items() if key != "$id" or not isinstance(value, str)
    }  # fmt: skip


def tools_text(functions: Sequence[ToolDescription]) -> str:
    """What a model is told of the functions."""
    shown = "\n".join(
        json.dumps({"type": "function", "function": {"name": f.name, "description": f.description,
                                                     "parameters": f.parameters}}, ensure_ascii=False)
        for f in functions
    )  # fmt: skip
    return (
        f"# Tools\n\nFunctions that can be called for the user, one to a line:\n<tools>\n{shown}\n</tools>\n\n"
        f'To call one, answer with {CALL}, a JSON object {{"name": ..., "arguments": ...}}, and {END_CALL}.'
    )


def with_instructions(messages: Sequence[Message], text: str) -> list[Message]:
    """The messages with `text` at the end of their system message, or as one."""
    if messages and messages[0]["role"] == "system":
        first = messages[0]["content"]
        return [{"role": "system", "content": f"{first}\n\n{text}" if first else text}, *messages[1:]]
    return [{"role": "system", "content": text}, *messages]


def called_text(text: str, calls: Sequence[ToolCall]) -> str:
    """An assistant's turn as it is shown to the model again: what it wrote, and what it asked for."""
    for call in calls:
        arguments = json.loads(call.arguments or "{}")
        shown = json.dumps({"name": call.name, "arguments": arguments}, ensure_ascii=False)
        text += ("\n" if text else "") + f"{CALL}\n{shown}\n{END_CALL}"
    return text


def result_message(text: str, has_tool_role: bool) -> Message:
    """A tool's result as a message; as the user's where the template has no turn for tools
    (`"tool" in model.template.family.turns`)."""
    if has_tool_role:
        return {"role": "tool", "content": text}
    return {"role": "user", "content": f"<tool_response>\n{text}\n</tool_response>"}


def read_call(written: str) -> ToolCall | None:
    """The call in a text that `calls_format` held; None where the limit of tokens cut it off."""
    try:
        found = json.loads(written)
    except ValueError:
        return None
    arguments = json.dumps(found["arguments"], ensure_ascii=False, separators=(",", ":"))
    return ToolCall("call_" + secrets.token_hex(12), found["name"], arguments)


def next_step(
    model: LanguageModel, messages: Sequence[Message], functions: Sequence[ToolDescription], choice: str = "auto", *,
    max_new_tokens: int | None = None, write: Callable[[str], object] = lambda text: None, **sampling: Any,
) -> Step:  # fmt: skip
    """As `step_pieces`, to its end.

    Args:
        write: is given the answer's text as it comes; what it raises ends the step.
    """
    pieces = step_pieces(model, messages, functions, choice, max_new_tokens=max_new_tokens, **sampling)
    while True:
        try:
            piece = next(pieces)
        except StopIteration as end:
            step: Step = end.value
            return step
        if piece.text:
            write(piece.text)


def step_pieces(
    model: LanguageModel, messages: Sequence[Message], functions: Sequence[ToolDescription], choice: str = "auto", *,
    max_new_tokens: int | None = None, **sampling: Any,
) -> Generator[Piece, None, Step]:  # fmt: skip
    """Lets the model answer or ask for one of the functions; yields the pieces of its answer, returns what it did.

    Args:
        model: with a chat template.
        messages: the conversation; the functions are told at the end of its system message.
        functions: what may be asked for, and nothing else can be.
        choice: "auto": the model decides; "required": it calls one; a name: it calls that one.
        max_new_tokens: the most tokens of answer and call together.
        sampling: the fields of `SamplingSettings`.

    Raises:
        ConfigError: a setting is out of range, or text cannot be held to a schema.
        InputError: the model has no chat template, or the conversation does not fit its context.
    """
    template, tokenizer = model.template, model.tokenizer
    told = with_instructions(messages, tools_text(functions)) if functions else list(messages)
    ids = template.encode(tokenizer, told, add_generation_prompt=True).ids
    limit = plan_length(len(ids), model.context_length, max_new_tokens, None, ANSWER_TOKENS)
    settings = sampling_settings(sampling)
    if settings.seed is None:
        settings = replace(settings, seed=secrets.randbits(63))
    request = Request(ids, limit, settings, 0, template.stop_ids(tokenizer))
    if choice != "auto":
        return _called("", model, replace(request, format=calls_format(functions, choice)), 0)
    stops = (*template.stop_strings, *((CALL,) if functions else ()))
    text, count, stop, reason = "", 0, None, "length"
    for piece in model.loop.start([replace(request, stops=stops)])[0]:
        text, count = text + piece.text, count + (piece.token is not None)
        stop, reason = piece.stop, piece.finish_reason or reason
        yield replace(piece, finish_reason=None)
    if stop != CALL:
        return Step(template.reply(text), None, reason, count)
    begun = ids + tokenizer.encode_segment(f"{text}{CALL}\n", after="text")
    room = min(limit - count, model.context_length - len(begun))
    if room < 1:
        return Step(template.reply(text), None, "length", count)
    return _called(text, model, replace(request, prompt=begun, limit=room, format=calls_format(functions)), count)


def _called(text: str, model: LanguageModel, request: Request, before: int) -> Step:
    done = model.repeat(request)
    return Step(model.template.reply(text), read_call(done.text), done.finish_reason, before + len(done.tokens))
