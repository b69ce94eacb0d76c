"""Files that a browser sends: kept under a safe name, never in the place of another, and no larger than allowed."""

from __future__ import annotations

import itertools
import os
import re
import unicodedata
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path

from glassgpt.core.errors import FormatError, InputError
from glassgpt.core.files import refusing_disk
from glassgpt.data.sources import SUFFIXES

LARGEST = 200 << 20  # bytes
KINDS = tuple(SUFFIXES)  # the ends of names that can be read, each also with .gz
_LONGEST = 120  # bytes of a name, without its end: file systems take 255
# What Windows takes for a device, whatever follows the full stop.
_DEVICES = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\.|$)")


def keep_upload(folder: Path, name: str, content: bytes | Iterable[bytes], limit: int = LARGEST) -> Path:
    """Write what was sent into a new file of `folder` and give its path.

    Args:
        name: as the browser says it; of a path the last part. Letters of any script are kept.
        content: all of it, or piece after piece.
        limit: the most bytes.

    Raises:
        FormatError: files of this kind are not read.
        InputError: it is larger than the limit, or empty.
        GlassError: the disk refuses it.
    """
    stem, end = _parts(name)
    if end.removesuffix(".gz") not in SUFFIXES:
        raise FormatError(
            "{name} is of a kind that is not read",
            hint="The kinds are {kinds}, and each of them packed as .gz. Spreadsheets can be saved as CSV.",
            name=name[:200],
            kinds=" ".join(SUFFIXES),
        )
    size = 0
    with refusing_disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
        path, handle = _new_file(folder, stem, end)
        try:
            with os.fdopen(handle, "wb") as file:
                for piece in (content,) if isinstance(content, bytes) else content:
                    size += len(piece)
                    if size > limit:
                        raise InputError("{name} is larger than {limit:,} bytes", name=name[:200], limit=limit,
                                         hint="Leave out rows, or use `glassgpt build FILE`.")  # fmt: skip
                    file.write(piece)
            if not size:
                raise InputError("{name} is empty", hint="Give a file with at least one record.", name=name[:200])
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    return path


def safe_name(name: str) -> str:
    """A name from outside as one that every file system takes and that leads to no other folder."""
    return "".join(_parts(name))


def sample_file() -> Path:
    """The sample that comes with the package: an invented online shop's questions and answers."""
    return Path(str(files("glassgpt") / "samples" / "shop.csv"))


def _parts(name: str) -> tuple[str, str]:
    """The safe name, and the end that says its kind (".csv", ".csv.gz")."""
    last = re.split(r"[/\\]", unicodedata.normalize("NFC", name))[-1]
    plain = "".join(c if c.isalnum() or c in "-_. ()（）" or unicodedata.combining(c) else "_" for c in last)
    found = re.search(r"(\.[A-Za-z]+)?(\.gz)?$", plain, re.IGNORECASE)
    end = found[0] if found else ""
    stem = plain.removesuffix(end).strip(" .")
    stem = stem.encode()[:_LONGEST].decode(errors="ignore").strip(" .") or "file"
    return (f"_{stem}" if _DEVICES.match(stem) else stem), end.lower()


def _new_file(folder: Path, stem: str, end: str) -> tuple[Path, int]:
    for number in itertools.count(1):
        path = folder / (f"{stem}{end}" if number == 1 else f"{stem}-{number}{end}")
        try:
            return path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        except FileExistsError:
            continue
    raise AssertionError
