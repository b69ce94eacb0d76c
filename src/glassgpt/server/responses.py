"""OpenAI's `/v1/responses`: its fields, and its answers whole and as a stream of named events. Nothing is stored: a
request brings the whole conversation."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from glassgpt.assistant.calling import ToolCall, ToolDescription
from glassgpt.engine.constrain import ANY_OBJECT, OutputFormat
from glassgpt.server.answer import Answer, Called, Ended, Event, Token, Words
from glassgpt.server.ask import Ask, Turn, seed_of
from glassgpt.server.chat import Count, Harmless, Seed, checked, chosen
from glassgpt.server.fields import MAX_MESSAGES, MAX_TOOLS, Body, FunctionName, Name, Short, Text


class InputText(Body):
    """A piece of text that was said, or that the model said before."""

    type: Literal["input_text", "output_text"]
    text: Text
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None
    logprobs: Annotated[list[Any], Field(max_length=0)] | None = None


class InputMessage(Body):
    """A message."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: Text | Annotated[list[InputText], Field(min_length=1, max_length=MAX_MESSAGES)]
    id: Short | None = None
    status: Literal["completed", "incomplete", "in_progress"] | None = None


class FunctionCall(Body):
    """A call that the model asked for."""

    type: Literal["function_call"]
    call_id: Name
    name: FunctionName
    arguments: Text
    id: Short | None = None
    status: Literal["completed", "incomplete", "in_progress"] | None = None


class FunctionOutput(Body):
    """What a function gave."""

    type: Literal["function_call_output"]
    call_id: Name
    output: Text | Annotated[list[InputText], Field(max_length=MAX_MESSAGES)]
    id: Short | None = None
    status: Literal["completed", "incomplete", "in_progress"] | None = None


Item = FunctionCall | FunctionOutput | InputMessage


class FunctionTool(Body):
    """A function that may be called."""

    type: Literal["function"]
    name: FunctionName
    description: Text | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ChosenFunction(Body):
    """The function that must be called."""

    type: Literal["function"]
    name: FunctionName


class PlainFormat(Body):
    """Free text."""

    type: Literal["text"]


class ObjectFormat(Body):
    """Any JSON object."""

    type: Literal["json_object"]


class SchemaFormat(Body):
    """JSON of a schema."""

    type: Literal["json_schema"]
    name: FunctionName
    schema_: dict[str, Any] = Field(alias="schema")
    description: Text | None = None
    strict: bool | None = None


class TextSettings(Body):
    """What form the text has."""

    format: Annotated[PlainFormat | ObjectFormat | SchemaFormat, Field(discriminator="type")] | None = None
    verbosity: Literal["medium"] | None = None


class StreamOptions(Body):
    """How a stream is written."""

    include_obfuscation: Literal[False] | None = None


