"""From scores to a token: a chain of small pure functions over one position's logits, in numpy.

Order: repetition, presence and frequency penalty, bias, what is allowed, temperature, top-k, top-p, min-p, one draw.
`choose_plainly` is that chain as it reads. `sample` and `choose` give the same tokens sooner: `nucleus` draws among few
candidates and leaves to the chain what it cannot be sure of.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence

import numpy as np

from glassgpt.core.errors import ConfigError, InputError
from glassgpt.engine import nucleus
from glassgpt.engine.settings import SamplingSettings, check_int

Logits = np.ndarray  # [V] float32; -inf where a token is excluded


class History:
    """The tokens of one completion, kept so that a step need not count them again: each id once, with how often it was
    generated."""

    def __init__(self, prompt: Sequence[int] = ()) -> None:
        self._ids = np.unique(np.asarray(prompt, dtype=np.int64))
        self._counts = np.zeros(len(self._ids), dtype=np.int64)
        self._places = {int(id): place for place, id in enumerate(self._ids)}

    def append(self, token: int) -> None:
        """Note a generated token."""
        place = self._places.setdefault(token, len(self._places))
        if place == len(self._ids):  # room for as many again
            self._ids = np.concatenate((self._ids, np.zeros(place + 16, np.int64)))
            self._counts = np.concatenate((self._counts, np.zeros(place + 16, np.int64)))
        self._ids[place] = token
        self._counts[place] += 1

    @property
    def ids(self) -> np.ndarray:
        """The ids [N] of the prompt and of what was generated, each once."""
        return self._ids[: len(self._places)]

    @property
    def counts(self) -> np.ndarray:
        """How often each of `ids` was generated, [N]; 0 for those of the prompt alone."""
        return self._counts[: len(self._places)]


# Ids in any order, repeated or not; a mask [V] of them; or a history, which a step need not turn into an array.
Seen = Collection[int] | np.ndarray | History


def penalize(logits: Logits, seen: Seen, penalty: float) -> Logits:
    """Make tokens that occurred less likely: positive scores divided by `penalty`, negative ones multiplied."""
    ids = _ids(seen)
    if penalty == 1.0 or not len(ids):
        return logits
    out, scores = logits.copy(), logits[ids]
    out[ids] = np.where(scores > 0, scores / penalty, scores * penalty)  # an id that comes twice is written twice alike
    return out


def adjusted(logits: Logits, settings: SamplingSettings, seen: Seen = ()) -> tuple[Logits, np.ndarray]:
    """The scores after penalties and bias, and the ids [N] that these can have changed (repeated or not).

    Raises:
        ConfigError: a penalty counts generated tokens, and `seen` is no history.
        InputError: a biased id is not in the vocabulary.
    """
    changed: list[np.ndarray] = []
    out = penalize(logits, seen, settings.repetition_penalty) if settings.repetition_penalty != 1.0 else logits
    if out is not logits:
        changed.append(_ids(seen))
    counts = settings.presence_penalty != 0 or settings.frequency_penalty != 0
    if (counts or settings.logit_bias) and out is logits:
        out = logits.copy()
    if counts:
        if not isinstance(seen, History):
            raise ConfigError(
                "presence_penalty and frequency_penalty need to know which tokens were generated",
                hint="Hand a History instead of a list of ids.",
            )
        often = seen.counts[seen.counts > 0]
        changed.append(seen.ids[seen.counts > 0])
        out[changed[-1]] -= (settings.presence_penalty + settings.frequency_penalty * often).astype(np.float32)
    if settings.logit_bias:
        ids, values = settings.bias
        if ids.max() >= len(logits):
            raise InputError(
                "token id {id} is not in the vocabulary, which has {size} entries", id=int(ids.max()), size=len(logits)
            )
        changed.append(ids)
        out[ids] += values
    return out, changed[0] if len(changed) == 1 else np.concatenate(changed or [np.empty(0, np.int64)])


def warm(logits: Logits, temperature: float) -> Logits:
    """Divide by the temperature (above 0), after moving the largest score to 0 so that nothing overflows."""
    return (logits - logits.max()) / np.float32(max(temperature, 1e-6))


def keep_top_k(logits: Logits, k: int) -> Logits:
    """Exclude all but the `k` likeliest; ties with the last one stay."""
    if not 0 < k < len(logits):
        return logits
    threshold = np.partition(logits, -k)[-k]
    return np.where(logits >= threshold, logits, -np.inf)


def keep_top_p(logits: Logits, p: float) -> Logits:
    """Exclude all outside the smallest set of likeliest tokens whose probabilities reach `p`."""
    if p >= 1.0:
        return logits
    probabilities = softmax(logits)
    order = np.argsort(-probabilities, kind="stable")
    before = np.cumsum(probabilities[order]) - probabilities[order]  # what likelier tokens reach already
    out = logits.copy()
    out[order[before >= p]] = -np.inf
    return out


def keep_min_p(logits: Logits, p: float) -> Logits:
    """Exclude tokens less likely than `p` times the likeliest."""
    if p <= 0.0:
        return logits
    return np.where(logits >= logits.max() + math.log(p), logits, -np.inf)


def filtered(logits: Logits, settings: SamplingSettings, seen: Seen = (), allowed: np.ndarray | None = None) -> Logits:
    """The whole chain before the draw: the scores from which a token is drawn. `allowed` [V] bool excludes tokens."""
    logits, _ = adjusted(logits, settings, seen)
    if allowed is not None:
        logits = np.where(allowed, logits, np.float32(-np.inf))
    steps: list[Callable[[Logits], Logits]] = [
        lambda x: warm(x, settings.temperature),
        lambda x: keep_top_k(x, settings.top_k),
        lambda x: keep_top_p(x, settings.top_p),
        lambda x: keep_min_p(x, settings.min_p),
    ]
    for step in steps:
        logits = step(logits)
    return logits


def choose_plainly(
    logits: Logits,
    settings: SamplingSettings,
    seen: Seen,
    random: np.random.Generator,
    allowed: np.ndarray | None = None,
) -> int:
    """One token id by the chain as it reads; `choose` and `sample` are held against it."""
    if settings.greedy:
        scores, _ = adjusted(logits, settings, seen)
        return int(np.argmax(scores if allowed is None else np.where(allowed, scores, -np.inf)))
    return _at(filtered(logits, settings, seen, allowed), random.random())


def choose(
    logits: Logits,
    settings: SamplingSettings,
    seen: Seen,
    random: np.random.Generator,
    allowed: np.ndarray | None = None,
) -> int:
    """One token id: the likeliest at temperature 0 (the lowest id on a tie), otherwise a draw; raises as `sample`."""
    return _choose(logits, settings, seen, random, allowed, None)


def sample(
    logits: Logits,
    settings: SamplingSettings,
    seen: Seen,
    random: np.random.Generator,
    allowed: np.ndarray | None = None,
    mass: float | None = None,
) -> tuple[int, float]:
    """What `choose` and `log_probability` give, for little more than the price of the second.

    Args:
        logits: the model's scores [V] float32.
        seen: the tokens so far, for the penalties. A `History` is the fastest.
        random: one number is drawn, none where the settings are greedy.
        allowed: a mask [V] of the tokens that may come. The log-probability is the model's own, without it.
        mass: the log of the sum of e^score, if it is known: computing it is most of the work.

    Raises:
        ConfigError: the mask has another shape, or a penalty that counts generated tokens is given no history.
        InputError: no token is allowed, or a biased id is not in the vocabulary.
    """
    if mass is not None:
        token = _choose(logits, settings, seen, random, allowed, None)
        return token, float(logits[token]) - mass
    weights = nucleus.measure(logits)
    token = _choose(logits, settings, seen, random, allowed, weights)
    return token, _log_probability(logits, token, weights)


def _choose(
    logits: Logits,
    settings: SamplingSettings,
    seen: Seen,
    random: np.random.Generator,
    allowed: np.ndarray | None,
    mass: nucleus.Mass | None,
) -> int:
    """`choose`, with the weights of the model's own scores if they are known; it may alter these."""
    scores, touched = adjusted(logits, settings, seen)
    ids = None
    if allowed is not None:
        if np.shape(allowed) != logits.shape:
            raise ConfigError(
                "the mask of allowed tokens has shape {given}; expected {expected}",
                given=np.shape(allowed),
                expected=logits.shape,
            )
        # What is excluded weighs nothing in any later step, so the others alone make the same choice.
        ids, mass = np.flatnonzero(allowed), None
        scores = scores[ids]
    if not len(scores) or (settings.greedy and scores[scores.argmax()] == -np.inf):
        raise InputError("no token is allowed here", hint="Loosen what constrains the output.")
    if settings.greedy:
        at = int(scores.argmax())
        return at if ids is None else int(ids[at])
    with np.errstate(over="ignore"):
        look = nucleus.look(scores, settings.temperature)
        if look.top == -np.inf:
            raise InputError("no token is allowed here", hint="Loosen what constrains the output.")
        if mass is not None and len(touched):
            touched = _distinct(touched, len(logits))
            mass = nucleus.changed(mass, touched, logits[touched], scores[touched])
        u = random.random()
        drawn = nucleus.draw(look, settings.top_k, settings.top_p, settings.min_p, u, mass)
        if drawn is not None:
            return drawn if ids is None else int(ids[drawn])
        return _at(filtered(logits, settings, seen, allowed), u)


