"""Products of matrices for the compiled network: weights in 4, 8, 16 or 32 bits, one tile of sixteen rows at a time.

Quantised weights meet quantised inputs: groups of 32 in whole numbers (`dots`), then their scales, in float32 and one
group after the other. Weights in float32 and bfloat16 are multiplied in float32, even inputs and odd ones added up for
themselves. So a position's sums do not depend on how many positions there are beside it, on the number of threads, or
on the processor. `quantize.multiply_plain` is the plain twin.

Everything here is for numba code. Addresses are whole numbers; a matrix is told by the address of a record of int64
whose fields `fields` names. Nothing raises and nothing allocates: what is compiled needs nothing of Python.
"""
# What numba compiles takes whole numbers, and annotations would say no more: they are left out.
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numba
import numpy as np

from glassgpt.engine.dots import tile_product, width
from glassgpt.engine.fields import BIAS, BITS, GROUP, MATRIX_WIDTH, SCALES, VALUES
from glassgpt.engine.vectors import (
    fma,
    get_byte,
    get_half,
    get_int,
    larger,
    largest,
    load,
    load_brain,
    magnitude,
    nearest,
    put,
    spread,
    spread_at,
    store,
    store_bytes,
    to_ints,
    total_ints,
)  # fmt: skip

ROWS = 4  # positions that share a reading of the weights
_WIDE_ROWS = 4 if width() == 16 else 2  # the same for float32: as many sums as stay in registers

jit = numba.njit(error_model="numpy", nogil=True)
inlined = numba.njit(error_model="numpy", nogil=True, forceinline=True)

_four_first, _four_many, _four_one = tile_product(4, ROWS), tile_product(4, ROWS, fetch=False), tile_product(4, 1)
_eight_first, _eight_many, _eight_one = tile_product(8, ROWS), tile_product(8, ROWS, fetch=False), tile_product(8, 1)


@inlined
def quantize_group(x, q, scale, total):
    """Rounds 32 float32 to signed bytes, with their scale and their scaled sum, as `quantize.quantize_rows` does."""
    a, b = load(x), load(x + 64)
    top = largest(larger(magnitude(a), magnitude(b)))
    step = top / np.float32(127)
    by = spread(np.float32(1) if step == 0 else step)
    c, d = to_ints(nearest(a / by)), to_ints(nearest(b / by))
    store_bytes(q, c)
    store_bytes(q + 16, d)
    put(scale, step)
    put(total, step * np.float32(total_ints(c + d)))


@inlined
def finish(sums, bias, tile, out, add):
    """Stores the sums of a tile, or adds them to what is there."""
    if bias:
        sums = sums + load(bias + tile * 64)
    if add:
        sums = load(out) + sums
    store(out, sums)


@jit
def multiply_quantized(m, q, scale, total, out, stride, rows, first, last, add, scratch):
    """The tiles from `first` up to `last` of a matrix in 4 or 8 bits, for `rows` positions that `quantize_group` has
    rounded: bytes, scales and sums. `stride`: bytes from one position's results to the next one's; `add`: to what is
    there; `scratch`: 256 bytes of this thread's, beginning on 64."""
    bits, groups, bias = get_int(m + 8 * BITS), get_int(m + 8 * MATRIX_WIDTH) // GROUP, get_int(m + 8 * BIAS)
    for tile in range(first, last):
        row = 0
        while row < rows:
            v = get_int(m + 8 * VALUES) + tile * groups * 64 * bits
            s = get_int(m + 8 * SCALES) + tile * groups * 64
            x, xs, xt = q + row * groups * GROUP, scale + row * groups * 4, total + row * groups * 4
            together = row + ROWS <= rows
            count = ROWS if together else 1
            if bits == 4:
                if together and row == 0:
                    _four_first(v, s, x, xs, xt, scratch, groups)
                elif together:
                    _four_many(v, s, x, xs, xt, scratch, groups)
                else:
                    _four_one(v, s, x, xs, xt, scratch, groups)
            elif together and row == 0:
                _eight_first(v, s, x, xs, xt, scratch, groups)
            elif together:
                _eight_many(v, s, x, xs, xt, scratch, groups)
            else:
                _eight_one(v, s, x, xs, xt, scratch, groups)
            for r in range(count):
                finish(load(scratch + 64 * r), bias, tile, out + (row + r) * stride + tile * 64, add)
            row += count