class ResponsesRequest(Harmless):
    """The body of a request."""

    model: Name
    input: Text | Annotated[list[Item], Field(min_length=1, max_length=MAX_MESSAGES)]
    instructions: Text | None = None
    max_output_tokens: Count | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    include: Annotated[list[Literal["message.output_text.logprobs", "reasoning.encrypted_content"]],
                       Field(max_length=8)] | None = None  # fmt: skip
    seed: Seed | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    text: TextSettings | None = None
    tools: Annotated[list[FunctionTool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | ChosenFunction | None = None
    parallel_tool_calls: bool | None = None
    truncation: Literal["disabled"] | None = None
    background: Literal[False] | None = None
    previous_response_id: None = None
    reasoning: None = None

    @property
    def logprobs(self) -> bool:
        """Whether log-probabilities are told."""
        return "message.output_text.logprobs" in (self.include or ())

    def ask(self) -> Ask:
        """The request without its wire form; raises Problem where fields are at odds."""
        tools = tuple(ToolDescription(t.name, t.description or "", t.parameters or {"type": "object", "properties": {}})
                      for t in self.tools or ())  # fmt: skip
        choice = self.tool_choice.name if isinstance(self.tool_choice, ChosenFunction) else self.tool_choice
        turns = [Turn("user", self.input)] if isinstance(self.input, str) else list(map(_turn, self.input))
        if self.instructions:
            turns.insert(0, Turn("system", self.instructions))
        sampling: dict[str, Any] = {}
        if self.temperature is not None:
            sampling["temperature"] = self.temperature
        if self.top_p is not None:
            sampling["top_p"] = max(self.top_p, 1e-9)
        if self.seed is not None:
            sampling["seed"] = seed_of(self.seed)
        return Ask(turns=tuple(turns), tools=tools, choice=chosen(tools, choice), most=self.max_output_tokens,
                   sampling=sampling, format=self._format(),
                   alternatives=(self.top_logprobs or 0) if self.logprobs else None)  # fmt: skip

    def _format(self) -> OutputFormat | None:
        given = self.text.format if self.text else None
        if isinstance(given, SchemaFormat):
            return OutputFormat(json_schema=given.schema_ or ANY_OBJECT)
        return OutputFormat(json_schema=ANY_OBJECT) if isinstance(given, ObjectFormat) else None


def _turn(item: FunctionCall | FunctionOutput | InputMessage) -> Turn:
    if isinstance(item, FunctionCall):
        return Turn("assistant", "", (ToolCall(item.call_id, item.name, checked(item.arguments)),))
    if isinstance(item, FunctionOutput):
        return Turn("tool", _text(item.output))
    return Turn("system" if item.role == "developer" else item.role, _text(item.content))


def _text(content: str | list[InputText]) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content)


class ResponseWriter:
    """The answer in this API's form."""

    named, last, error = True, "", "openai"

    def __init__(self, request: ResponsesRequest, answer: Answer) -> None:
        self.request, self.answer = request, answer
        self.id, self.created = "resp_" + secrets.token_hex(16), time.time()
        self.output: list[dict[str, Any]] = []
        self._number = -1
        self._text: _Text | None = None

    def whole(self, events: Iterable[Event]) -> dict[str, Any]:
        """All at once: what the last value of a stream holds."""
        values = [value for event in events for value in self.push(event)]
        return values[-1]["response"]

    def push(self, event: Event) -> Iterator[dict[str, Any]]:
        """The values for an event; each has its kind in `type` and its number in the stream."""
        if self._number < 0:
            for kind in ("response.created", "response.in_progress"):
                yield self._event(kind, response=self._response("in_progress"))
        if isinstance(event, Words):
            yield from self._words(event)
            return
        if self._text is not None:
            yield from self._end_of(self._text, event)
            self._text = None
        if isinstance(event, Called):
            for kind, more in _call_events(event.call, len(self.output)):
                yield self._event(kind, **more)
            self.output.append(more["item"])
            return
        if not self.output:  # an empty reply is a message too
            empty = _Text(0)
            for kind, more in empty.begin():
                yield self._event(kind, **more)
            yield from self._end_of(empty, None)
        status = "incomplete" if event.reason == "length" else "completed"
        yield self._event(f"response.{status}", response=self._response(status))

    def end(self) -> Iterator[dict[str, Any]]:
        """Nothing: the last event has told it."""
        return iter(())

    def _words(self, event: Words) -> Iterator[dict[str, Any]]:
        if not event.text and not event.tokens:
            return
        if self._text is None:
            self._text = _Text(len(self.output))
            for kind, more in self._text.begin():
                yield self._event(kind, **more)
        kind, more = self._text.add(event.text, [_logprob(t) for t in event.tokens])
        yield self._event(kind, **more)

    def _end_of(self, text: _Text, event: Event | None) -> Iterator[dict[str, Any]]:
        cut = isinstance(event, Ended) and event.reason == "length"
        for kind, more in text.end("incomplete" if cut else "completed"):
            yield self._event(kind, **more)
        self.output.append(text.item)

    def _event(self, kind: str, **more: Any) -> dict[str, Any]:
        self._number += 1
        return {"type": kind, "sequence_number": self._number, **more}

    def _response(self, status: str) -> dict[str, Any]:
        request, ended = self.request, status != "in_progress"
        given = request.model_dump(mode="json", by_alias=True, exclude_none=True)
        tools = [{"description": None, "parameters": None, "strict": None} | t for t in given.get("tools", [])]
        return {
            "id": self.id, "object": "response", "created_at": int(self.created), "status": status, "error": None,
            "completed_at": int(time.time()) if status == "completed" else None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "instructions": request.instructions, "max_output_tokens": request.max_output_tokens,
            "model": request.model, "output": list(self.output), "parallel_tool_calls": False,
            "previous_response_id": None, "reasoning": {"effort": None, "summary": None}, "store": False,
            "temperature": _given(request.temperature, 0.2), "top_p": _given(request.top_p, 0.9),
            "top_logprobs": request.top_logprobs or 0,
            "text": {"format": given.get("text", {}).get("format", {"type": "text"}), "verbosity": "medium"},
            "tool_choice": given.get("tool_choice", "auto"), "tools": tools, "truncation": "disabled",
            "background": False, "metadata": request.metadata or {}, "service_tier": "default",
            **({"usage": _usage(self.answer)} if ended else {}),
        }  # fmt: skip


class _Text:
    """A message as it is written."""

    def __init__(self, index: int) -> None:
        id = "msg_" + secrets.token_hex(16)
        self.at = {"item_id": id, "output_index": index, "content_index": 0}
        self.index, self.text, self.logprobs = index, "", list[dict[str, Any]]()
        self.item: dict[str, Any] = {"id": id, "type": "message", "role": "assistant", "status": "in_progress",
                                     "content": []}  # fmt: skip

    def _part(self) -> dict[str, Any]:
        return {"type": "output_text", "text": self.text, "annotations": [], "logprobs": list(self.logprobs)}

    def begin(self) -> list[tuple[str, dict[str, Any]]]:
        return [("response.output_item.added", {"output_index": self.index, "item": dict(self.item)}),
                ("response.content_part.added", self.at | {"part": self._part()})]  # fmt: skip

    def add(self, text: str, logprobs: list[dict[str, Any]]) -> tuple[str, dict[str, Any]]:
        self.text += text
        self.logprobs += logprobs
        return "response.output_text.delta", self.at | {"delta": text, "logprobs": logprobs}

    def end(self, status: str) -> list[tuple[str, dict[str, Any]]]:
        self.item |= {"status": status, "content": [self._part()]}
        return [("response.output_text.done", self.at | {"text": self.text, "logprobs": self.logprobs}),
                ("response.content_part.done", self.at | {"part": self._part()}),
                ("response.output_item.done", {"output_index": self.index, "item": self.item})]  # fmt: skip


def _call_events(call: ToolCall, index: int) -> list[tuple[str, dict[str, Any]]]:
    id = "fc_" + secrets.token_hex(16)
    item = {"id": id, "type": "function_call", "status": "completed", "call_id": call.id, "name": call.name,
            "arguments": call.arguments}  # fmt: skip
    at = {"item_id": id, "output_index": index}
    return [
        ("response.output_item.added",
         {"output_index": index, "item": item | {"status": "in_progress", "arguments": ""}}),
        ("response.function_call_arguments.delta", at | {"delta": call.arguments}),
        ("response.function_call_arguments.done", at | {"arguments": call.arguments, "name": call.name}),
        ("response.output_item.done", {"output_index": index, "item": item}),
    ]  # fmt: skip


def _logprob(token: Token) -> dict[str, Any]:
    def one(text: bytes, logprob: float) -> dict[str, Any]:
        return {"token": text.decode("utf-8", "replace"), "logprob": max(logprob, -9999.0), "bytes": list(text)}

    return one(token.raw, token.logprob) | {"top_logprobs": [one(b, p) for b, p in token.alternatives]}


def _given(value: float | None, default: float) -> float:
    return default if value is None else value


def _usage(answer: Answer) -> dict[str, Any]:
    return {
        "input_tokens": answer.prompt_tokens,
        "input_tokens_details": {"cached_tokens": answer.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": answer.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": answer.prompt_tokens + answer.completion_tokens,
    }
