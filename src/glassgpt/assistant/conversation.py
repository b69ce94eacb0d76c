"""`Chat`: a conversation with memory, for the command line, the server and the page alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from glassgpt.core.errors import InputError
from glassgpt.engine.language_model import LanguageModel
from glassgpt.engine.request import Completion, Piece, sampling_settings
from glassgpt.text.template import Encoded, Message

# Small models wander at higher temperatures and lose the thread under a repetition penalty; compared in docs/log.md.
CHAT_SAMPLING: dict[str, Any] = {"temperature": 0.2, "top_p": 0.9}
DEFAULT_REPLY_TOKENS = 512


class Reply(str):
    """The assistant's text, with what a user has a right to know about it.

    - `finish_reason`: "stop"; "length" when the token limit cut it off; "interrupted" when the user did.
    - `left_out`: the earlier messages that no longer fitted the model's context when it was written.
    - `tokens`: how many were generated; `read`: how many the prompt has.
    - `completion`: how it was generated, for `model.receipt`; None where it did not come to its end.
    - `plan`: of an assistant's reply, how it came about (`assistant.Plan`).
    """

    finish_reason: str
    left_out: tuple[Message, ...]
    tokens: int
    read: int
    completion: Completion | None
    plan: Any = None

    def __new__(
        cls, text: str, finish_reason: str, left_out: tuple[Message, ...] = (), tokens: int = 0,
        completion: Completion | None = None, read: int = 0,
    ) -> Reply:  # fmt: skip
        reply = super().__new__(cls, text)
        reply.finish_reason, reply.left_out, reply.tokens = finish_reason, left_out, tokens
        reply.completion, reply.read = completion, read
        return reply


@dataclass(frozen=True)
class Fitted:
    """A conversation as it goes to the model: its ids, and the messages that had to stay outside."""

    ids: list[int]
    left_out: tuple[Message, ...]


class Chat:
    """A conversation: what was said is remembered and sent along.

    Args:
        model: from `glassgpt.load`; it needs a chat template.
        system: instructions that stand before the conversation; None: the model's own default.
        max_new_tokens: the most tokens of one reply (512, or a quarter of a short context, unless given).
        sampling: the fields of `SamplingSettings`; what is not given follows `CHAT_SAMPLING`.

    Raises:
        InputError: the model has no chat template that is known.
        ConfigError: a sampling setting is out of range or unknown.
    """

    def __init__(
        self, model: LanguageModel, system: str | None = None, *, max_new_tokens: int | None = None, **sampling: Any
    ) -> None:
        self.model, self.template = model, model.template
        self.sampling = CHAT_SAMPLING | sampling
        sampling_settings(self.sampling)
        self.max_new_tokens = max_new_tokens
        self.messages: list[Message] = []
        self.reply: Reply | None = None
        self.set_system(system)

    def set_system(self, system: str | None) -> None:
        """Replace the instructions; the conversation stays."""
        if system is not None and (not isinstance(system, str) or not system.strip()):
            raise InputError("the system message is empty", hint="Give some instructions, or leave it out.")
        self.system = system

    persona = ""  # the name of an assistant's

    def greeting(self, language: str) -> str:
        """What is said before the first message; "" for nothing."""
        return ""

    def reset(self) -> None:
        """Forget the conversation; the instructions stay."""
        self.messages, self.reply = [], None

    def say(self, text: str) -> Reply:
        """Say something and wait for the whole reply; raises InputError if the text is empty or too long alone."""
        for _ in self.stream(text):
            pass
        assert self.reply is not None
        return self.reply

    def stream(self, text: str, beginning: Sequence[int] = ()) -> Iterator[str]:
        """Say something; yields the reply as it is written. Afterwards `reply` holds the whole. `beginning`: tokens
        that the reply shall begin with, where the model writes it.

        A stream that is closed early (or interrupted by Ctrl-C) keeps what was written so far, marked as such.
        """
        if not isinstance(text, str) or not text.strip():
            raise InputError("the message is empty", hint="Type something to say.")
        question: Message = {"role": "user", "content": text}
        fitted, pieces = self._begin([*self.messages, question], beginning)
        return self._run(question, fitted, pieces)

    def _begin(self, messages: list[Message], beginning: Sequence[int] = ()) -> tuple[Fitted, Iterator[Piece]]:
        """What of the conversation goes to the model, and the reply's pieces."""
        fitted = self.fitted(messages)
        return fitted, self._written(fitted.ids, beginning)

    def fitted(self, messages: list[Message]) -> Fitted:
        """What the model is given to answer the last of these messages; no ids where it is not asked. Raises
        InputError."""
        return fit(self, messages, self.model.context_length, self._reserve())

    def _written(self, ids: list[int], beginning: Sequence[int] = ()) -> Iterator[Piece]:
        pieces = self.model.stream_pieces(
            [*ids, *beginning],
            max_new_tokens=max(1, self._reserve() - len(beginning)),
            stop=self.template.stop_strings,
            end_ids=self.template.stop_ids(self.model.tokenizer),
            **self.sampling,
        )
        return _after(self.model, beginning, pieces) if beginning else pieces

    def encode(self, messages: list[Message]) -> Encoded:
        """Messages as the ids of a prompt, the system message included."""
        system: list[Message] = [{"role": "system", "content": self.system}] if self.system is not None else []
        return self.template.encode(self.model.tokenizer, system + messages, add_generation_prompt=True)

    def _run(self, question: Message, fitted: Fitted, pieces: Iterator[Piece]) -> Iterator[str]:
        written, count, finish = "", 0, "interrupted"
        try:
            for piece in pieces:
                count += piece.token is not None
                written += piece.text
                finish = piece.finish_reason or finish
                if piece.text:
                    yield piece.text
        except Exception:
            raise  # a failure leaves the conversation as it was, so that the same can be said again
        except BaseException:  # the user stopped it (Ctrl-C, or a closed stream)
            self._remember(question, written, finish, fitted, count, None)
            raise
        self._remember(question, written, finish, fitted, count, getattr(pieces, "completion", None))

    def _remember(
        self, question: Message, written: str, finish: str, fitted: Fitted, count: int, completion: Completion | None
    ) -> None:
        self.reply = Reply(self.template.reply(written), finish, fitted.left_out, count, completion,
                           len(fitted.ids))  # fmt: skip
        self.messages += [question, {"role": "assistant", "content": str(self.reply)}]

    def _reserve(self) -> int:
        """Room kept for the reply, and its limit: what was asked for, or a share of a short context."""
        return (
            self.max_new_tokens
            if self.max_new_tokens is not None
            else min(DEFAULT_REPLY_TOKENS, self.model.context_length // 4)
        )


def _after(model: LanguageModel, beginning: Sequence[int], pieces: Iterator[Piece]) -> Iterator[Piece]:
    """Tokens that were given, as if they had been written, and what was written after them. A character that begins in
    the ones and ends in the others is put together."""
    decoder = model.tokenizer.stream_decoder()
    for id in beginning:
        yield Piece(decoder.push(id), id)
    for piece in pieces:
        if decoder.unfinished and piece.token is not None:
            piece = replace(piece, text=decoder.push(piece.token))
        yield piece


class _Encoder(Protocol):
    def encode(self, messages: list[Message]) -> Encoded: ...


def fit(chat: _Encoder, messages: list[Message], context: int, reserve: int) -> Fitted:
    """Leave out the oldest turns until the rest and a reply of `reserve` tokens fit into `context`.

    Raises:
        InputError: the last message does not fit even alone.
    """
    start = 0
    while True:
        ids = chat.encode(messages[start:]).ids
        if len(ids) + reserve <= context:
            return Fitted(ids, tuple(messages[:start]))
        # Turns go whole, a question with its answer, so that the rest still begins with the user.
        later = [i for i in range(start + 1, len(messages)) if messages[i]["role"] == "user"]
        if not later:
            raise InputError(
                "the message has {given} tokens with its frame; {room} fit beside a reply of {reserve}",
                hint="Shorten it, or use a model with a longer context (this one: {context}).",
                given=len(ids),
                room=max(0, context - reserve),
                reserve=reserve,
                context=context,
            )
        start = later[0]
