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
    """e^x to about one unit in the last place, 0 below -87, and no number where x is none: 2^n times a polynomial
    of the rest."""
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


@inlined
def _first(position, window):
    """The first position that is seen from one."""
    return position - window + 1 if window and position >= window else 0


def attending(count):
    """What reads for `count` queries, from 1 to 4, that share a key/value head and a sequence: `(q, q_apart, out,
    out_apart, pages, base, apart, last, later, window, width, kind, scores, scores_apart)`.

    For each, softmax of its products with the keys it sees, times values. The sums of a query are the same whichever
    others stand beside it; what they share is the reading of keys and values.

    `q` (with the scale in it) and `out`: float32 [width], so many bytes `apart`; `pages`: int32, the numbers of the
    sequence's pages; `base` and `apart`: where page 0 of this head begins, and bytes from a page to the next; `last`:
    the position of the first query, and `later`: how much later each of the others is; `scores`: room for as many
    float32 as there are positions, in whole pages, for each query."""
    nothing = np.float32(-np.inf)

    @jit
    def attend(q, q_apart, out, out_apart, pages, base, apart, last, later, window, width, kind, scores, scores_apart):
        numbers, end = PAGE * width, last + (count - 1) * later
        start = _first(last, window) // PAGE
        a_top = b_top = c_top = d_top = spread(nothing)
        for j in range(start, end // PAGE + 1):
            page = base + get_short_int(pages + 4 * j) * apart
            a = b = c = d = spread(np.float32(0))
            at = q
            for n in range(width):
                key = _cached(page, n * PAGE, kind)
                a = fma(spread_at(at), key, a)
                if count > 1:
                    b = fma(spread_at(at + q_apart), key, b)
                if count > 2:
                    c = fma(spread_at(at + 2 * q_apart), key, c)
                if count > 3:
                    d = fma(spread_at(at + 3 * q_apart), key, d)
                at += 4
            if kind == 8:
                scale = load(page + 2 * numbers)
                a, b, c, d = a * scale, b * scale, c * scale, d * scale
            place = scores + (j - start) * 64
            a_top = _note(a, place, j, last, window, a_top)
            if count > 1:
                b_top = _note(b, place + scores_apart, j, last + later, window, b_top)
            if count > 2:
                c_top = _note(c, place + 2 * scores_apart, j, last + 2 * later, window, c_top)
            if count > 3:
                d_top = _note(d, place + 3 * scores_apart, j, last + 3 * later, window, d_top)
        pages_seen = end // PAGE + 1 - start
        a_by = _soften(scores, pages_seen, a_top)
        b_by = _soften(scores + scores_apart, pages_seen, b_top) if count > 1 else a_by
        c_by = _soften(scores + 2 * scores_apart, pages_seen, c_top) if count > 2 else a_by
        d_by = _soften(scores + 3 * scores_apart, pages_seen, d_top) if count > 3 else a_by
        for n in range(0, width, 16):
            a = b = c = d = spread(np.float32(0))
            for j in range(start, end // PAGE + 1):
                page = base + get_short_int(pages + 4 * j) * apart
                low = _first(last, window) % PAGE if j == start else 0
                for i in range(low, min(PAGE, end + 1 - j * PAGE)):
                    value, weight = _cached(page, numbers + i * width + n, kind), scores + (j - start) * 64 + 4 * i
                    if kind == 8:
                        value = value * spread_at(page + 2 * numbers + 64 + 4 * i)
                    a = fma(spread_at(weight), value, a)
                    if count > 1:
                        b = fma(spread_at(weight + scores_apart), value, b)
                    if count > 2:
                        c = fma(spread_at(weight + 2 * scores_apart), value, c)
                    if count > 3:
                        d = fma(spread_at(weight + 3 * scores_apart), value, d)
            store(out + 4 * n, a * a_by)
            if count > 1:
                store(out + out_apart + 4 * n, b * b_by)
            if count > 2:
                store(out + 2 * out_apart + 4 * n, c * c_by)
            if count > 3:
                store(out + 3 * out_apart + 4 * n, d * d_by)

    return attend


@inlined
def _note(products, place, page, last, window, top):
    """Keeps the scores of a page, minus infinity where the query does not look, and the largest so far."""
    first = _first(last, window)
    if (page + 1) * PAGE > last + 1:
        products = first_lanes(products, max(0, last + 1 - page * PAGE))
    if page * PAGE < first:
        products = without_first(products, min(PAGE, first - page * PAGE))
    store(place, products)
    return larger(top, products)


@inlined
def _soften(scores, pages, top):
    """Scores to weights, e^(score - the largest); gives one over their sum."""
    most, sums = spread(largest(top)), spread(np.float32(0))
    for at in range(scores, scores + 64 * pages, 64):
        e = exp(load(at) - most)
        sums = sums + e
        store(at, e)
    return spread(np.float32(1) / total(sums))
