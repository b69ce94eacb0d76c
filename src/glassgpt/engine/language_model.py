"""`LanguageModel`: a network, its tokenizer and its chat template, ready to write text."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

from glassgpt.core.errors import ConfigError, GlassError, InputError
from glassgpt.engine.request import (
    DEFAULT_NEW_TOKENS,
    Completion,
    FinishReason,
    Piece,
    PieceStream,
    Request,
    StopStrings,
    Timings,
    completion_of,
    plan_length,
    sampling_settings,
)  # fmt: skip
from glassgpt.engine.settings import SamplingSettings
from glassgpt.model.config import ModelConfig
from glassgpt.text.template import Template
from glassgpt.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from glassgpt.engine.constrain import OutputFormat
    from glassgpt.engine.receipt import Receipt
    from glassgpt.model.gpt import GPT

MAX_SEQUENCES = 1024
AT_ONCE = 16  # how many of them are handed in together

__all__ = ["Completion", "FinishReason", "LanguageModel", "Piece", "Timings"]


class Loop(Protocol):
    """What answers requests: the engine, or the reference loop of torch's network."""

    def start(self, requests: Sequence[Request]) -> list[Iterator[Piece]]:
        """The stream of each request; all have one prompt."""
        ...


class LanguageModel:
    """A model that writes. Made by `glassgpt.load`.

    Attributes:
        name: what it was loaded as.
        tokenizer: text to ids and back.
        precision: the type of its weights and of what they are multiplied in.
        chat_template: None where none was recognised; raw generation needs none.
        template_error: what to tell then.
    """

    def __init__(
        self, name: str, network: GPT | Callable[[], GPT], tokenizer: Tokenizer, precision: str,
        chat_template: Template | None = None, *, config: ModelConfig | None = None,
        engine: Callable[[], Loop] | None = None, path: Path | None = None,
    ) -> None:  # fmt: skip
        """From a network of torch's, or what makes it when it is asked for; `engine` makes what writes the text (the
        plain loop with that network unless given), `config` is needed where there is no network yet, and `path` is
        where the model's files lie."""
        self.name, self.tokenizer, self.precision, self.path = name, tokenizer, precision, path
        self.chat_template = chat_template
        self.template_error: GlassError | None = None
        self._network, self._engine = network, engine
        self._loop: Loop | None = None
        self._lock = threading.RLock()
        self.config: ModelConfig = config or self.network.config

    def __repr__(self) -> str:
        return f"LanguageModel({self.name!r}, precision={self.precision!r})"

    @property
    def network(self) -> GPT:
        """The network in torch, to train or to look into. A model that runs in the engine makes it when it is first
        asked for, in float32 where the engine's weights have fewer bits."""
        from glassgpt.model.gpt import GPT

        if not isinstance(self._network, GPT):
            self._network = self._network()
        return self._network

    @property
    def loop(self) -> Loop:
        """What writes the text."""
        with self._lock:  # two threads that ask at once get one engine
            if self._loop is None:
                if self._engine is not None:
                    self._loop = self._engine()
                else:
                    from glassgpt.engine.generate import ReferenceLoop

                    self._loop = ReferenceLoop(self.network, self.tokenizer)
            return self._loop

    @property
    def context_length(self) -> int:
        """The longest sequence, prompt and reply together, in tokens."""
        return self.config.context_length

    @property
    def template(self) -> Template:
        """The chat template; raises the reason where there is none."""
        if self.chat_template is None:
            raise self.template_error or InputError("{name} has no chat template", name=self.name)
        return self.chat_template

    @property
    def end_ids(self) -> frozenset[int]:
        """The token with which the model ends a text; a chat adds those that end a turn."""
        return frozenset(() if self.tokenizer.eos_id is None else (self.tokenizer.eos_id,))

    def encode(self, prompt: str | Sequence[int]) -> list[int]:
        """A prompt as ids: text through the tokenizer (control tokens in it are plain text), ids checked.

        Raises:
            InputError: the prompt is empty, or an id is not in the vocabulary.
        """
        if isinstance(prompt, str):
            ids = self.tokenizer.encode(prompt) if prompt else []
        else:
            ids = list(prompt)
            known = self.config.vocab_size
            wrong = [i for i in ids if not isinstance(i, int) or isinstance(i, bool) or not 0 <= i < known]
            if wrong:
                raise InputError(
                    "token id {id} is not in the vocabulary, which has {size} entries", id=wrong[0], size=known
                )
        if not ids:
            raise InputError("the prompt is empty", hint="Give some text to continue.")
        return ids

    def generate(
        self,
        prompt: str | Sequence[int],
        *,
        max_new_tokens: int | None = None,
        max_length: int | None = None,
        num_return_sequences: int = 1,
        stop: str | Sequence[str] = (),
        format: OutputFormat | None = None,
        timings: Timings | None = None,
        **sampling: Any,
    ) -> list[Completion]:
        """Continue a prompt.

        Args:
            prompt: text, or token ids.
            max_new_tokens: the most tokens to add (256 unless given, or as many as fit).
            max_length: the older setting; counts the prompt too.
            num_return_sequences: how many completions, each with a randomness of its own.
            stop: text (or several) before which a completion ends.
            format: what the text must match: a JSON schema, a regular expression, or choices.
            timings: filled with where the time went.
            sampling: the fields of `SamplingSettings`.

        Raises:
            ConfigError: a setting is out of range, unknown, or asks for several identical completions.
            InputError: the prompt is empty or does not fit.
        """
        settings = _seeded(sampling_settings(sampling))
        if not isinstance(num_return_sequences, int) or not 1 <= num_return_sequences <= MAX_SEQUENCES:
            raise ConfigError(
                "num_return_sequences is {value}; expected a whole number from 1 to {limit}",
                value=num_return_sequences,
                limit=MAX_SEQUENCES,
            )
        if settings.greedy and num_return_sequences > 1:
            raise ConfigError(
                "num_return_sequences is {value}, but without chance all of them are the same",
                hint="Set a temperature above 0, or ask for one.",
                value=num_return_sequences,
            )
        ids = self.encode(prompt)
        limit = plan_length(len(ids), self.context_length, max_new_tokens, max_length, DEFAULT_NEW_TOKENS)
        timings = timings or Timings()
        requests = [
            self._request(ids, limit, settings, stop, self.end_ids, format, index)
            for index in range(num_return_sequences)
        ]
        begin = perf_counter()
        completions: list[Completion] = []
        streams = (stream for some in batched(requests, AT_ONCE) for stream in self.loop.start(some))
        for request, stream in zip(requests, streams, strict=True):
            pieces, first = [], 0.0
            for piece in stream:
                pieces.append(piece)
                first = first or perf_counter()
            if not completions:
                timings.prefill_s, timings.prefill_tokens = first - begin, len(ids)
            timings.first_token_at = timings.first_token_at or first
            timings.decode_s += perf_counter() - first
            timings.decode_tokens += sum(piece.token is not None for piece in pieces) - 1
            completions.append(completion_of(request, pieces))
        return completions

    def stream(self, prompt: str | Sequence[int], **settings: Any) -> Iterator[str]:
        """As `generate`, for one completion, yielding text as it comes; never half a character."""
        for piece in self.stream_pieces(prompt, **settings):
            if piece.text:
                yield piece.text

    def stream_pieces(
        self,
        prompt: str | Sequence[int],
        *,
        max_new_tokens: int | None = None,
        max_length: int | None = None,
        stop: str | Sequence[str] = (),
        format: OutputFormat | None = None,
        end_ids: Collection[int] | None = None,
        **sampling: Any,
    ) -> PieceStream:
        """As `stream`, with each token's id and log-probability; the last piece has the finish reason.

        `end_ids` are the tokens that end the text, the tokenizer's own end of sequence unless given. Settings are
        checked when this is called, not when the first piece is asked for.
        """
        ids = self.encode(prompt)
        limit = plan_length(len(ids), self.context_length, max_new_tokens, max_length, DEFAULT_NEW_TOKENS)
        ends = self.end_ids if end_ids is None else frozenset(end_ids)
        request = self._request(ids, limit, _seeded(sampling_settings(sampling)), stop, ends, format, 0)
        return PieceStream(request, self.loop.start([request])[0])

    def repeat(self, request: Request) -> Completion:
        """What a request gives; the same one gives the same."""
        return completion_of(request, list(self.loop.start([request])[0]))

    def receipt(self, completion: Completion) -> Receipt:
        """What is needed to compute a completion again: see `engine.receipt`; raises InputError where there is none."""
        from glassgpt.engine.receipt import receipt

        return receipt(self, completion)

    @property
    def computed_by(self) -> str:
        """ "engine" or "torch"."""
        return "torch" if self._engine is None else "engine"

    def save(self, folder: str | Path) -> None:
        """Write a checkpoint folder that `glassgpt.load` reads; raises GlassError if the disk refuses it."""
        from glassgpt.formats.checkpoint import save_checkpoint

        save_checkpoint(folder, self.network, self.tokenizer, self.chat_template.name if self.chat_template else "")

    def _request(
        self, ids: list[int], limit: int, settings: SamplingSettings, stop: str | Sequence[str], ends: Collection[int],
        format: OutputFormat | None, index: int,
    ) -> Request:  # fmt: skip
        """A request with a seed and with stop strings that can be used."""
        stops = (stop,) if isinstance(stop, str) else tuple(stop)
        StopStrings(stops)
        return Request(ids, limit, settings, index, frozenset(ends), stops, format)


def batched(items: Sequence[Request], count: int) -> Iterator[Sequence[Request]]:
    """Runs of so many."""
    return (items[at : at + count] for at in range(0, len(items), count))


def _seeded(settings: SamplingSettings) -> SamplingSettings:
    """With a fresh seed where none is given."""
    return settings if settings.seed is not None else replace(settings, seed=secrets.randbits(63))
