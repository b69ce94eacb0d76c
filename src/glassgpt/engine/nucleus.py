"""A draw that looks at the few tokens it can reach, and says so when it cannot be sure of them.

The plain chain of `sampling` sorts and exponentiates the whole vocabulary in float64. Here float32 sums bound what lies
outside a few candidates; the answer counts only where every value within those bounds gives the same token. Otherwise
it is None, and the plain chain decides. So what is returned is what the plain chain returns, only sooner.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

ROWS = 64  # a vocabulary is looked at as a table of so many rows: maxima and sums of columns are the fastest there are
SMALL = 4096  # below it the table does not pay
REACHES = (10.0, 20.0)  # candidates are tokens whose weight is at least exp(-reach) of the likeliest one's
# Bound of what a float32 sum of weights may be off by, as a share of it: `ROWS` additions of half a unit in the last
# place each (4e-6), the exponential (3e-7), and the scores' own rounding, which weighs at most log V (8e-7).
ERROR = 1e-5
# The same where rows are summed: numpy adds pairwise along memory, some 24 additions deep.
ROW_ERROR = 3e-6
EXACT = 1e-10  # the same for float64, where sums differ only in how they are grouped
NEAR_TOP = 1 - 1e-4  # above it weights may differ so little that their probabilities tie, and the order is the ids'
_LOWEST = np.finfo(np.float32).min


@dataclass(frozen=True)
class Mass:
    """The weights exp(scores - shift) [V], their sum, and a bound for the error of the sum."""

    weights: np.ndarray
    shift: float
    total: float
    error: float


@dataclass(frozen=True)
class Scores:
    """Scores [V] float32 with what is looked up in them: `peaks`, the maxima of columns, and `top`, the largest."""

    values: np.ndarray
    peaks: np.ndarray
    top: np.float32
    divisor: np.float32

    def at_least(self, threshold: float) -> np.ndarray:
        """The ids [N], ascending, of the scores that reach `threshold`, and of some that rounding puts just below."""
        slack = 1e-6 * (abs(threshold) + abs(float(self.top)))
        bound = np.float32(max(threshold - slack, float(_LOWEST)))
        columns = len(self.values) // ROWS
        near = np.flatnonzero(self.peaks[:columns] >= bound)
        if len(self.values) < SMALL or 4 * len(near) > columns:
            return np.flatnonzero(self.values >= bound)
        table = self.values[: ROWS * columns].reshape(ROWS, columns)
        rows, places = np.divmod(np.flatnonzero(table.take(near, axis=1) >= bound), len(near))
        ids = rows * columns + near[places]
        rest = np.flatnonzero(self.values[ROWS * columns :] >= bound)
        return np.concatenate((ids, rest + ROWS * columns)) if len(rest) else ids

    def warm(self, ids: np.ndarray | slice) -> np.ndarray:
        """These scores as the plain chain has them after the temperature: at most 0, bit for bit the same."""
        return (self.values[ids] - self.top) / self.divisor

    def weigh(self, ids: np.ndarray | slice) -> np.ndarray:
        """The weights of these ids, the likeliest one's being 1, as the plain chain has them before it divides."""
        return np.exp(self.warm(ids).astype(np.float64))


def look(values: np.ndarray, temperature: float) -> Scores:
    """Scores [V] float32 prepared for a draw at `temperature`."""
    columns, peaks = len(values) // ROWS, values
    if len(values) >= SMALL:
        peaks = values[: ROWS * columns].reshape(ROWS, columns).max(axis=0)
        if len(values) % ROWS:
            peaks = np.concatenate((peaks, values[ROWS * columns :]))
    return Scores(values, peaks, peaks.max(), np.float32(max(temperature, 1e-6)))


def measure(values: np.ndarray, top: float | None = None) -> Mass:
    """The weights of scores [V], in float64 where they are few. `top` is the largest score, if it is known."""
    top = float(values.max()) if top is None else top
    if top == -math.inf:  # nothing can come
        return Mass(np.zeros(len(values), dtype=np.float32), 0.0, 0.0, 0.0)
    if len(values) < SMALL:
        wide = np.exp(values.astype(np.float64) - top)
        total = float(wide.sum())
        return Mass(wide, top, total, EXACT * total)
    # Moderate scores need not be moved before the exponential, which saves a pass.
    shift = 0.0 if -30.0 <= top <= 60.0 else top
    with np.errstate(over="ignore"):
        weights = np.exp(values if shift == 0.0 else values - np.float32(top))
    total = _total(weights)
    return Mass(weights, shift, total, ERROR * total)


