"""A few operations with gradients written out by hand, because a training on a CPU spends half of its time outside the
large products: automatic differentiation makes many passes over memory where a few do, and torch's fused attention
goes backwards in bfloat16 three times slower than the plain products that it is made of.

Each is held equal to its plain twin (`layers.rms_norm`, `layers.activate`, `positions.rotate`,
`attention.attend_explicit`) by the tests. Sums are taken in float32 whatever the numbers are stored in.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

# Beyond so many positions the table of who looks at whom, kept for the way back, weighs more than it saves.
LONGEST_EXPLICIT = 1024


class RMSNormFunction(torch.autograd.Function):
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension of `x` [..., C]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """The norm; keeps 1 / sqrt(...) for the way back."""
        squares = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=_wide(x)).square_()
        rate = squares.mul_(1 / x.shape[-1]).add_(eps).rsqrt_()  # [..., 1]
        ctx.save_for_backward(x, weight, rate)
        kind = x.device.type
        # Under autocast a product in the lower precision follows: rounded here once, not by each of its readers.
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        return (x * rate).mul_(weight).to(dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, None]:
        """With n = x rate and h = g weight: rate (h - n mean(h n)), and sum(g n) for the weight."""
        (g,), (x, weight, rate) = gradients, ctx.saved_tensors
        n = x * rate
        for_weight = None
        if ctx.needs_input_grad[1]:
            for_weight = (g * n).flatten(0, -2).sum(0).to(weight.dtype)
        if not ctx.needs_input_grad[0]:
            return None, for_weight, None  # type: ignore[return-value]
        h = g * weight if weight.dtype == rate.dtype else g * weight.to(rate.dtype)
        share = torch.linalg.vecdot(h, n).unsqueeze(-1).mul_(1 / x.shape[-1])
        return h.addcmul_(n, share, value=-1).mul_(rate).to(x.dtype), for_weight, None


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


class Gated(torch.autograd.Function):
    """silu(gate) up, or gelu(gate) up in its tanh form: what the MLPs of Llama and Gemma do between their products.
    Only the two factors are kept; the activation is computed again on the way back."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor, kind: str) -> Tensor:
        """The product."""
        ctx.save_for_backward(gate, up)
        ctx.kind = kind
        return _activated(gate, kind).mul_(up)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        """act'(gate) up g, and act(gate) g."""
        (g,), (gate, up) = gradients, ctx.saved_tensors
        if ctx.kind == "swiglu":
            for_gate = torch.ops.aten.silu_backward(g * up, gate)
        else:
            for_gate = torch.ops.aten.gelu_backward(g * up, gate, approximate="tanh")
        return for_gate, _activated(gate, ctx.kind).mul_(g), None


def _activated(gate: Tensor, kind: str) -> Tensor:
    return F.silu(gate) if kind == "swiglu" else F.gelu(gate, approximate="tanh")


