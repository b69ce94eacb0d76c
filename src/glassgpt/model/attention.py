"""Attention: how a position reads from the others.

`attend` is the operation itself, in a fused form and in an explicit one that shows the pattern; the modules
wrap it with projections. `SelfAttention` has the interface that tutorials use, `(values, keys, query, mask)`;
`CausalSelfAttention` is what a GPT block holds.

Shapes: B sequences, T query positions, S key positions, C width, H query heads, K key/value heads, D head width.
A mask is True where a query may look.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glassgpt.core.errors import ConfigError
from glassgpt.model.config import ModelConfig
from glassgpt.model.fused import Attention, Rotation, causal_bias, mask_bias, worth_attending, worth_it
from glassgpt.model.layers import RMSNorm
from glassgpt.model.positions import rotate
from glassgpt.model.probe import Probe


class LayerCache(Protocol):
    """What a layer needs from a key/value cache: append, and get everything back."""

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Add k, v [B, K, T, D] of new positions; return those of all positions so far, [B, K, S, D]."""
        ...


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    scale: float | None = None,
    dropout: float = 0.0,
    causal: bool = False,
) -> Tensor:
    """Scaled dot-product attention ("Attention Is All You Need", 3.2.1), fused.

    `q` [B, H, T, D], `k` and `v` [B, K, S, D] with H a multiple of K, `mask` broadcastable to [B, H, T, S];
    `scale` 1/sqrt(D) unless given; `causal`, instead of a mask, hides what comes later. Gives [B, H, T, D].
    `attend_explicit` is its plain twin.
    """
    grouped = q.shape[1] != k.shape[1]
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=causal, scale=scale, enable_gqa=grouped
    )


def attend_explicit(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    scale: float | None = None,
    dropout: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """`attend` step by step; returns also the pattern [B, H, T, S], whose rows sum to 1."""
    pattern = F.dropout(attention_pattern(q, k, mask, scale), dropout)
    return read_by(pattern, v), pattern


def attention_pattern(q: Tensor, k: Tensor, mask: Tensor | None = None, scale: float | None = None) -> Tensor:
    """How much each query reads from each key, [B, H, T, S]; arguments as for `attend`."""
    k = k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)  # [B, H, S, D]
    scores = q @ k.transpose(-2, -1) * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)  # [B, H, T, S]
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return scores.float().softmax(dim=-1).to(q.dtype)


