"""GPT: the decoder-only Transformer, in every family that `ModelConfig` can express.

Token ids become vectors; each block lets every position read from the ones before it (attention) and then
think about what it read (MLP), both added to a running sum, the residual stream; a last norm and the head turn
each vector into a score for every token that could come next.

Shapes: B sequences, T positions, C width, H query heads, K key/value heads, D head width, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glassgpt.core.errors import InputError
from glassgpt.model.attention import CausalSelfAttention, LayerCache, causal_mask
from glassgpt.model.config import ModelConfig
from glassgpt.model.layers import MLP, Dropout, GatedMLP, make_mlp, make_norm
from glassgpt.model.ngrams import NgramEmbedding
from glassgpt.model.positions import LearnedPositions, Rotary, sinusoidal_table
from glassgpt.model.probe import Probe, seen


class Cache(LayerCache, Protocol):
    """A key/value cache as the network sees it: handed in, never made here."""

    @property
    def length(self) -> int:
        """How many positions are already in it."""
        ...

    def remember(self, ids: Tensor, count: int) -> Tensor:
        """Note the new ids [B, T]; gives the `count` ids before them, [B, count], -1 where there is none."""
        ...


class Block(nn.Module):
    """Attention and MLP, each behind a norm and added to the residual stream."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.sliding, self.place = layer in config.sliding_layers, f"blocks.{layer}."
        self.mlp_place = self.place + "mlp."
        self.attention_norm = make_norm(config.norm, config.n_embd, config.norm_eps)
        self.attention = CausalSelfAttention(config, layer)
        self.mlp_norm = make_norm(config.norm, config.n_embd, config.norm_eps)
        self.mlp = make_mlp(config.mlp, config.n_embd, config.mlp_dim, config.mlp_bias)
        post = config.post_norms
        self.attention_post_norm = make_norm(config.norm, config.n_embd, config.norm_eps) if post else nn.Identity()
        self.mlp_post_norm = make_norm(config.norm, config.n_embd, config.norm_eps) if post else nn.Identity()
        self.dropout = Dropout(config.dropout)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        rope: tuple[Tensor, Tensor] | None,
        cache: LayerCache | None,
        stretches: Sequence[int] = (),
        probe: Probe | None = None,
    ) -> Tensor:
        """`x`, the residual stream [B, T, C], to the same shape; the other arguments are attention's."""
        place = self.place
        x = seen(probe, place, "resid_pre", x)
        attention_out = self.attention(self.attention_norm(x), mask, rope, cache, stretches, probe)
        attention_out = seen(probe, place, "attn_out", self.attention_post_norm(attention_out))
        x = seen(probe, place, "resid_mid", x + self.dropout(attention_out))
        mlp_out = self.mlp(self.mlp_norm(x), probe, self.mlp_place)
        mlp_out = seen(probe, place, "mlp_out", self.mlp_post_norm(mlp_out))
        return seen(probe, place, "resid_post", x + self.dropout(mlp_out))


