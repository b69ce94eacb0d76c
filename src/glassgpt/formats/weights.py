"""From named tensors to a network in torch: every format ends here, and every check stands in `stored`."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from glassgpt.core.errors import FormatError
from glassgpt.formats.stored import check_numbers, check_shape
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
        # In numpy, on one thread: waking torch's threads for each of some hundred small tensors took 20 times as
        # long on a busy machine.
        check_numbers(source, name, tensor.float().numpy())
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
