"""An assistant: how each message is answered, and from what.

What the files say comes first, word for word. Where they say nothing, a persona decides whether the model may speak
for itself or the answer is "I do not know". Each reply tells which of these it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from glassgpt.assistant.calling import called_text, result_message, step_pieces, tools_text, with_instructions
from glassgpt.assistant.conversation import Chat, Fitted, fit
from glassgpt.assistant.knowledge import LONGEST_QUESTION, Hit, Searches
from glassgpt.assistant.passage import place_text
from glassgpt.assistant.persona import Persona
from glassgpt.assistant.tool import Tool
from glassgpt.assistant.tool_run import ToolResult, run_tool
from glassgpt.core.words import say
from glassgpt.engine.language_model import LanguageModel
from glassgpt.engine.request import Piece
from glassgpt.text.template import Encoded, Message

Kind = Literal["quoted", "summarised", "tool", "model", "unknown", "handover", "refused", "reply"]
MAX_CALLS = 4  # calls that the model may make for one reply
_QUESTION = 80  # characters of a row's question that are shown
_SHOWN = 3  # passages that are summarised, and questions that are offered where nothing answers
# What the model is told.
_FROM_NOTES = {
    "en": "Answer from these notes alone, in one or two sentences. If they do not say it, answer that you do not know."
    "\n\nNotes:\n{notes}",
    "zh": "只根据下面的资料，用一两句话回答。资料里没有的，就回答不知道。\n\n资料：\n{notes}",
}
_NEAR = 0.1  # the least score of a question that is offered


@dataclass(frozen=True)
class Citation:
    """What a reply was taken from: the file, the place in it, the passage's text, its score; of a row, the question."""

    source: str
    place: str
    text: str
    score: float
    question: str | None = None


@dataclass(frozen=True)
class Made:
    """A call that was made: the tool, its arguments as JSON, and what came of it."""

    name: str
    arguments: str
    result: ToolResult


@dataclass(frozen=True)
class Plan:
    """How a message is answered: with `text`, or by the model, which is given `messages`.

    - `sources`: what the text, or the model's notes, were taken from.
    - `calls`: the tools that were called for it.
    - `language`: what the user is told in.
    """

    kind: Kind
    language: str
    text: str = ""
    messages: tuple[Message, ...] = ()
    sources: tuple[Citation, ...] = ()
    calls: tuple[Made, ...] = ()

    def footer(self) -> str:
        """What the reply is and where it comes from, for whoever reads it; "" where the reply says so itself."""
        where = "; ".join(
            dict.fromkeys(f"{one.source}, {place_text(one.place, self.language)}" for one in self.sources)
        )
        if self.kind == "quoted" and self.sources[0].question:
            question = " ".join(self.sources[0].question.split())
            return say("(Quoted from {where}, which answers “{question}”.)", self.language, where=where,
                       question=question if len(question) <= _QUESTION else question[:_QUESTION] + "…")  # fmt: skip
        if self.kind == "quoted":
            return say("(Quoted from {where}.)", self.language, where=where)
        if self.kind == "summarised":
            return say("(Summarised by the model from {where}.)", self.language, where=where)
        if self.kind == "tool" or self.calls:
            names = ", ".join(dict.fromkeys(call.name for call in self.calls))
            told = say("(From the tool {names}.)" if self.kind == "tool" else "(By the model, with the tool {names}.)",
                       self.language, names=names)  # fmt: skip
            failed = [call.result.error.line(self.language) for call in self.calls if call.result.error is not None]
            return "\n".join([told, *failed])
        if self.kind == "model":
            return say("(From the model alone, which may be wrong.)", self.language)
        return ""


class Assistant:
    """A persona with a model and what it knows. Safe to use from several threads.

    Args:
        tools: what it may call, and nothing else; see `persona_tools`.
    """

    def __init__(self, model: LanguageModel, persona: Persona, knowledge: Searches | None = None,
                 tools: Sequence[Tool[..., Any]] = ()) -> None:  # fmt: skip
        self.model, self.persona, self.knowledge, self.tools = model, persona, knowledge, tuple(tools)

    def plan(self, messages: Sequence[Message]) -> Plan:
        """How the last message is to be answered.

        Raises:
            InputError: it is empty, or too long to be searched for.
        """
        persona, message = self.persona, messages[-1]["content"]
        said = [m["content"] for m in reversed(messages) if m["role"] == "user"]
        language = persona.language_of(next((one for one in said if any(map(str.isalpha, one))), message))
        if persona.hands_over(message):
            return Plan("handover", language, persona.handover.say.text(language))
        if (refusal := persona.refuses(message)) is not None:
            return Plan("refused", language, refusal.say.text(language))
        if (reply := persona.reply_to(message)) is not None:
            return Plan("reply", language, reply.say.text(language))
        for tool in self.tools:
            arguments = tool.spot(message) if tool.spot is not None else None
            if arguments is not None:
                return self._from_tool(tool, arguments, language)
        # A text that somebody pastes is no question to a file; where the model may not speak, that is an error.
        asks = len(message) <= LONGEST_QUESTION or persona.only_known
        hits = self.knowledge.search(message, _SHOWN) if self.knowledge is not None and asks else []
        if hits and hits[0].known:
            return self._from_files(messages, language, [hit for hit in hits if hit.known])
        if persona.only_known:
            return Plan("unknown", language, self._unknown(language, hits))
        return Plan("model", language, messages=self._asked(messages, persona.system(language)))

    def _from_files(self, messages: Sequence[Message], language: str, hits: list[Hit]) -> Plan:
        best = hits[0].passage
        if best.answer is not None:
            return Plan("quoted", language, best.answer, sources=(_citation(hits[0]),))
        if not self.persona.summarise:
            return Plan("quoted", language, best.text, sources=(_citation(hits[0]),))
        notes = "\n\n".join(hit.passage.text for hit in hits)
        told = _FROM_NOTES[language].format(notes=notes)
        asked = self._asked(messages[-1:], f"{self.persona.system(language)} {told}")
        return Plan("summarised", language, messages=asked, sources=tuple(map(_citation, hits)))

    def _from_tool(self, tool: Tool[..., Any], arguments: dict[str, Any], language: str) -> Plan:
        given = json.dumps(arguments, ensure_ascii=False)
        result = run_tool(tool, given, language=language)
        text = result.text
        if not result.ok:
            text = " ".join(filter(None, (text, self.persona.handover.say.text(language))))
        ended = result if result.ok else replace(result, error=None)  # the text says it already
        return Plan("tool", language, text, calls=(Made(tool.name, given, ended),))

    def _unknown(self, language: str, hits: Sequence[Hit]) -> str:
        """That it does not know; the hand-over; and what it could answer instead."""
        persona = self.persona
        told = persona.unknown.text(language) or say("I do not know that.", language)
        parts = [" ".join(filter(None, (told, persona.handover.say.text(language))))]
        near = [hit.passage.question for hit in hits if hit.passage.question and hit.score >= _NEAR]
        near = [question for question in near if persona.language_of(question) == language]
        if near:
            parts.append(say("What I can answer that is close to it:", language))
            parts += [f"- {question}" for question in dict.fromkeys(near)]
        return "\n".join(parts)

    @staticmethod
    def _asked(messages: Sequence[Message], system: str) -> tuple[Message, ...]:
        """The conversation for the model; instructions of the client's stand after the persona's."""
        systems = [system, *(m["content"] for m in messages if m["role"] == "system")]
        said = [m for m in messages if m["role"] != "system"]
        return ({"role": "system", "content": "\n\n".join(systems)}, *said)