def changed(mass: Mass, ids: np.ndarray, before: np.ndarray, after: np.ndarray) -> Mass | None:
    """The mass after the scores of `ids` (distinct) became `after`; None where that overflows. Alters the weights."""
    new = np.exp(after.astype(np.float64) - mass.shift)
    total = mass.total + float((new - np.exp(before.astype(np.float64) - mass.shift)).sum())
    if not (new < 1e30).all():
        return None
    mass.weights[ids] = new
    return Mass(mass.weights, mass.shift, total, mass.error + ERROR * float(new.sum()))


def draw(scores: Scores, top_k: int, top_p: float, min_p: float, u: float, mass: Mass | None = None) -> int | None:
    """The token at `u` (0 to 1) of the filtered scores, or None where the bounds leave a doubt.

    Args:
        mass: the weights of these scores at temperature 1, if they are known.
    """
    size, divisor = len(scores.values), float(scores.divisor)
    if mass is not None and not -30.0 <= float(scores.top) - mass.shift <= 60.0:
        mass = None  # where the weights lose digits or overflow
    if size < SMALL or 0 < top_k < size:
        ids = _top_k(scores, top_k) if 0 < top_k < size else np.arange(size)
        return _finish(scores, ids, None, top_p, min_p, u, None)
    if top_p >= 1.0 and min_p > 0.0:
        ids = scores.at_least(float(scores.top) + divisor * math.log(min_p))
        return _finish(scores, ids, None, 1.0, min_p, u, None)
    if mass is None or divisor != 1.0 or top_p < 1.0:
        for reach in REACHES:
            ids = scores.at_least(float(scores.top) - divisor * reach)
            if 4 * len(ids) > size:
                break
            weights = scores.weigh(ids)
            token = _finish(scores, ids, weights, top_p, min_p, u, _bounds(scores, ids, weights, reach, mass))
            if token is not None:
                return token
    return _draw_from_all(scores, top_p, min_p, u, mass)


def likeliest(values: np.ndarray, n: int) -> np.ndarray:
    """The ids of the `n` (from 1 to V) largest scores above -inf, the largest first and on a tie the lower id."""
    ids = _about(look(values, 1.0), n)
    ids = ids[np.argsort(-values[ids], kind="stable")[:n]]
    return ids[values[ids] > -np.inf]


def _top_k(scores: Scores, k: int) -> np.ndarray:
    """The ids of the k likeliest and of all that tie with the last of them."""
    ids = _about(scores, k)
    if len(ids) <= k:
        return ids
    z = scores.warm(ids)
    return ids[z >= np.partition(z, -k)[-k]]


def _about(scores: Scores, k: int) -> np.ndarray:
    """Some ids, ascending, among which are the k likeliest that can come at all."""
    # The k largest maxima belong to k tokens, so the k-th largest score is no smaller than the k-th largest maximum.
    among = scores.peaks if 4 * k <= len(scores.peaks) else scores.values
    return scores.at_least(float(np.partition(among, -k)[-k]))


def _bounds(
    scores: Scores, ids: np.ndarray, weights: np.ndarray, reach: float, mass: Mass | None
) -> tuple[float, float]:
    """The least and the most that all weights sum to, given those of `ids` [N]; no other reaches exp(-reach)."""
    divisor, scale = float(scores.divisor), math.exp(mass.shift - float(scores.top)) if mass else 0.0
    if mass and divisor == 1.0:
        return (mass.total - mass.error) * scale, (mass.total + mass.error) * scale
    inside, outside = float(weights.sum()), (len(scores.values) - len(ids)) * math.exp(-reach)
    if mass and divisor < 1.0:
        # Outside exp(d / t) is exp(d) times at most exp(-reach (1 - t)); what exp(d) sums to there is known.
        known = float(mass.weights[ids].sum(dtype=np.float64))
        others = (mass.total * (1 + ERROR) + mass.error - known) * scale
        outside = min(outside, max(others, 0.0) * math.exp(-reach * (1.0 - divisor)))
    return inside, inside + outside


