"""Three small operations with gradients written out by hand, because a training on a CPU spends a third of its time in
such element-wise work: automatic differentiation makes many passes over memory where a few do.

Each is held equal to its plain twin (`layers.rms_norm`, `layers.activate`, `positions.rotate`) by the tests.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class RMSNormFunction(torch.autograd.Function):
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension of `x` [..., C]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """The norm; keeps 1 / sqrt(...) for the way back."""
        squares = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_()
        rate = squares.mul_(1 / x.shape[-1]).add_(eps).rsqrt_()  # [..., 1]
        ctx.save_for_backward(x, weight, rate)
        return (x * rate).mul_(weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, None]:
        """With n = x rate and h = g weight: rate (h - n mean(h n)), and sum(g n) for the weight."""
        (g,), (x, weight, rate) = gradients, ctx.saved_tensors
        n = x * rate
        for_weight = (g * n).flatten(0, -2).sum(0) if ctx.needs_input_grad[1] else None
        h = g * weight
        share = torch.linalg.vecdot(h, n).unsqueeze(-1).mul_(1 / x.shape[-1])
        return h.addcmul_(n, share, value=-1).mul_(rate), for_weight, None


class SquaredReLU(torch.autograd.Function):
    """max(x, 0)^2, element by element."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """The square; keeps max(x, 0)."""
        positive = x.clamp_min(0)
        ctx.save_for_backward(positive)
        return positive * positive

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """2 max(x, 0) g."""
        (g,), (positive,) = gradients, ctx.saved_tensors
        return (g * positive).mul_(2)


class Rotation(torch.autograd.Function):
    """The pairs (x_i, x_{i + D/2}) of `x` [..., D] turned by angles, whose cosines and sines are given twice over D."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """The turned pairs."""
        ctx.save_for_backward(cos, sin)
        return _turn(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """Turned back."""
        (g,), (cos, sin) = gradients, ctx.saved_tensors
        return _turn(g, cos, -sin), None, None


def _turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    out = x * cos
    out[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-1)
    out[..., half:].addcmul_(x[..., :half], sin[..., half:])
    return out


def worth_it(x: Tensor) -> bool:
    """Whether a hand-written gradient is used for `x`: when there will be one, on a CPU, and not while torch's compiler
    looks on, which fuses the plain form itself."""
    return (
        x.requires_grad and torch.is_grad_enabled() and x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.float64) and not torch.compiler.is_compiling()
    )  # fmt: skip