class AssistantChat(Chat):
    """A conversation with an assistant: `reply.plan` tells how the reply came about.

    Args:
        max_new_tokens, sampling: as `Chat` takes them, for what the model writes.
    """

    def __init__(self, assistant: Assistant, *, max_new_tokens: int | None = None, **sampling: Any) -> None:
        super().__init__(assistant.model, max_new_tokens=max_new_tokens, **sampling)
        self.assistant, self.persona = assistant, assistant.persona.name
        self.plan: Plan | None = None

    def greeting(self, language: str) -> str:
        """The persona's, in its own language or in `language`."""
        persona = self.assistant.persona
        return persona.greeting.text(language if persona.language == "auto" else persona.language)

    def _begin(self, messages: list[Message], beginning: Sequence[int] = ()) -> tuple[Fitted, Iterator[Piece]]:
        fitted = self.fitted(messages)
        assert self.plan is not None
        plan = self.plan
        if not plan.messages:
            return fitted, iter([Piece(plan.text, finish_reason="stop")])
        if beginning or not self._offered(plan):
            return fitted, self._written(fitted.ids, beginning)
        return fitted, self._calling([plan.messages[0], *plan.messages[1 + len(fitted.left_out) :]])

    def fitted(self, messages: list[Message]) -> Fitted:
        """As `Chat.fitted`; afterwards `plan` says how the assistant answers."""
        system: list[Message] = [{"role": "system", "content": self.system}] if self.system is not None else []
        self.plan = plan = self.assistant.plan([*system, *messages])
        if not plan.messages:
            return Fitted([], ())
        tools = self._offered(plan)
        told = with_instructions(plan.messages, tools_text(tools)) if tools else list(plan.messages)
        return fit(_Encode(self.model, told[0]), told[1:], self.model.context_length, self._reserve())

    def _offered(self, plan: Plan) -> Sequence[Tool[..., Any]]:
        """The tools that the model is told of. One whose template knows none was not trained to call any: it would be
        confused."""
        knows = plan.kind == "model" and "tool" in self.template.family.turns
        return self.assistant.tools if knows else ()

    def _calling(self, messages: list[Message]) -> Iterator[Piece]:
        """The model's pieces; what it calls is called, and the result told to it, until it answers."""
        assert self.plan is not None
        language, tools, calls = self.plan.language, {tool.name: tool for tool in self.assistant.tools}, 0
        while True:
            may = list(tools.values()) if calls < MAX_CALLS else []
            step = yield from step_pieces(self.model, messages, may, max_new_tokens=self._reserve(), **self.sampling)
            if step.call is None:
                yield Piece("", finish_reason=step.finish_reason)  # type: ignore[arg-type]
                return
            result = run_tool(tools[step.call.name], step.call.arguments, language=language)
            made = Made(step.call.name, step.call.arguments, result)
            self.plan = replace(self.plan, calls=(*self.plan.calls, made))
            calls += 1
            messages = [*messages, {"role": "assistant", "content": called_text(step.text, [step.call])},
                        result_message(result.text, "tool" in self.template.family.turns)]  # fmt: skip

    def _remember(self, *about: Any) -> None:
        super()._remember(*about)
        assert self.reply is not None
        self.reply.plan = self.plan


@dataclass(frozen=True)
class _Encode:
    """Turns a conversation into ids, with a system message that always stays."""

    model: LanguageModel
    system: Message

    def encode(self, messages: list[Message]) -> Encoded:
        return self.model.template.encode(self.model.tokenizer, [self.system, *messages], add_generation_prompt=True)


def _citation(hit: Hit) -> Citation:
    return Citation(hit.source, hit.passage.place, hit.passage.text, hit.score, hit.passage.question)
