"""Rows to training examples: token ids, and which of them are trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from glassgpt.core.errors import GlassError, InputError
from glassgpt.core.words import Sentence
from glassgpt.data.rows import Row
from glassgpt.text.template import Template
from glassgpt.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Example:
    """One example as ids. `loss_mask[i]` is True where `ids[i]` is learned, predicted from what stands before it.

    `source` and `number` are those of its row; `truncated` counts tokens that were cut off.
    """

    ids: list[int]
    loss_mask: list[bool]
    source: str
    number: int
    truncated: int = 0

    @property
    def trained(self) -> int:
        """How many tokens are learned. The first of a sequence is never: nothing stands before it."""
        return sum(self.loss_mask[1:])


@dataclass(frozen=True, slots=True)
class Refused:
    """A row that makes no example, and why. `tokens` is how long it would have been, where that is known."""

    source: str
    number: int
    reason: Sentence
    tokens: int = 0


def make_example(
    row: Row,
    tokenizer: Tokenizer,
    template: Template | None,
    context: int,
    *,
    too_long: Literal["drop", "cut"] = "drop",
    last: Literal["chosen", "rejected"] = "chosen",
) -> Example | Refused:
    """The example that a row makes for a model with this tokenizer, template and context.

    A text is learned whole, its end token too. Of a conversation the assistant's words are learned, and the tokens
    that end them. What has more than `context` tokens is refused, or with `too_long="cut"` shortened: a text at its
    end, a conversation by its first turns (its system message stays), never inside an answer.

    Raises:
        InputError: a conversation without a template.
    """
    if row.kind == "text":
        return _text_example(row, tokenizer, context, too_long)
    if template is None:
        raise InputError(
            "the rows are conversations and the model has no chat template",
            hint="Choose one with --template NAME; plain works with every tokenizer.",
        )
    messages = row.messages(last)
    first = 1 if messages[0]["role"] == "system" else 0
    whole = 0
    while True:
        try:
            encoded = template.encode(tokenizer, messages)
        except GlassError as error:
            return Refused(row.source, row.number, error.sentence())
        whole = whole or len(encoded.ids)
        if len(encoded.ids) <= context:
            return Example(encoded.ids, encoded.loss_mask, row.source, row.number, whole - len(encoded.ids))
        # Without its oldest exchange: up to the next message of the user.
        later = [i for i in range(first + 1, len(messages)) if messages[i]["role"] == "user"]
        if too_long == "drop" or not later:
            return _too_long(row, whole, context)
        messages = messages[:first] + messages[later[0] :]


def _text_example(row: Row, tokenizer: Tokenizer, context: int, too_long: str) -> Example | Refused:
    try:
        ids = tokenizer.encode(row.texts[0])
    except GlassError as error:
        return Refused(row.source, row.number, error.sentence())
    begin = tokenizer.add_bos and tokenizer.bos_id is not None
    ids = ids if tokenizer.eos_id is None else [*ids, tokenizer.eos_id]
    mask = [not begin, *([True] * (len(ids) - 1))]
    if len(ids) > context and too_long == "drop":
        return _too_long(row, len(ids), context)
    return Example(ids[:context], mask[:context], row.source, row.number, max(0, len(ids) - context))


def _too_long(row: Row, tokens: int, context: int) -> Refused:
    reason = Sentence("{tokens} tokens do not fit into the context of {context}", tokens=tokens, context=context)
    return Refused(row.source, row.number, reason, tokens)
