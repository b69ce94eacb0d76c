"""Norms and MLPs: the parts of a block that look at one position at a time."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glassgpt.core.errors import ConfigError
from glassgpt.model.fused import Gated, RMSNormFunction, SquaredReLU, worth_it
from glassgpt.model.probe import Probe, seen


class RMSNorm(nn.Module):
    """Divide by the root of the mean square, then scale (Zhang & Sennrich 2019, arXiv:1910.07467).

    The statistics are computed in float32 whatever the input's type.
    """

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """`x` [..., C] to the same shape."""
        if worth_it(x):
            return RMSNormFunction.apply(x, self.weight, self.eps)
        return rms_norm(x, self.weight, self.eps)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMSNorm's plain form."""
    wide = x.float() if x.dtype != torch.float64 else x
    wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    return (wide * weight.to(wide.dtype)).to(x.dtype)


class LayerNorm(nn.Module):
    """Subtract the mean, divide by the standard deviation, scale and shift (Ba et al. 2016, arXiv:1607.06450)."""

    def __init__(self, width: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """`x` [..., C] to the same shape."""
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


def make_norm(kind: str, width: int, eps: float) -> nn.Module:
    """The norm that a config names: "rmsnorm" or "layernorm"."""
    if kind == "rmsnorm":
        return RMSNorm(width, eps)
    if kind == "layernorm":
        return LayerNorm(width, eps)
    raise ConfigError("norm is {kind!r}; expected layernorm or rmsnorm", kind=kind)


class MLP(nn.Module):
    """Two projections with a bend between them: up, activation, down.

    Kinds: `gelu` (exact), `gelu_tanh` (GPT-2's approximation), `relu2` (squared ReLU, So et al. 2021),
    `relu` (the 2017 Transformer).
    """

    def __init__(self, width: int, hidden: int, kind: str = "gelu", bias: bool = True) -> None:
        super().__init__()
        self.kind = kind
        self.up = nn.Linear(width, hidden, bias=bias)
        self.down = nn.Linear(hidden, width, bias=bias)

    def forward(self, x: Tensor, probe: Probe | None = None, place: str = "") -> Tensor:
        """`x` [..., C] to the same shape; `place` begins the name that `probe` is told."""
        hidden = self.up(x)
        squares = self.kind == "relu2" and worth_it(hidden)
        hidden = SquaredReLU.apply(hidden) if squares else activate(hidden, self.kind)
        return self.down(seen(probe, place, "hidden", hidden))


class GatedMLP(nn.Module):
    """An MLP whose up projection is multiplied by an activated gate (Shazeer 2020, arXiv:2002.05202).

    Kinds: `swiglu` (SiLU gate) and `geglu` (tanh-approximated GELU gate).
    """

    def __init__(self, width: int, hidden: int, kind: str = "swiglu", bias: bool = False) -> None:
        super().__init__()
        self.kind = kind
        self.gate = nn.Linear(width, hidden, bias=bias)
        self.up = nn.Linear(width, hidden, bias=bias)
        self.down = nn.Linear(hidden, width, bias=bias)

    def forward(self, x: Tensor, probe: Probe | None = None, place: str = "") -> Tensor:
        """`x` [..., C] to the same shape; `place` begins the name that `probe` is told."""
        gate, up = self.gate(x), self.up(x)
        hidden = Gated.apply(gate, up, self.kind) if worth_it(gate) else activate(gate, self.kind) * up
        return self.down(seen(probe, place, "hidden", hidden))


def activate(x: Tensor, kind: str) -> Tensor:
    """The activation of an MLP kind, element by element."""
    if kind == "swiglu":
        return F.silu(x)
    if kind in ("geglu", "gelu_tanh"):
        return F.gelu(x, approximate="tanh")
    if kind == "gelu":
        return F.gelu(x)
    if kind == "relu2":
        return F.relu(x).square()
    if kind == "relu":
        return F.relu(x)
    raise ConfigError("mlp is {kind!r}; expected gelu, gelu_tanh, relu, relu2, swiglu or geglu", kind=kind)


def make_mlp(kind: str, width: int, hidden: int, bias: bool) -> nn.Module:
    """The MLP that a config names."""
    return (GatedMLP if kind in ("swiglu", "geglu") else MLP)(width, hidden, kind, bias)


class Dropout(nn.Module):
    """Zero a share of the numbers while training and scale up the rest (Srivastava et al. 2014).

    `generator`, where one is set, decides which: so that two threads that train at once do not draw from one another's
    chance, and a step can be repeated.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self.generator: torch.Generator | None = None

    def forward(self, x: Tensor) -> Tensor:
        """`x` of any shape to the same shape."""
        if not self.share or not self.training:
            return x
        if x.device.type != "cpu":  # Apple's generator cannot draw 64 bits
            kept = torch.rand(x.shape, device=x.device, generator=self.generator) >= self.share
            return x * kept.to(x.dtype).div_(1 - self.share)
        # Four chances from one draw of 64 bits: drawing them one by one takes longer than the product behind it.
        draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64, device=x.device)
        draws.random_(-(1 << 63), None, generator=self.generator)
        dropped = min(round(self.share * 65536), 65535)
        kept = (draws.view(torch.int16)[: x.numel()] >= dropped - 32768).view(x.shape)
        return x * kept.to(x.dtype).mul_(65536 / (65536 - dropped))
