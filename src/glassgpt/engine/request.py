"""What is asked of a model and what comes back, whichever loop computes it. No torch here."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from glassgpt.core.errors import ConfigError, InputError, nearest
from glassgpt.engine.sampling import SamplingSettings
from glassgpt.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from glassgpt.engine.constrain import OutputFormat

FinishReason = Literal["stop", "length"]
DEFAULT_NEW_TOKENS = 256


@dataclass(frozen=True)
class Request:
    """One text to be continued.

    Attributes:
        prompt: token ids.
        limit: the most tokens to add.
        settings: how tokens are chosen; `seed` is set.
        index: which of several completions with one seed this is.
        ends: the tokens that end the text.
        stops: texts before which it ends.
        format: what the text must match, if anything.
        alternatives: how many of the likeliest tokens to tell at each step, with their log-probabilities.
        pooled: ask for `Piece.pooled`; nothing of the prompt is reused then.
    """

    prompt: list[int]
    limit: int
    settings: SamplingSettings
    index: int = 0
    ends: Collection[int] = ()
    stops: tuple[str, ...] = ()
    format: OutputFormat | None = None
    alternatives: int = 0
    pooled: bool = False


@dataclass(frozen=True)
class Completion:
    """One finished text.

    - `text`: what was generated, without the prompt.
    - `tokens`: the generated ids, the end token included where the model wrote one.
    - `finish_reason`: "stop" (the model ended, or a stop string came) or "length" (the token limit).
    - `logprobs`: the natural log of the model's own probability of each token.
    - `seed`: repeats this completion, with `index` its number.
    - `request`: what was asked, for its receipt (`LanguageModel.receipt`).
    """

    text: str
    tokens: list[int]
    finish_reason: FinishReason
    logprobs: list[float]
    seed: int
    index: int = 0
    request: Request | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Piece:
    """One step of a stream: new text (possibly ""), and the token it came with (None at the very end).

    - `alternatives`: the likeliest tokens of that step and their log-probabilities, where they were asked for.
    - `stop`: with the last piece, the stop string that came, or None.
    - `pooled`: with the first token, the mean over the prompt of what the last layer gives, [C] float32, if asked for.
    """

    text: str
    token: int | None = None
    logprob: float | None = None
    finish_reason: FinishReason | None = None
    alternatives: tuple[tuple[int, float], ...] = ()
    stop: str | None = None
    pooled: Any = field(default=None, compare=False, repr=False)


@dataclass
class Timings:
    """Where the time of one `generate` went, in seconds of `time.perf_counter`; handed in empty, filled there."""

    prefill_s: float = 0.0
    prefill_tokens: int = 0
    first_token_at: float = 0.0  # a reading of the clock, not a span
    decode_s: float = 0.0  # from the first token to the last, over all completions
    decode_tokens: int = 0  # the tokens generated in that time


@dataclass
class Writer:
    """Turns the tokens of one completion into pieces of text, and knows when it is at its end."""

    tokenizer: Tokenizer
    request: Request
    count: int = 0
    finish: FinishReason | None = None
    _decoder: Any = field(init=False, repr=False)
    _stops: StopStrings = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._decoder, self._stops = self.tokenizer.stream_decoder(), StopStrings(self.request.stops)

    def push(self, token: int, logprob: float, alternatives: tuple[tuple[int, float], ...] = ()) -> list[Piece]:
        """The pieces that a token brings; after the last of them `finish` is set."""
        self.count += 1
        if token in self.request.ends:
            return [Piece("", token, logprob, None, alternatives), self._last("stop")]
        pieces = [Piece(self._stops.push(self._decoder.push(token)), token, logprob, None, alternatives)]
        if self._stops.found:
            pieces.append(self._last("stop"))
        elif self.count == self.request.limit:
            pieces.append(self._last("length"))
        return pieces

    def _last(self, reason: FinishReason) -> Piece:
        rest = self._stops.push(self._decoder.finish())
        self.finish = "stop" if self._stops.found else reason
        return Piece(rest + self._stops.finish(), finish_reason=self.finish, stop=self._stops.found)


class PieceStream(Iterator[Piece]):
    """The pieces of one request, remembered as they pass."""

    def __init__(self, request: Request, pieces: Iterator[Piece]) -> None:
        self.request, self._pieces, self._passed = request, pieces, list[Piece]()

    def __next__(self) -> Piece:
        piece = next(self._pieces)
        self._passed.append(piece)
        return piece

    def close(self) -> None:
        """Ends it early; what computes it is told."""
        self._pieces.close()  # type: ignore[attr-defined]

    @property
    def completion(self) -> Completion | None:
        """All of it, once it has come to its end."""
        ended = self._passed and self._passed[-1].finish_reason is not None
        return completion_of(self.request, self._passed) if ended else None


def completion_of(request: Request, pieces: Sequence[Piece]) -> Completion:
    """The whole of a stream that has come to its end."""
    return Completion(
        text="".join(piece.text for piece in pieces),
        tokens=[piece.token for piece in pieces if piece.token is not None],
        finish_reason=pieces[-1].finish_reason or "length",
        logprobs=[piece.logprob for piece in pieces if piece.logprob is not None],
        seed=request.settings.seed or 0,
        index=request.index,
        request=request,
    )


def plan_length(
    prompt_tokens: int, context: int, max_new_tokens: int | None, max_length: int | None, default: int
) -> int:
    """How many tokens may be generated.

    Args:
        max_new_tokens: counts new tokens alone; None: `default`, or as many as fit if that is less.
        max_length: the older setting, which counts the prompt too.

    Raises:
        ConfigError: a setting is out of range, or both are given.
        InputError: the prompt, or the prompt and what is asked for, do not fit the context.
    """
    if max_length is not None:
        if max_new_tokens is not None:
            raise ConfigError(
                "max_new_tokens and max_length are both given", hint="Give one; max_length counts the prompt too."
            )
        if not _whole(max_length) or max_length <= prompt_tokens:
            raise ConfigError(
                "max_length is {value}, and the prompt alone has {prompt} tokens",
                hint="Use max_new_tokens to count new tokens alone; max_length counts the prompt too.",
                value=max_length,
                prompt=prompt_tokens,
            )
        max_new_tokens = max_length - prompt_tokens
    if max_new_tokens is not None and (not _whole(max_new_tokens) or max_new_tokens < 1):
        raise ConfigError(
            "max_new_tokens is {value}; expected a whole number of at least 1",
            hint="Leave it out for the usual length.",
            value=max_new_tokens,
        )
    if prompt_tokens >= context:
        raise InputError(
            "the prompt has {prompt} tokens; the model's context is {context}, and a reply needs room too",
            hint="Shorten the prompt by {over} tokens or more, or use a model with a longer context.",
            prompt=prompt_tokens,
            context=context,
            over=prompt_tokens - context + 1,
        )
    room = context - prompt_tokens
    if max_new_tokens is None:
        return min(default, room)
    if max_new_tokens > room:
        raise InputError(
            "the prompt has {prompt} tokens and {new} more are asked for; the model's context is {context}",
            hint="Ask for at most {room} new tokens, or shorten the prompt.",
            prompt=prompt_tokens,
            new=max_new_tokens,
            context=context,
            room=room,
        )
    return max_new_tokens


class StopStrings:
    """Cuts a stream of text before the first stop string, holding back what may become one."""

    def __init__(self, stops: Sequence[str]) -> None:
        if any(not isinstance(stop, str) or not stop for stop in stops):
            raise ConfigError("a stop string is empty", hint="Leave it out, or give the text at which to stop.")
        self.stops, self.held = list(stops), ""
        self.found: str | None = None

    def push(self, text: str) -> str:
        """More text in; what can be shown out. After a stop string `found` is that one and nothing more comes."""
        if self.found:
            return ""
        self.held += text
        places = [(at, stop) for stop in self.stops if (at := self.held.find(stop)) >= 0]
        if places:
            at, self.found = min(places)
            shown, self.held = self.held[:at], ""
            return shown
        keep = max((_overlap(self.held, stop) for stop in self.stops), default=0)
        shown = self.held[: len(self.held) - keep]
        self.held = self.held[len(self.held) - keep :]
        return shown

    def finish(self) -> str:
        """What was held back, when the text has ended without a stop string."""
        shown, self.held = self.held, ""
        return shown


def _overlap(text: str, stop: str) -> int:
    """The longest end of `text` that begins `stop`."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if stop.startswith(text[-n:])), 0)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


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
