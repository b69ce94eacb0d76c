"""Products of quantised weights beside torch's in bfloat16, alternately in one run, on all of the budget's threads.

    python -m benchmarks.products [--rounds 7] [--shapes 49152x576 1536x576] [--positions 1 8 512]

Medians with the least and the most. GB/s counts the weights that a product reads; GOP/s a multiplication and an
addition for each weight and position. The weights of a shape are random, and as many copies of them as no cache holds;
activations are rounded before the clock starts.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from statistics import median

import numpy as np
import torch

from glassgpt.core.threads import thread_budget
from glassgpt.engine.kernels import has_dot, product
from glassgpt.engine.quantize import LANES, aligned, quantize, quantize_rows

COLD = 96 << 20  # bytes of weights in all: more than any cache here


def ours(bits: int, matrix: np.ndarray, x: np.ndarray, copies: int, pool: ThreadPoolExecutor) -> Callable[[], None]:
    """A function that multiplies x by every copy of the matrix, the tiles shared out among the threads."""
    small = quantize(matrix, bits)
    values = [(aligned(small.values), aligned(small.scales)) for _ in range(copies)]
    q, scale, sums = quantize_rows(x)
    tiles, groups = small.values.shape[:2]
    out = aligned(np.zeros((len(x), tiles * LANES), np.float32))
    run, threads = product(bits, has_dot()), thread_budget()
    ends = [tiles * i // threads for i in range(threads + 1)]

    def multiply_all() -> None:
        for v, s in values:
            addresses = [a.ctypes.data for a in (v, s, q, scale, sums, out)]
            parts = pairwise(ends)
            list(pool.map(lambda part, a=addresses: run(*a, len(x), tiles, groups, *part), parts))

    return multiply_all


def theirs(matrix: np.ndarray, x: np.ndarray, copies: int) -> Callable[[], None]:
    """The same with torch's linear layer in bfloat16."""
    weights = [torch.from_numpy(matrix).bfloat16() for _ in range(copies)]
    rows = torch.from_numpy(x).bfloat16()

    def multiply_all() -> None:
        with torch.inference_mode():
            for weight in weights:
                torch.nn.functional.linear(rows, weight)

    return multiply_all


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.products")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--shapes", nargs="+", default=["49152x576", "1536x576"])
    parser.add_argument("--positions", type=int, nargs="+", default=[1, 8, 512])
    args = parser.parse_args()
    torch.set_num_threads(thread_budget())
    chance = np.random.default_rng(0)
    print(f"{thread_budget()} threads, bytes in one instruction: {has_dot()}")
    print(f"{'matrix':<12}{'positions':>10}  {'weights':<10}{'GB/s':>8}{'GOP/s':>8}   least and most GOP/s")
    with ThreadPoolExecutor(thread_budget()) as pool:
        for shape in args.shapes:
            height, width = map(int, shape.split("x"))
            matrix = chance.standard_normal((height, width), dtype=np.float32)
            copies = max(1, COLD // (height * width))
            for positions in args.positions:
                x = chance.standard_normal((positions, width), dtype=np.float32)
                sides = {"4 bits": (ours(4, matrix, x, copies, pool), 5 / 8),
                         "8 bits": (ours(8, matrix, x, copies, pool), 9 / 8),
                         "bfloat16": (theirs(matrix, x, copies), 2.0)}  # fmt: skip
                times: dict[str, list[float]] = {name: [] for name in sides}
                for number in range(args.rounds + 1):
                    for name, (run, _) in sides.items():
                        began = time.perf_counter()
                        run()
                        if number:  # the first compiles
                            times[name].append(time.perf_counter() - began)
                for name, (_, size) in sides.items():
                    weights = copies * height * width
                    speed = [2 * weights * positions / t / 1e9 for t in times[name]]
                    read = size * weights / median(times[name]) / 1e9
                    print(f"{shape:<12}{positions:>10}  {name:<10}{read:>8.1f}{median(speed):>8.0f}   "
                          f"{min(speed):.0f} {max(speed):.0f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
