"""What was checked once: a small marker beside a model, so that starting does not hash 98 MB each time.

The marker holds size, modification time and SHA-256 of every file. It guards against half, old and swapped files;
it is no protection from someone who can write to the folder.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

MARKER = ".verified.json"
_MARKER_LIMIT = 1 << 20  # bytes; a real one has a few hundred


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    import hashlib  # loads OpenSSL, which no start without a download needs

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remember(folder: Path, hashes: Mapping[str, str]) -> None:
    """Note that the files of `folder` named in `hashes` are complete and have these SHA-256."""
    files = {name: {**_stamp(folder / name), "sha256": digest} for name, digest in hashes.items()}
    write_whole(folder / MARKER, [json.dumps({"files": files}, indent=2).encode()])


def forget(folder: Path) -> None:
    """Remove the marker, so that the model counts as absent."""
    (folder / MARKER).unlink(missing_ok=True)


def holds(folder: Path, expected: Mapping[str, str]) -> bool:
    """Whether every file that was checked is as it was then, and those in `expected` had these SHA-256."""
    files = _read(folder)
    if not files or any(files.get(name, {}).get("sha256") != digest for name, digest in expected.items()):
        return False
    try:
        return all(_stamp(folder / name).items() <= noted.items() for name, noted in files.items())
    except OSError:
        return False


def changed(folder: Path) -> list[str]:
    """Hash every file that was checked again; the names of those that are missing or differ."""
    found = []
    for name, noted in _read(folder).items():
        path = folder / name
        if not path.is_file() or sha256_of(path) != noted.get("sha256"):
            found.append(name)
    return found


def known(folder: Path) -> list[str]:
    """The names of the files that were checked."""
    return list(_read(folder))


def write_whole(path: Path, chunks: Iterable[bytes]) -> str:
    """Write a file under a temporary name and move it into place once it is on the disk; its SHA-256.

    Whatever goes wrong on the way, Ctrl-C too, nothing half stands under the final name.
    """
    import hashlib
    import secrets

    digest = hashlib.sha256()
    temporary = path.parent / f".part-{secrets.token_hex(4)}-{path.name}"
    try:
        with temporary.open("xb") as file:
            for chunk in chunks:
                digest.update(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return digest.hexdigest()


def _stamp(path: Path) -> dict[str, int]:
    stat = path.stat()
    return {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns}


def _read(folder: Path) -> dict[str, dict[str, Any]]:
    """The marker's files; empty when there is no marker that can be understood."""
    try:
        with (folder / MARKER).open("rb") as file:
            files = json.loads(file.read(_MARKER_LIMIT))["files"]
        inside = all(Path(name).name == name and isinstance(noted, dict) for name, noted in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
    return files if inside else {}
