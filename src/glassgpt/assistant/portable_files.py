"""Files that conversations come from and go to: written whole, and read within limits, as they come from anywhere."""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from glassgpt.core.errors import FormatError, GlassError
from glassgpt.core.files import refusing_disk, umask

MAX_FILE = 256 << 20  # bytes, unpacked
MAX_ENTRIES = 100_000  # files in a zip
_MAX_RATIO = 200  # unpacked to packed; texts reach 20
_MAX_MARKS = 16_000_000  # brackets and commas of a JSON file, for each of which memory may be taken


def write_chunks(path: Path, chunks: Iterable[str]) -> None:
    """A file of parts that need not fit into memory together; the old one stays until the new one is whole."""
    with refusing_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
                Path(name).chmod(0o666 & ~umask())
                file.writelines(chunks)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        finally:
            Path(name).unlink(missing_ok=True)


def read_limited(path: Path) -> bytes:
    """A file whole; raises FormatError where it is larger than MAX_FILE."""
    with path.open("rb") as file:
        content = file.read(MAX_FILE + 1)
    if len(content) > MAX_FILE:
        raise _too_large(path.name)
    return content


def decoded(content: bytes, name: str) -> str:
    """Bytes as text; raises FormatError where they are no UTF-8."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise FormatError("{name} is not UTF-8", name=name, hint="Save it as UTF-8.") from None


def parsed(content: bytes, name: str) -> Any:
    """What a JSON file holds; raises FormatError where it is none, or too large or nested too deep to be read."""
    if sum(map(content.count, (b"[", b"{", b","))) > _MAX_MARKS:
        raise FormatError("{name} holds more values than can be read", name=name,
                          hint="Export fewer conversations at a time.")  # fmt: skip
    try:
        return json.loads(decoded(content, name))
    except (ValueError, RecursionError):
        raise FormatError("{name} is not valid JSON", name=name, hint="Export it again.") from None


def is_zip(path: Path) -> bool:
    """Whether a file begins as a zip does (text may hold what a zip ends with)."""
    with path.open("rb") as file:
        return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")


def conversations_in_zip(path: Path) -> Iterator[bytes]:
    """The conversations in a zip of ChatGPT's: only those files are opened, and none is laid on the disk."""
    try:
        with zipfile.ZipFile(path) as packed:
            if len(packed.infolist()) > MAX_ENTRIES:
                raise _too_large(path.name)
            wanted = [i for i in packed.infolist() if _is_conversations(i.filename)]
            if not wanted:
                raise FormatError("{name} holds no conversations that are known", name=path.name,
                                  hint="Give an export of glassgpt's or ChatGPT's, or Markdown.")  # fmt: skip
            room = MAX_FILE
            for info in wanted:
                if info.flag_bits & 1:
                    raise FormatError("{name} is encrypted; only plain zips are read", name=path.name,
                                      hint="Unpack it first.")  # fmt: skip
                # What the zip says of sizes is checked, and not believed: no more than there is room for is unpacked.
                if info.file_size > min(room, max(1 << 20, _MAX_RATIO * info.compress_size)):
                    raise _too_large(path.name)
                with packed.open(info) as file:
                    content = file.read(room + 1)
                if len(content) > room:
                    raise _too_large(path.name)
                room -= len(content)
                yield content
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise FormatError("{name} is a damaged zip ({reason})", name=path.name, reason=str(error)[:200],
                          hint="Fetch it again.") from error  # fmt: skip


def _is_conversations(name: str) -> bool:
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    return last.startswith("conversations") and last.endswith(".json") and last[13:-5].strip("-_0123456789") == ""


def _too_large(name: str) -> GlassError:
    return FormatError("{name} is larger than {limit} MB unpacked", name=name, limit=MAX_FILE >> 20,
                       hint="Export fewer conversations at a time.")  # fmt: skip
