"""Answers held against the wanted ones: word for word, and by the characters that they share."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

from glassgpt.core.errors import GlassError
from glassgpt.data.rows import Row
from glassgpt.engine.language_model import LanguageModel


@dataclass(frozen=True)
class Answer:
    """What a model said to a question, and what it should have said."""

    question: str
    wanted: str
    given: str

    @property
    def exact(self) -> bool:
        """Whether both are the same but for white space."""
        return self.given.split() == self.wanted.split()

    @property
    def overlap(self) -> float:
        """How much of both is the same, from 0 to 1."""
        return character_overlap(self.given, self.wanted)


def character_overlap(one: str, other: str) -> float:
    """The share of pairs of neighbouring characters that two texts have in common (Dice 1945, on bigrams); white space
    does not count. It needs no words, so Chinese and English are measured alike."""
    a, b = (Counter(pairwise(t)) for t in ("".join(one.split()), "".join(other.split())))
    total = a.total() + b.total()
    return 2 * (a & b).total() / total if total else float(one.split() == other.split())


def answer_row(model: LanguageModel, row: Row, max_new_tokens: int = 160) -> Answer:
    """The model's likeliest answer to the last question of a conversation. One that does not fit into the model's
    context is answered with nothing.

    Raises:
        GlassError: the model has no chat template.
    """
    template, messages = model.template, row.messages()
    ends = template.stop_ids(model.tokenizer)
    try:
        prompt = template.encode(model.tokenizer, messages[:-1], add_generation_prompt=True).ids
        room = min(max_new_tokens, model.context_length - len(prompt))
        pieces = model.stream_pieces(
            prompt, max_new_tokens=room, temperature=0, end_ids=ends, stop=template.stop_strings
        )
        given = template.reply("".join(piece.text for piece in pieces))
    except GlassError:
        given = ""
    return Answer(messages[-2]["content"] if len(messages) > 1 else "", messages[-1]["content"], given)
