"""What Python and the C library do with memory: nothing here changes a result."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MMAP_THRESHOLD = -3  # mallopt's name for it in glibc's malloc.h


def release() -> None:
    """Give back what is no longer used. glibc keeps what a thread freed for that thread: hundreds of megabytes after a
    training, while saving needs some; elsewhere this only collects garbage."""
    gc.collect()
    _call("malloc_trim", 0)


def keep_large_apart(size: int = 2 << 20) -> None:
    """Let blocks from `size` bytes on be given back when they are freed. Otherwise glibc learns, from the first large
    one that is freed, to put them between the small ones, where they leave holes: a tenth of a training's memory."""
    _call("mallopt", _MMAP_THRESHOLD, size)


def available_memory() -> int | None:
    """Bytes that programs can have without others being moved to the disk; None where the system does not say (only
    Linux does, in /proc)."""
    try:
        about = Path("/proc/meminfo").read_text(encoding="ascii")
        return 1024 * int(about.partition("MemAvailable:")[2].split()[0])
    except (OSError, ValueError, IndexError):
        return None


def _call(name: str, *arguments: int) -> None:
    try:
        getattr(ctypes.CDLL(None), name)(*arguments)
    except (OSError, AttributeError, TypeError):  # not glibc
        return


@contextmanager
def without_collecting() -> Iterator[None]:
    """Python looks for no garbage meanwhile: where a hundred thousand strings are made, it would look at them again
    and again, which takes a third of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
