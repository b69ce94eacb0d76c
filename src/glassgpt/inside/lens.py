"""How a guess forms, layer by layer: the residual stream after each block, read as if it were the last.

The logit lens (nostalgebraist 2020) takes the network's own last norm and head. The tuned lens (Belrose et al. 2023,
arXiv:2303.08112) puts a trained affine map before them (`tuned`), because early layers speak a language of their own.

Shapes: T positions, C width, V vocabulary; L rows, one before the first block and one after each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from glassgpt.core.errors import InputError
from glassgpt.engine.language_model import LanguageModel
from glassgpt.engine.settings import check_int
from glassgpt.inside.steps import MOST_ALTERNATIVES, Alternative
from glassgpt.inside.subject import AT_ONCE, Prompt, ids_of, network_of, read_seen, token_text
from glassgpt.model.gpt import GPT

if TYPE_CHECKING:
    from glassgpt.inside.tuned import TunedLens


@dataclass(frozen=True)
class Reading:
    """What a layer would say at a position: its likeliest tokens, how open the choice is in bits, how far it is from
    what the network says in the end (Kullback-Leibler divergence of the end from it, in bits), and the probability that
    it gives to the end's likeliest token."""

    alternatives: tuple[Alternative, ...]
    entropy: float
    divergence: float
    of_the_last: float


@dataclass(frozen=True)
class Lens:
    """A text read at every layer: `readings[layer][place]` for the places `start` and on; layer 0 is before the first
    block, the last is the network's own. `tokens` are those places' texts, whose *next* tokens are guessed."""

    tokens: tuple[str, ...]
    start: int
    readings: tuple[tuple[Reading, ...], ...]
    tuned: bool


def logit_lens(model: LanguageModel, prompt: Prompt, top: int = 5, *, start: int = 0, stop: int | None = None,
               tuned: TunedLens | None = None) -> Lens:  # fmt: skip
    """Read the places from `start` up to `stop` of a text at every layer.

    Args:
        top: how many tokens to tell at each.
        tuned: a trained lens, of the same model.

    Raises:
        InputError: the prompt cannot be read, or there is no such place.
        ConfigError: `top` is out of range, or the lens is another model's.
    """
    network, ids = network_of(model), ids_of(model, prompt)
    stop = len(ids) if stop is None else stop
    if not 0 <= start < stop <= len(ids):
        raise InputError("places {start} to {stop} are not among {count} tokens", start=start, stop=stop,
                         count=len(ids), hint="They are counted from 0, and `stop` is not among them.")  # fmt: skip
    with torch.no_grad():
        streams = residual_streams(network, ids[:stop], start)
    return read_streams(model, streams, ids[start:stop], top, start, tuned)


@torch.no_grad()
def read_streams(model: LanguageModel, streams: Sequence[Tensor], ids: Sequence[int], top: int, start: int,
                 tuned: TunedLens | None = None) -> Lens:  # fmt: skip
    """`logit_lens` of streams [T, C] that were computed already, of the places whose `ids` are given; raises
    ConfigError."""
    check_int("top", top, 1, MOST_ALTERNATIVES)
    network = network_of(model)
    if tuned is not None:
        tuned.check(network)
    rows: list[list[Reading]] = [[] for _ in streams]
    for at in range(0, len(ids), AT_ONCE):
        _read(model, [stream[at : at + AT_ONCE] for stream in streams], top, tuned, rows)
    tokens = tuple(token_text(model.tokenizer, id) for id in ids)
    return Lens(tokens, start, tuple(map(tuple, rows)), tuned is not None)


def residual_streams(network: GPT, ids: Sequence[int], start: int = 0) -> list[Tensor]:
    """The residual stream [T, C] from place `start` on: as it comes into the first block, and after each."""
    streams: list[Tensor] = []

    def keep(name: str, value: Tensor) -> Tensor:
        if name == "blocks.0.resid_pre" or name.endswith(".resid_post"):
            streams.append(value[0, start:])
        return value

    read_seen(network, torch.tensor([list(ids)], device=network.embed.weight.device), keep)
    return streams


def lens_scores(network: GPT, stream: Tensor, tuned: TunedLens | None = None, layer: int = -1) -> Tensor:
    """Scores [..., V] of a stream [..., C] after the layer of that number (0: before the first block)."""
    if tuned is not None:
        stream = tuned.translate(stream, layer)
    return network.logits(network.norm(stream))


def _read(model: LanguageModel, streams: Sequence[Tensor], top: int, tuned: TunedLens | None,
          rows: list[list[Reading]]) -> None:  # fmt: skip
    """Add what all layers say at a few places, from their streams [N, C] each. Several layers are read at once, because
    a product with the whole vocabulary reads all its weights, be it for one row or for many."""
    network, texts = network_of(model), dict[int, str]()

    def text(id: int) -> str:
        if id not in texts:
            texts[id] = token_text(model.tokenizer, id)
        return texts[id]

    if tuned is not None:
        streams = [tuned.translate(stream, layer) for layer, stream in enumerate(streams)]
    end = lens_scores(network, streams[-1]).float().log_softmax(-1)  # [N, V]
    ends, last = end.exp(), end.argmax(-1)[None, :, None]
    at_once = max(1, AT_ONCE // len(end))
    for first in range(0, len(streams), at_once):
        own = lens_scores(network, torch.stack(list(streams[first : first + at_once]))).float()
        own = own.log_softmax(-1)  # [L, N, V]
        chances = own.exp()
        entropies = -(chances * own.clamp_min(-1e30)).sum(-1) / _LN2
        divergences = (ends * (end - own).clamp_min(-1e30)).sum(-1) / _LN2
        best, places = chances.topk(min(top, chances.shape[-1]), dim=-1)
        of_last = chances.gather(-1, last.expand(len(own), -1, -1))[..., 0]
        for number, layer in enumerate(rows[first : first + at_once]):
            for values in zip(best[number].tolist(), places[number].tolist(), entropies[number].tolist(),
                              divergences[number].tolist(), of_last[number].tolist(), strict=True):  # fmt: skip
                found = tuple(Alternative(i, text(i), p) for p, i in zip(values[0], values[1], strict=True))
                layer.append(Reading(found, *(max(0.0, number) for number in values[2:])))


_LN2 = 0.6931471805599453
