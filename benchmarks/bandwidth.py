"""How fast this machine reads memory: what bounds the writing of text, where every token reads all the weights.

    python -m benchmarks.bandwidth [--rounds 7] [--threads 2]

An array of a gigabyte is summed on several threads at once, by numpy and by compiled code; the higher counts, in GB/s.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import median

import numba
import numpy as np

from glassgpt.core.threads import check_threads, thread_budget

SIZE = 1 << 30


@numba.njit(nogil=True)
def total(values: np.ndarray) -> np.uint64:
    """The sum of whole numbers, in as many at once as the compiler likes."""
    found = np.uint64(0)
    for i in range(len(values)):
        found += values[i]
    return found


def read_bandwidth(rounds: int, threads: int) -> list[float]:
    """GB/s of each round, of the way of summing whose median is the higher."""
    values = np.ones(SIZE // 8, np.uint64)
    parts = np.array_split(values, threads)
    ways: list[Callable[[np.ndarray], np.uint64]] = [np.sum, total]
    total(values[:8])
    found: list[list[float]] = [[] for _ in ways]
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(rounds):
            for way, speeds in zip(ways, found, strict=True):
                began = time.perf_counter()
                read = sum(map(int, pool.map(way, parts)))
                speeds.append(SIZE / (time.perf_counter() - began) / 1e9)
                assert read == SIZE // 8
    return max(found, key=median)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bandwidth")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=thread_budget())
    args = parser.parse_args()
    found = read_bandwidth(args.rounds, check_threads(args.threads))
    print(f"{median(found):.1f} GB/s ({min(found):.1f} to {max(found):.1f}), {args.threads} threads")


if __name__ == "__main__":
    main()
