"""Room on the disk, asked for before a download and not after it."""

from __future__ import annotations

import shutil
from pathlib import Path

from glassgpt.core.errors import FetchError

_SPARE = 50_000_000  # bytes left over for everything else on the disk


def check_space(folder: Path, needed: int) -> None:
    """Check that `needed` bytes fit beside an existing `folder`.

    Raises:
        FetchError: they do not, with the counts.
    """
    free = shutil.disk_usage(folder).free
    if free < needed + _SPARE:
        raise FetchError(
            "{needed} MB are needed in {folder}, and {free} MB are free",
            hint="Free some space, or choose another folder with GLASSGPT_CACHE.",
            needed=-(-(needed + _SPARE) // 1_000_000),
            folder=folder,
            free=free // 1_000_000,
        )
