"""Anthropic's `/v1/messages` and `/v1/messages/count_tokens`: fields, and answers whole and streamed."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from glassgpt.assistant.calling import ToolCall, ToolDescription
from glassgpt.server.answer import Answer, Called, Ended, Event, Words
from glassgpt.server.ask import Ask, Turn
from glassgpt.server.chat import Count, chosen
from glassgpt.server.fields import MAX_MESSAGES, MAX_STOPS, MAX_TOOLS, Body, FunctionName, Name, Short, Stop, Text

REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


class CacheControl(Body):
    """Where a client would like a cache; beginnings are found again here without that."""

    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None


class TextBlock(Body):
    """A piece of text."""

    type: Literal["text"]
    text: Text
    cache_control: CacheControl | None = None
    citations: None = None


class ToolUse(Body):
    """A call that the assistant asked for."""

    type: Literal["tool_use"]
    id: Name
    name: FunctionName
    input: dict[str, Any]
    cache_control: CacheControl | None = None


class ToolResult(Body):
    """What a function gave."""

    type: Literal["tool_result"]
    tool_use_id: Name
    content: Text | Annotated[list[TextBlock], Field(max_length=MAX_MESSAGES)] | None = None
    is_error: bool | None = None
    cache_control: CacheControl | None = None


Block = Annotated[TextBlock | ToolUse | ToolResult, Field(discriminator="type")]


class Message(Body):
    """One turn."""

    role: Literal["user", "assistant"]
    content: Text | Annotated[list[Block], Field(min_length=1, max_length=MAX_MESSAGES)]


class CustomTool(Body):
    """A function that may be called."""

    type: Literal["custom"] | None = None
    name: FunctionName
    description: Text | None = None
    input_schema: dict[str, Any]
    strict: bool | None = None
    cache_control: CacheControl | None = None


class ToolChoice(Body):
    """Whether a function is called."""

    type: Literal["auto", "any", "tool", "none"]
    name: FunctionName | None = None
    disable_parallel_tool_use: bool | None = None


class About(Body):
    """Who asks, in the client's words."""

    user_id: Short | None = None


class Disabled(Body):
    """No thinking aloud."""

    type: Literal["disabled"]


