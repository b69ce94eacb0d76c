"""The parts of a block for the compiled network, one position at a time: norms, activations, rotation, attention.

Everything here is for numba code, as in `kernels`; `model.layers`, `model.positions` and `model.attention` are the
plain twins. Widths are padded to whole groups of 32 with zeros, which every part keeps zero.
"""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import math

import numpy as np

from glassgpt.engine.fields import PAGE, page_bytes
from glassgpt.engine.kernels import inlined, jit
from glassgpt.engine.vectors import (
    first_lanes,
    fma,
    get,
    get_short_int,
    keep_from,
    larger,
    largest,
    load,
    load_bytes,
    load_halves,
    magnitude,
    nearest,
    put,
    put_byte,
    put_half,
    root,
    smaller,
    spread,
    spread_at,
    store,
    store_bytes,
    store_halves,
    times_power,
    to_ints,
    total,
    with_sign,
    without_first,
)  # fmt: skip

_LOG2_E, _LN_2_HIGH, _LN_2_LOW = np.float32(math.log2(math.e)), np.float32(0.693359375), np.float32(-2.12194440e-4)
_SQRT_2_OVER_PI = np.float32(math.sqrt(2 / math.pi))


@inlined
def exp(x):
    """e^x to about one unit in the last place, 0 below -87, and no number where x is none: 2^n times a polynomial of the rest."""
    clipped = smaller(larger(x, spread(np.float32(-87.3))), spread(np.float32(88.3)))
    n = nearest(clipped * spread(_LOG2_E))
    r = fma(n, spread(-_LN_2_HIGH), clipped)
    r = fma(n, spread(-_LN_2_LOW), r)
    p = spread(np.float32(1 / 5040))
    p = fma(p, r, spread(np.float32(1 / 720)))
    p = fma(p, r, spread(np.float32(1 / 120)))
    p = fma(p, r, spread(np.float32(1 / 24)))
    p = fma(p, r, spread(np.float32(1 / 6)))
    p = fma(p, r, spread(np.float32(0.5)))
    p = fma(p, r, spread(np.float32(1)))
    p = fma(p, r, spread(np.float32(1)))
    return keep_from(times_power(p, to_ints(n)), x, spread(np.float32(-87.3)))


@inlined
def tanh(x):
    """From e^(-2|x|), which cannot overflow."""
    e = exp(magnitude(x) * spread(np.float32(-2)))
    one = spread(np.float32(1))
    return with_sign((one - e) / (one + e), x)


@inlined
def erf(x):
    """The error function, to 2e-7 (Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26)."""
    one, a = spread(np.float32(1)), magnitude(x)
    t = one / fma(a, spread(np.float32(0.3275911)), one)
    p = spread(np.float32(1.061405429))
    p = fma(p, t, spread(np.float32(-1.453152027)))
    p = fma(p, t, spread(np.float32(1.421413741)))
    p = fma(p, t, spread(np.float32(-0.284496736)))
    p = fma(p, t, spread(np.float32(0.254829592)))
    return with_sign(one - p * t * exp(spread(np.float32(0)) - a * a), x)


@inlined
def activate(x, kind):
    """The bend of an MLP, by its number in `fields.ACTIVATIONS`."""
    half, one = spread(np.float32(0.5)), spread(np.float32(1))
    if kind == 0:  # SiLU
        return x / (one + exp(spread(np.float32(0)) - x))
    if kind == 1:  # GELU by tanh
        inner = x * fma(x * x, spread(np.float32(0.044715)), one) * spread(_SQRT_2_OVER_PI)
        return half * x * (one + tanh(inner))
    if kind == 2:  # GELU
        return half * x * (one + erf(x * spread(np.float32(math.sqrt(0.5)))))
    positive = larger(x, spread(np.float32(0)))  # squared ReLU
    return positive * positive


@jit
def normalise(x, out, weight, bias, width, padded, eps):
    """LayerNorm where there is a bias, RMSNorm otherwise, of `width` float32."""
    mean = np.float32(0)
    if bias:
        sums = spread(np.float32(0))
        for at in range(x, x + 4 * padded, 64):
            sums = sums + load(at)
        mean = total(sums) / np.float32(width)
    away, squares = spread(mean), spread(np.float32(0))
    for at in range(x, x + 4 * padded, 64):
        d = load(at) - away
        squares = fma(d, d, squares)
    # The padding is zeros, and they too are `mean` away from the mean.
    variance = (total(squares) - np.float32(padded - width) * mean * mean) / np.float32(width)
    by = spread(np.float32(1) / root(variance + eps))
    for at in range(0, 4 * padded, 64):
        y = (load(x + at) - away) * by * load(weight + at)
        if bias:
            y = y + load(bias + at)
        store(out + at, y)


