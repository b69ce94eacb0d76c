"""An assistant: how each message is answered, and from what.

What the files say comes first, word for word. Where they say nothing, a persona decides whether the model may speak
for itself or the answer is "I do not know". Each reply tells which of these it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from glassgpt.assistant.conversation import Chat, Fitted, fit
from glassgpt.assistant.knowledge import Hit, Knowledge
from glassgpt.assistant.passage import place_text
from glassgpt.assistant.persona import Persona
from glassgpt.core.words import say
from glassgpt.engine.language_model import LanguageModel
from glassgpt.engine.request import Piece
from glassgpt.text.template import Encoded, Message

Kind = Literal["quoted", "summarised", "model", "unknown", "handover", "refused", "reply"]
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
    """What a reply was taken from: the file, the place in it, and the passage's text and its score."""

    source: str
    place: str
    text: str
    score: float


@dataclass(frozen=True)
class Plan:
    """How a message is answered: with `text`, or by the model, which is given `messages`.

    - `sources`: what the text, or the model's notes, were taken from.
    - `language`: what the user is told in.
    """

    kind: Kind
    language: str
    text: str = ""
    messages: tuple[Message, ...] = ()
    sources: tuple[Citation, ...] = ()

    def footer(self) -> str:
        """What the reply is and where it comes from, for whoever reads it; "" where the reply says so itself."""
        where = "; ".join(
            dict.fromkeys(f"{one.source}, {place_text(one.place, self.language)}" for one in self.sources)
        )
        if self.kind == "quoted":
            return say("(Quoted from {where}.)", self.language, where=where)
        if self.kind == "summarised":
            return say("(Summarised by the model from {where}.)", self.language, where=where)
        if self.kind == "model":
            return say("(From the model alone, which may be wrong.)", self.language)
        return ""


class Assistant:
    """A persona with a model and what it knows. Safe to use from several threads."""

    def __init__(self, model: LanguageModel, persona: Persona, knowledge: Knowledge | None = None) -> None:
        self.model, self.persona, self.knowledge = model, persona, knowledge

    def plan(self, messages: Sequence[Message]) -> Plan:
        """How the last message is to be answered.

        Raises:
            InputError: it is empty, or too long to be searched for.
        """
        persona, message = self.persona, messages[-1]["content"]
        language = persona.language_of(message)
        if persona.hands_over(message):
            return Plan("handover", language, persona.handover.say.text(language))
        if (refusal := persona.refuses(message)) is not None:
            return Plan("refused", language, refusal.say.text(language))
        if (reply := persona.reply_to(message)) is not None:
            return Plan("reply", language, reply.say.text(language))
        hits = self.knowledge.search(message, _SHOWN) if self.knowledge is not None else []
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

    def _begin(self, messages: list[Message]) -> tuple[Fitted, Iterator[Piece]]:
        system: list[Message] = [{"role": "system", "content": self.system}] if self.system is not None else []
        self.plan = plan = self.assistant.plan([*system, *messages])
        if not plan.messages:
            return Fitted([], ()), iter([Piece(plan.text, finish_reason="stop")])
        encode = _Encode(self.model, plan.messages[0])
        fitted = fit(encode, list(plan.messages[1:]), self.model.context_length, self._reserve())
        return fitted, self._written(fitted.ids)

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
    return Citation(hit.source, hit.passage.place, hit.passage.text, hit.score)
