"""What this machine can do, measured in a moment: so that times mean something to a reader with another one."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from glassgpt.training.settings import Precision


@dataclass(frozen=True)
class Machine:
    """Speed of matrix products in GFLOP/s by number type, and of reading memory in GB/s; `threads` that computed."""

    float32_gflops: float
    bfloat16_gflops: float
    memory_gb_s: float
    threads: int

    @property
    def best_precision(self) -> Precision:
        """bfloat16 where it multiplies clearly faster: processors without it emulate it, many times slower."""
        return "bfloat16" if self.bfloat16_gflops > 1.5 * self.float32_gflops else "float32"


def measure_machine(device: str | torch.device = "cpu", seconds: float = 0.1) -> Machine:
    """Measure for about four times `seconds`."""
    gflops = {}
    for dtype in (torch.float32, torch.bfloat16):
        a = torch.randn(1024, 512, device=device).to(dtype)
        b = torch.randn(512, 512, device=device).to(dtype)
        each = _seconds_of(lambda a=a, b=b: float((a @ b)[0, 0]), seconds)  # type: ignore[misc]
        gflops[dtype] = 2 * 1024 * 512 * 512 / each / 1e9
    block = torch.ones(16 << 20, device=device)  # 64 MB: larger than most caches
    memory = block.numel() * 4 / _seconds_of(lambda: float(block.sum()), seconds) / 1e9
    return Machine(gflops[torch.float32], gflops[torch.bfloat16], memory, torch.get_num_threads())


def _seconds_of(work: Callable[[], float], seconds: float) -> float:
    """The fastest of several runs of `work`, measured for at least `seconds`."""
    work()
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - began)
    return best