def _at(scores: Logits, u: float) -> int:
    """The id at which the running sum of probabilities passes `u`."""
    probabilities = softmax(scores).cumsum()
    # The last sum stands for 1, whatever rounding left of it, so that no excluded token can be drawn.
    return int(np.searchsorted(probabilities, u * probabilities[-1], side="right"))


def softmax(logits: Logits) -> np.ndarray:
    """Probabilities [V] in float64."""
    weights = np.exp(logits.astype(np.float64) - logits.max())
    return weights / weights.sum()


def log_probability(logits: Logits, token_id: int) -> float:
    """The natural log of the model's own probability of a token (before temperature and filters), to within 1e-5."""
    return _log_probability(logits, token_id, nucleus.measure(logits))


def top_logprobs(logits: Logits, n: int, mass: float | None = None) -> list[tuple[int, float]]:
    """The `n` likeliest tokens with their log-probabilities, the likeliest first and on a tie the lower id; `mass` as
    for `sample`.

    Tokens that cannot come are left out. Raises ConfigError unless `n` is from 0 to V.
    """
    check_int("top_logprobs", n, 0, len(logits))
    if n == 0:
        return []
    ids = nucleus.likeliest(logits, n)
    if mass is not None:
        return [(int(id), float(logits[id]) - mass) for id in ids]
    weights = nucleus.measure(logits)
    return [(int(id), _log_probability(logits, int(id), weights)) for id in ids]


def _log_probability(logits: Logits, token_id: int, mass: nucleus.Mass) -> float:
    return float(logits[token_id]) - mass.shift - math.log(mass.total) if mass.total else -math.inf


def generator(seed: int, index: int) -> np.random.Generator:
    """The randomness of completion number `index`: its own stream, whatever happens beside it."""
    # Whole numbers of 64 bits: a list would be rounded to float64 where the seed has all of them.
    return np.random.Generator(np.random.Philox(key=np.array([seed, index], np.uint64)))


def _ids(seen: Seen) -> np.ndarray:
    """The ids that occurred, as an array [N]."""
    if isinstance(seen, History):
        return seen.ids
    if isinstance(seen, np.ndarray) and seen.dtype == np.bool_:
        return np.flatnonzero(seen)
    if isinstance(seen, Sequence | np.ndarray):
        return np.asarray(seen, dtype=np.int64)
    return np.fromiter(seen, dtype=np.int64, count=len(seen))


def _distinct(ids: np.ndarray, size: int) -> np.ndarray:
    """Each of `ids` (below `size`) once, without sorting: of those that are alike, the one written last."""
    place, order = np.empty(size, dtype=np.int64), np.arange(len(ids))
    place[ids] = order
    return ids[place[ids] == order]
