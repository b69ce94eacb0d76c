"""Where a token stands: sinusoidal, learned and rotary positions.

Attention by itself sees a set, not a sequence. Sinusoidal and learned positions are added to the embeddings;
rotary positions turn each query and key by an angle that grows with the position, so that their product
depends on the distance alone.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from glassgpt.core.errors import ConfigError, InputError
from glassgpt.model import frequencies
from glassgpt.model.config import RopeScaling


class PositionalEncoding(nn.Module):
    """Sinusoidal positions, added to a batch-first input ("Attention Is All You Need", 3.5).

    Even columns hold sin(t / 10000^(2i/C)), odd columns the cosine of the same angle.
    """

    table: Tensor

    def __init__(self, embed_size: int, max_len: int = 5000, dropout: float = 0.0) -> None:
        super().__init__()
        if embed_size < 1 or max_len < 1:
            raise ConfigError(
                "embed_size {width} and max_len {length} must be at least 1", width=embed_size, length=max_len
            )
        self.register_buffer("table", sinusoidal_table(max_len, embed_size), persistent=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """`x` [B, T, C] plus one row of the table per position; raises InputError if T > max_len."""
        if x.shape[1] > len(self.table):
            raise InputError(
                "the sequence has {given} positions; this encoding holds {limit}",
                hint="Make it with a larger max_len.",
                given=x.shape[1],
                limit=len(self.table),
            )
        return self.dropout(x + self.table[: x.shape[1]].to(x.dtype))  # [T, C] joins every row of the batch


def sinusoidal_table(max_len: int, width: int) -> Tensor:
    """The sinusoidal position table, [max_len, width], in float32."""
    position = torch.arange(max_len, dtype=torch.float64)[:, None]  # [T, 1]
    rate = torch.exp(torch.arange(0, width, 2, dtype=torch.float64) * (-math.log(10000.0) / width))  # [ceil(C/2)]
    table = torch.zeros(max_len, width, dtype=torch.float64)
    table[:, 0::2] = torch.sin(position * rate)
    table[:, 1::2] = torch.cos(position * rate[: width // 2])  # an odd width has one cosine fewer
    return table.float()


class LearnedPositions(nn.Module):
    """One trained vector per position, as in GPT-2."""

    def __init__(self, max_len: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(max_len, width))

    def forward(self, positions: Tensor) -> Tensor:
        """`positions` [B, T] (whole numbers) to [B, T, C]."""
        return nn.functional.embedding(positions, self.weight)


class Rotary(nn.Module):
    """Rotary position embedding (Su et al. 2021, arXiv:2104.09864), half-split pairs as in Llama.

    Called with positions it gives the cosines and sines that `rotate` applies to queries and keys.
    """

    def __init__(self, head_dim: int, theta: float = 10000.0, scaling: RopeScaling | None = None) -> None:
        super().__init__()
        self.head_dim, self.theta, self.scaling = head_dim, theta, scaling
        inv_freq, self.attention_factor = rotary_frequencies(head_dim, theta, scaling)
        self.register_buffer("inv_freq", inv_freq, persistent=False)

    inv_freq: Tensor

    def forward(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """`positions` [B, T] to cosines and sines [B, 1, T, D], computed in float32."""
        inv_freq = self.inv_freq
        if self.scaling is not None and self.scaling.kind == "dynamic":
            length = int(positions.max()) + 1
            inv_freq = dynamic_frequencies(self.head_dim, self.theta, self.scaling, length).to(positions.device)
        angle = positions[:, None, :, None].float() * inv_freq.float()  # [B, 1, T, D/2]
        angle = torch.cat((angle, angle), dim=-1)  # [B, 1, T, D]
        return (angle.cos() * self.attention_factor).to(dtype), (angle.sin() * self.attention_factor).to(dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the pairs (x_i, x_{i + D/2}) of `x` [B, H, T, D] by their angles."""
    half = x.shape[-1] // 2
    turned = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
    return x * cos + turned * sin


def rotary_frequencies(head_dim: int, theta: float, scaling: RopeScaling | None) -> tuple[Tensor, float]:
    """`frequencies.rotary_frequencies` as a tensor [D / 2] on the CPU."""
    inv_freq, factor = frequencies.rotary_frequencies(head_dim, theta, scaling)
    return torch.from_numpy(inv_freq), factor


def dynamic_frequencies(head_dim: int, theta: float, scaling: RopeScaling, length: int) -> Tensor:
    """`frequencies.dynamic_frequencies` as a tensor [D / 2] on the CPU."""
    return torch.from_numpy(frequencies.dynamic_frequencies(head_dim, theta, scaling, length))
