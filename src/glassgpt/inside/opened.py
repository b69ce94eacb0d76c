"""A text opened in a model: read once, then looked at from any side. What a page needs, where a user clicks about.

Kept are the residual streams, queries and keys, which grow with the text and not with its square; patterns and readings
are computed from them for what is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from glassgpt.engine.language_model import LanguageModel
from glassgpt.engine.settings import check_int
from glassgpt.inside.steps import Step, read_steps
from glassgpt.inside.subject import ids_of, network_of, read_seen, texts_of

if TYPE_CHECKING:  # imported by what needs it: a text is opened, and its steps are read, without torch
    from torch import Tensor

    from glassgpt.inside.heads import Summary
    from glassgpt.inside.lens import Lens
    from glassgpt.inside.tuned import TunedLens


@dataclass(frozen=True)
class Reader:
    """A head that reads from a place, and the share of its attention that it gives to it."""

    layer: int
    head: int
    place: int
    weight: float


class _Read(NamedTuple):
    """What one reading keeps: streams and middles [T, C]; queries [1, H, T, D] and keys [1, K, T, D] of each layer."""

    streams: list[Tensor]
    middles: list[Tensor]
    queries: list[Tensor]
    keys: list[Tensor]


class Opened:
    """A text in a model, as ids.

    Attributes:
        ids: the tokens that are looked at.
        tokens: their texts.
    """

    def __init__(self, model: LanguageModel, ids: Sequence[int]) -> None:
        self.model, self.ids = model, ids_of(model, list(ids))
        self.tokens = texts_of(model.tokenizer, self.ids)
        self.layers, self.heads = model.config.n_layer, model.config.n_head

    def steps(self, start: int, top: int = 10) -> list[Step]:
        """What the model thought of the tokens from place `start` on; see `steps.read_steps`."""
        return read_steps(self.model, self.ids, top, start)

    def pattern(self, layer: int, head: int) -> Tensor:
        """How much each place reads from each, [T, T], by one head.

        Raises:
            ConfigError: there is no such layer or head.
        """
        check_int("layer", layer, 0, self.layers - 1)
        check_int("head", head, 0, self.heads - 1)
        q, k = self._read.queries[layer][:, head : head + 1], self._read.keys[layer]
        return self._patterns(layer, q, k[:, [head * k.shape[1] // self.heads]])[0]

    def patterns(self, layer: int, stop: int) -> Tensor:
        """How much each place reads from each by all heads of a layer, [H, T, T], up to a place."""
        return self._patterns(layer, self._read.queries[layer][:, :, :stop], self._read.keys[layer][:, :, :stop])

    def readers(self, place: int, count: int = 8) -> list[Reader]:
        """The heads that read the most from one place when the token at `place` was chosen; what they give to the first
        token, where heads rest, and to the last one before it does not count. Raises ConfigError: there is none."""
        from glassgpt.model.attention import attention_pattern

        check_int("place", place, 1, len(self.ids))
        queries, keys = self._read.queries, self._read.keys
        row, found = place - 1, list[Reader]()
        for layer, (q, k) in enumerate(zip(queries, keys, strict=True)):
            block = network_of(self.model).blocks[layer]
            window = self.model.config.sliding_window if block.sliding else None
            first = max(0, row + 1 - window) if window else 0
            pattern = attention_pattern(q[:, :, row : row + 1], k[:, :, first : row + 1], None,
                                        block.attention.scale)[0, :, 0]  # type: ignore[union-attr,arg-type] # fmt: skip
            skipped = 1 if first == 0 else 0
            if pattern.shape[1] - skipped < 2:
                continue
            weights, places = pattern[:, skipped:-1].max(dim=-1)
            both = enumerate(zip(weights.tolist(), places.tolist(), strict=True))
            found += [Reader(layer, head, first + skipped + at, weight) for head, (weight, at) in both]
        return sorted(found, key=lambda reader: -reader.weight)[:count]

    def prepare(self) -> None:
        """Does now what the first look would wait for."""
        self._read  # noqa: B018 - it is kept

    def summary(self, layer: int, head: int) -> Summary:
        """What that head does in this text."""
        from glassgpt.inside.heads import summarise

        return summarise(self.pattern(layer, head))

    def lens(self, start: int, stop: int, top: int = 5, tuned: TunedLens | None = None) -> Lens:
        """What the layers would say at the places from `start` up to `stop`; see `lens.logit_lens`."""
        from glassgpt.inside.lens import read_streams

        streams = [stream[start:stop] for stream in self.streams]
        return read_streams(self.model, streams, self.ids[start:stop], top, start, tuned)

    @property
    def tuned(self) -> TunedLens | None:
        """The tuned lens that lies beside the model; see `tuned.own_lens`."""
        from glassgpt.inside.tuned import own_lens

        return own_lens(self.model)

    @property
    def streams(self) -> list[Tensor]:
        """The residual stream as it comes into each block and as it leaves the last, [T, C] each."""
        return self._read.streams

    @property
    def middles(self) -> list[Tensor]:
        """The residual stream between attention and MLP of each block, [T, C] each."""
        return self._read.middles

    def _patterns(self, layer: int, q: Tensor, k: Tensor) -> Tensor:
        import torch

        from glassgpt.model.attention import attention_pattern, causal_mask

        block = network_of(self.model).blocks[layer]
        places = torch.arange(q.shape[2])[None]
        window = self.model.config.sliding_window if block.sliding else None
        mask = causal_mask(places, places, window).to(q.device)
        return attention_pattern(q, k, mask, block.attention.scale)[0]  # type: ignore[union-attr,arg-type]

    @cached_property
    def _read(self) -> _Read:
        import torch

        network, kept = network_of(self.model), _Read([], [], [], [])

        def keep(name: str, value: Tensor) -> Tensor:
            if name == "blocks.0.resid_pre" or name.endswith(".resid_post"):
                kept.streams.append(value[0])
            elif name.endswith(".resid_mid"):
                kept.middles.append(value[0])
            elif name.endswith(".attn.q"):
                kept.queries.append(value)
            elif name.endswith(".attn.k"):
                kept.keys.append(value)
            return value

        with torch.no_grad():
            read_seen(network, torch.tensor([self.ids], device=network.embed.weight.device), keep)
        return kept
