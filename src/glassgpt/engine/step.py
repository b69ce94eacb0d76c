"""One step of the whole network, compiled: any number of rows, each a token of some sequence at some position.

Reading a prompt, decoding one token and checking guessed ones are the same step with other rows. A row's arithmetic
depends on its own sequence alone: products are summed in one order however many rows there are, attention walks the
pages of the row's sequence, and each number is computed by one thread. So a reply is the same alone and in company.

Every thread of the budget runs the same function and does its share of each phase; between phases they meet. They
meet by counting: a lock of the system's would take longer than a phase.

What is compiled sees records of int64, told by their addresses; `fields` names what stands in them.
"""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np

from glassgpt.engine.fields import (
    ADDITION,
    ATTENDED,
    ATTENTION_NORM,
    ATTENTION_NORM_BIAS,
    ATTENTION_POST_NORM,
    BEND,
    BITS,
    CACHE,
    CACHE_BITS,
    CAP,
    CHUNK,
    COSINES,
    DOWN_MATRIX,
    EMBED,
    EMBED_SCALE,
    EPS,
    GATED,
    GROUP,
    HEAD,
    HEAD_PADDED,
    HEADS,
    HIDDEN,
    HIDDEN_QUANTIZED,
    IDS,
    IN_PLACE,
    K_NORM,
    KV_HEADS,
    LAYER_FIELDS,
    LAYERS,
    LOGITS,
    MASSES,
    MET,
    MET_BEFORE,
    MLP,
    MLP_NORM,
    MLP_NORM_BIAS,
    MLP_POST_NORM,
    N_LAYERS,
    NORM,
    NORM_BIAS,
    NORMED,
    NUMBERS,
    OUT_MATRIX,
    OUTPUT_ROWS,
    OUTPUTS,
    PADDED,
    PAGE,
    PAGES,
    POSITIONS,
    Q_NORM,
    QKV,
    QKV_MATRIX,
    QUANTIZED,
    ROWS,
    SCALE,
    SCORES,
    SCORES_BYTES,
    SCRATCH,
    SEES,
    SINES,
    THREADS,
    TILES,
    TOP,
    TURN,
    UP,
    UP_MATRIX,
    VOCABULARY,
    WIDTH,
    WINDOW,
    X,
)  # fmt: skip
from glassgpt.engine.kernels import copy_row, inlined, jit, multiply_quantized, multiply_wide, quantize_group
from glassgpt.engine.parts import activate, attending, exp, normalise, page_size, remember, rotate, tanh
from glassgpt.engine.vectors import (
    add_atomic,
    first_lanes,
    get,
    get_atomic,
    get_int,
    get_short_int,
    give_way,
    larger,
    largest,
    load,
    pause,
    put,
    spread,
    store,
    total,
)  # fmt: skip


@inlined
def _field(record, number):
    return get_int(record + 8 * number)


@inlined
def _number(program, number):
    return get(_field(program, NUMBERS) + 4 * number)


@jit
def meet(program, count):
    """Waits until all threads have come here for the `count`-th time in this step."""
    threads = _field(program, THREADS)
    if threads == 1:
        return
    place, spins = _field(program, MET), 0
    enough = _field(program, MET_BEFORE) + count * threads
    add_atomic(place, 1)
    while get_atomic(place) < enough:
        pause()
        spins += 1
        if spins > 2000:
            give_way()


# Rounded inputs of a product: bytes, then scales, then sums, each for all rows.


@inlined
def _scales(quantized, rows, width):
    return quantized + rows * width


