"""A process known by its number and the moment it began: so a number that the system gave to another one is never
taken for it.

On Linux the moment is read from /proc; elsewhere `ps` is asked, which only Linux has been checked with.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

_PROC = Path("/proc")


def this_process() -> dict[str, Any]:
    """This process, as it is kept in a file: {"pid": ..., "began": ...}."""
    return {"pid": os.getpid(), "began": begin_of(os.getpid())}


def is_running(process: object) -> bool:
    """Whether what `this_process` gave, which may have been kept for long, goes on."""
    if not isinstance(process, dict):
        return False
    pid, began = process.get("pid"), process.get("began")
    return isinstance(pid, int) and pid > 1 and isinstance(began, str) and began != "" and begin_of(pid) == began


def ask_to_end(process: dict[str, Any]) -> bool:
    """Send SIGTERM to what `this_process` gave; gives whether it was still running. On Linux no other process can get
    the signal, whatever happens between looking and sending."""
    pid = process.get("pid")
    with contextlib.suppress(OSError):
        if not is_running(process) or not isinstance(pid, int):
            return False
        if sys.platform != "linux":
            os.kill(pid, signal.SIGTERM)
            return True
        handle = os.pidfd_open(pid)
        try:
            if is_running(process):
                signal.pidfd_send_signal(handle, signal.SIGTERM)
                return True
        finally:
            os.close(handle)
    return False


def begin_of(pid: int) -> str:
    """When a process began, in the system's own words; "" where there is none, or it has ended and nobody has asked
    for its exit code yet."""
    if sys.platform == "linux":
        return _begin_by_proc(pid)
    return _begin_by_ps(pid)


def _begin_by_proc(pid: int) -> str:
    """The boot and the ticks since then (proc(5), field 22 of stat), counted behind the name, which may hold all."""
    try:
        state, *fields = (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return "" if state in "ZXx" else f"{boot}/{fields[18]}"
    except (OSError, ValueError, IndexError):
        return ""


def _begin_by_ps(pid: int) -> str:
    try:
        done = subprocess.run(
            ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, timeout=10, check=False,
            stdin=subprocess.DEVNULL, env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ""
    state, _, began = done.stdout.strip().partition(" ")
    return "" if state.startswith("Z") else " ".join(began.split())
