"""Quantised products: the numpy twin's numbers, and the same bits whatever stands beside a position."""

from __future__ import annotations

import gguf
import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glassgpt.core.errors import ConfigError, FormatError
from glassgpt.engine import fields
from glassgpt.engine.dots import features, tile_product
from glassgpt.engine.kernels import multiply_quantized, multiply_wide, quantize_group
from glassgpt.engine.packing import wide
from glassgpt.engine.quantize import (
    BLOCKS,
    GROUP,
    LANES,
    Floats,
    QuantizedMatrix,
    aligned,
    from_blocks,
    multiply_plain,
    quantize,
    quantize_rows,
)  # fmt: skip

BITS = pytest.mark.parametrize("bits", [4, 8])

# Python calls these; inside the compiled step the same code is called by other compiled code.
_quantized, _wide = (numba.njit(nogil=True)(f.py_func) for f in (multiply_quantized, multiply_wide))
_group = numba.njit(quantize_group.py_func)


def multiply(matrix, x: Floats, *, bias: Floats | None = None, add: Floats | None = None, tiles=None) -> Floats:
    """x [N, in] times a packed matrix: rounded first where it is quantised. `tiles`: only these, from and up to."""
    count, width = matrix.values.shape[0], x.shape[1]
    out = aligned(np.zeros((len(x), count * LANES), np.float32))
    if add is not None:
        out[:, : add.shape[1]] = add
    padded = None if bias is None else aligned(np.pad(bias, (0, count * LANES - len(bias))))
    record = np.zeros(fields.MATRIX_FIELDS, np.int64)
    record[[fields.BITS, fields.VALUES, fields.TILES, fields.MATRIX_WIDTH]] = (
        matrix.bits, matrix.values.ctypes.data, count, width,
    )  # fmt: skip
    record[fields.BIAS] = 0 if padded is None else padded.ctypes.data
    end = (out.ctypes.data, out.strides[0], len(x), *(tiles or (0, count)), int(add is not None))
    if isinstance(matrix, QuantizedMatrix):
        record[fields.SCALES] = matrix.scales.ctypes.data
        rounded, scratch = quantize_rows(x), aligned(np.zeros(64, np.float32))
        _quantized(record.ctypes.data, *(a.ctypes.data for a in rounded), *end, scratch.ctypes.data)
    else:
        x = aligned(x)
        _wide(record.ctypes.data, x.ctypes.data, *end)
    return out[:, : matrix.shape[0]]


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@BITS
@settings(deadline=None, max_examples=60)
@given(
    out=st.integers(1, 40),
    groups=st.integers(1, 4),
    spread=st.sampled_from([1e-3, 1.0, 100.0]),
    seed=st.integers(0, 99),
)
def test_no_weight_is_moved_further_than_half_a_step(bits: int, out: int, groups: int, spread: float, seed: int):
    matrix = numbers(out, groups * GROUP, seed=seed) * spread
    by_group = matrix.reshape(out, groups, GROUP)
    step = np.ptp(by_group, axis=2) / (2**bits - 1)
    rounding = np.abs(by_group).max(axis=2) * 2**-9  # of scale and floor, in float16
    moved = np.abs(quantize(matrix, bits).dequantize().reshape(by_group.shape) - by_group).max(axis=2)
    assert (moved <= step * 0.51 + rounding + 1e-6).all()


@BITS
def test_a_group_of_equal_weights_and_one_of_zeros_stay_what_they_are(bits: int):
    matrix = np.concatenate((np.full((3, GROUP), 0.5), np.zeros((3, GROUP))), axis=1).astype(np.float32)
    assert np.array_equal(quantize(matrix, bits).dequantize(), matrix)


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("spread", [1e-4, 1.0, 50.0])
def test_numbers_of_a_gguf_file_are_taken_as_they_are(kind: str, spread: float):
    named = gguf.GGMLQuantizationType[kind]
    raw = gguf.quants.quantize(numbers(20, 3 * GROUP) * spread, named)
    assert np.array_equal(from_blocks(raw, kind).dequantize(), gguf.quants.dequantize(raw, named))


