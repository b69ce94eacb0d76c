"""Quantised products: the numpy twin's numbers, and the same bits whatever stands beside a position."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glassgpt.core.errors import ConfigError, FormatError
from glassgpt.engine.kernels import has_dot, multiply, product
from glassgpt.engine.quantize import BLOCKS, GROUP, LANES, aligned, from_blocks, multiply_plain, quantize, quantize_rows

BITS = pytest.mark.parametrize("bits", [4, 8])


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
def test_both_ways_of_multiplying_bytes_give_the_same_bits(bits: int):
    matrix, x = quantize(numbers(70, 128, seed=1), bits), numbers(6, 128, seed=2)
    assert np.array_equal(multiply(matrix, x), multiply(matrix, x, dot=False))  # the same way on an older processor


def test_the_largest_numbers_do_not_overflow():
    """127 and -127 against 255, 32 times over 40 groups: the sums of a group stay far inside 32 bits."""
    ramp = np.tile(np.linspace(-1, 1, GROUP, dtype=np.float32), (16, 40))
    for sign in (1, -1):
        x = np.full((1, 40 * GROUP), sign * 3e4, np.float32)
        np.testing.assert_allclose(multiply(quantize(ramp, 8), x), multiply_plain(quantize(ramp, 8), x), atol=2)


@BITS
def test_threads_that_share_the_tiles_give_the_same_bits(bits: int):
    matrix, x = quantize(numbers(200, 96, seed=1), bits), numbers(5, 96, seed=2)
    q, scale, sums = quantize_rows(x)
    tiles, groups = matrix.values.shape[:2]
    out = aligned(np.zeros((5, tiles * LANES), np.float32))
    run = product(bits, has_dot())
    addresses = [a.ctypes.data for a in (matrix.values, matrix.scales, q, scale, sums, out)]
    parts = [(0, 4), (4, 5), (5, tiles)]
    threads = [threading.Thread(target=run, args=(*addresses, 5, tiles, groups, *part)) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert np.array_equal(out[:, :200], multiply(matrix, x))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the other processor is one of x86")
def test_compiled_for_an_older_processor_the_bits_are_the_same():
    program = (
        "import numpy as np; from glassgpt.engine.kernels import has_dot, multiply; "
        "from glassgpt.engine.quantize import quantize; assert not has_dot(); "
        "r = np.random.default_rng(5); m, x = (r.standard_normal(s).astype(np.float32) for s in ((40, 96), (5, 96))); "
        "print(multiply(quantize(m, 4), x).tobytes().hex(), multiply(quantize(m, 8), x).tobytes().hex())"
    )
    older = os.environ | {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+fma,+f16c,+bmi,+bmi2"}
    found = subprocess.run([sys.executable, "-c", program], env=older, capture_output=True, text=True, check=True)
    chance = np.random.default_rng(5)
    m, x = (chance.standard_normal(shape).astype(np.float32) for shape in ((40, 96), (5, 96)))
    assert found.stdout.split() == [multiply(quantize(m, bits), x).tobytes().hex() for bits in (4, 8)]


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
    with pytest.raises(ConfigError, match=r"\(2, 64\) do not fit a matrix of 4 x 32"):
        multiply(quantize(numbers(4, 32), 4), numbers(2, 64))
