"""Weights in 4 or 8 bits: every 32 neighbours along the input share a scale and a floor, w = scale q + floor.

That is the arithmetic of GGUF's Q4_1 and has its Q4_0 and Q8_0 in it, so the numbers of such files are taken as they
are. Activations become signed 8-bit
numbers, 32 to a scale, when they meet the weights.

Shapes: N positions, in and out the matrix's widths; groups G = in / 32.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from glassgpt.core.errors import ConfigError, FormatError

GROUP = 32  # weights to a scale
TILES = 8  # that are read at once, so that what lies between stays in the processor's cache
LANES = 16  # rows that lie side by side: as many 32-bit numbers as the widest vector holds
BLOCKS = {"Q4_0": 18, "Q4_1": 20, "Q8_0": 34}  # bytes of 32 weights in a GGUF file
_LEVELS = {4: 15, 8: 255}

T = TypeVar("T", bound=np.generic)
Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class QuantizedMatrix:
    """A matrix [out, in], laid out for reading in order.

    Sixteen rows make a tile. In a tile stands one group of all its rows after the other, and in a group four inputs of
    the first row, four of the second, and so on: one vector of 64 bytes. With 4 bits, a byte holds a number of the
    group's first half and, above it, one of its second half.

    Attributes:
        bits: 4 or 8.
        shape: (out, in) as they were; out is filled up with zeros to whole tiles.
        values: uint8 [tiles, G, 4 or 8, 64].
        scales: float16 [tiles, G, 2, 16]: the scales of the rows, then their floors.
    """

    bits: int
    shape: tuple[int, int]
    values: Bytes
    scales: NDArray[np.float16]

    @property
    def nbytes(self) -> int:
        """What a product reads."""
        return self.values.nbytes + self.scales.nbytes

    def rows(self, ids: NDArray[np.int64]) -> Floats:
        """Some of its rows, [N, in]."""
        tiles, groups, per_group = self.values.shape[:3]
        q = self.values.reshape(tiles, groups, per_group, LANES, 4)[ids // LANES, :, :, ids % LANES]
        if self.bits == 4:
            q = np.concatenate((q & 15, q >> 4), axis=2)  # [N, G, 8, 4]
        scale, floor = self.scales[ids // LANES, :, :, ids % LANES].astype(np.float32).transpose(2, 0, 1)[..., None]
        return (q.reshape(len(ids), groups, GROUP) * scale + floor).reshape(len(ids), -1)

    def dequantize(self) -> Floats:
        """The matrix [out, in] that it stands for."""
        out, width = self.shape
        whole = empty((out, width), np.float32)
        for first in range(0, len(self.values), TILES):
            rows = self.tile_rows(first, first + TILES)
            start = first * LANES
            whole[start : start + len(rows)] = rows[: out - start]
        return whole

    def tile_rows(self, first: int, last: int) -> Floats:
        """The rows [N, in] of the tiles from `first` up to `last`, what fills up the last one included."""
        packed = self.values[first:last]
        tiles, groups = packed.shape[:2]
        q = np.empty((tiles, LANES, groups, 8), np.uint32)  # four numbers in each
        halves = (packed & 15, packed >> 4) if self.bits == 4 else (packed,)
        for number, half in enumerate(halves):
            at = number * half.shape[2]
            q[..., at : at + half.shape[2]] = half.view(np.uint32).transpose(0, 3, 1, 2)
        numbers = q.view(np.uint8).astype(np.float32).reshape(-1, groups, GROUP)
        scale, floor = self.scales[first:last].transpose(2, 0, 3, 1).astype(np.float32)
        numbers *= scale.reshape(-1, groups, 1)
        numbers += floor.reshape(-1, groups, 1)
        return numbers.reshape(tiles * LANES, -1)


def quantize(matrix: Floats, bits: int) -> QuantizedMatrix:
    """A matrix [out, in] in 4 or 8 bits, each group spread evenly from its smallest to its largest weight.

    Raises:
        ConfigError: `bits` is neither, or the input's width is no multiple of 32.
        FormatError: a weight is no number, or more than float16 holds.
    """
    if bits not in _LEVELS:
        raise ConfigError("{bits} bits a weight are not known; expected 4 or 8", bits=bits)
    out, width = matrix.shape
    if width % GROUP:
        raise ConfigError(
            "a matrix with {width} inputs is not quantised; expected a multiple of {group}", width=width, group=GROUP
        )
    groups = matrix.reshape(out, -1, GROUP).astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # `pack` refuses what comes of it
        floor = groups.min(axis=2).astype(np.float16)
        # Rounded to float16 first: what is divided by must be what is multiplied with.
        scale = ((groups.max(axis=2) - floor) / _LEVELS[bits]).astype(np.float16)
        steps = np.where(scale == 0, np.float32(1), scale.astype(np.float32))[..., None]
        q = np.rint((groups - floor.astype(np.float32)[..., None]) / steps).clip(0, _LEVELS[bits]).astype(np.uint8)
    return pack(q, scale, floor, bits)


def pack(q: Bytes, scale: NDArray[np.float16], floor: NDArray[np.float16], bits: int) -> QuantizedMatrix:
    """The layout, from numbers `q` [out, G, 32] and their scales and floors [out, G].

    Raises:
        FormatError: a scale or a floor is no number, or more than float16 holds.
    """
    if bits == 4:
        q = np.bitwise_or(q[..., :16], np.left_shift(q[..., 16:], 4, dtype=np.uint8))
    return _lay_out(np.ascontiguousarray(q), scale, floor, bits)


def _lay_out(packed: Bytes, scale: NDArray[np.float16], floor: NDArray[np.float16], bits: int) -> QuantizedMatrix:
    """The layout, from bytes [out, G, 16 or 32] as they meet the inputs, four of them at a time."""
    if not (np.isfinite(scale).all() and np.isfinite(floor).all()):
        raise FormatError("a scale of the quantised weights is no number", hint="The file is damaged; fetch it again.")
    out, groups, _ = packed.shape
    tiles = -(-out // LANES)
    more = tiles * LANES - out
    fours = packed.view(np.uint32)  # [out, G, 4 or 8]
    if more:
        fours = np.pad(fours, ((0, more), (0, 0), (0, 0)))
        scale, floor = np.pad(scale, ((0, more), (0, 0))), np.pad(floor, ((0, more), (0, 0)))
    values = empty((tiles, groups, bits, LANES), np.uint32)
    values[...] = fours.reshape(tiles, LANES, groups, bits).transpose(0, 2, 3, 1)
    scales = empty((tiles, groups, 2, LANES), np.float16)
    scales[:, :, 0] = scale.reshape(tiles, LANES, groups).transpose(0, 2, 1)
    scales[:, :, 1] = floor.reshape(tiles, LANES, groups).transpose(0, 2, 1)
    return QuantizedMatrix(bits, (out, groups * GROUP), values.view(np.uint8), scales)


def from_blocks(raw: Bytes, kind: str) -> QuantizedMatrix:
    """A matrix as it lies in a GGUF file, [out, bytes of a row], without rounding anything: Q4_0 is d (q - 8), Q4_1 is
    d q + m, Q8_0 is d times a signed byte, and d times 8 or 128 is exact in float16.

    Raises:
        ConfigError: blocks of another kind.
        FormatError: a scale is no number, or more than float16 holds.
    """
    if kind not in BLOCKS:
        raise ConfigError("blocks of kind {kind} are not taken as they are", kind=kind)
    blocks = raw.reshape(len(raw), -1, BLOCKS[kind])
    scale = _halves(blocks[..., :2])
    if kind == "Q8_0":
        signed = np.ascontiguousarray(blocks[..., 2:]).view(np.uint64)
        # The sign bits turned: 0 to 255.
        return _lay_out((signed ^ np.uint64(0x8080808080808080)).view(np.uint8), scale, scale * np.float16(-128), 8)
    packed = np.ascontiguousarray(blocks[..., -GROUP // 2 :])
    return _lay_out(packed, scale, _halves(blocks[..., 2:4]) if kind == "Q4_1" else scale * np.float16(-8), 4)


def _halves(raw: Bytes) -> NDArray[np.float16]:
    return np.ascontiguousarray(raw).view("<f2")[..., 0].astype(np.float16)


def quantize_rows(x: Floats) -> tuple[NDArray[np.int8], Floats, Floats]:
    """Activations [N, in] as signed bytes [N, in], their scales [N, G], and the scaled sums of the groups [N, G]."""
    groups = x.reshape(len(x), -1, GROUP)
    scale = (np.abs(groups).max(axis=2) / 127).astype(np.float32)
    steps = np.where(scale == 0, np.float32(1), scale)[..., None]
    q = np.rint(groups / steps).astype(np.int8)
    sums = (scale * q.sum(axis=2, dtype=np.int32)).astype(np.float32)
    return aligned(q.reshape(x.shape)), scale, sums


def multiply_plain(matrix: QuantizedMatrix, x: Floats) -> Floats:
    """x [N, in] times the matrix, [N, out]: the twin of `kernels.multiply`, in numpy and float64."""
    q, scale, _ = quantize_rows(x)
    rounded = (q.reshape(len(x), -1, GROUP) * scale.astype(np.float64)[..., None]).reshape(x.shape)
    return (rounded @ matrix.dequantize().astype(np.float64).T).astype(np.float32)


def aligned(array: NDArray[T]) -> NDArray[T]:
    """A copy that begins on 64 bytes, as vectors of that width are read fastest."""
    copy = empty(array.shape, array.dtype)
    copy[...] = array
    return copy


def empty(shape: tuple[int, ...], kind: Any) -> NDArray[Any]:
    """An array that begins on 64 bytes."""
    return _on_line(np.empty(math.prod(shape) * np.dtype(kind).itemsize + 64, np.uint8), shape, kind)


def zeros(shape: tuple[int, ...], kind: Any) -> NDArray[Any]:
    """Zeros that begin on 64 bytes; a large array takes memory only where it is written to."""
    return _on_line(np.zeros(math.prod(shape) * np.dtype(kind).itemsize + 64, np.uint8), shape, kind)


def _on_line(memory: Bytes, shape: tuple[int, ...], kind: Any) -> NDArray[Any]:
    size = len(memory) - 64
    start = -memory.ctypes.data % 64
    return memory[start : start + size].view(kind).reshape(shape)
