"""OpenAI's `/v1/chat/completions`: its fields, and its answers whole and streamed."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from glassgpt.assistant.calling import ToolCall, ToolDescription
from glassgpt.engine.constrain import ANY_OBJECT, OutputFormat
from glassgpt.server.answer import Answer, Called, Ended, Event, Token, Words
from glassgpt.server.ask import Ask, Turn, seed_of
from glassgpt.server.fields import (
    MAX_BIAS,
    MAX_CHOICES,
    MAX_MESSAGES,
    MAX_STOPS,
    MAX_TOOLS,
    Body,
    FunctionName,
    Metadata,
    Name,
    Short,
    Stop,
    Text,
)
from glassgpt.server.problems import Problem

MOST_TOKENS = 1 << 20


class TextPart(Body):
    """A piece of text in a message."""

    type: Literal["text"]
    text: Text


Content = Text | Annotated[list[TextPart], Field(min_length=1, max_length=MAX_MESSAGES)]


class SystemMessage(Body):
    """Instructions."""

    role: Literal["system", "developer"]
    content: Content
    name: Short | None = None


class UserMessage(Body):
    """What a person says."""

    role: Literal["user"]
    content: Content
    name: Short | None = None


class CalledFunction(Body):
    """A function with the arguments it was called with, as JSON."""

    name: FunctionName
    arguments: Text


class CalledTool(Body):
    """A call that the assistant asked for."""

    id: Name
    type: Literal["function"]
    function: CalledFunction


class AssistantMessage(Body):
    """What the model said before."""

    role: Literal["assistant"]
    content: Content | None = None
    name: Short | None = None
    refusal: None = None
    audio: None = None
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None
    tool_calls: Annotated[list[CalledTool], Field(min_length=1, max_length=MAX_TOOLS)] | None = None


class ToolMessage(Body):
    """What a function gave."""

    role: Literal["tool"]
    content: Content
    tool_call_id: Name


Message = Annotated[SystemMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")]


class Function(Body):
    """A function that may be called. `strict` is how it always is here."""

    name: FunctionName
    description: Text | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionTool(Body):
    """A tool of the one kind that there is here."""

    type: Literal["function"]
    function: Function


class ChosenFunction(Body):
    """The name of a function."""

    name: FunctionName


class ChosenTool(Body):
    """The function that must be called."""

    type: Literal["function"]
    function: ChosenFunction


class PlainFormat(Body):
    """Free text."""

    type: Literal["text"]


class ObjectFormat(Body):
    """Any JSON object."""

    type: Literal["json_object"]


class SchemaOf(Body):
    """A named JSON schema."""

    name: FunctionName
    description: Text | None = None
    schema_: dict[str, Any] = Field(alias="schema", default_factory=dict)
    strict: bool | None = None


class SchemaFormat(Body):
    """JSON of a schema."""

    type: Literal["json_schema"]
    json_schema: SchemaOf


ResponseFormat = Annotated[PlainFormat | ObjectFormat | SchemaFormat, Field(discriminator="type")]


class StreamOptions(Body):
    """How a stream is written."""

    include_usage: bool = False
    include_obfuscation: Literal[False] | None = None


Bias = Annotated[
    dict[Annotated[str, StringConstraints(pattern=r"^\d{1,9}$")], Annotated[float, Field(ge=-100, le=100)]],
    Field(max_length=MAX_BIAS),
]
Stops = Stop | Annotated[list[Stop], Field(max_length=MAX_STOPS)]
Seed = Annotated[int, Field(ge=-(1 << 63), lt=1 << 64)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Count = Annotated[int, Field(ge=1, le=MOST_TOKENS)]


class Sampling(Body):
    """How tokens are chosen: OpenAI's fields, and further ones that local servers know."""

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    seed: Seed | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: Bias | None = None
    top_k: Annotated[int, Field(ge=0, le=1 << 31)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100)] | None = None

    def sampling(self) -> dict[str, Any]:
        """As keyword arguments of `SamplingSettings`."""
        given: dict[str, Any] = {
            name: value for name in ("temperature", "top_k", "min_p", "repetition_penalty", "presence_penalty",
                                     "frequency_penalty") if (value := getattr(self, name)) is not None
        }  # fmt: skip
        if self.top_p is not None:
            given["top_p"] = max(self.top_p, 1e-9)  # 0 is the likeliest token alone
        if self.seed is not None:
            given["seed"] = seed_of(self.seed)
        if self.logit_bias:
            given["logit_bias"] = tuple((int(token), value) for token, value in self.logit_bias.items())
        return given