def read_by(pattern: Tensor, v: Tensor) -> Tensor:
    """What is read with a pattern [B, H, T, S] from values [B, K, S, D]: [B, H, T, D]."""
    return pattern @ v.repeat_interleave(pattern.shape[1] // v.shape[1], dim=1)


def attend_seen(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float | None, probe: Probe,
                place: str) -> Tensor:  # fmt: skip
    """`attend` step by step, each step offered to `probe`: `q` and `k` (as they meet, so after norms and rotation),
    `v`, `pattern`, and `z`, what each head read."""
    q, k, v = (probe(place + name, value) for name, value in (("q", q), ("k", k), ("v", v)))
    pattern = probe(place + "pattern", attention_pattern(q, k, mask, scale))
    return probe(place + "z", read_by(pattern, v))


def causal_mask(
    q_positions: Tensor,
    k_positions: Tensor,
    window: int | None = None,
    keep: Tensor | None = None,
    segments: Tensor | None = None,
) -> Tensor:
    """Who may look at whom, [B, 1, T, S]: nothing later, nothing outside the window, no padding, no other document.

    `q_positions` [B, T] and `k_positions` [B, S] count places in the sequence, padding included;
    `window` n lets a position see itself and the n - 1 before it; `keep` [B, S] is False on padding;
    `segments` [B, T] (T = S) numbers the documents that lie one after the other in a sequence.
    A padding position sees itself alone, so that its (unused) row stays finite.
    """
    distance = q_positions[:, :, None] - k_positions[:, None, :]  # [B, T, S]
    mask = distance >= 0
    if window is not None:
        mask &= distance < window
    if segments is not None:
        mask = mask & (segments[:, :, None] == segments[:, None, :])
    if keep is not None:
        mask = (mask & keep[:, None, :]) | (distance == 0)
    return mask[:, None]


def padding_mask(keep: Tensor) -> Tensor:
    """[B, S], False on padding, to a mask that every query shares, [B, 1, 1, S]: for encoders and cross-attention."""
    return keep[:, None, None, :]


class SelfAttention(nn.Module):
    """Multi-head attention with the tutorial's call, `(values, keys, query, mask)`, batch first.

    Each of the four projections is C to C: every head has its own slice, and scores are divided by the root of
    the head's width. (The version that circulates shares one small projection between all heads and divides by
    the root of the whole width; `docs/from-the-tutorial.md` measures what that costs.) It serves self-attention,
    with one tensor thrice, and cross-attention.
    """

    def __init__(self, embed_size: int, heads: int, bias: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        if heads < 1 or embed_size % heads:
            raise ConfigError(
                "embed_size {width} is not a multiple of heads {heads}",
                hint="Choose a width that the heads divide.",
                width=embed_size,
                heads=heads,
            )
        self.heads, self.dropout = heads, dropout
        self.q_proj = nn.Linear(embed_size, embed_size, bias=bias)
        self.k_proj = nn.Linear(embed_size, embed_size, bias=bias)
        self.v_proj = nn.Linear(embed_size, embed_size, bias=bias)
        self.out_proj = nn.Linear(embed_size, embed_size, bias=True)

    def forward(self, values: Tensor, keys: Tensor, query: Tensor, mask: Tensor | None = None,
                probe: Probe | None = None, place: str = "") -> Tensor:  # fmt: skip
        """`values` and `keys` [B, S, C], `query` [B, T, C], `mask` True (or 1) where a query may look, [T, S],
        [B, T, S] or [B, H, T, S] with 1s to broadcast; gives [B, T, C]. `place` begins the names that `probe` is
        told."""
        q = split_heads(self.q_proj(query), self.heads)  # [B, H, T, D]
        k = split_heads(self.k_proj(keys), self.heads)  # [B, H, S, D]
        v = split_heads(self.v_proj(values), self.heads)  # [B, H, S, D]
        if mask is not None:
            mask = mask.bool()
            mask = mask[:, None] if mask.dim() == 3 else mask
        if probe is not None:
            out = attend_seen(q, k, v, mask, None, probe, place)
        else:
            out = attend(q, k, v, mask, dropout=self.dropout if self.training else 0.0)
        return self.out_proj(join_heads(out))


class CausalSelfAttention(nn.Module):
    """The attention of a GPT block: grouped heads, optional rotary positions, q/k norm, biases and cache.

    It has no dropout of its own, which the fused kernels lack: what a block adds to the residual stream has it.
    """

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.n_head, self.n_kv_head = layer, config.n_head, config.n_kv_head
        self.place = f"blocks.{layer}.attn."
        self.scale = config.attention_scale or config.head_dim**-0.5
        width, head = config.n_embd, config.head_dim
        self.q_proj = nn.Linear(width, config.n_head * head, bias=config.qkv_bias)
        self.k_proj = nn.Linear(width, config.n_kv_head * head, bias=config.qkv_bias)
        self.v_proj = nn.Linear(width, config.n_kv_head * head, bias=config.qkv_bias)
        self.out_proj = nn.Linear(config.n_head * head, width, bias=config.out_bias)
        self.q_norm = RMSNorm(head, config.norm_eps) if config.qk_norm else None
        self.k_norm = RMSNorm(head, config.norm_eps) if config.qk_norm else None

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        rope: tuple[Tensor, Tensor] | None = None,
        cache: LayerCache | None = None,
        stretches: Sequence[int] = (),
        probe: Probe | None = None,
    ) -> Tensor:
        """`x` [B, T, C], `mask` [B, 1, T, S], `rope` cosines and sines [B, 1, T, D]; gives [B, T, C]. Instead of a mask
        `stretches`: into how many positions each the sequence is cut, to read every piece for itself and causally; not
        with a probe."""
        q = split_heads(self.q_proj(x), self.n_head)  # [B, H, T, D]
        k = split_heads(self.k_proj(x), self.n_kv_head)  # [B, K, T, D]
        v = split_heads(self.v_proj(x), self.n_kv_head)  # [B, K, T, D]
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        if rope is not None:
            turn = Rotation.apply if worth_it(q) else rotate
            q, k = turn(q, *rope), turn(k, *rope)
        if cache is not None:
            k, v = cache.append(self.layer, k, v)  # [B, K, S, D]
        q, k = q.to(v.dtype), k.to(v.dtype)  # a rotation may have widened them
        if probe is not None:
            out = attend_seen(q, k, v, mask, self.scale, probe, self.place)
        elif len(stretches) > 1:
            pieces = zip(*(t.split(list(stretches), dim=2) for t in (q, k, v)), strict=True)
            out = torch.cat([self._attend(q, k, v, None, causal=True) for q, k, v in pieces], dim=2)
        else:
            out = self._attend(q, k, v, mask, causal=bool(stretches))
        return self.out_proj(join_heads(out))

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
        if worth_attending(q, k) and (causal or mask is not None):
            bias = causal_bias(q.shape[2], q.dtype) if mask is None else mask_bias(mask, q.dtype)
            return Attention.apply(q, k, v, bias, self.scale)
        return attend(q, k, v, mask, self.scale, causal=causal)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[B, T, H D] to [B, H, T, D]."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """[B, H, T, D] to [B, T, H D]."""
    return x.transpose(1, 2).flatten(2)
