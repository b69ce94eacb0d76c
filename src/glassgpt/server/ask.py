"""What any of the APIs asks for, in one form, and how it becomes token ids. No framework and no wire format here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from glassgpt.assistant.calling import (
    CALL,
    ToolCall,
    ToolDescription,
    called_text,
    calls_format,
    result_message,
    tools_text,
    with_instructions,
)
from glassgpt.assistant.conversation import CHAT_SAMPLING
from glassgpt.core.errors import InputError
from glassgpt.engine.constrain import OutputFormat
from glassgpt.engine.language_model import LanguageModel
from glassgpt.engine.request import Request, StopStrings, plan_length, sampling_settings
from glassgpt.text.template import Message

Role = Literal["system", "user", "assistant", "tool"]
REPLY_TOKENS = 1_024  # the most tokens of a reply where the client says nothing
_MASK = (1 << 64) - 1


@dataclass(frozen=True)
class Turn:
    """One message. `calls`: what the assistant asked for; a tool's turn holds a result."""

    role: Role
    text: str
    calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True)
class Ask:
    """A request, whichever API it came by.

    Attributes:
        turns: the conversation; or
        prompt: a text or ids to be continued.
        tools, choice: which functions there are, and whether one is called: "auto", "none", "required" or a name.
        most: the most tokens of the reply.
        usual: the most where the client says nothing.
        sampling: the fields of `SamplingSettings` that were given.
        stops: texts before which the reply ends.
        format: what the reply must match.
        count: how many replies.
        alternatives: how many of the likeliest tokens to tell at each step; None: no log-probabilities at all.
    """

    turns: tuple[Turn, ...] = ()
    prompt: str | tuple[int, ...] = ""
    tools: tuple[ToolDescription, ...] = ()
    choice: str = "auto"
    most: int | None = None
    usual: int = REPLY_TOKENS
    sampling: dict[str, Any] = field(default_factory=dict)
    stops: tuple[str, ...] = ()
    format: OutputFormat | None = None
    count: int = 1
    alternatives: int | None = None


@dataclass(frozen=True)
class Prepared:
    """An `Ask` for one model, ready for its engine.

    `prompts`: the ids that replies follow, `ask.count` of them each. `strips`: whether white space around a reply is no
    part of it.
    """

    model: LanguageModel
    ask: Ask
    requests: tuple[Request, ...]
    prompts: tuple[list[int], ...]
    strips: bool = False

    @property
    def prompt_tokens(self) -> int:
        """How many ids are read."""
        return sum(map(len, self.prompts))


def prepare_all(model: LanguageModel, asks: Sequence[Ask]) -> Prepared:
    """Several requests that differ in nothing but the prompt, as one; raises what `prepare` raises."""
    each = [prepare(model, ask) for ask in asks]
    return replace(each[0], requests=tuple(r for one in each for r in one.requests),
                   prompts=tuple(p for one in each for p in one.prompts))  # fmt: skip


def prepare(model: LanguageModel, ask: Ask) -> Prepared:
    """Turn a request into ids and settings. Takes as long as reading the text does: not for an event loop.

    Raises:
        GlassError: something in it cannot be done, with what and why.
    """
    if ask.turns:
        ids = _conversation_ids(model, ask)
        ends, stops = model.template.stop_ids(model.tokenizer), model.template.stop_strings
        sampling = CHAT_SAMPLING | ask.sampling
    else:
        ids, ends, stops = model.encode(ask.prompt), model.end_ids, ()
        sampling = ask.sampling
    limit = plan_length(len(ids), model.context_length, ask.most, None, ask.usual)
    settings = sampling_settings(sampling)
    settings = replace(settings, seed=_fresh() if settings.seed is None else settings.seed)
    StopStrings(ask.stops)
    all_stops, format = (*ask.stops, *stops), ask.format
    if ask.tools and ask.choice != "none":
        format = calls_format(ask.tools, ask.choice) if ask.choice != "auto" else format
        all_stops += (CALL,) if ask.choice == "auto" and format is None else ()
    request = Request(ids, limit, settings, 0, ends, all_stops, format, ask.alternatives or 0)
    requests = tuple(replace(request, index=number) for number in range(ask.count))
    return Prepared(model, ask, requests, (ids,), bool(ask.turns) and bool(model.template.family.lead))


def seed_of(number: int | None) -> int | None:
    """Any whole number as a seed of ours."""
    return None if number is None else number & _MASK


def _fresh() -> int:
    import secrets

    return secrets.randbits(63)


def _conversation_ids(model: LanguageModel, ask: Ask) -> list[int]:
    template = model.template
    messages = [_message(turn, "tool" in template.family.turns) for turn in ask.turns]
    if ask.tools and ask.choice != "none":
        messages = with_instructions(messages, tools_text(ask.tools))
    messages = _joined(messages, template.family.alternate)
    return template.encode(model.tokenizer, messages, add_generation_prompt=True).ids


def _message(turn: Turn, has_tool_role: bool) -> Message:
    if turn.role == "tool":
        return result_message(called_text(turn.text, turn.calls), has_tool_role)
    return {"role": turn.role, "content": called_text(turn.text, turn.calls)}


def _joined(messages: Sequence[Message], alternate: bool) -> list[Message]:
    """System messages at the beginning become one; where a template wants turns to alternate, neighbours too."""
    found: list[Message] = []
    for message in messages:
        role = message["role"]
        before = found[-1]["role"] if found else ""
        if role == before and (alternate or (role == "system" and len(found) == 1)):
            found[-1] = {"role": role, "content": found[-1]["content"] + "\n\n" + message["content"]}
        else:
            found.append(message)
    if not found:
        raise InputError("the conversation has no messages", hint="Give at least one message of the user.")
    return found