class Harmless(Body):
    """Fields that clients send and that change no answer here."""

    user: Short | None = None
    metadata: Metadata | None = None
    store: Literal[False] | None = None
    service_tier: Literal["auto", "default"] | None = None
    safety_identifier: Short | None = None
    prompt_cache_key: Short | None = None


class ChatRequest(Sampling, Harmless):
    """The body of a request."""

    model: Name
    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES)]
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    stop: Stops | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[FunctionTool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | ChosenTool | None = None
    parallel_tool_calls: bool | None = None
    modalities: Annotated[list[Literal["text"]], Field(max_length=1)] | None = None
    reasoning_effort: Literal["none"] | None = None
    verbosity: Literal["medium"] | None = None

    def ask(self) -> Ask:
        """The request without its wire form; raises Problem where fields are at odds."""
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise Problem(400, "max_tokens and max_completion_tokens are both given", param="max_tokens")
        if self.top_logprobs is not None and not self.logprobs:
            raise Problem(400, "top_logprobs needs logprobs to be true", param="top_logprobs")
        if self.stream_options is not None and not self.stream:
            raise Problem(400, "stream_options needs stream to be true", param="stream_options")
        tools = tuple(_tool(tool.function) for tool in self.tools or ())
        return Ask(
            turns=tuple(map(_turn, self.messages)),
            tools=tools,
            choice=chosen(tools, self.tool_choice.function.name if isinstance(self.tool_choice, ChosenTool)
                          else self.tool_choice),
            most=self.max_completion_tokens or self.max_tokens,
            sampling=self.sampling(),
            stops=stops_of(self.stop),
            format=_format(self.response_format),
            count=self.n or 1,
            alternatives=(self.top_logprobs or 0) if self.logprobs else None,
        )  # fmt: skip


def chosen(tools: tuple[ToolDescription, ...], choice: str | None) -> str:
    """Whether a function is called; raises Problem where it is none of those that there are."""
    names = [tool.name for tool in tools]
    if len(set(names)) < len(names):
        raise Problem(400, "two functions have one name", param="tools")
    choice = choice or "auto"
    if choice == "required" and not tools:
        raise Problem(400, "tool_choice is required, and there are no tools", param="tool_choice")
    if choice not in ("none", "auto", "required", *names):
        raise Problem(400, f"tool_choice names {choice}, which is not among the tools", param="tool_choice")
    return choice


def stops_of(stop: str | list[str] | None) -> tuple[str, ...]:
    """One, several or no stop strings."""
    return () if stop is None else (stop,) if isinstance(stop, str) else tuple(stop)


def text_of(content: str | list[TextPart] | None) -> str:
    """A message's text."""
    return content if isinstance(content, str) else "".join(part.text for part in content or ())


def _turn(message: SystemMessage | UserMessage | AssistantMessage | ToolMessage) -> Turn:
    if isinstance(message, AssistantMessage):
        if message.content is None and not message.tool_calls:
            raise Problem(400, "a message of the assistant has neither content nor tool_calls", param="messages")
        calls = tuple(ToolCall(c.id, c.function.name, checked(c.function.arguments)) for c in message.tool_calls or ())
        return Turn("assistant", text_of(message.content), calls)
    role = "system" if message.role == "developer" else message.role
    return Turn(role, text_of(message.content))


def checked(arguments: str) -> str:
    """The arguments of a call; raises Problem unless they are JSON."""
    try:
        json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        raise Problem(400, "the arguments of a call are not JSON", param="messages") from None
    return arguments


def _tool(function: Function) -> ToolDescription:
    parameters = function.parameters or {"type": "object", "properties": {}}
    return ToolDescription(function.name, function.description or "", parameters)


def _format(given: PlainFormat | ObjectFormat | SchemaFormat | None) -> OutputFormat | None:
    if isinstance(given, SchemaFormat):
        return OutputFormat(json_schema=given.json_schema.schema_ or ANY_OBJECT)
    return OutputFormat(json_schema=ANY_OBJECT) if isinstance(given, ObjectFormat) else None


class ChatWriter:
    """The answer in this API's form."""

    named, last, error = False, "[DONE]", "openai"

    def __init__(self, request: ChatRequest, answer: Answer, fingerprint: str) -> None:
        self.request, self.answer = request, answer
        self._begun: set[int] = set()
        self._tells = bool(request.stream_options and request.stream_options.include_usage)
        self._whole = {"id": "chatcmpl-" + secrets.token_hex(12), "object": "chat.completion",
                       "created": int(time.time()), "model": request.model,
                       "system_fingerprint": fingerprint}  # fmt: skip
        self._frame = self._whole | {"object": "chat.completion.chunk"}

    def whole(self, events: Iterable[Event]) -> dict[str, Any]:
        """All at once."""
        found: dict[int, dict[str, Any]] = {}
        for event in events:
            choice = found.setdefault(event.index, {"text": [], "tokens": [], "calls": [], "reason": None})
            if isinstance(event, Words):
                choice["text"].append(event.text)
                choice["tokens"] += event.tokens
            elif isinstance(event, Called):
                choice["calls"].append(_call(event.call))
            else:
                choice["reason"] = event.reason
        choices = []
        for index, choice in sorted(found.items()):
            text = "".join(choice["text"]) or (None if choice["calls"] else "")
            message = {"role": "assistant", "content": text, "refusal": None, "annotations": list[Any]()}
            if choice["calls"]:
                message["tool_calls"] = choice["calls"]
            choices.append({"index": index, "message": message, "logprobs": self._logprobs(choice["tokens"]),
                            "finish_reason": choice["reason"]})  # fmt: skip
        return self._whole | {"choices": choices, "usage": usage(self.answer)}

    def push(self, event: Event) -> Iterator[dict[str, Any]]:
        """The chunks for an event."""
        if event.index not in self._begun:
            self._begun.add(event.index)
            yield self._chunk(event.index, {"role": "assistant", "content": "", "refusal": None})
        for delta, tokens, reason in _deltas(event):
            yield self._chunk(event.index, delta, tokens, reason)

    def end(self) -> Iterator[dict[str, Any]]:
        """The last chunk tells what it took, to those who want to know."""
        if self._tells:
            yield self._frame | {"choices": [], "usage": usage(self.answer)}

    def _chunk(self, index: int, delta: dict[str, Any], tokens: tuple[Token, ...] = (),
               reason: str | None = None) -> dict[str, Any]:  # fmt: skip
        choice = {"index": index, "delta": delta, "logprobs": self._logprobs(list(tokens)) if tokens else None,
                  "finish_reason": reason}  # fmt: skip
        return self._frame | {"choices": [choice]} | ({"usage": None} if self._tells else {})

    def _logprobs(self, tokens: list[Token]) -> dict[str, Any] | None:
        if not self.request.logprobs:
            return None
        content = [_logprob(t.raw, t.logprob) | {"top_logprobs": [_logprob(b, p) for b, p in t.alternatives]}
                   for t in tokens]  # fmt: skip
        return {"content": content, "refusal": None}


def _deltas(event: Event) -> list[tuple[dict[str, Any], tuple[Token, ...], str | None]]:
    if isinstance(event, Words):
        return [({"content": event.text}, event.tokens, None)]
    if isinstance(event, Called):
        call = _call(event.call)
        opening = call | {"index": 0, "function": call["function"] | {"arguments": ""}}
        rest = {"index": 0, "function": {"arguments": event.call.arguments}}
        return [({"tool_calls": [opening]}, (), None), ({"tool_calls": [rest]}, (), None)]
    assert isinstance(event, Ended)
    return [({}, (), event.reason)]


def _call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _logprob(token: bytes, logprob: float) -> dict[str, Any]:
    return {"token": token.decode("utf-8", "replace"), "logprob": max(logprob, -9999.0), "bytes": list(token)}


def usage(answer: Answer) -> dict[str, Any]:
    """How many tokens it took."""
    return {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "total_tokens": answer.prompt_tokens + answer.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": answer.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0, "accepted_prediction_tokens": 0,
                                      "rejected_prediction_tokens": 0},
    }  # fmt: skip
