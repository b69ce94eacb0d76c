"""Memory that was freed, given back to the system."""

from __future__ import annotations

import ctypes
import gc


def release() -> None:
    """Give back what is no longer used. glibc keeps what a thread freed for that thread: hundreds of megabytes after a
    training, while saving needs some; elsewhere this only collects garbage."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError, TypeError):  # not glibc
        return
