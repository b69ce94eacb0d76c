"""What this machine can do, measured in a moment: so that times mean something to a reader with another one."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from glassgpt.model.device import choose_device
from glassgpt.training.settings import Precision, TrainSettings


@dataclass(frozen=True)
class Machine:
    """Speed of matrix products in GFLOP/s by number type, and of reading memory in GB/s; `threads` that computed."""

    float32_gflops: float
    bfloat16_gflops: float
    memory_gb_s: float
    threads: int


def measure_machine(device: str | torch.device = "cpu", seconds: float = 0.1) -> Machine:
    """Measure for about three times `seconds`."""
    gflops = {dtype: _gflops(dtype, device, seconds) for dtype in (torch.float32, torch.bfloat16)}
    block = torch.ones(16 << 20, device=device)  # 64 MB: larger than most caches
    memory = block.numel() * 4 / _seconds_of(lambda: float(block.sum()), seconds) / 1e9
    return Machine(gflops[torch.float32], gflops[torch.bfloat16], memory, torch.get_num_threads())


def best_precision(device: str | torch.device = "cpu") -> Precision:
    """bfloat16 where it multiplies clearly faster: processors without it emulate it, many times slower."""
    slow, fast = (_gflops(dtype, device, 0.02) for dtype in (torch.float32, torch.bfloat16))
    return "bfloat16" if fast > 1.5 * slow else "float32"


def on_this_machine(settings: TrainSettings) -> TrainSettings:
    """The settings with the device and the precision decided; raises ConfigError when the device is not here."""
    device = choose_device(settings.device)
    precision = best_precision(device) if settings.precision == "auto" else settings.precision
    return replace(settings, device=str(device), precision=precision)


def _gflops(dtype: torch.dtype, device: str | torch.device, seconds: float) -> float:
    a = torch.randn(1024, 512, device=device).to(dtype)
    b = torch.randn(512, 512, device=device).to(dtype)
    return 2 * 1024 * 512 * 512 / _seconds_of(lambda: float((a @ b)[0, 0]), seconds) / 1e9


def _seconds_of(work: Callable[[], float], seconds: float) -> float:
    """The fastest of several runs of `work`, measured for at least `seconds`."""
    work()
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - began)
    return best