@inlined
def _wide(bits, address, index):
    return load_brain(address + index * 32) if bits == 16 else load(address + index * 64)


@jit
def multiply_wide(m, x, out, stride, rows, first, last, add):
    """As `multiply_quantized`, for a matrix in float32 or bfloat16 and positions in float32."""
    bits, n, bias = get_int(m + 8 * BITS), get_int(m + 8 * MATRIX_WIDTH), get_int(m + 8 * BIAS)
    for tile in range(first, last):
        v = get_int(m + 8 * VALUES) + tile * n * 2 * bits
        row = 0
        while row < rows:
            o, i = out + row * stride + tile * 64, x + row * n * 4
            a = b = c = d = e = f = g = h = spread(np.float32(0))
            if _WIDE_ROWS == 4 and row + 4 <= rows:
                for k in range(0, n, 2):
                    u, w, j = _wide(bits, v, k), _wide(bits, v, k + 1), i + 4 * k
                    a, e = fma(u, spread_at(j), a), fma(w, spread_at(j + 4), e)
                    j += 4 * n
                    b, f = fma(u, spread_at(j), b), fma(w, spread_at(j + 4), f)
                    j += 4 * n
                    c, g = fma(u, spread_at(j), c), fma(w, spread_at(j + 4), g)
                    j += 4 * n
                    d, h = fma(u, spread_at(j), d), fma(w, spread_at(j + 4), h)
                finish(a + e, bias, tile, o, add)
                finish(b + f, bias, tile, o + stride, add)
                finish(c + g, bias, tile, o + 2 * stride, add)
                finish(d + h, bias, tile, o + 3 * stride, add)
                row += 4
            elif row + 2 <= rows:
                for k in range(0, n, 2):
                    u, w, j = _wide(bits, v, k), _wide(bits, v, k + 1), i + 4 * k
                    a, e = fma(u, spread_at(j), a), fma(w, spread_at(j + 4), e)
                    j += 4 * n
                    b, f = fma(u, spread_at(j), b), fma(w, spread_at(j + 4), f)
                finish(a + e, bias, tile, o, add)
                finish(b + f, bias, tile, o + stride, add)
                row += 2
            else:
                for k in range(0, n, 2):
                    u, w, j = _wide(bits, v, k), _wide(bits, v, k + 1), i + 4 * k
                    a, e = fma(u, spread_at(j), a), fma(w, spread_at(j + 4), e)
                finish(a + e, bias, tile, o, add)
                row += 1


@jit
def copy_row(m, row, scale, out):
    """A row of a quantised matrix as float32, times `scale`, as `QuantizedMatrix.rows` has it."""
    bits, groups = get_int(m + 8 * BITS), get_int(m + 8 * MATRIX_WIDTH) // GROUP
    tile, lane = row // 16, row % 16
    v = get_int(m + 8 * VALUES) + tile * groups * 64 * bits + 4 * lane
    s = get_int(m + 8 * SCALES) + tile * groups * 64 + 2 * lane
    for _ in range(groups):
        step, floor = get_half(s), get_half(s + 32)
        for i in range(GROUP):
            q = get_byte(v + i % (4 * bits) // 4 * 64 + i % 4)
            if bits == 4:
                q = q & 15 if i < 16 else q >> 4
            put(out + 4 * i, (np.float32(q) * step + floor) * scale)
        v, s, out = v + 64 * bits, s + 64, out + 4 * GROUP