@inlined
def _sums(quantized, rows, width):
    return quantized + rows * width + rows * (width // GROUP) * 4


@inlined
def _round_group(x, quantized, rows, row, width, group):
    at = row * (width // GROUP) + group
    quantize_group(
        x + (row * width + group * GROUP) * 4, quantized + at * GROUP,
        _scales(quantized, rows, width) + 4 * at, _sums(quantized, rows, width) + 4 * at,
    )  # fmt: skip


@jit
def _multiply(program, index, matrix, x, quantized, width, out, rows, first, last, add):
    """Tiles of a matrix times rows: of `x` for wide weights, of `quantized` for those in 4 and 8 bits."""
    stride = _field(matrix, TILES) * 64
    if _field(matrix, BITS) <= 8:
        multiply_quantized(matrix, quantized, _scales(quantized, rows, width), _sums(quantized, rows, width), out,
                           stride, rows, first, last, add, _field(program, SCRATCH) + 256 * index)  # fmt: skip
    else:
        multiply_wide(matrix, x, out, stride, rows, first, last, add)


@jit
def _take_in(program, row, weight):
    """Adds the norm of what a block computed to the residual stream, where the block has a norm for that."""
    if weight == 0:
        return  # the product has added it already
    padded = _field(program, PADDED)
    x, addition = _field(program, X) + row * padded * 4, _field(program, ADDITION) + row * padded * 4
    normalise(addition, addition, weight, 0, _field(program, WIDTH), padded, _number(program, EPS))
    for at in range(0, 4 * padded, 64):
        store(x + at, load(x + at) + load(addition + at))


@jit
def _norm_row(program, row, out_row, rows, weight, bias, matrix):
    """The norm of a row of the residual stream, as the matrix wants it."""
    padded, normed = _field(program, PADDED), _field(program, NORMED)
    x = _field(program, X) + row * padded * 4
    normalise(x, normed + out_row * padded * 4, weight, bias, _field(program, WIDTH), padded, _number(program, EPS))
    if _field(program, IN_PLACE):
        for at in range(0, 4 * padded, 64):
            store(x + at, load(normed + out_row * padded * 4 + at))
    if _field(matrix, BITS) <= 8:
        for group in range(padded // GROUP):
            _round_group(normed, _field(program, QUANTIZED), rows, out_row, padded, group)


@jit
def _place_row(program, layer, row, head, rows):
    """Norms and turns one head of a row's queries or keys; keys go into the cache together with their values."""
    heads, kv_heads = _field(program, HEADS), _field(program, KV_HEADS)
    width, padded, bits = _field(program, HEAD), _field(program, HEAD_PADDED), _field(program, CACHE_BITS)
    qkv = _field(program, QKV) + row * (heads + 2 * kv_heads) * padded * 4
    x = qkv + head * padded * 4
    position = get_short_int(_field(program, POSITIONS) + 4 * row)
    norm = _field(layer, Q_NORM) if head < heads else _field(layer, K_NORM)
    if norm:
        normalise(x, x, norm, 0, width, padded, _number(program, EPS))
    if _field(layer, COSINES):
        at = position * (width // 2) * 4
        rotate(x, _field(layer, COSINES) + at, _field(layer, SINES) + at, width)
    if head < heads:
        by = spread(_number(program, SCALE))
        for at in range(x, x + 4 * padded, 64):
            store(at, load(at) * by)
    else:
        page = get_short_int(get_int(_field(program, PAGES) + 8 * row) + 4 * (position // PAGE))
        place = _field(layer, CACHE) + (page * kv_heads + head - heads) * page_size(bits, padded)
        remember(place, position % PAGE, x, x + kv_heads * padded * 4, padded, bits)


_attend_1, _attend_2, _attend_3, _attend_4 = (attending(count) for count in (1, 2, 3, 4))


@jit
def _attend_rows(program, layer, index, row, together, kv_head, rows):
    """The queries of one key/value head read from their sequence: those of one row, or, where a row has only one, of
    `together` rows that follow one another in a sequence."""
    heads, kv_heads = _field(program, HEADS), _field(program, KV_HEADS)
    padded, bits = _field(program, HEAD_PADDED), _field(program, CACHE_BITS)
    share = heads // kv_heads
    sees = _field(program, SEES) + 4 * row
    seen = get_short_int(sees)
    pages, window = get_int(_field(program, PAGES) + 8 * row), _field(layer, WINDOW)
    size = page_size(bits, padded)
    base, apart = _field(layer, CACHE) + kv_head * size, kv_heads * size
    room = _field(program, SCORES_BYTES)
    scores = _field(program, SCORES) + 4 * index * room
    q_apart, out_apart, later, queries = padded * 4, padded * 4, 0, share
    if together > 1:
        q_apart, out_apart, queries = (heads + 2 * kv_heads) * padded * 4, heads * padded * 4, together
        later = get_short_int(sees + 4) - seen  # 1, or 0 where all see all
    done = 0
    while done < queries:
        head = kv_head * share + (0 if together > 1 else done)
        at = row + (done if together > 1 else 0)
        q = _field(program, QKV) + (at * (heads + 2 * kv_heads) + head) * padded * 4
        out = _field(program, ATTENDED) + (at * heads + head) * padded * 4
        last, left = seen + done * later, queries - done
        if left >= 4:
            _attend_4(q, q_apart, out, out_apart, pages, base, apart, last, later, window, padded, bits, scores, room)
        elif left == 3:
            _attend_3(q, q_apart, out, out_apart, pages, base, apart, last, later, window, padded, bits, scores, room)
        elif left == 2:
            _attend_2(q, q_apart, out, out_apart, pages, base, apart, last, later, window, padded, bits, scores, room)
        else:
            _attend_1(q, q_apart, out, out_apart, pages, base, apart, last, later, window, padded, bits, scores, room)
        done += min(4, left)
    if _field(_field(layer, OUT_MATRIX), BITS) <= 8:
        for r in range(row, row + together):
            for group in range(kv_head * share * padded // GROUP, (kv_head + 1) * share * padded // GROUP):
                _round_group(_field(program, ATTENDED), _field(program, QUANTIZED), rows, r, heads * padded, group)


@jit
def _attend_all(program, layer, index, rows):
    """This thread's share of the queries."""
    threads, heads, kv_heads = _field(program, THREADS), _field(program, HEADS), _field(program, KV_HEADS)
    item, row = 0, 0
    while row < rows:
        together = 1
        if heads == kv_heads:  # one query to a key/value head: rows of a sequence share what they read
            pages = get_int(_field(program, PAGES) + 8 * row)
            while row + together < rows and together < 4:
                if get_int(_field(program, PAGES) + 8 * (row + together)) != pages:
                    break
                together += 1
        for kv_head in range(kv_heads):
            if item % threads == index:
                _attend_rows(program, layer, index, row, together, kv_head, rows)
            item += 1
        row += together


@jit
def _bend_group(program, layer, rows, row, group):
    """The activation of 32 hidden numbers of a row, times their gate where there is one."""
    width, gated, bend = _field(program, MLP), _field(program, GATED), _field(program, BEND)
    hidden = _field(program, HIDDEN)
    out = hidden + (row * width + group * GROUP) * 4
    up = _field(program, UP) + (row * width + group * GROUP) * (8 if gated else 4)
    for at in range(0, 128, 64):  # a group's gate lies before what it gates
        y = activate(load(up + at), bend)
        store(out + at, y * load(up + 128 + at) if gated else y)
    if _field(_field(layer, DOWN_MATRIX), BITS) <= 8:
        _round_group(hidden, _field(program, HIDDEN_QUANTIZED), rows, row, width, group)


@jit
def step(program, index):
    """Thread `index` of one step: rows X [ROWS, PADDED] through all layers, scores of OUTPUT_ROWS into LOGITS."""
    threads, rows, met = _field(program, THREADS), _field(program, ROWS), 0
    padded, heads, kv_heads = _field(program, PADDED), _field(program, HEADS), _field(program, KV_HEADS)
    attended_width, mlp = heads * _field(program, HEAD_PADDED), _field(program, MLP)
    x, normed, quantized = _field(program, X), _field(program, NORMED), _field(program, QUANTIZED)
    post_norm = 0
    if _field(program, EMBED):
        for row in range(index, rows, threads):
            token = get_short_int(_field(program, IDS) + 4 * row)
            copy_row(_field(program, EMBED), token, _number(program, EMBED_SCALE), x + row * padded * 4)
    for number in range(_field(program, N_LAYERS)):
        layer = _field(program, LAYERS) + number * 8 * LAYER_FIELDS
        matrix = _field(layer, QKV_MATRIX)
        for row in range(index, rows, threads):
            _take_in(program, row, post_norm)
            _norm_row(
                program, row, row, rows, _field(layer, ATTENTION_NORM), _field(layer, ATTENTION_NORM_BIAS), matrix
            )
        met += 1
        meet(program, met)
        tiles = _field(matrix, TILES)
        _multiply(program, index, matrix, normed, quantized, padded, _field(program, QKV), rows,
                  tiles * index // threads, tiles * (index + 1) // threads, 0)  # fmt: skip
        met += 1
        meet(program, met)
        for item in range(index, rows * (heads + kv_heads), threads):
            _place_row(program, layer, item // (heads + kv_heads), item % (heads + kv_heads), rows)
        met += 1
        meet(program, met)
        _attend_all(program, layer, index, rows)
        met += 1
        meet(program, met)
        matrix, post_norm = _field(layer, OUT_MATRIX), _field(layer, ATTENTION_POST_NORM)
        tiles = _field(matrix, TILES)
        _multiply(program, index, matrix, _field(program, ATTENDED), quantized, attended_width,
                  _field(program, ADDITION) if post_norm else x, rows,
                  tiles * index // threads, tiles * (index + 1) // threads, 0 if post_norm else 1)  # fmt: skip
        met += 1
        meet(program, met)
        matrix = _field(layer, UP_MATRIX)
        for row in range(index, rows, threads):
            _take_in(program, row, post_norm)
            _norm_row(program, row, row, rows, _field(layer, MLP_NORM), _field(layer, MLP_NORM_BIAS), matrix)
        met += 1
        meet(program, met)
        # A group of hidden numbers is two tiles, and two of its gate: whoever has multiplied them bends them.
        first, last = mlp // GROUP * index // threads, mlp // GROUP * (index + 1) // threads
        unit = 4 if _field(program, GATED) else 2
        _multiply(program, index, matrix, normed, quantized, padded, _field(program, UP), rows,
                  first * unit, last * unit, 0)  # fmt: skip
        for row in range(rows):
            for group in range(first, last):
                _bend_group(program, layer, rows, row, group)
        met += 1
        meet(program, met)
        matrix, post_norm = _field(layer, DOWN_MATRIX), _field(layer, MLP_POST_NORM)
        tiles = _field(matrix, TILES)
        _multiply(program, index, matrix, _field(program, HIDDEN), _field(program, HIDDEN_QUANTIZED), mlp,
                  _field(program, ADDITION) if post_norm else x, rows,
                  tiles * index // threads, tiles * (index + 1) // threads, 0 if post_norm else 1)  # fmt: skip
        met += 1
        meet(program, met)
    _score(program, index, met, post_norm)


@jit
def _score(program, index, met, post_norm):
    """The last norm and the scores of those rows that are asked for."""
    threads, outputs, logits = _field(program, THREADS), _field(program, OUTPUTS), _field(program, LOGITS)
    matrix = _field(program, TOP)
    for number in range(index, outputs, threads):
        row = get_short_int(_field(program, OUTPUT_ROWS) + 4 * number)
        _take_in(program, row, post_norm)
        _norm_row(program, row, number, outputs, _field(program, NORM), _field(program, NORM_BIAS), matrix)
    meet(program, met + 1)
    tiles = _field(matrix, TILES)
    first, last = tiles * index // threads, tiles * (index + 1) // threads
    _multiply(program, index, matrix, _field(program, NORMED), _field(program, QUANTIZED), _field(program, PADDED),
              logits, outputs, first, last, 0)  # fmt: skip
    cap = _number(program, CAP)
    if cap > np.float32(0):
        for number in range(outputs):
            for tile in range(first, last):
                at = logits + (number * tiles + tile) * 64
                store(at, tanh(load(at) / spread(cap)) * spread(cap))
    meet(program, met + 2)
    chunks = (tiles + CHUNK - 1) // CHUNK
    for item in range(index, outputs * chunks, threads):
        _weigh(logits + item // chunks * tiles * 64, item % chunks, tiles, _field(program, VOCABULARY),
               _field(program, MASSES) + 8 * item)  # fmt: skip
    meet(program, met + 3)


@jit
def _weigh(row, chunk, tiles, vocabulary, out):
    """The largest of some of a row's scores, and the sum of e^(score - largest)."""
    first, last = chunk * CHUNK, min(tiles, (chunk + 1) * CHUNK)
    top = spread(np.float32(-np.inf))
    for tile in range(first, last):
        at = row + tile * 64
        if (tile + 1) * 16 > vocabulary:  # what the last tile is filled up with
            store(at, first_lanes(load(at), vocabulary - tile * 16))
        top = larger(top, load(at))
    most = largest(top)
    sums = spread(np.float32(0))
    for tile in range(first, last):
        sums = sums + exp(load(row + tile * 64) - spread(most))
    put(out, most)
    put(out + 4, total(sums))


@jit
def work(program, index, seen, spins):
    """Waits for the turn after `seen`, runs its step as thread `index`, and waits for the next one, until none comes
    for `spins` looks. Gives the last turn that was run. Turns count up; a negative one ends it."""
    place, waited = _field(program, TURN), 0
    while waited < spins:
        turn = get_atomic(place)
        if turn < 0:
            return turn
        if turn != seen:
            step(program, index)
            seen, waited = turn, 0
        else:
            pause()
            waited += 1
    return seen
