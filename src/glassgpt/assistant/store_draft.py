"""What waits in memory for the writer: replies that are being written, and single pieces of work."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from glassgpt.assistant.store_rows import WRITING


@dataclass(eq=False)
class Draft:
    """A reply that is being written: its text in memory is ahead of the database."""

    id: str
    extras: dict[str, Any] = field(default_factory=dict)
    parts: list[str] = field(default_factory=list)
    length: int = 0
    saved: int = 0  # characters that are committed
    replaced: int = 0
    state: str = WRITING
    over: bool = False  # its last state is committed, or never will be
    waiting: list[Future[None]] = field(default_factory=list)


@dataclass(eq=False)
class Work:
    """A piece of work that waits for its transaction: how many characters it holds, and since when."""

    run: Callable[[Connection], Any]
    size: int
    future: Future[Any] = field(default_factory=Future)
    since: float = field(default_factory=time.monotonic)
