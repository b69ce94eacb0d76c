"""The plain reference loop: read the prompt, then one token at a time.

One sequence, one step, no tricks: every faster path is held against this one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from glassgpt.core.errors import ConfigError, FormatError
from glassgpt.engine.kv_cache import KVCache
from glassgpt.engine.request import Piece, Request, Writer
from glassgpt.engine.sampling import History, SamplingSettings, generator, sample
from glassgpt.model.gpt import GPT
from glassgpt.text.tokenizer import Tokenizer

# The prompt is read in pieces of this many tokens: memory stays bounded, and the grid is always the same.
PREFILL_CHUNK = 512


@dataclass(frozen=True)
class Step:
    """One generated token: its id and the log-probability that the model itself gave it."""

    token: int
    logprob: float


class ReferenceLoop:
    """Answers requests with a network of torch's, one after the other: on every device, and while it is trained."""

    def __init__(self, network: GPT, tokenizer: Tokenizer) -> None:
        self.network, self.tokenizer = network, tokenizer

    def start(self, requests: Sequence[Request]) -> list[Iterator[Piece]]:
        """The stream of each request; nothing is computed before it is asked for. Requests with one prompt read it
        once.

        Raises:
            ConfigError: an output format is asked for, which only the engine knows.
        """
        if any(request.format is not None for request in requests):
            raise ConfigError(
                "output formats need the engine, and this model runs in torch",
                hint="Load it on the CPU: leave out --device.",
            )
        weight = self.network.embed.weight
        cache = KVCache(self.network.config, 1, weight.dtype, weight.device)
        read: dict[str, np.ndarray] = {}

        def run(request: Request) -> Iterator[Piece]:
            if "logits" not in read:
                read["logits"] = prefill(self.network, request.prompt, cache)
            cache.truncate(len(request.prompt))  # each completion starts from the same prompt
            seed, writer = request.settings.seed or 0, Writer(self.tokenizer, request)
            random = generator(seed, request.index)
            for step in generate_steps(self.network, request.prompt, read["logits"], cache, request.settings, random,
                                       request.limit, request.ends):  # fmt: skip
                yield from writer.push(step.token, step.logprob)
                if writer.finish:
                    return

        assert all(request.prompt == requests[0].prompt for request in requests)
        return [run(request) for request in requests]


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
    seen = History(prompt)
    for count in range(max_new_tokens):
        token, logprob = sample(logits, settings, seen, random)
        yield Step(token, logprob)
        if token in end_ids or count == max_new_tokens - 1:
            return
        seen.append(token)
        logits = decode_one(network, token, cache)


def _scores(network: GPT, hidden: torch.Tensor) -> np.ndarray:
    logits = network.logits(hidden[0, -1]).float().cpu().numpy()  # [V]
    if np.isnan(logits.max()):
        raise FormatError(
            "the model computed NaN instead of scores",
            hint="Its weights are damaged, or do not suit this precision; try --precision float32.",
        )
    return logits