class CountRequest(Body):
    """The body of a request to count tokens."""

    model: Name
    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES)]
    system: Text | Annotated[list[TextBlock], Field(max_length=MAX_MESSAGES)] | None = None
    tools: Annotated[list[CustomTool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Disabled | None = None

    def ask(self) -> Ask:
        """The conversation without its wire form; raises Problem where fields are at odds."""
        tools = tuple(ToolDescription(t.name, t.description or "", t.input_schema) for t in self.tools or ())
        choice = self.tool_choice
        wanted = None if choice is None else {"any": "required", "tool": choice.name}.get(choice.type, choice.type)
        system = [Turn("system", _text(self.system))] if self.system else []
        return Ask(turns=(*system, *(turn for m in self.messages for turn in _turns(m))), tools=tools,
                   choice=chosen(tools, wanted))  # fmt: skip


class MessagesRequest(CountRequest):
    """The body of a request."""

    max_tokens: Count
    stop_sequences: Annotated[list[Stop], Field(max_length=MAX_STOPS)] | None = None
    stream: bool | None = None
    temperature: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, le=1 << 31)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    metadata: About | None = None
    service_tier: Literal["auto", "standard_only"] | None = None

    def ask(self) -> Ask:
        """The request without its wire form."""
        from dataclasses import replace

        sampling: dict[str, Any] = {
            name: value for name in ("temperature", "top_k") if (value := getattr(self, name)) is not None
        }
        if self.top_p is not None:
            sampling["top_p"] = max(self.top_p, 1e-9)
        return replace(super().ask(), most=self.max_tokens, sampling=sampling, stops=tuple(self.stop_sequences or ()))


def _text(content: str | list[TextBlock] | None) -> str:
    return content if isinstance(content, str) else "".join(block.text for block in content or ())


def _turns(message: Message) -> list[Turn]:
    """A message may hold results of several functions and text beside them: each is a turn of its own."""
    if isinstance(message.content, str):
        return [Turn(message.role, message.content)]
    found: list[Turn] = []
    text, calls = "", []
    for block in message.content:
        if isinstance(block, TextBlock):
            text += block.text
        elif isinstance(block, ToolUse):
            calls.append(ToolCall(block.id, block.name, json.dumps(block.input, ensure_ascii=False)))
        else:
            found.append(Turn("tool", ("Error: " if block.is_error else "") + _text(block.content)))
    if text or calls:
        found.append(Turn(message.role, text, tuple(calls)))
    return found


class MessageWriter:
    """The answer in this API's form."""

    named, last, error = True, "", "anthropic"

    def __init__(self, request: MessagesRequest, answer: Answer) -> None:
        self.request, self.answer, self.id = request, answer, "msg_" + secrets.token_hex(12)
        self._begun, self._open, self._index = False, False, 0

    def whole(self, events: Iterable[Event]) -> dict[str, Any]:
        """All at once."""
        words, calls, ended = list[str](), [], None
        for event in events:
            if isinstance(event, Words):
                words.append(event.text)
            elif isinstance(event, Called):
                calls.append(_tool_use(event.call, json.loads(event.call.arguments)))
            else:
                ended = event
        assert ended is not None
        text = "".join(words)
        content = [{"type": "text", "text": text, "citations": None}] if text or not calls else []
        return self._message([*content, *calls], ended)

    def push(self, event: Event) -> Iterator[dict[str, Any]]:
        """The values for an event; each has its kind in `type`."""
        if not self._begun:
            self._begun = True
            yield {"type": "message_start", "message": self._message([], None)}
        if isinstance(event, Words):
            if event.text:
                yield from self._words(event.text)
            return
        if self._open:
            yield {"type": "content_block_stop", "index": self._index}
            self._open, self._index = False, self._index + 1
        if isinstance(event, Called):
            at = {"index": self._index}
            yield {"type": "content_block_start", **at, "content_block": _tool_use(event.call, {})}
            yield {"type": "content_block_delta", **at,
                   "delta": {"type": "input_json_delta", "partial_json": event.call.arguments}}  # fmt: skip
            yield {"type": "content_block_stop", **at}
            self._index += 1
        else:
            reason, stop = _reason(event)
            yield {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": stop},
                   "usage": _usage(self.answer)}  # fmt: skip
            yield {"type": "message_stop"}

    def end(self) -> Iterator[dict[str, Any]]:
        """Nothing: the last event has told it."""
        return iter(())

    def _words(self, text: str) -> Iterator[dict[str, Any]]:
        if not self._open:
            self._open = True
            yield {"type": "content_block_start", "index": self._index,
                   "content_block": {"type": "text", "text": "", "citations": None}}  # fmt: skip
        yield {"type": "content_block_delta", "index": self._index, "delta": {"type": "text_delta", "text": text}}

    def _message(self, content: list[Any], ended: Ended | None) -> dict[str, Any]:
        reason, stop = _reason(ended)
        return {"id": self.id, "type": "message", "role": "assistant", "model": self.request.model,
                "content": content, "stop_reason": reason, "stop_sequence": stop,
                "usage": _usage(self.answer)}  # fmt: skip


def _tool_use(call: ToolCall, arguments: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": call.id.replace("call_", "toolu_"), "name": call.name, "input": arguments}


def _reason(ended: Event | None) -> tuple[str | None, str | None]:
    if not isinstance(ended, Ended):
        return None, None
    return ("stop_sequence", ended.stop) if ended.stop is not None else (REASONS[ended.reason], None)


def _usage(answer: Answer) -> dict[str, Any]:
    cached = answer.cached_tokens
    return {"input_tokens": answer.prompt_tokens - cached, "output_tokens": answer.completion_tokens,
            "cache_creation_input_tokens": 0, "cache_read_input_tokens": cached}  # fmt: skip
