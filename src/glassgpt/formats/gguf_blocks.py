"""How GGUF stores numbers: blocks of some kind, each some numbers in some bytes, and what they stand for.

The kinds that most files hold are a few lines of numpy here; the `gguf` library does the rest, and is imported only
then: it costs more than reading a file does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from glassgpt.core.errors import FormatError

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

_CHUNK_VALUES = 1 << 18  # values dequantised at a time: fits the cache, which is twice as fast as whole tensors
_ALIGNMENT = 64  # bytes; where a tensor begins decides how its sums are grouped (see `weights.build`)

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]


class Kind(NamedTuple):
    """A block format: its name, and how many numbers a block holds in how many bytes."""

    name: str
    values: int
    bytes: int


# By the number that stands in the file. A kind that nobody can turn into numbers is unknown.
KINDS = {
    0: Kind("F32", 1, 4),
    1: Kind("F16", 1, 2),
    2: Kind("Q4_0", 32, 18),
    3: Kind("Q4_1", 32, 20),
    6: Kind("Q5_0", 32, 22),
    7: Kind("Q5_1", 32, 24),
    8: Kind("Q8_0", 32, 34),
    10: Kind("Q2_K", 256, 84),
    11: Kind("Q3_K", 256, 110),
    12: Kind("Q4_K", 256, 144),
    13: Kind("Q5_K", 256, 176),
    14: Kind("Q6_K", 256, 210),
    16: Kind("IQ2_XXS", 256, 66),
    17: Kind("IQ2_XS", 256, 74),
    18: Kind("IQ3_XXS", 256, 98),
    19: Kind("IQ1_S", 256, 50),
    20: Kind("IQ4_NL", 32, 18),
    21: Kind("IQ3_S", 256, 110),
    22: Kind("IQ2_S", 256, 82),
    23: Kind("IQ4_XS", 256, 136),
    29: Kind("IQ1_M", 256, 56),
    30: Kind("BF16", 1, 2),
    34: Kind("TQ1_0", 256, 54),
    35: Kind("TQ2_0", 256, 66),
    39: Kind("MXFP4", 32, 17),
    40: Kind("NVFP4", 64, 36),
    41: Kind("Q1_0", 128, 18),
}


def dequantize(blocks: Bytes, kind: Kind, pool: ThreadPoolExecutor | None = None) -> Floats:
    """Blocks [N, bytes] to numbers [N, values] in float32, in memory that begins on 64 bytes; `pool` spreads the
    chunks of many over threads.

    Raises:
        FormatError: the installed `gguf` library does not know the kind.
    """
    convert = _PLAIN.get(kind.name) or _from_library(kind)
    out = aligned_empty(len(blocks), kind.values)
    step = max(1, _CHUNK_VALUES // kind.values)

    def one(start: int) -> None:
        with np.errstate(all="ignore"):  # damaged numbers are told by those who look for them
            convert(blocks[start : start + step], out[start : start + step])

    starts = range(0, len(blocks), step)
    for _ in pool.map(one, starts) if pool is not None else map(one, starts):
        pass
    return out


def aligned_empty(*shape: int) -> Floats:
    """Memory for float32 that begins on 64 bytes, as torch's own does and numpy's does not."""
    size = 4 * int(np.prod(shape))
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].view(np.float32).reshape(shape)


def _f32(blocks: Bytes, out: Floats) -> None:
    out.view(np.uint8)[...] = blocks


def _f16(blocks: Bytes, out: Floats) -> None:
    out[...] = _halves(blocks)


def _bf16(blocks: Bytes, out: Floats) -> None:
    bits = np.ascontiguousarray(blocks).view("<u2").astype(np.uint32)
    np.left_shift(bits, 16, out=out.view(np.uint32))  # the upper half of a float32


def _q4_0(blocks: Bytes, out: Floats) -> None:
    _nibbles(blocks[:, 2:], out)
    out -= np.float32(8)
    out *= _halves(blocks[:, :2])


def _q4_1(blocks: Bytes, out: Floats) -> None:
    _nibbles(blocks[:, 4:], out)
    out *= _halves(blocks[:, :2])
    out += _halves(blocks[:, 2:4])


def _q8_0(blocks: Bytes, out: Floats) -> None:
    np.multiply(blocks[:, 2:].view(np.int8), _halves(blocks[:, :2]), out=out)


def _nibbles(packed: Bytes, out: Floats) -> None:
    """A byte holds a number of the block's first half and, above it, one of its second half."""
    half = packed.shape[1]
    out[:, :half] = packed & np.uint8(15)
    out[:, half:] = packed >> np.uint8(4)


def _halves(raw: Bytes) -> Floats:
    return np.ascontiguousarray(raw).view("<f2").astype(np.float32)


_PLAIN: dict[str, Callable[[Bytes, Floats], None]] = {
    "F32": _f32,
    "F16": _f16,
    "BF16": _bf16,
    "Q4_0": _q4_0,
    "Q4_1": _q4_1,
    "Q8_0": _q8_0,
}


def _from_library(kind: Kind) -> Callable[[Bytes, Floats], None]:
    from gguf import GGMLQuantizationType, quants

    if kind.name not in GGMLQuantizationType.__members__:
        raise FormatError(
            "the installed `gguf` library does not know the type {kind}",
            hint="Update it: pip install -U gguf.",
            kind=kind.name,
        )
    known = GGMLQuantizationType[kind.name]

    def convert(blocks: Bytes, out: Floats) -> None:
        # One wide row: the library loops over rows in Python.
        out[...] = quants.dequantize(blocks.reshape(1, -1), known).reshape(out.shape)

    return convert
