"""LoRA: learn a small correction beside each frozen matrix (Hu et al. 2021, arXiv:2106.09685).

W x becomes W x + (alpha / rank) B A x, where A [rank, in] begins at random and B [out, rank] at zero, so that the model
begins as it was. Merged, B A is added into W, and the network is again an ordinary one.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glassgpt.core.errors import ConfigError, FormatError
from glassgpt.model.attention import CausalSelfAttention
from glassgpt.model.fused import LowRank, worth_it
from glassgpt.model.gpt import GPT
from glassgpt.model.layers import MLP, Dropout, GatedMLP

TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj", "gate", "up", "down")


class LoRALinear(nn.Module):
    """A frozen linear layer with a low-rank correction that is trained."""

    def __init__(self, base: nn.Linear, rank: int, alpha: float, dropout: float = 0.0) -> None:
        super().__init__()
        self.base, self.scale = base.requires_grad_(False), alpha / rank
        self.dropout = Dropout(dropout)
        device = base.weight.device
        # Trained in float32 even where the frozen weights are not: small steps must not be rounded away.
        self.a = nn.Parameter(torch.empty(rank, base.in_features, device=device))
        self.b = nn.Parameter(torch.zeros(base.out_features, rank, device=device))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """`x` [..., in] to [..., out]."""
        if worth_it(self.a) and not (self.training and self.dropout.share):
            return LowRank.apply(x, self.base.weight, self.base.bias, self.a, self.b, self.scale)
        correction = F.linear(F.linear(self.dropout(x), self.a.to(x.dtype)), self.b.to(x.dtype) * self.scale)
        return self.base(x) + correction

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """The frozen layer with the correction added into its weights."""
        weight = self.base.weight
        weight += (self.scale * (self.b @ self.a)).to(weight.dtype)
        return self.base


def add_lora(
    network: GPT, rank: int = 16, alpha: float = 32.0, dropout: float = 0.0, targets: tuple[str, ...] = TARGETS
) -> GPT:
    """Freeze a network and put a correction beside the named layers of every block; changes it in place.

    Raises:
        ConfigError: a size is out of range, or a target is not the name of a layer.
    """
    if not 1 <= rank <= 1024 or not alpha > 0 or not 0 <= dropout < 1:
        raise ConfigError(
            "lora has rank {rank}, alpha {alpha} and dropout {dropout}; expected a rank from 1 to 1024, an alpha above "
            "0 and a dropout from 0 up to, not including, 1",
            rank=rank,
            alpha=alpha,
            dropout=dropout,
        )
    if unknown := sorted(set(targets) - set(TARGETS)):
        raise ConfigError(
            "lora targets {unknown} are not layers of a block",
            hint="Known are {known}.",
            unknown=", ".join(unknown),
            known=", ".join(TARGETS),
        )
    network.requires_grad_(False)
    for part in _parts(network):
        for name, layer in list(part.named_children()):
            if name in targets and isinstance(layer, nn.Linear):
                setattr(part, name, LoRALinear(layer, rank, alpha, dropout))
    return network


def merge_lora(network: GPT) -> GPT:
    """Add every correction into its frozen layer; the network is an ordinary one again. Changes it in place."""
    for part in _parts(network):
        for name, layer in list(part.named_children()):
            if isinstance(layer, LoRALinear):
                setattr(part, name, layer.merged())
    return network


def adapter_state(network: GPT) -> dict[str, Tensor]:
    """The trained tensors alone, by name."""
    return {name: p.detach() for name, p in network.named_parameters() if p.requires_grad}


@torch.no_grad()
def load_adapter(network: GPT, state: dict[str, Tensor], source: str) -> None:
    """Put trained tensors back into a network that `add_lora` prepared; raises FormatError when they do not fit."""
    wanted = adapter_state(network)
    if {n: t.shape for n, t in wanted.items()} != {n: t.shape for n, t in state.items()}:
        raise FormatError(
            "{source}: the adapter does not fit this model and its settings",
            hint="Use the base model and the rank that it was trained with.",
            source=source,
        )
    for name, tensor in wanted.items():
        tensor.copy_(state[name])


def _parts(network: GPT) -> list[nn.Module]:
    """The attention and the MLP of every block."""
    return [m for m in network.modules() if isinstance(m, CausalSelfAttention | MLP | GatedMLP)]
