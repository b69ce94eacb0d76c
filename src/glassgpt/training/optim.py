"""Optimizers and learning-rate schedules.

Muon turns the weight matrices inside the blocks, AdamW everything else (embeddings, head, norms, biases). Both are
driven by one schedule, a pure function of the step, so that a resumed run has the rate of an unbroken one.

They are small classes of our own and not `torch.optim`'s: making one of those imports torch's compiler, over a second,
and the state of these is a plain dictionary of tensors that a checkpoint can hold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Literal, Protocol

import torch
from torch import Tensor

from glassgpt.core.errors import FormatError

PARTS = 2  # in which an update is cut, whatever the number of threads, so that results do not depend on it
Schedule = Literal["constant", "wsd", "cosine", "linear"]


def rate_factor(
    step: int, steps: int, *, schedule: Schedule = "wsd", warmup: int = 0, decay: float = 0.4, floor: float = 0.0
) -> float:
    """What the learning rates are multiplied with at `step` (from 0) of `steps`.

    All begin with `warmup` steps that rise in a line. Then: `constant`; `wsd` stays at 1 and falls in a line over the
    last share `decay` (warm-up/stable/decay, Hu et al. 2024, arXiv:2404.06395); `cosine` falls along half a wave
    (Loshchilov & Hutter 2017, arXiv:1608.03983); `linear` falls in a line. `floor` is where they end.
    """
    rise = min(1.0, (step + 1) / (warmup + 1))
    done = min(1.0, max(0.0, (step - warmup) / max(1, steps - warmup)))
    if schedule == "constant":
        fall = 1.0
    elif schedule == "wsd":
        fall = min(1.0, (1.0 - done) / decay) if decay > 0 else 1.0
    elif schedule == "cosine":
        fall = 0.5 * (1.0 + math.cos(math.pi * done))
    else:
        fall = 1.0 - done
    return rise * (floor + (1.0 - floor) * fall)


def orthogonalize(matrices: Tensor, steps: int = 5) -> Tensor:
    """Matrices [N, R, C] to ones of the same singular vectors whose singular values lie near 1.

    Newton-Schulz iteration with the quintic of Jordan et al. 2024 ("Muon: an optimizer for hidden layers in neural
    networks"): it does not converge to exactly 1, and need not.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Optimizer(Protocol):
    """What the loop asks of an optimizer. `state` maps names to tensors that are changed in place."""

    state: dict[str, Tensor]

    def tasks(self, factor: float) -> list[Callable[[], None]]:
        """One update from the gradients, with the learning rate times `factor`, in parts that may run at once."""
        ...


class AdamW:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, arXiv:1711.05101), on named parameters; `name` keeps
    its state apart from that of another."""

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        name: str = "adamw",
    ) -> None:
        self.lr, self.betas, self.eps, self.weight_decay = lr, betas, eps, weight_decay
        self.parameters, self.name = dict(parameters), name
        self.state = {f"{name}.steps": torch.zeros((), dtype=torch.int64)}
        for key, p in parameters.items():
            self.state |= {f"{name}.mean.{key}": torch.zeros_like(p), f"{name}.square.{key}": torch.zeros_like(p)}

    def tasks(self, factor: float) -> list[Callable[[], None]]:
        """One update of every parameter that has a gradient, in parts that may run at once."""
        self.state[f"{self.name}.steps"] += 1
        steps = int(self.state[f"{self.name}.steps"])
        return [partial(self._step, part, steps, self.lr * factor) for part in range(PARTS)]

    @torch.no_grad()
    def _step(self, part: int, steps: int, rate: float) -> None:
        """An equal share of the rows of every parameter."""
        b1, b2 = self.betas
        values, gradients, means, squares = [], [], [], []
        for name, p in self.parameters.items():
            rows = slice(len(p) * part // PARTS, len(p) * (part + 1) // PARTS)
            if p.grad is None or rows.start == rows.stop:
                continue
            values.append(p[rows])
            gradients.append(p.grad[rows])
            means.append(self.state[f"{self.name}.mean.{name}"][rows])
            squares.append(self.state[f"{self.name}.square.{name}"][rows])
        if values:
            # One pass over memory for each parameter; written out, the update is a dozen.
            count = torch.tensor(float(steps), device=values[0].device)
            torch._fused_adamw_(
                values, gradients, means, squares, [], [count] * len(values),
                lr=rate, beta1=b1, beta2=b2, weight_decay=self.weight_decay, eps=self.eps, amsgrad=False,
                maximize=False,
            )  # fmt: skip


class Muon:
    """Momentum whose update is orthogonalized: every direction of a matrix is learned at the same pace.

    Weight decay is decoupled, as in AdamW. The update of an [R, C] matrix is scaled by sqrt(max(1, R / C)). Matrices
    of one shape are orthogonalized in one batched product, in `precision`: the iteration forgives rounding.
    `torch.optim.Muon`, one matrix at a time, is the plain twin with `row_beta` 0.

    Otherwise every row of an update (every column where those are more) is divided by the root of a running mean, over
    about 1 / (1 - `row_beta`) steps, of its squares, and the whole brought back to its size: no neuron learns much
    faster than another (NorMuon, Li et al. 2025, arXiv:2510.05491).
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        ns_steps: int = 5,
        precision: torch.dtype = torch.float32,
        row_beta: float = 0.0,
    ) -> None:
        self.row_beta = row_beta
        self.lr, self.momentum, self.weight_decay, self.ns_steps = lr, momentum, weight_decay, ns_steps
        self.precision = precision
        self.by_shape: dict[tuple[int, ...], dict[str, Tensor]] = {}
        for name, p in parameters.items():
            self.by_shape.setdefault(tuple(p.shape), {})[name] = p
        self.state = {f"muon.momentum.{name}": torch.zeros_like(p) for name, p in parameters.items()}
        if row_beta:
            for name, p in parameters.items():
                self.state[f"muon.rows.{name}"] = torch.zeros_like(p[:, :1] if p.shape[0] >= p.shape[1] else p[:1])

    def tasks(self, factor: float) -> list[Callable[[], None]]:
        """One update of every matrix, each of which must have a gradient, in parts that may run at once."""
        parts = [dict(islice(g.items(), i, None, PARTS)) for g in self.by_shape.values() for i in range(PARTS)]
        return [partial(self._step, part, self.lr * factor) for part in parts if part]

    @torch.no_grad()
    def _step(self, named: dict[str, Tensor], rate: float) -> None:
        values = list(named.values())
        gradients = [p.grad for p in values if p.grad is not None]
        buffers = [self.state[f"muon.momentum.{name}"] for name in named]
        torch._foreach_lerp_(buffers, gradients, 1 - self.momentum)
        ahead = torch._foreach_lerp(gradients, buffers, self.momentum)  # Nesterov: look where it leads
        updates = orthogonalize(torch.stack(ahead).to(self.precision), self.ns_steps)  # [N, R, C]
        if self.row_beta:
            updates = self._evened(updates.to(values[0].dtype), list(named))
        if self.weight_decay:
            torch._foreach_mul_(values, 1 - rate * self.weight_decay)
        scale = math.sqrt(max(1.0, values[0].shape[0] / values[0].shape[1]))
        torch._foreach_add_(values, list(updates.to(values[0].dtype).unbind()), alpha=-rate * scale)

    def _evened(self, updates: Tensor, names: list[str]) -> Tensor:
        """Updates [N, R, C], each row (or column) divided by how large it has been."""
        along = -1 if updates.shape[-2] >= updates.shape[-1] else -2
        squares = torch.linalg.vector_norm(updates, dim=along, keepdim=True).square_()  # [N, R, 1] or [N, 1, C]
        means = [self.state[f"muon.rows.{name}"] for name in names]
        torch._foreach_lerp_(means, list((squares / updates.shape[along]).unbind()), 1 - self.row_beta)
        rates = torch.stack(means).add_(1e-10).rsqrt_()
        before, after = (s.sum(dim=(-2, -1), keepdim=True) for s in (squares, squares * rates.square()))
        return updates * rates.mul_((before / (after + 1e-20)).sqrt_())


def clip_gradients(parameters: Sequence[Tensor], limit: float) -> float:
    """Scale all gradients down so that their norm together is at most `limit` (0: only measure); gives the norm
    before (Pascanu et al. 2013, arXiv:1211.5063)."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients))))
    if limit and norm > limit:
        torch._foreach_mul_(gradients, limit / (norm + 1e-6))
    return norm


def restore(optimizers: Sequence[Optimizer], saved: Mapping[str, Tensor], source: str) -> None:
    """Put saved state back; raises FormatError when it is not that of these optimizers."""
    wanted = {name: tensor for optimizer in optimizers for name, tensor in optimizer.state.items()}
    if {n: t.shape for n, t in wanted.items()} != {n: t.shape for n, t in saved.items()}:
        raise FormatError(
            "{source}: the optimizer's state does not fit the run's settings",
            hint="The checkpoint belongs to another run; resume that one.",
            source=source,
        )
    for name, tensor in wanted.items():
        tensor.copy_(saved[name])
