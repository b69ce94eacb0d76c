"""Where the arithmetic happens: device, number type, seed."""

from __future__ import annotations

import torch

from glassgpt.core.errors import ConfigError

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def choose_device(name: str = "auto") -> torch.device:
    """`auto`: CUDA, then Apple's MPS, then the CPU. Only the CPU has been checked by this project's tests.

    Raises:
        ConfigError: the device is unknown or not on this machine.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        raise ConfigError(
            "device {name!r} cannot be used here", hint="Use cpu, cuda or mps, or leave it out.", name=name
        ) from None
    return device


def choose_precision(name: str) -> torch.dtype:
    """The number type that a precision names.

    Raises:
        ConfigError: the name is unknown.
    """
    if name not in PRECISIONS:
        raise ConfigError("precision is {name!r}; expected one of {choices}", name=name, choices=", ".join(PRECISIONS))
    return PRECISIONS[name]