class GPT(nn.Module):
    """A decoder-only Transformer (Radford et al. 2018, 2019, and its descendants)."""

    positions_table: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        # Not nn.Embedding(V, C), whose own filling imports torch's compiler when it happens on `meta`: 1.5 s.
        self.embed = nn.Embedding.from_pretrained(torch.empty(config.vocab_size, config.n_embd), freeze=False)
        self.ngrams = None
        if config.ngrams > 1:
            self.ngrams = NgramEmbedding(config.vocab_size, config.ngrams, config.ngram_buckets, config.n_embd)
        if config.positions == "learned":
            self.positions = LearnedPositions(config.context_length, config.n_embd)
        elif config.positions == "sinusoidal":
            with torch.device("cpu"):
                table = sinusoidal_table(config.context_length, config.n_embd)
            self.register_buffer("positions_table", table, persistent=False)
        elif config.positions == "rotary":
            self.rope = Rotary(config.head_dim, config.rope_theta, config.rope_scaling)
            # Layers with a window turn by their own base, never stretched: they see no far position.
            local = config.rope_local_theta
            self.rope_local = Rotary(config.head_dim, local) if local is not None else self.rope
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.n_layer))
        self.norm = make_norm(config.norm, config.n_embd, config.norm_eps)
        self.head = None if config.tie_embeddings else nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.reset_parameters()

    @classmethod
    def empty(cls, config: ModelConfig) -> GPT:
        """A network without storage, for `load_state_dict(..., assign=True)`: nothing is filled twice."""
        with torch.device("meta"):
            return cls(config)

    def reset_parameters(self) -> None:
        """GPT-2's start: normal with deviation 0.02, projections into the residual stream smaller with depth."""
        if self.embed.weight.is_meta:
            return  # no storage to fill yet
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding | LearnedPositions):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        for module in self.modules():
            if isinstance(module, CausalSelfAttention | MLP | GatedMLP):
                last = module.out_proj if isinstance(module, CausalSelfAttention) else module.down
                nn.init.normal_(last.weight, std=0.02 / math.sqrt(2 * self.config.n_layer))

    def forward(
        self, ids: Tensor, keep: Tensor | None = None, cache: Cache | None = None, segments: Tensor | None = None,
        probe: Probe | None = None,
    ) -> Tensor:  # fmt: skip
        """Scores for the next token at every position.

        Args:
            ids: token ids [B, T]; with a cache, those that follow what it holds.
            keep: [B, S], False on padding (left or right), over the cached and the new positions.
            cache: keys and values of earlier positions; it grows by T.
            segments: [B, T], a number for each of the documents packed into a sequence (equal numbers stand
                together). Each is read as if it were alone. Not together with `keep` or a cache.
            probe: is shown every value on its way, and may replace it (`glassgpt.inside.trace` lists the names).

        Returns:
            logits [B, T, V].

        Raises:
            InputError: the sequence is empty or longer than the model's context.
        """
        return seen(probe, "", "logits", self.logits(self.hidden(ids, keep, cache, segments, probe)))

    def hidden(
        self, ids: Tensor, keep: Tensor | None = None, cache: Cache | None = None, segments: Tensor | None = None,
        probe: Probe | None = None,
    ) -> Tensor:  # fmt: skip
        """The residual stream after the last norm, [B, T, C]; arguments and errors as in `forward`."""
        config, length = self.config, ids.shape[1]
        start = cache.length if cache is not None else 0
        self._check_length(start + length, length)
        places = torch.arange(start + length, device=ids.device)[None]  # [1, S]
        positions = places
        if keep is not None:  # a token's position counts real tokens only, so that padding on the left changes nothing
            positions = (keep.long().cumsum(-1) - 1).clamp(min=0)  # [B, S]
        elif segments is not None:
            positions = places - _segment_starts(segments)
        positions = positions[:, start:]  # [B or 1, T]

        x = self.embed(ids) * config.embed_scale  # [B, T, C]
        if self.ngrams is not None:
            before = None
            if cache is not None:
                real = ids if keep is None else torch.where(keep[:, start:], ids, -1)
                before = cache.remember(real, config.ngrams - 1)
            x = x + self.ngrams(ids, before, keep, segments)
        x = seen(probe, "", "embed", x)
        rope = rope_local = None
        if config.positions == "learned":
            x = x + self.positions(positions)
        elif config.positions == "sinusoidal":
            x = x + self.positions_table[positions].to(x.dtype)
        elif config.positions == "rotary":
            rope = self.rope(positions, x.dtype)  # [B or 1, 1, T, D] each
            rope_local = self.rope_local(positions, x.dtype) if self.rope_local is not self.rope else rope

        mask = window_mask = None
        # A sequence from its beginning has the plain causal mask, which the fused kernel knows without being shown it.
        plain = start == 0 and length > 1 and keep is None and probe is None
        stretches = _stretches(ids, segments) if plain else []
        if (length > 1 and not stretches) or keep is not None:  # one new token sees all that came before: no mask
            mask = causal_mask(places[:, start:], places, keep=keep, segments=segments)  # [B or 1, 1, T, S]
        within = stretches if stretches and max(stretches) <= (config.sliding_window or 0) else []
        if config.sliding_layers and not within:
            window_mask = causal_mask(places[:, start:], places, config.sliding_window, keep, segments)

        x = self.dropout(x)
        for block in self.blocks:
            if block.sliding:
                x = block(x, window_mask, rope_local, cache, within, probe)
            else:
                x = block(x, mask, rope, cache, stretches, probe)
        return seen(probe, "", "final_norm", self.norm(x))

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., C] after the last norm to scores [..., V]."""
        logits = F.linear(hidden, self.embed.weight) if self.head is None else self.head(hidden)
        cap = self.config.logit_softcap
        return logits if cap is None else cap * torch.tanh(logits / cap)

    def count_parameters(self) -> int:
        """How many numbers are trained; tied weights count once."""
        return sum(p.numel() for p in self.parameters())

    def _check_length(self, total: int, new: int) -> None:
        if new < 1:
            raise InputError("there are no tokens to read", hint="Give at least one token.")
        if total > self.config.context_length:
            raise InputError(
                "{total} tokens do not fit: the model's context is {limit}",
                hint="Shorten the input, or use a model with a longer context.",
                total=total,
                limit=self.config.context_length,
            )


def _stretches(ids: Tensor, segments: Tensor | None) -> list[int]:
    """The lengths of the documents that lie one after the other in a sequence; empty where they are not the same in
    every sequence (a mask tells them apart then) or torch's compiler looks on, for which they would be constants."""
    if segments is None:
        return [ids.shape[1]]
    if len(ids) > 1 or torch.compiler.is_compiling():
        return []
    return torch.unique_consecutive(segments[0], return_counts=True)[1].tolist()


def _segment_starts(segments: Tensor) -> Tensor:
    """Where the document of each position begins, [B, T]."""
    places = torch.arange(segments.shape[1], device=segments.device)[None]
    first = torch.ones_like(segments, dtype=torch.bool)
    first[:, 1:] = segments[:, 1:] != segments[:, :-1]
    return (places * first).cummax(dim=1).values