def test_damaged_or_unknown_blocks_are_named():
    raw = gguf.quants.quantize(numbers(4, 64), gguf.GGMLQuantizationType.Q4_1)
    raw[1, 20:22] = (0, 0x7E)  # not a number
    with pytest.raises(FormatError, match="no number"):
        from_blocks(raw, "Q4_1")
    with pytest.raises(ConfigError, match="Q6_K"):
        from_blocks(raw, "Q6_K")


@BITS
@pytest.mark.parametrize(("rows", "out", "width"), [(1, 16, 32), (1, 50, 96), (4, 33, 64), (7, 50, 96), (9, 5, 160)])
def test_products_are_those_of_the_plain_twin(bits: int, rows: int, out: int, width: int):
    matrix, x = quantize(numbers(out, width, seed=1), bits), numbers(rows, width, seed=2)
    np.testing.assert_allclose(multiply(matrix, x), multiply_plain(matrix, x), rtol=1e-5, atol=1e-4)


@BITS
def test_products_are_near_those_of_the_matrix_itself(bits: int):
    matrix, x = numbers(64, 512, seed=1), numbers(3, 512, seed=2)
    wrong = multiply(quantize(matrix, bits), x) - x @ matrix.T
    assert np.sqrt(np.mean(wrong**2)) < {4: 0.1, 8: 0.012}[bits] * np.sqrt(np.mean((x @ matrix.T) ** 2))


@BITS
def test_a_position_has_the_same_bits_alone_and_among_others(bits: int):
    matrix, x = quantize(numbers(70, 128, seed=1), bits), numbers(11, 128, seed=2)
    together = multiply(matrix, x)
    assert np.array_equal(together, np.concatenate([multiply(matrix, x[i : i + 1]) for i in range(11)]))
    assert np.array_equal(together[3:9], multiply(matrix, x[3:9]))


@BITS
@pytest.mark.parametrize("kinds", ["", "avx2", "avx2 avx512"])
def test_every_way_of_multiplying_bytes_gives_the_same_bits(bits: int, kinds: str):
    has = features()  # what this processor has not, another machine's CI looks at: its own way is taken here
    known = frozenset(kinds.split()) if has.issuperset(kinds.split()) else has
    matrix, x = quantize(numbers(16, 128, seed=1), bits), numbers(4, 128, seed=2) * 100
    q, scale, total = quantize_rows(x)
    step, plain = tile_product(bits, 4, known), tile_product(bits, 1, frozenset())
    values, scales = matrix.values.ctypes.data, matrix.scales.ctypes.data
    places = [a.ctypes.data for a in (q, scale, total)]

    @numba.njit
    def four(values, scales, x, xs, xt, out):
        step(values, scales, x, xs, xt, out, 4)

    @numba.njit
    def one(values, scales, x, xs, xt, out):
        plain(values, scales, x, xs, xt, out, 4)

    together, alone = (aligned(np.zeros((4, LANES), np.float32)) for _ in range(2))
    four(values, scales, *places, together.ctypes.data)
    for row in range(4):
        offsets = (row * 128, row * 16, row * 16)
        one(values, scales, *(p + o for p, o in zip(places, offsets, strict=True)), alone[row].ctypes.data)
    assert np.array_equal(together, alone)
    np.testing.assert_allclose(alone, multiply_plain(matrix, x), rtol=1e-5, atol=1e-3)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 9999), spread=st.sampled_from([1e-30, 1e-3, 1.0, 1e5]), zero=st.booleans())
def test_compiled_rounding_of_activations_has_the_bits_of_the_plain_one(seed: int, spread: float, zero: bool):
    x = aligned(numbers(1, GROUP, seed=seed) * spread * (0 if zero else 1))
    q, scale, total = np.zeros((1, GROUP), np.int8), np.zeros((1, 1), np.float32), np.zeros((1, 1), np.float32)
    _group(x.ctypes.data, q.ctypes.data, scale.ctypes.data, total.ctypes.data)
    for mine, plain in zip((q, scale, total), quantize_rows(x), strict=True):
        assert np.array_equal(mine, plain)


