"""Writing so that a power cut or a full disk never costs what was there before, and reading of JSON."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from glassgpt.core.errors import FormatError, GlassError, NotFoundError

_MAX_JSON = 64 << 20  # bytes; the largest index file of a known model has under 1 MB


def write_whole(path: Path, content: str | bytes, private: bool = False) -> None:
    """Replace a file by a new one in one step, `private` to its user alone; raises GlassError and leaves the old one
    when the disk refuses."""
    data = content.encode() if isinstance(content, str) else content
    with refusing_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                if not private:  # mkstemp's file is
                    Path(name).chmod(0o666 & ~umask())
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        finally:
            Path(name).unlink(missing_ok=True)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill; it appears as `path`, which must not exist, when the block ends without an error."""
    with refusing_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        try:
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    flush(file)
            temporary.chmod(0o777 & ~umask())  # mkdtemp's folder is for its maker alone
            temporary.rename(path)
            flush(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def umask() -> int:
    """Which permissions the user takes from new files."""
    mask = os.umask(0o022)  # to read it, it must be set
    os.umask(mask)
    return mask


def flush(path: Path) -> None:
    """Ask the disk to hold what was written to a file or, where the system can, a folder."""
    if path.is_dir() and os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() or os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def refusing_disk(path: Path) -> Iterator[None]:
    """What the disk refuses, as a GlassError that names `path`."""
    try:
        yield
    except OSError as error:
        raise GlassError(
            "{path} could not be written ({reason})",
            hint="Free some space or choose another place; nothing that was there is lost.",
            path=path,
            reason=error.strerror or str(error),
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        NotFoundError: there is no such file.
        FormatError: it is too large, not JSON, or not an object.
    """
    if not path.is_file():
        raise NotFoundError("there is no file {path}", hint="The folder is not a complete model.", path=path)
    if path.stat().st_size > _MAX_JSON:
        raise FormatError("{path} is larger than {limit} bytes", path=path, limit=_MAX_JSON)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise FormatError("{path} is not a JSON object", hint="Fetch the file again.", path=path)
    return value