def _finish(
    scores: Scores,
    ids: np.ndarray,
    weights: np.ndarray | None,
    top_p: float,
    min_p: float,
    u: float,
    sums: tuple[float, float] | None,
) -> int | None:
    """Top-p, min-p and the draw among `ids` [N], with their `weights` if these are known already; `sums` bounds what
    all weights of the vocabulary sum to, None: there are no others."""
    if weights is None:
        weights = scores.weigh(ids)
    if top_p < 1.0:
        keep = _top_p(weights, top_p, sums)
        if keep is None:
            return None
        ids, weights, sums = ids[keep], weights[keep], None
    if min_p > 0.0:
        keep = scores.warm(ids) >= np.float32(0) + math.log(min_p)
        ids, weights = ids[keep], weights[keep]
    ends = weights.cumsum()
    unknown = sums[1] - float(ends[-1]) if sums else 0.0
    return _pick(ids, ends, u, max(unknown, 0.0))


def _top_p(weights: np.ndarray, p: float, sums: tuple[float, float] | None) -> np.ndarray | None:
    """Which candidates [N] the smallest set that reaches `p` holds, or None where the bounds leave a doubt."""
    falling = np.sort(weights)[::-1]
    reached = falling.cumsum()
    before, (low, high) = reached - falling, sums or (reached[-1], reached[-1])
    count = int(np.count_nonzero(before < p * low * (1 - EXACT)))
    if count == 0 or count != np.count_nonzero(before < p * high * (1 + EXACT)):
        return None
    if count == len(weights):
        return None if sums else np.ones(count, dtype=bool)
    last, beyond = falling[count - 1], falling[count]
    if beyond > NEAR_TOP and (last != beyond or ((weights > NEAR_TOP) & (weights < 1)).any()):
        return None
    keep = weights > beyond
    if last == beyond:  # of those that tie, the lowest ids
        keep[np.flatnonzero(weights == beyond)[: count - np.count_nonzero(keep)]] = True
    return keep


def _pick(ids: np.ndarray, sums: np.ndarray, u: float, unknown: float) -> int | None:
    """The id at `u`, when up to `unknown` more weight lies anywhere among those whose running `sums` [N] are given."""
    target, slack = u * sums[-1], EXACT * sums[-1]
    at = int(sums.searchsorted(target, side="right"))
    if at == len(sums) or not sums[at] - target > u * unknown + slack:
        return None
    before = sums[at - 1] if at else 0.0
    sure = target - before > (1 - u) * unknown + slack or (at == 0 and unknown == 0.0)
    return int(ids[at]) if sure else None


def _draw_from_all(scores: Scores, top_p: float, min_p: float, u: float, mass: Mass | None) -> int | None:
    """The draw with the weight of every token, in float32. Alters the weights."""
    if scores.divisor == 1.0 and mass is not None:
        weights, scale = mass.weights, math.exp(mass.shift - float(scores.top))
    else:
        weights, scale = np.exp(scores.warm(slice(None))), 1.0
    if top_p >= 1.0:
        return _pick_by_rows(scores, weights, scale, u)
    for reach in (*REACHES, math.inf):
        ids = scores.at_least(float(scores.top) - float(scores.divisor) * reach)
        near = scores.weigh(ids)
        weights[ids] = 0  # float32 is in doubt only about what lies outside
        inside, outside = float(near.sum()), _total(weights) * scale
        sums = (inside + outside * (1 - ERROR), inside + outside * (1 + ERROR)) if outside else None
        token = _finish(scores, ids, near, top_p, min_p, u, sums)
        if token is not None:
            return token
    return None


def _pick_by_rows(scores: Scores, weights: np.ndarray, scale: float, u: float) -> int | None:
    """The id at `u` of all tokens, whose float32 `weights` [V] become exp of the warm scores when times `scale`."""
    width = len(weights) // ROWS
    rows = weights[: ROWS * width].reshape(ROWS, width).sum(axis=1)
    ends = np.append(rows, weights[ROWS * width :].sum()).cumsum(dtype=np.float64) * scale
    target, doubt = u * ends[-1], 2 * ROW_ERROR * ends[-1]
    row = int(ends.searchsorted(target, side="right"))
    if row == len(ends):
        return None
    begin, before = row * width, ends[row - 1] if row else 0.0
    inside = before + scores.weigh(slice(begin, begin + width)).cumsum()
    at = int(inside.searchsorted(target, side="right"))
    if at == len(inside) or not inside[at] - target > doubt:
        return None
    return begin + at if target - (inside[at - 1] if at else before) > doubt else None


def _total(weights: np.ndarray) -> float:
    """The sum of weights [V] float32."""
    width = len(weights) // ROWS
    total = weights[: ROWS * width].reshape(ROWS, width).sum(axis=0).sum(dtype=np.float64)
    return float(total) + float(weights[ROWS * width :].sum(dtype=np.float64))