@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 7])
def test_products_with_wide_weights_are_those_of_numpy(bits: int, rows: int):
    weights, x = numbers(50, 96, seed=1), numbers(rows, 96, seed=2)
    matrix = wide(weights, bits)
    exact = x.astype(np.float64) @ matrix.dequantize().astype(np.float64).T
    np.testing.assert_allclose(multiply(matrix, x), exact, rtol=1e-5, atol=1e-5)
    together = multiply(matrix, x)
    assert np.array_equal(together, np.concatenate([multiply(matrix, x[i : i + 1]) for i in range(rows)]))


def test_bfloat16_weights_are_those_of_torch():
    import torch

    weights = np.concatenate((numbers(40, 64).ravel(), [1e-42, -0.0, 3.3e38, 1 + 2**-8, 1 + 3 * 2**-8, 0, 1, 2]))
    weights = weights.astype(np.float32).reshape(-1, 8)
    expected = torch.from_numpy(weights).bfloat16().float().numpy()
    assert np.array_equal(wide(weights, 16).dequantize(), expected)


@pytest.mark.parametrize("bits", [4, 8, 16, 32])
def test_a_bias_and_what_is_there_already_are_added(bits: int):
    weights, x, bias, there = (
        numbers(33, 64, seed=1),
        numbers(5, 64, seed=2),
        numbers(33, seed=3),
        numbers(5, 33, seed=4),
    )
    matrix = quantize(weights, bits) if bits <= 8 else wide(weights, bits)
    assert np.array_equal(multiply(matrix, x, bias=bias), multiply(matrix, x) + bias)
    assert np.array_equal(multiply(matrix, x, bias=bias, add=there), there + (multiply(matrix, x) + bias))


def test_the_largest_numbers_do_not_overflow():
    """127 and -127 against 255, 32 times over 40 groups: the sums of a group stay far inside 32 bits."""
    ramp = np.tile(np.linspace(-1, 1, GROUP, dtype=np.float32), (16, 40))
    for sign in (1, -1):
        x = np.full((1, 40 * GROUP), sign * 3e4, np.float32)
        np.testing.assert_allclose(multiply(quantize(ramp, 8), x), multiply_plain(quantize(ramp, 8), x), atol=2)


@pytest.mark.parametrize("bits", [4, 8, 16, 32])
def test_tiles_are_the_same_whoever_computes_the_others(bits: int):
    weights, x = numbers(200, 96, seed=1), numbers(5, 96, seed=2)
    matrix = quantize(weights, bits) if bits <= 8 else wide(weights, bits)
    parts = [multiply(matrix, x, tiles=part) for part in ((0, 4), (4, 5), (5, 13))]
    assert np.array_equal(sum(parts), multiply(matrix, x))


@pytest.mark.parametrize("bits", [4, 8])
def test_rows_of_a_packed_matrix_are_those_that_it_stands_for(bits: int):
    matrix, ids = quantize(numbers(40, 96), bits), np.array([0, 39, 17, 17, 16])
    assert np.array_equal(matrix.rows(ids), matrix.dequantize()[ids])
    matrix = wide(numbers(40, 96), 4 * bits)
    assert np.array_equal(matrix.rows(ids), matrix.dequantize()[ids])


@BITS
@pytest.mark.parametrize("weight", [np.nan, np.inf, -1e6])
def test_weights_that_have_no_place_in_float16_are_refused(bits: int, weight: float):
    matrix = numbers(4, 64)
    matrix[2, 40] = weight
    with pytest.raises(FormatError, match="no number"):
        quantize(matrix, bits)


def test_what_does_not_fit_is_named():
    with pytest.raises(ConfigError, match="3 bits"):
        quantize(numbers(4, 32), 3)
    with pytest.raises(ConfigError, match="multiple of 32"):
        quantize(numbers(4, 33), 4)
