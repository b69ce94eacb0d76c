"""What a training will reach, told before it begins.

How hard a text is differs more than anything that a plan can choose. So counting comes first (`count_losses`): h, the
lowest loss that counts of one to five tokens reach on what is held out. The loss of a network is then

    h * (U / 1e6)^COUNTED * (h1 / h)^ORDER * (FLOOR + SIZE * (N / 1e6)^-ALPHA + READ * (D / 1e6)^-BETA)

with N numbers in its matrices, D tokens read (a text read again counts less and less, `fresh`), U different ones to
learn from, and h1 the loss of counting single tokens: on few tokens, and on a text in which long phrases come again,
counting does better or worse beside a network. The last bracket is the law of Hoffmann et al. 2022 (arXiv:2203.15556,
equation 2), with their exponents; the five other constants are fitted, on logarithms, to trainings of our recipe by

    python -m benchmarks.forecast --fit

which also prints what a fit without its text would have said of each training. SPREAD, the range that is told, is twice
as wide as what held four of five of those: a plan may be far larger than the trainings that could be repeated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from glassgpt.data.shards import Shards

ORDERS = 5
ALPHA, BETA = 0.34, 0.28
WORN = 8.0  # readings of a text again, after the first, that are worth as much as new text in all
FLOOR, SIZE, READ, COUNTED, ORDER = 0.6206, 0.0658, 0.2107, 0.0371, 0.1239
SPREAD = 1.06
SAMPLE_TOKENS, SCORED_TOKENS = 1 << 20, 1 << 17  # what is counted, and what is predicted from that


class Range(NamedTuple):
    """Where something is expected: between `low` and `high`, and most likely at `middle`."""

    low: float
    middle: float
    high: float


@dataclass(frozen=True)
class Text:
    """What is known of a text in tokens before training. `ngrams`: what `ngram_losses` gives."""

    vocab_size: int
    train_tokens: int
    held_out_tokens: int
    ngrams: tuple[float, ...]


def expected_loss(text: Text, matrices: int, tokens: int) -> Range:
    """The held-out loss, in nats per token, of a network of our recipe with so many numbers in its matrices after
    reading so many tokens."""
    easiest = min(text.ngrams)
    learned = FLOOR + SIZE * (matrices / 1e6) ** -ALPHA + READ * (fresh(text, tokens) / 1e6) ** -BETA
    counted = (min(text.train_tokens, SAMPLE_TOKENS) / 1e6) ** COUNTED * (text.ngrams[0] / easiest) ** ORDER
    middle = easiest * counted * learned
    return Range(middle / SPREAD, middle, middle * SPREAD)


def fresh(text: Text, tokens: int) -> float:
    """How many tokens of new text are worth as much as `tokens` of a text that is read again and again (Muennighoff et
    al. 2023, arXiv:2305.16264, equation 5)."""
    again = tokens / text.train_tokens - 1
    return text.train_tokens * (1 + WORN * (1 - math.exp(-again / WORN))) if again > 0 else tokens


def ngram_losses(train: np.ndarray, held_out: np.ndarray, vocab_size: int, orders: int = ORDERS) -> list[float]:
    """The loss, in nats per token, at which counting alone predicts `held_out`: with no token before, with one, ...,
    with `orders` - 1.

    Counts of all lengths are mixed by Witten & Bell 1991: the longer context has a say in the measure that it was
    followed by few different tokens. What was never seen shares one vote with all of the vocabulary.
    """
    train, held_out = train.astype(np.int64), held_out.astype(np.int64)
    believed = np.full(len(held_out), 1.0 / vocab_size)
    # Which (n-1)-gram ends before a token: a number for each that occurs in `train`, -1 elsewhere. The empty one is 0.
    context, asked = np.zeros(len(train), dtype=np.int64), np.zeros(len(held_out), dtype=np.int64)
    contexts, losses = 1, []
    for order in range(1, orders + 1):
        keys = np.where(context >= 0, context * vocab_size + train, -1)
        known, numbers, counts = np.unique(keys, return_inverse=True, return_counts=True)
        first = int(known[0] < 0)  # the place before the beginning is no n-gram
        owner = known[first:] // vocab_size
        total = np.bincount(owner, counts[first:], minlength=contexts)  # of each context: how often it was followed,
        kinds = np.bincount(owner, minlength=contexts)  # and by how many different tokens
        wanted = np.where(asked >= 0, asked * vocab_size + held_out, -2)
        place = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
        met = known[place] == wanted
        seen = (asked >= 0) & (total[asked] > 0)  # nothing follows what ends `train`
        where = asked[seen]
        believed[seen] = (np.where(met, counts[place], 0)[seen] + kinds[where] * believed[seen]) / (
            total[where] + kinds[where]
        )
        losses.append(float(-np.log(believed[order - 1 :]).mean()))
        contexts = len(known) - first
        numbers, here = numbers - first, np.where(met, place - first, -1)
        context = np.concatenate(([-1], numbers[:-1]))
        asked = np.concatenate(([-1], here[:-1]))
    return losses


def count_losses(train: Shards, held_out: Shards, vocab_size: int) -> tuple[float, ...]:
    """`ngram_losses` of what lies in shards; of a long text pieces from all over it, so that it takes about a second
    or two."""
    return tuple(ngram_losses(_sample(train, SAMPLE_TOKENS), _sample(held_out, SCORED_TOKENS), vocab_size))


def _sample(shards: Shards, most: int, pieces: int = 16) -> np.ndarray:
    """All tokens, or `most` in pieces that stand evenly apart: a text is not equally hard everywhere."""
    if len(shards) <= most:
        return shards.tokens(0, len(shards))
    size = most // pieces
    starts = np.linspace(0, len(shards) - size, pieces, dtype=int).tolist()
    return np.concatenate([shards.tokens(start, start + size) for start in starts])