@jit
def rotate(x, cosines, sines, width):
    """Turns the pairs (x_i, x_{i + width/2}) by their angles, in place."""
    half = width // 2
    for i in range(half):
        a, b, c, s = get(x + 4 * i), get(x + 4 * (half + i)), get(cosines + 4 * i), get(sines + 4 * i)
        put(x + 4 * i, a * c - b * s)
        put(x + 4 * (half + i), b * c + a * s)


page_size = inlined(page_bytes)  # for compiled code


@jit
def remember(page, slot, key, value, width, kind):
    """Writes the key and the value of a position, float32 [width] each, into its slot of a page."""
    numbers = PAGE * width  # in the keys, and again in the values
    if kind == 8:
        scales = page + 2 * numbers
        top = bottom = spread(np.float32(0))
        for d in range(0, 4 * width, 64):
            top, bottom = larger(top, magnitude(load(key + d))), larger(bottom, magnitude(load(value + d)))
        a, b = largest(top) / np.float32(127), largest(bottom) / np.float32(127)
        put(scales + 4 * slot, a)
        put(scales + 64 + 4 * slot, b)
        a, b = np.float32(1) if a == 0 else a, np.float32(1) if b == 0 else b
        for d in range(width):
            put_byte(page + d * PAGE + slot, get(key + 4 * d) / a)
        for d in range(0, width, 16):
            store_bytes(page + numbers + slot * width + d, to_ints(nearest(load(value + 4 * d) / spread(b))))
    elif kind == 16:
        for d in range(width):
            put_half(page + (d * PAGE + slot) * 2, get(key + 4 * d))
        for d in range(0, width, 16):
            store_halves(page + (numbers + slot * width + d) * 2, load(value + 4 * d))
    else:
        for d in range(width):
            put(page + (d * PAGE + slot) * 4, get(key + 4 * d))
        for d in range(0, width, 16):
            store(page + (numbers + slot * width + d) * 4, load(value + 4 * d))


@inlined
def _cached(page, at, kind):
    """Sixteen numbers of a page from number `at` on."""
    if kind == 16:
        return load_halves(page + 2 * at)
    if kind == 8:
        return load_bytes(page + at)
    return load(page + 4 * at)


@jit
def attend(q, out, pages, base, apart, first, last, width, kind, scores):
    """What a query reads from the positions `first` to `last`: softmax of its products with their keys, times values.

    `q` (with the scale in it) and `out`: float32 [width]; `pages`: int32, the numbers of the sequence's pages; `base`
    and `apart`: where page 0 of this head begins, and bytes from a page to the next; `scores`: room for as many
    float32 as there are positions, in whole pages."""
    numbers = PAGE * width
    start, end = first // PAGE, last // PAGE
    top = spread(np.float32(-np.inf))
    for j in range(start, end + 1):
        page = base + get_short_int(pages + 4 * j) * apart
        even = odd = spread(np.float32(0))
        for d in range(0, width, 2):
            even = fma(spread_at(q + 4 * d), _cached(page, d * PAGE, kind), even)
            odd = fma(spread_at(q + 4 * d + 4), _cached(page, d * PAGE + PAGE, kind), odd)
        s = even + odd
        if kind == 8:
            s = s * load(page + 2 * numbers)
        if j == end:
            s = first_lanes(s, last % PAGE + 1)
        if j == start:
            s = without_first(s, first % PAGE)
        store(scores + (j - start) * 64, s)
        top = larger(top, s)
    most, sums = spread(largest(top)), spread(np.float32(0))
    for j in range(end - start + 1):
        e = exp(load(scores + j * 64) - most)
        sums = sums + e
        store(scores + j * 64, e)
    by = spread(np.float32(1) / total(sums))
    for d in range(0, width, 32):
        a = b = c = e = spread(np.float32(0))
        for j in range(start, end + 1):
            page = base + get_short_int(pages + 4 * j) * apart
            low = first % PAGE if j == start else 0
            high = last % PAGE + 1 if j == end else PAGE
            for i in range(low, high):
                weight = get(scores + (j - start) * 64 + 4 * i)
                if kind == 8:
                    weight *= get(page + 2 * numbers + 64 + 4 * i)
                w, at = spread(weight), numbers + i * width + d
                if i & 1:  # two sums, so that one need not wait for the other
                    a, b = fma(w, _cached(page, at, kind), a), fma(w, _cached(page, at + 16, kind), b)
                else:
                    c, e = fma(w, _cached(page, at, kind), c), fma(w, _cached(page, at + 16, kind), e)
        store(out + 4 * d, (a + c) * by)
        store(out + 4 * d + 64, (b + e) * by)
