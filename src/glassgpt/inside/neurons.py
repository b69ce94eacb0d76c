"""What a neuron of an MLP responds to: the tokens of a corpus at which it is most active."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from glassgpt.core.errors import ConfigError
from glassgpt.engine.language_model import LanguageModel
from glassgpt.engine.settings import check_int
from glassgpt.inside.subject import network_of, texts_of

_AROUND = 8  # tokens shown before the one that is meant
_MOST_TOKENS = 512  # of a text that are read at once


@dataclass(frozen=True)
class Activation:
    """A token at which a neuron is active: its text, the tokens before it, the number of the text, its place there, and
    how active the neuron is (its value before the down projection)."""

    token: str
    before: tuple[str, ...]
    text: int
    position: int
    value: float


@dataclass(frozen=True)
class Neuron:
    """A neuron's tokens, the most active first; its mean over `tokens` tokens, and the share at which it is above 0."""

    layer: int
    number: int
    top: tuple[Activation, ...]
    mean: float
    active: float
    tokens: int


def top_tokens(model: LanguageModel, layer: int, neuron: int, texts: Iterable[str], top: int = 20) -> Neuron:
    """The tokens of some texts at which a neuron is most active. Texts are read one by one, long ones in pieces.

    Raises:
        ConfigError: there is no such neuron, `top` is out of range, or there is no text.
    """
    network = network_of(model)
    check_int("layer", layer, 0, network.config.n_layer - 1)
    check_int("neuron", neuron, 0, network.config.mlp_dim - 1)
    check_int("top", top, 1, 1000)
    wanted = f"blocks.{layer}.mlp.hidden"
    size = min(_MOST_TOKENS, network.config.context_length)
    best: list[tuple[float, int, int, tuple[int, ...]]] = []
    total, count, active = 0.0, 0, 0
    found: list[Tensor] = []

    def keep(name: str, value: Tensor) -> Tensor:
        if name == wanted:
            found.append(value[0, :, neuron])
        return value

    for number, text in enumerate(texts):
        ids = model.encode(text) if text else []
        for at in range(0, len(ids), size):
            piece = ids[at : at + size]
            found.clear()
            with torch.no_grad():
                network.hidden(torch.tensor([piece], device=network.embed.weight.device), probe=keep)
            values = found[0].float()
            total, count = total + float(values.sum()), count + len(piece)
            active += int((values > 0).sum())
            for place in values.topk(min(top, len(piece))).indices.tolist():
                own = (float(values[place]), -number, -(at + place), tuple(ids[max(0, at + place - _AROUND) :
                                                                               at + place + 1]))  # fmt: skip
                heapq.heappush(best, own) if len(best) < top else heapq.heappushpop(best, own)
    if not count:
        raise ConfigError("there is no text to look through", hint="Give at least one text.")
    rows = []
    for value, number, place, around in sorted(best, reverse=True):
        *before, token = texts_of(model.tokenizer, around)
        rows.append(Activation(token, tuple(before), -number, -place, value))
    return Neuron(layer, neuron, tuple(rows), total / count, active / count, count)