class Rotation(torch.autograd.Function):
    """The pairs (x_i, x_{i + D/2}) of `x` [..., D] turned by angles, whose cosines and sines are given twice over D."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """The turned pairs."""
        ctx.save_for_backward(cos, sin)
        return _turn(x, cos, sin, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """Turned back."""
        (g,), (cos, sin) = gradients, ctx.saved_tensors
        return _turn(g, cos, sin, -1), None, None


def _turn(x: Tensor, cos: Tensor, sin: Tensor, way: int) -> Tensor:
    half = x.shape[-1] // 2
    out = x * cos
    wide = x if x.dtype == out.dtype else x.to(out.dtype)
    out[..., :half].addcmul_(wide[..., half:], sin[..., :half], value=-way)
    out[..., half:].addcmul_(wide[..., :half], sin[..., half:], value=way)
    return out.to(x.dtype)


class Attention(torch.autograd.Function):
    """Scaled dot-product attention from its plain products. `q` [B, H, T, D], `k` and `v` [B, K, S, D], `bias` added
    to the scores, broadcastable to [B, K, H / K, T, S]. The heads that share a key are read as one longer sequence."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, scale: float) -> Tensor:
        """The attention; keeps the pattern."""
        batch, heads, length, width = q.shape
        shared, seen = k.shape[1], k.shape[2]
        q = q.reshape(batch * shared, -1, width)  # [B K, G T, D] of G heads to a key
        k, v = k.reshape(-1, seen, width), v.reshape(-1, seen, width)  # [B K, S, D]
        bias = bias.expand(-1, -1, heads // shared, -1, -1)
        bias = bias.expand(batch, shared, -1, -1, -1) if bias.shape[0] > 1 else bias
        bias = bias.reshape(-1, heads // shared * length, seen)
        with torch.autocast(q.device.type, enabled=False):
            scores = torch.baddbmm(bias, q, k.transpose(1, 2), alpha=scale)
            pattern = torch.softmax(scores, dim=-1)  # [B K, G T, S]; its sums are float32 inside
            out = torch.bmm(pattern, v)
        ctx.save_for_backward(q, k, v, pattern)
        ctx.scale, ctx.shape, ctx.shared = scale, (batch, heads, length, width), shared
        return out.view(batch, heads, length, width)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        """Through the products, and through the softmax: pattern (d - sum(d pattern))."""
        (g,), (q, k, v, pattern) = gradients, ctx.saved_tensors
        batch, heads, length, width = ctx.shape
        g = g.reshape(q.shape)
        for_v = torch.bmm(pattern.transpose(1, 2), g)
        for_pattern = torch.bmm(g, v.transpose(1, 2))
        for_scores = torch._softmax_backward_data(for_pattern, pattern, -1, pattern.dtype).mul_(ctx.scale)
        for_q = torch.bmm(for_scores, k).view(batch, heads, length, width)
        for_k = torch.bmm(for_scores.transpose(1, 2), q)
        return for_q, for_k.view(batch, ctx.shared, -1, width), for_v.view(batch, ctx.shared, -1, width), None, None


class LowRank(torch.autograd.Function):
    """x W^T + bias + scale (x A^T) B^T with W [out, in] and the bias frozen, A [rank, in] and B [out, rank] trained.
    The correction is added into the large product as it is made, both ways, instead of beside it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float) -> Tensor:
        """`x` [..., in] to [..., out]."""
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        rows, weight, low, high = x.flatten(0, -2).to(dtype), weight.to(dtype), a.to(dtype), (b * scale).to(dtype)
        with torch.autocast(kind, enabled=False):
            inside = rows @ low.T  # [N, rank]
            out = F.linear(rows, weight, None if bias is None else bias.to(dtype)).addmm_(inside, high.T)
        ctx.save_for_backward(rows, weight, low, high, inside)
        ctx.scale, ctx.given, ctx.trained = scale, x.dtype, a.dtype
        return out.unflatten(0, x.shape[:-1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None, Tensor, Tensor, None]:
        """Through both ways: g W + (scale g B) A for x."""
        rows, weight, low, high, inside = ctx.saved_tensors
        g = gradients[0].flatten(0, -2)
        for_inside = g @ high  # [N, rank]
        for_x = None
        if ctx.needs_input_grad[0]:
            for_x = (g @ weight).addmm_(for_inside, low).unflatten(0, gradients[0].shape[:-1]).to(ctx.given)
        for_a = (for_inside.T @ rows).to(ctx.trained)
        for_b = (g.T @ inside).to(ctx.trained).mul_(ctx.scale)
        return for_x, None, None, for_a, for_b, None


class HeadLoss(torch.autograd.Function):
    """The sum of the cross entropies of `hidden` [N, C] against `targets` [N] under a head `weight` [V, C], a few rows
    at a time: scores for a whole vocabulary would be the largest thing in memory, and their gradients once more. So the
    gradient is computed on the way forward, where they are at hand."""

    ROWS = 128

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        """The loss; keeps its gradients."""
        kind, given, ctx.weight_dtype = hidden.device.type, hidden.dtype, weight.dtype
        if torch.is_autocast_enabled(kind):
            hidden, weight = (t.to(torch.get_autocast_dtype(kind)) for t in (hidden, weight))
        total = hidden.new_zeros((), dtype=_wide(hidden))
        for_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        for_weight = torch.zeros_like(weight, dtype=total.dtype) if ctx.needs_input_grad[1] else None
        with torch.autocast(kind, enabled=False):
            for start in range(0, len(hidden), HeadLoss.ROWS):
                part = slice(start, start + HeadLoss.ROWS)
                rows, wanted = hidden[part], targets[part, None]
                log_p = torch.log_softmax(rows @ weight.T, dim=-1, dtype=total.dtype)  # [128, V]
                total -= log_p.gather(1, wanted).sum()
                slope = log_p.exp_()
                slope.scatter_add_(1, wanted, torch.full_like(wanted, -1.0, dtype=slope.dtype))
                slope = slope.to(hidden.dtype)
                if for_hidden is not None:
                    torch.mm(slope, weight, out=for_hidden[part])
                if for_weight is not None:
                    for_weight += slope.T @ rows
        kept = (None if for_hidden is None else for_hidden.to(given), for_weight)
        ctx.save_for_backward(*(t for t in kept if t is not None))
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        """Those gradients times what comes from above, a single number."""
        (scale,), kept = gradients, list(ctx.saved_tensors)
        for_hidden = kept.pop(0) * scale if ctx.needs_input_grad[0] else None
        for_weight = (kept.pop(0) * scale).to(ctx.weight_dtype) if ctx.needs_input_grad[1] else None
        return for_hidden, for_weight, None


def causal_bias(length: int, dtype: torch.dtype) -> Tensor:
    """What hides later positions when it is added to the scores, [1, 1, 1, T, T]."""
    return _causal_table(1 << (length - 1).bit_length(), dtype)[..., :length, :length]


@lru_cache(maxsize=8)
def _causal_table(length: int, dtype: torch.dtype) -> Tensor:
    return torch.full((length, length), float("-inf"), dtype=dtype).triu(1)[None, None, None]


def mask_bias(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask [B, 1, T, S], True where a query may look, as such an addition, [B, 1, 1, T, S]."""
    return torch.zeros(mask.shape, dtype=dtype).masked_fill_(~mask, float("-inf"))[:, None]


def worth_it(x: Tensor) -> bool:
    """Whether a hand-written gradient is used for `x`: when there will be one, on a CPU, and not while torch's compiler
    looks on, which fuses the plain form itself."""
    return (
        x.requires_grad and torch.is_grad_enabled() and x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.float64, torch.bfloat16) and not torch.compiler.is_compiling()
    )  # fmt: skip


def worth_attending(q: Tensor, k: Tensor) -> bool:
    """Whether `Attention` is used: in float32 torch's own is as fast."""
    return q.dtype == torch.bfloat16 and k.shape[2] <= LONGEST_EXPLICIT and worth_it(q)


def _wide(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32
