"""The plain reference loop: read the prompt, then one token at a time.

One sequence, one step, no tricks: every faster path is held against this one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from glassgpt.core.errors import ConfigError, FormatError, InputError
from glassgpt.engine.kv_cache import KVCache
from glassgpt.engine.sampling import SamplingSettings, choose, log_probability
from glassgpt.model.gpt import GPT

FinishReason = Literal["stop", "length"]
# The prompt is read in pieces of this many tokens: memory stays bounded, and the grid is always the same.
PREFILL_CHUNK = 512


@dataclass(frozen=True)
class Step:
    """One generated token: its id and the log-probability that the model itself gave it."""

    token: int
    logprob: float


@torch.inference_mode()
def prefill(network: GPT, ids: Sequence[int], cache: KVCache) -> np.ndarray:
    """Read `ids` into the cache; the scores [V] for the token that follows them."""
    tensor = torch.tensor([list(ids)], device=network.embed.weight.device)  # [1, T]
    for piece in tensor.split(PREFILL_CHUNK, dim=1):
        hidden = network.hidden(piece, cache=cache)  # [1, T, C]
    return _scores(network, hidden)


@torch.inference_mode()
def decode_one(network: GPT, token: int, cache: KVCache) -> np.ndarray:
    """Read one more token; the scores [V] for the next."""
    ids = torch.tensor([[token]], device=network.embed.weight.device)  # [1, 1]
    return _scores(network, network.hidden(ids, cache=cache))


def generate_steps(
    network: GPT,
    prompt: Sequence[int],
    logits: np.ndarray,
    cache: KVCache,
    settings: SamplingSettings,
    random: np.random.Generator,
    max_new_tokens: int,
    end_ids: Collection[int],
) -> Iterator[Step]:
    """Up to `max_new_tokens` tokens after `prompt`, whose `logits` and `cache` `prefill` left.

    The last token is in `end_ids` where the model ended by itself.
    """
    seen = list(prompt)
    for count in range(max_new_tokens):
        token = choose(logits, settings, seen, random)
        yield Step(token, log_probability(logits, token))
        if token in end_ids or count == max_new_tokens - 1:
            return
        seen.append(token)
        logits = decode_one(network, token, cache)


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
        self.stops, self.held, self.found = list(stops), "", False

    def push(self, text: str) -> str:
        """More text in; what can be shown out. After a stop string `found` is True and nothing more comes."""
        if self.found:
            return ""
        self.held += text
        places = [at for stop in self.stops if (at := self.held.find(stop)) >= 0]
        if places:
            self.found = True
            shown, self.held = self.held[: min(places)], ""
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


def _scores(network: GPT, hidden: torch.Tensor) -> np.ndarray:
    logits = network.logits(hidden[0, -1]).float().cpu().numpy()  # [V]
    if np.isnan(logits.max()):
        raise FormatError(
            "the model computed NaN instead of scores",
            hint="Its weights are damaged, or do not suit this precision; try --precision float32.",
        )
    return logits


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
