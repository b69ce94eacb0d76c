"""`LanguageModel`: a network, its tokenizer and its chat template, ready to write text."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from glassgpt.core.errors import ConfigError, GlassError, InputError, nearest
from glassgpt.engine.generate import FinishReason, StopStrings, generate_steps, plan_length, prefill
from glassgpt.engine.kv_cache import KVCache
from glassgpt.engine.sampling import SamplingSettings, generator
from glassgpt.formats.checkpoint import save_checkpoint
from glassgpt.model.gpt import GPT
from glassgpt.text.template import Template
from glassgpt.text.tokenizer import Tokenizer

DEFAULT_NEW_TOKENS = 256
MAX_SEQUENCES = 1024


@dataclass(frozen=True)
class Completion:
    """One finished text.

    - `text`: what was generated, without the prompt.
    - `tokens`: the generated ids, the end token included where the model wrote one.
    - `finish_reason`: "stop" (the model ended, or a stop string came) or "length" (the token limit).
    - `logprobs`: the natural log of the model's own probability of each token.
    - `seed`: repeats this completion, with `index` its number.
    """

    text: str
    tokens: list[int]
    finish_reason: FinishReason
    logprobs: list[float]
    seed: int
    index: int = 0


@dataclass(frozen=True)
class Piece:
    """One step of a stream: new text (possibly ""), and the token it came with (None at the very end)."""

    text: str
    token: int | None = None
    logprob: float | None = None
    finish_reason: FinishReason | None = None


@dataclass
class Timings:
    """Where the time of one `generate` went, in seconds of `time.perf_counter`; handed in empty, filled there."""

    prefill_s: float = 0.0
    prefill_tokens: int = 0
    first_token_at: float = 0.0  # a reading of the clock, not a span
    decode_s: float = 0.0  # from the first token to the last, over all completions
    decode_tokens: int = 0  # the tokens generated in that time


@dataclass
class LanguageModel:
    """A model that writes. Made by `glassgpt.load`.

    `template_error` is what to tell when no chat template could be recognised: raw generation needs none.
    """

    name: str
    network: GPT
    tokenizer: Tokenizer
    precision: str
    chat_template: Template | None = None
    template_error: GlassError | None = field(default=None, repr=False)

    @property
    def context_length(self) -> int:
        """The longest sequence, prompt and reply together, in tokens."""
        return self.network.config.context_length

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
            known = self.network.config.vocab_size
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
            timings: filled with where the time went.
            sampling: the fields of `SamplingSettings`.

        Raises:
            ConfigError: a setting is out of range, unknown, or asks for several identical completions.
            InputError: the prompt is empty or does not fit.
        """
        settings = sampling_settings(sampling)
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
        seed = secrets.randbits(63) if settings.seed is None else settings.seed
        cache, timings = self.new_cache(), timings or Timings()
        begin = perf_counter()
        logits = prefill(self.network, ids, cache)
        timings.prefill_s, timings.prefill_tokens = perf_counter() - begin, len(ids)
        completions = []
        for index in range(num_return_sequences):
            cache.truncate(len(ids))  # each completion starts from the same prompt
            pieces, first = [], 0.0
            for piece in self._pieces(ids, logits, cache, settings, seed, index, limit, stop, self.end_ids):
                pieces.append(piece)
                first = first or perf_counter()
            timings.first_token_at = timings.first_token_at or first
            timings.decode_s += perf_counter() - first
            timings.decode_tokens += sum(piece.token is not None for piece in pieces) - 1
            completions.append(
                Completion(
                    text="".join(piece.text for piece in pieces),
                    tokens=[piece.token for piece in pieces if piece.token is not None],
                    finish_reason=pieces[-1].finish_reason or "length",
                    logprobs=[piece.logprob for piece in pieces if piece.logprob is not None],
                    seed=seed,
                    index=index,
                )
            )
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
        end_ids: Collection[int] | None = None,
        **sampling: Any,
    ) -> Iterator[Piece]:
        """As `stream`, with each token's id and log-probability; the last piece has the finish reason.

        `end_ids` are the tokens that end the text, the tokenizer's own end of sequence unless given. Settings are
        checked when this is called, not when the first piece is asked for.
        """
        ends = self.end_ids if end_ids is None else frozenset(end_ids)
        settings = sampling_settings(sampling)
        ids = self.encode(prompt)
        limit = plan_length(len(ids), self.context_length, max_new_tokens, max_length, DEFAULT_NEW_TOKENS)
        seed = secrets.randbits(63) if settings.seed is None else settings.seed
        StopStrings(_stops(stop))

        def run() -> Iterator[Piece]:
            cache = self.new_cache()
            logits = prefill(self.network, ids, cache)
            yield from self._pieces(ids, logits, cache, settings, seed, 0, limit, stop, ends)

        return run()

    def new_cache(self) -> KVCache:
        """An empty key/value cache for one sequence of this model."""
        weight = self.network.embed.weight
        return KVCache(self.network.config, 1, weight.dtype, weight.device)

    def save(self, folder: str | Path) -> None:
        """Write a checkpoint folder that `glassgpt.load` reads; raises GlassError if the disk refuses it."""
        save_checkpoint(folder, self.network, self.tokenizer, self.chat_template.name if self.chat_template else "")

    def _pieces(
        self,
        ids: list[int],
        logits: Any,
        cache: KVCache,
        settings: SamplingSettings,
        seed: int,
        index: int,
        limit: int,
        stop: str | Sequence[str],
        ends: Collection[int],
    ) -> Iterator[Piece]:
        """The stream of one completion; the last piece alone has a finish reason."""
        decoder, stops = self.tokenizer.stream_decoder(), StopStrings(_stops(stop))
        finish: FinishReason = "length"
        steps = generate_steps(self.network, ids, logits, cache, settings, generator(seed, index), limit, end_ids=ends)
        for step in steps:
            if step.token in ends:
                finish = "stop"
                yield Piece("", step.token, step.logprob)
                break
            yield Piece(stops.push(decoder.push(step.token)), step.token, step.logprob)
            if stops.found:
                finish = "stop"
                break
        rest = stops.push(decoder.finish())
        yield Piece(rest + stops.finish(), finish_reason="stop" if stops.found else finish)


def sampling_settings(given: dict[str, Any]) -> SamplingSettings:
    """Sampling settings from keyword arguments; an unknown one is a ConfigError that names the nearest."""
    known = list(SamplingSettings.__dataclass_fields__)
    for name in given:
        if name not in known:
            near = nearest(name, [*known, "max_new_tokens", "max_length", "num_return_sequences", "stop"])
            raise ConfigError(
                "unknown setting {name!r}",
                hint="Did you mean {near!r}?" if near else "Known are {known}.",
                name=name,
                near=near,
                known=", ".join(known),
            )
    return SamplingSettings(**given)


def _stops(stop: str | Sequence[str]) -> list[str]:
    return [stop] if isinstance(stop, str) else list(stop)
