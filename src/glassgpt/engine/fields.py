"""The records by which the compiled step is told what a model is and what to do: int64 fields, known by number.

Addresses of arrays stand in them as whole numbers; 0 where there is none. Whoever fills a record keeps the arrays.
"""

from __future__ import annotations

GROUP = 32  # weights to a scale, and what every width is padded to
PAGE = 16  # positions whose keys and values lie together, as many as a vector has lanes
ACTIVATIONS = {"swiglu": 0, "geglu": 1, "gelu_tanh": 1, "gelu": 2, "relu2": 3}

# A matrix: how many bits a weight has, where things lie, how large it is, and its bias.
BITS, VALUES, SCALES, TILES, MATRIX_WIDTH, BIAS = range(6)
MATRIX_FIELDS = 6

# A layer. Matrices are addresses of records, norms of float32, cosines and sines of tables by position.
(ATTENTION_NORM, ATTENTION_NORM_BIAS, QKV_MATRIX, Q_NORM, K_NORM, OUT_MATRIX, ATTENTION_POST_NORM, MLP_NORM,
 MLP_NORM_BIAS, UP_MATRIX, DOWN_MATRIX, MLP_POST_NORM, WINDOW, COSINES, SINES, CACHE) = range(16)  # fmt: skip
LAYER_FIELDS = 16

# A program: what the model is ...
(N_LAYERS, WIDTH, PADDED, HEADS, KV_HEADS, HEAD, HEAD_PADDED, MLP, GATED, BEND, CACHE_BITS, NUMBERS, LAYERS, NORM,
 NORM_BIAS, TOP) = range(16)  # fmt: skip
# ... what this step is, and where it may write. TURN and MET are addresses of int64 that the threads share, each on a
# cache line of its own. MET counts up for ever, since some thread may still be looking at it when another begins the
# next step; MET_BEFORE is what it was then.
(THREADS, ROWS, OUTPUTS, TURN, MET, MET_BEFORE, X, POSITIONS, PAGES, OUTPUT_ROWS, LOGITS, NORMED, QUANTIZED, HIDDEN,
 HIDDEN_QUANTIZED, QKV, ATTENDED, UP, ADDITION, SCORES, SCORES_BYTES, SCRATCH, EMBED, IDS, MASSES,
 VOCABULARY, SEES, IN_PLACE) = range(16, 44)  # fmt: skip
PROGRAM_FIELDS = 48

# SEES are int32, for each row the last position that it looks at: its own, or the last of its text in an encoder.
# IN_PLACE: whether a norm changes the residual stream itself, as in an encoder.

# EMBED is the tokens' matrix, or 0 where X has been filled already. MASSES are float32 [outputs, chunks, 2]: of so many
# tiles of a row's scores the largest, and the sum of e^(score - largest).
CHUNK = 128

# NUMBERS of a program: float32.
EPS, SCALE, CAP, EMBED_SCALE = range(4)
NUMBER_FIELDS = 4


def page_bytes(bits: int, width: int) -> int:
    """How large a page of one key/value head is, for numbers of 32, 16 or 8 bits: keys [width, 16], then values
    [16, width]; with 8 bits the scales of the sixteen keys and of the sixteen values after them."""
    return 2 * PAGE * width * bits // 8 + (2 * PAGE * 4 if bits == 8 else 0)
