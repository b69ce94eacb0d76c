"""Products of quantised matrices, compiled by numba.

A group of 32 inputs is multiplied in whole numbers, which is exact in any order; then its scales come in, in float32
and one group after the other. So a position's sums do not depend on how many positions there are beside it, on the
number of threads, or on the processor: one that multiplies bytes in a single instruction (AVX-512 VNNI) and one that
does not give the same bits. `quantize.multiply_plain` is the plain twin.

numba has no vectors of its own, so the innermost step, one group of sixteen rows, is built instruction by instruction
(`numba.extending.intrinsic`); everything around it is Python.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np
from llvmlite import binding, ir
from numba.core import cgutils, config
from numba.core import types as nb
from numba.extending import intrinsic

from glassgpt.core.errors import ConfigError
from glassgpt.engine.quantize import GROUP, LANES, Floats, QuantizedMatrix, aligned, quantize_rows

ROWS = 4  # positions that share a reading of the weights: as many sums as stay in registers
_INT, _ADDRESS = ir.IntType(32), ir.IntType(64)
_INTS = ir.VectorType(_INT, LANES)
_FLOATS, _HALVES = ir.VectorType(ir.FloatType(), LANES), ir.VectorType(ir.HalfType(), LANES)


def multiply(matrix: QuantizedMatrix, x: Floats, *, dot: bool | None = None) -> Floats:
    """x [N, in] times the matrix [out, in], in the rounding of `quantize_rows`; gives [N, out].

    Args:
        dot: whether to multiply bytes in one instruction; unless given, where the processor can.

    Raises:
        ConfigError: x does not fit the matrix.
    """
    if x.ndim != 2 or x.shape[1] != matrix.shape[1]:
        raise ConfigError(
            "numbers of shape {given} do not fit a matrix of {rows} x {width}",
            given=x.shape, rows=matrix.shape[0], width=matrix.shape[1],
        )  # fmt: skip
    q, scale, sums = quantize_rows(x)
    tiles, groups = matrix.values.shape[:2]
    out = aligned(np.zeros((len(x), tiles * LANES), np.float32))
    run = product(matrix.bits, has_dot() if dot is None else dot)
    addresses = [a.ctypes.data for a in (matrix.values, matrix.scales, q, scale, sums, out)]
    run(*addresses, len(x), tiles, groups, 0, tiles)
    return out[:, : matrix.shape[0]]


def has_dot() -> bool:
    """Whether numba compiles for a processor with AVX-512 VNNI."""
    if config.CPU_NAME or config.CPU_FEATURES:  # type: ignore[attr-defined]
        return False  # told to compile for another one
    return bool(binding.get_host_cpu_features().get("avx512vnni"))


@cache
def product(bits: int, dot: bool) -> Callable[..., None]:
    """The compiled product of the tiles from `first` up to, not including, `last`: `(values, scales, x, x_scales,
    x_sums, out, rows, tiles, groups, first, last)`, the first six addresses of a matrix, of what `quantize_rows` gives,
    and of float32 zeros [rows, tiles * 16] that begin on 64 bytes. It holds no lock of Python's, and calls for
    different tiles may run at once."""
    many, one = group_step(bits, dot, ROWS), group_step(bits, dot, 1)
    group_bytes = LANES * GROUP * bits // 8

    @numba.njit(nogil=True)
    def run(values: int, scales: int, x: int, x_scales: int, x_sums: int, out: int,
            rows: int, tiles: int, groups: int, first: int, last: int) -> None:  # fmt: skip
        for tile in range(first, last):
            row = 0
            while row < rows:
                together = row + ROWS <= rows
                for group in range(groups):
                    at, here = tile * groups + group, row * groups + group
                    v, s = values + at * group_bytes, scales + at * LANES * 4
                    i, j, k = x + here * GROUP, x_scales + here * 4, x_sums + here * 4
                    o = out + (row * tiles + tile) * LANES * 4
                    if together:
                        many(v, s, i, j, k, o, groups, tiles)
                    else:
                        one(v, s, i, j, k, o, groups, tiles)
                row += ROWS if together else 1

    return run


def group_step(bits: int, dot: bool, rows: int) -> Any:
    """What adds one group of one tile to the sums of `rows` positions, for numba code to call: `(values, scales, x,
    x_scales, x_sums, out, groups, tiles)`, addresses and how far apart positions lie."""

    @intrinsic
    def step(typing: Any, values: Any, scales: Any, x: Any, x_scales: Any, x_sums: Any, out: Any, groups: Any,
             tiles: Any) -> Any:  # fmt: skip
        def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
            _generate(builder, bits, dot, rows, *arguments)
            return context.get_dummy_value()

        return nb.void(*[nb.intp] * 8), generate

    return step


def _generate(
    builder: ir.IRBuilder, bits: int, dot: bool, rows: int,
    values: Any, scales: Any, x: Any, x_scales: Any, x_sums: Any, out: Any, groups: Any, tiles: Any,
) -> None:  # fmt: skip
    def load(address: Any, kind: ir.Type, align: int, offset: int = 0) -> Any:
        place = builder.add(address, ir.Constant(_ADDRESS, offset))
        return builder.load(builder.inttoptr(place, kind.as_pointer()), align=align)

    # The four bytes of each row that meet the j-th four inputs.
    weights = [load(values, _INTS, 64, 64 * j) for j in range(bits)]
    if bits == 4:
        nibbles, four = _same(_INTS, 0x0F0F0F0F), _same(_INTS, 4)
        upper = [builder.and_(builder.lshr(w, four), nibbles) for w in weights]
        weights = [builder.and_(w, nibbles) for w in weights] + upper
    scale, floor = (builder.fpext(load(scales, _HALVES, 32, offset), _FLOATS) for offset in (0, 2 * LANES))
    for row in range(rows):
        away = builder.mul(groups, ir.Constant(_ADDRESS, row))  # groups between this position and the first
        inputs = builder.add(x, builder.mul(away, ir.Constant(_ADDRESS, GROUP)))
        numbers = builder.mul(away, ir.Constant(_ADDRESS, 4))
        sums = [_same(_INTS, 0), _same(_INTS, 0)]  # two, so that one need not wait for the other
        for j, w in enumerate(weights):
            four_inputs = _spread(builder, load(inputs, _INT, 4, 4 * j))
            sums[j % 2] = (_dot if dot else _dot_plain)(builder, sums[j % 2], w, four_inputs)
        whole = builder.sitofp(builder.add(*sums), _FLOATS)
        by = _spread(builder, load(builder.add(x_scales, numbers), ir.FloatType(), 4))
        all_inputs = _spread(builder, load(builder.add(x_sums, numbers), ir.FloatType(), 4))
        offset = builder.mul(builder.mul(tiles, ir.Constant(_ADDRESS, row)), ir.Constant(_ADDRESS, 4 * LANES))
        place = builder.inttoptr(builder.add(out, offset), _FLOATS.as_pointer())
        total = builder.load(place, align=64)
        total = _fused(builder, whole, builder.fmul(scale, by), total)
        total = _fused(builder, floor, all_inputs, total)
        builder.store(total, place, align=64)


def _dot(builder: ir.IRBuilder, sums: Any, weights: Any, inputs: Any) -> Any:
    """sums + four unsigned bytes of each lane of `weights` times four signed ones of `inputs`, in one instruction."""
    kind = ir.FunctionType(_INTS, [_INTS] * 3)
    name = "llvm.x86.avx512.vpdpbusd.512"
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [sums, weights, inputs])


def _dot_plain(builder: ir.IRBuilder, sums: Any, weights: Any, inputs: Any) -> Any:
    """The same from shifts, products and sums, which every processor has."""
    top, eight = _same(_INTS, 24), _same(_INTS, 8)
    for _ in range(4):
        unsigned = builder.and_(weights, _same(_INTS, 0xFF))
        signed = builder.ashr(builder.shl(inputs, top), top)
        sums = builder.add(sums, builder.mul(unsigned, signed))
        weights, inputs = builder.lshr(weights, eight), builder.lshr(inputs, eight)
    return sums


def _fused(builder: ir.IRBuilder, a: Any, b: Any, c: Any) -> Any:
    """a b + c, rounded once."""
    kind = ir.FunctionType(_FLOATS, [_FLOATS] * 3)
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.fma.v16f32"), [a, b, c])


def _spread(builder: ir.IRBuilder, value: Any) -> Any:
    """One number in all sixteen lanes."""
    kind = ir.VectorType(value.type, LANES)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(_INT, 0))
    return builder.shuffle_vector(first, first, _same(_INTS, 0))


def _same(kind: ir.VectorType, value: int) -> ir.Constant:
    return ir.Constant(kind, [value] * LANES)
