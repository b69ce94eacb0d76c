"""One thread budget for every library that computes."""

from __future__ import annotations

import os

from glassgpt.core.errors import ConfigError

_chosen: list[int] = []


def use_threads(threads: int) -> None:
    """Sets the budget of this process; raises ConfigError unless it is from 1 to 1024."""
    _chosen[:] = [check_threads(threads)]


def chosen_threads() -> int | None:
    """What `use_threads` set; None where nobody did."""
    return _chosen[0] if _chosen else None


def thread_budget() -> int:
    """How many threads this process may use: those that were chosen, or else the cores it is allowed to run on."""
    if _chosen:
        return _chosen[0]
    if hasattr(os, "sched_getaffinity"):  # respects taskset and containers; not on macOS and Windows
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def check_threads(threads: int) -> int:
    """`threads` itself if it is from 1 to 1024; raises ConfigError otherwise."""
    if not 1 <= threads <= 1024:
        raise ConfigError("threads is {value}; expected a whole number from 1 to 1024", value=threads)
    return threads
