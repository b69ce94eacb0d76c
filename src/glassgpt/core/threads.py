"""One thread budget for every library that computes."""

from __future__ import annotations

import os

from glassgpt.core.errors import ConfigError


def thread_budget() -> int:
    """How many threads this process may use: the cores it is allowed to run on."""
    if hasattr(os, "sched_getaffinity"):  # respects taskset and containers; not on macOS and Windows
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def check_threads(threads: int) -> int:
    """`threads` itself if it is from 1 to 1024; raises ConfigError otherwise."""
    if not 1 <= threads <= 1024:
        raise ConfigError("threads is {value}; expected a whole number from 1 to 1024", value=threads)
    return threads
