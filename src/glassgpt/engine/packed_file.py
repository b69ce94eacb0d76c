"""Packed weights on disk: quantised once, mapped into memory ever after.

The file is ours alone and lies in the cache folder: a line that says what it is, a JSON header of known size and hash,
and the arrays, each beginning on 64 bytes. It is taken only where it fits the model's file as it is now, and made anew
otherwise. Its header is believed in nothing that the compiled step would follow beyond the file.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import os
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassgpt.engine.packing import Part, Parts, WideMatrix
from glassgpt.engine.quantize import GROUP, LANES, QuantizedMatrix
from glassgpt.formats.catalog import cache_folder

MAGIC = b"glassgpt packed weights 1\n"
_ALIGNMENT, _MOST = 64, 16 << 20  # bytes; the second: of a header
_AHEAD, _PIECE = 1 << 30, 8 << 20  # bytes read before the first step asks for them: in all, and at once
_HEAD = len(MAGIC) + 8 + 32  # bytes before the header: what the file is, the header's size and SHA-256


def signature(source: Path, precision: str) -> dict[str, Any]:
    """What packed weights fit: the model's files as they are, the precision, and the way they are packed."""
    files = [source] if source.is_file() else sorted(p for p in source.iterdir() if p.is_file())
    seen = [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]
    code = hashlib.sha256()
    for name in ("packing.py", "quantize.py", "packed_file.py"):
        code.update((Path(__file__).parent / name).read_bytes())
    return {"source": str(source.absolute()), "files": seen, "precision": precision, "code": code.hexdigest()}


def place(source: Path, precision: str) -> Path:
    """Where the packed weights of a model lie, or would."""
    name = hashlib.sha256(str(source.absolute()).encode()).hexdigest()[:16]
    return cache_folder() / "packed" / f"{source.stem[:40]}-{name}-{precision}.bin"


def save_parts(path: Path, parts: Parts, fits: dict[str, Any]) -> None:
    """Keep packed weights; raises OSError where the disk refuses them, and leaves nothing half written."""
    arrays: list[NDArray[Any]] = []
    described = {name: _describe(part, arrays) for name, part in parts.items()}
    at, places = 0, []
    for array in arrays:
        places.append(at)
        at += -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT
    header = json.dumps({"fits": fits, "parts": described, "places": places, "size": at}).encode()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(MAGIC + len(header).to_bytes(8, "little") + hashlib.sha256(header).digest() + header)
            start = _start(len(header))
            for offset, array in zip(places, arrays, strict=True):
                file.seek(start + offset)
                file.write(np.ascontiguousarray(array).data)
            file.truncate(start + at)
            file.flush()
            os.fsync(file.fileno())  # a power cut must not leave a file of the right size with nothing in it
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


def load_parts(path: Path, fits: dict[str, Any]) -> Parts | None:
    """The packed weights of a file, mapped and not read; None where there is none that fits."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
            size = int.from_bytes(head[len(MAGIC) : len(MAGIC) + 8], "little")
            if not head.startswith(MAGIC) or size > _MOST:
                return None
            raw = file.read(size)
            if hashlib.sha256(raw).digest() != head[-32:]:
                return None
            header = json.loads(raw)
            start = _start(size)
            if header["fits"] != fits or os.fstat(file.fileno()).st_size != start + header["size"]:
                return None
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if min(header["places"]) < 0:
            return None
        places = [start + offset for offset in header["places"]]
        parts = {name: _restore(part, places, data) for name, part in header["parts"].items()}
        threading.Thread(target=_touch, args=(data,), name="glassgpt-read-ahead", daemon=True).start()
        return parts
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError, RecursionError):
        return None


def _touch(data: mmap.mmap) -> None:
    """Have the system map what the first step will read, while Python prepares it."""
    for at in range(0, min(len(data), _AHEAD), _PIECE):
        np.frombuffer(data, np.uint8, min(_PIECE, len(data) - at), at)[:: mmap.PAGESIZE].max()


def _describe(part: Part, arrays: list[NDArray[Any]]) -> dict[str, Any]:
    def note(array: NDArray[Any]) -> dict[str, Any]:
        arrays.append(array)
        return {"at": len(arrays) - 1, "shape": list(array.shape), "kind": array.dtype.name}

    if isinstance(part, np.ndarray):
        return {"array": note(part)}
    described: dict[str, Any] = {"bits": part.bits, "shape": list(part.shape), "values": note(part.values)}
    return described | ({"scales": note(part.scales)} if isinstance(part, QuantizedMatrix) else {})


def _restore(part: dict[str, Any], places: list[int], data: mmap.mmap) -> Part:
    def array(told: dict[str, Any], kind: str, shape: list[int]) -> NDArray[Any]:
        at = told["at"]
        place = places[at]
        if told["kind"] != kind or told["shape"] != shape or min(at, *shape) < 0 or place % _ALIGNMENT:
            raise ValueError
        return np.frombuffer(data, kind, math.prod(shape), place).reshape(shape)

    if "array" in part:
        return array(part["array"], "float32", part["array"]["shape"])
    (rows, columns), bits = part["shape"], part["bits"]
    tiles, groups = -(-rows // LANES), columns // GROUP
    if "scales" not in part:
        kind = {32: "float32", 16: "uint16"}[bits]
        return WideMatrix(bits, (rows, columns), array(part["values"], kind, [tiles, columns, LANES]))
    if bits not in (4, 8) or columns % GROUP:
        raise ValueError
    values = array(part["values"], "uint8", [tiles, groups, bits, 4 * LANES])
    return QuantizedMatrix(bits, (rows, columns), values, array(part["scales"], "float16", [tiles, groups, 2, LANES]))


def _start(header: int) -> int:
    return -(-(_HEAD + header) // _ALIGNMENT) * _ALIGNMENT
