"""From named tensors to a network: every format ends here, so every check stands once."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from glassgpt.core.errors import FormatError
from glassgpt.model.config import ModelConfig
from glassgpt.model.gpt import GPT

_ALIGNMENT = 64  # bytes, a cache line; what torch's own allocator gives


def build(config: ModelConfig, tensors: Iterable[tuple[str, Tensor]], source: str, dtype: torch.dtype) -> GPT:
    """A network with these weights, in evaluation mode.

    Args:
        config: the network's shape.
        tensors: pairs of our parameter name and its weights, in any floating type.
        source: what the user knows the model as, for messages.
        dtype: the type the network computes in; norms stay in float32 arithmetic whatever it is.

    Raises:
        FormatError: a tensor is missing, unknown, doubled, of another shape, or holds NaN or infinity.
    """
    model = GPT.empty(config)
    expected = {name: tuple(p.shape) for name, p in model.named_parameters()}
    state: dict[str, Tensor] = {}
    for name, tensor in tensors:
        if name not in expected or name in state:
            raise FormatError(
                "{source}: unexpected tensor {name}",
                hint="The weights belong to another kind of model than its settings say.",
                source=source,
                name=name,
            )
        check_shape(source, name, tuple(tensor.shape), expected[name])
        # One sum instead of one look at each number: NaN and infinity survive addition. In numpy, on one thread:
        # waking torch's threads for each of some hundred small tensors took 20 times as long on a busy machine.
        if not np.isfinite(tensor.float().numpy().sum()):
            raise FormatError(
                "{source}: tensor {name} holds NaN or infinite numbers",
                hint="The file is damaged or the training run diverged; use another copy or checkpoint.",
                source=source,
                name=name,
            )
        tensor = tensor.to(dtype).contiguous()
        # Where a tensor begins in memory decides how its sums are grouped: aligned, a copy of a model gives the
        # very same numbers (and vector loads never straddle cache lines).
        state[name] = tensor if tensor.data_ptr() % _ALIGNMENT == 0 else tensor.clone()
    missing = sorted(set(expected) - set(state))
    if missing:
        raise FormatError(
            "{source}: {count} tensors are missing, the first is {name}",
            hint="The file is incomplete; fetch it again.",
            source=source,
            count=len(missing),
            name=missing[0],
        )
    model.load_state_dict(state, assign=True)
    return model.eval().requires_grad_(False)


def to_save(tensor: Tensor) -> Tensor:
    """A tensor as a file wants it: on the CPU, in one piece, alone in its memory. Copied only where it is not: a copy
    of every weight would double what saving takes."""
    tensor = tensor.detach().cpu().contiguous()
    return tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()


def check_shape(source: str, name: str, given: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Raise FormatError unless a tensor has the shape that the settings call for."""
    if given != expected:
        raise FormatError(
            "{source}: tensor {name} has shape {given}; the settings call for {expected}",
            hint="The weights and the settings are not of the same model.",
            source=source,
            name=name,
            given=list(given),
            expected=list(expected),
        )
