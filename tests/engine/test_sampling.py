"""The sampling chain against transformers' logits processors, and against its own definitions by brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from glassgpt.core.errors import ConfigError, InputError
from glassgpt.engine import sampling
from glassgpt.engine.sampling import (
    History,
    SamplingSettings,
    adjusted,
    choose,
    choose_plainly,
    filtered,
    generator,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    log_probability,
    penalize,
    sample,
    softmax,
    top_logprobs,
)

logits_lists = st.lists(st.floats(-20, 20, width=32), min_size=2, max_size=40, unique=True)


def array(values: list[float]) -> np.ndarray:
    return np.array(values, dtype=np.float32)


def theirs(processor: object, logits: np.ndarray, seen: list[int] | None = None) -> np.ndarray:
    ids = torch.tensor([seen or [0]])
    return processor(ids, torch.from_numpy(logits.copy())[None])[0].numpy()  # type: ignore[operator]


@settings(deadline=None)
@given(values=logits_lists, k=st.integers(1, 45))
def test_top_k_keeps_what_transformers_keeps(values, k):
    expected = theirs(transformers.TopKLogitsWarper(k), array(values))
    assert np.array_equal(keep_top_k(array(values), k), expected)


@settings(deadline=None)
@given(values=logits_lists, p=st.floats(0.05, 0.99))
def test_top_p_keeps_the_smallest_set_that_reaches_p(values, p):
    kept = np.isfinite(keep_top_p(array(values), p))
    probabilities = softmax(array(values))
    order = np.argsort(-probabilities)
    size = next(n for n in range(1, len(order) + 1) if probabilities[order[:n]].sum() >= p - 1e-12 or n == len(order))
    assert sorted(np.flatnonzero(kept)) == sorted(order[:size])


@settings(deadline=None)
@given(values=logits_lists, p=st.floats(0.01, 0.99))
def test_min_p_keeps_what_transformers_keeps(values, p):
    margin = np.abs(softmax(array(values)) / softmax(array(values)).max() - p).min()
    if margin < 1e-5:
        return  # on the very edge rounding decides
    expected = theirs(transformers.MinPLogitsWarper(p), array(values))
    assert np.array_equal(np.isfinite(keep_min_p(array(values), p)), np.isfinite(expected))


@settings(deadline=None)
@given(values=logits_lists, penalty=st.floats(0.5, 2.0), data=st.data())
def test_the_repetition_penalty_is_that_of_transformers(values, penalty, data):
    seen = data.draw(st.lists(st.integers(0, len(values) - 1), min_size=1))
    expected = theirs(transformers.RepetitionPenaltyLogitsProcessor(penalty), array(values), seen)
    assert np.allclose(penalize(array(values), seen, penalty), expected, rtol=1e-5)


@settings(deadline=None)
@given(values=logits_lists, at=st.integers(0, 39))
def test_log_probabilities_are_those_of_torch(values, at):
    at %= len(values)
    expected = torch.log_softmax(torch.tensor(values, dtype=torch.float64), -1)[at]
    assert math.isclose(log_probability(array(values), at), float(expected), abs_tol=1e-5)


def test_temperature_0_takes_the_likeliest_token_and_the_lowest_id_on_a_tie():
    settings = SamplingSettings(temperature=0)
    assert choose(array([1, 5, 2, 5]), settings, [], generator(0, 0)) == 1


def test_draws_follow_the_probabilities_of_the_filtered_scores():
    logits, random = array([2.0, 1.0, 0.0, -1.0, -30.0]), generator(7, 0)
    settings = SamplingSettings(temperature=0.7, top_k=4, top_p=0.99)
    expected = softmax(filtered(logits, settings))
    draws = np.bincount([choose(logits, settings, [], random) for _ in range(20_000)], minlength=5) / 20_000
    assert np.abs(draws - expected).max() < 0.015  # over 4 standard deviations
    assert draws[4] == 0


@settings(deadline=None)
@given(
    values=logits_lists,
    temperature=st.floats(0.01, 5),
    k=st.integers(0, 10),
    p=st.floats(0.01, 1),
    m=st.floats(0, 1),
    seed=st.integers(0, 1 << 60),
)
def test_an_excluded_token_is_never_drawn(values, temperature, k, p, m, seed):
    settings = SamplingSettings(temperature=temperature, top_k=k, top_p=p, min_p=m)
    drawn = choose(array(values), settings, [], generator(seed, 0))
    assert np.isfinite(filtered(array(values), settings)[drawn])


def test_a_seed_repeats_its_draws_and_each_completion_has_its_own():
    def draws(seed: int, index: int) -> list[int]:
        random = generator(seed, index)
        return [choose(np.zeros(1000, np.float32), SamplingSettings(), [], random) for _ in range(20)]

    assert draws(3, 0) == draws(3, 0)
    assert draws(3, 0) != draws(3, 1)
    assert draws(3, 0) != draws(4, 0)


def test_extreme_scores_and_temperatures_overflow_nowhere():
    logits = array([1e30, -1e30, 0])
    with np.errstate(over="raise", invalid="raise"):
        assert choose(logits, SamplingSettings(temperature=0.001), [], generator(0, 0)) == 0
        assert choose(logits, SamplingSettings(temperature=100.0), [], generator(0, 0)) == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -1},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"temperature": "hot"},
        {"temperature": True},
        {"top_p": 0},
        {"top_p": 1.1},
        {"min_p": -0.1},
        {"top_k": -1},
        {"top_k": 2.5},
        {"repetition_penalty": 0},
        {"repetition_penalty": 5e-324},
        {"seed": -1},
        {"seed": 1 << 64},
        {"presence_penalty": 2.1},
        {"frequency_penalty": -3},
        {"frequency_penalty": True},
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(ConfigError, match=f"{name} is {value}; expected"):
        SamplingSettings(**wrong)


def scores(kind: str, size: int, random: np.random.Generator) -> np.ndarray:
    """Logits [size] of a kind that a fast path could stumble over."""
    x = (random.standard_normal(size) * 3).astype(np.float32)
    if kind == "peaked":
        x[random.integers(0, size, 30)] += 12
    elif kind == "flat":
        x *= np.float32(1e-3)
    elif kind == "equal":
        x[:] = 1
    elif kind == "tied":
        x = np.round(x * 2) / np.float32(2)
    elif kind == "nearly tied":
        x = np.float32(5) + (x > 5) * np.float32(1e-6) - (x < -2) * np.float32(4)
    elif kind == "constrained":
        x[random.permutation(size)[1 + size // 10 :]] = -np.inf
    elif kind == "one":
        x[np.arange(size) != random.integers(size)] = -np.inf
    elif kind == "huge":
        x *= np.float32(1e37)
    elif kind == "far down":
        x -= np.float32(500)
    elif kind == "wide":
        x *= np.float32(40)
    return x


KINDS = ["normal", "peaked", "flat", "equal", "tied", "nearly tied", "constrained", "one", "huge", "far down", "wide"]
# 5,000 and 4,160: with and without tokens left over from the table; below 4,096 there is no table.
SIZES = [1, 2, 70, 4095, 4160, 5000]


def plain_log_probability(logits: np.ndarray, token: int) -> float:
    wide = logits.astype(np.float64)
    return float(wide[token] - wide.max() - np.log(np.exp(wide - wide.max()).sum()))


def hold(logits: np.ndarray, chosen: SamplingSettings, seen: object, seed: int, allowed: np.ndarray | None) -> None:
    """`sample` and `choose` give what the chain gives, from as many random numbers, and leave the logits alone."""
    before, randoms = logits.copy(), [generator(seed, 0) for _ in range(3)]
    with np.errstate(over="ignore"):
        expected = choose_plainly(logits, chosen, seen, randoms[0], allowed)  # type: ignore[arg-type]
        token, logprob = sample(logits, chosen, seen, randoms[1], allowed)  # type: ignore[arg-type]
    assert (token, choose(logits, chosen, seen, randoms[2], allowed)) == (expected, expected)  # type: ignore[arg-type]
    assert math.isclose(logprob, plain_log_probability(logits, token), abs_tol=1e-5) or logprob == -math.inf
    assert np.array_equal(logits, before)
    (after,) = {random.random() for random in randoms}
    fresh = generator(seed, 0).random(2)
    assert after == fresh[0 if chosen.greedy else 1]


@settings(deadline=None, max_examples=300)
@given(
    kind=st.sampled_from(KINDS),
    size=st.sampled_from(SIZES),
    temperature=st.sampled_from([0, 1e-3, 0.2, 0.7, 0.8, 1.0, 1.3, 5.0, 100.0]) | st.floats(0.01, 3),
    k=st.sampled_from([0, 0, 1, 2, 40, 1000, 5000]),
    p=st.sampled_from([1.0, 1.0, 0.9, 0.5, 0.01, 0.999999]) | st.floats(0.001, 1),
    m=st.sampled_from([0.0, 0.0, 0.05, 1.0, 1e-30]),
    penalty=st.sampled_from([1.0, 1.1, 0.5, 2.0]),
    counted=st.sampled_from([0.0, 0.5, -2.0]),
    biased=st.lists(st.tuples(st.integers(0, 4999), st.floats(-100, 100)), max_size=5, unique_by=lambda pair: pair[0]),
    share=st.sampled_from([None, None, 0.0, 0.01, 0.5, 1.0]),
    seed=st.integers(0, 1 << 30),
)
def test_the_fast_draw_is_the_draw_of_the_plain_chain(
    kind, size, temperature, k, p, m, penalty, counted, biased, share, seed
):
    random = np.random.default_rng(seed)
    logits, history = scores(kind, size, random), History(random.integers(0, size, size // 10).tolist())
    for token in random.integers(0, size, 20).tolist():
        history.append(token)
    chosen = SamplingSettings(
        temperature, k, p, m, penalty, None, counted, counted / 2, tuple(pair for pair in biased if pair[0] < size)
    )
    allowed = None if share is None else random.random(size) < share
    if allowed is not None:
        allowed[np.argmax(logits)] = True
    hold(logits, chosen, history, seed, allowed)


@pytest.mark.parametrize("kind", KINDS)
def test_thousands_of_draws_are_those_of_the_plain_chain(kind):
    random = np.random.default_rng(0)
    for trial in range(200):
        chosen = SamplingSettings(
            temperature=[0.2, 0.8, 1.0, 1.2][trial % 4],
            top_p=[1.0, 0.9, 0.99][trial % 3],
            top_k=[0, 0, 0, 0, 40][trial % 5],
        )
        hold(scores(kind, 4160 + trial % 2 * 11, random), chosen, (), trial, None)


@pytest.mark.parametrize(
    "given",
    [
        {"temperature": 0.2},
        {"top_k": 40},
        {"top_p": 0.9},
        {"top_p": 0.9, "temperature": 0.2},
        {"top_p": 0.9, "temperature": 1.0},
        {"min_p": 0.05},
        {"top_p": 0.9, "repetition_penalty": 1.1},
    ],
)
def test_a_usual_draw_needs_no_plain_chain(given, monkeypatch):
    random = np.random.default_rng(1)
    rows = [scores("peaked", 49_152, random) for _ in range(10)]
    monkeypatch.setattr(sampling, "filtered", None)
    for index, logits in enumerate(rows):
        sample(logits, SamplingSettings(**given), [1, 2, 3], generator(0, index))


@pytest.mark.parametrize("size", SIZES)
def test_seen_tokens_may_be_given_in_any_form(size):
    random = np.random.default_rng(size)
    logits, listed = scores("normal", size, random), random.integers(0, size, 50).tolist()
    mask = np.zeros(size, dtype=bool)
    mask[listed] = True
    expected = penalize(logits, listed, 1.3)
    for seen in (np.array(listed), set(listed), tuple(listed), mask, History(listed)):
        assert np.array_equal(penalize(logits, seen, 1.3), expected)


def test_presence_and_frequency_count_what_was_generated_and_not_the_prompt():
    history = History([0, 1, 1])
    for token in (1, 2, 2, 2):
        history.append(token)
    out, _ = adjusted(np.zeros(4, np.float32), SamplingSettings(presence_penalty=0.5, frequency_penalty=0.25), history)
    assert out.tolist() == [0, -0.75, -1.25, 0]


def test_a_history_grows_without_losing_a_count():
    random = np.random.default_rng(0)
    prompt, tokens = random.integers(0, 300, 100).tolist(), random.integers(0, 300, 1000).tolist()
    history = History(prompt)
    for token in tokens:
        history.append(token)
    assert sorted(history.ids.tolist()) == sorted({*prompt, *tokens})
    assert all(tokens.count(id) == n for id, n in zip(history.ids.tolist(), history.counts.tolist(), strict=True))


def test_penalties_that_count_ask_for_a_history():
    with pytest.raises(ConfigError, match="which tokens were generated"):
        choose(array([1, 2]), SamplingSettings(presence_penalty=1), [0], generator(0, 0))


def test_a_bias_makes_a_token_certain_or_impossible_and_leaves_the_models_own_probability():
    logits = array([1, 2, 3])
    token, logprob = sample(logits, SamplingSettings(logit_bias=((0, 100),)), [], generator(0, 0))
    assert token == 0
    assert math.isclose(logprob, plain_log_probability(logits, 0))
    draws = {choose(logits, SamplingSettings(logit_bias=((2, -100),)), [], generator(0, n)) for n in range(50)}
    assert draws == {0, 1}


@pytest.mark.parametrize(
    "bias", [[], ((1,),), ((True, 1.0),), ((-1, 1.0),), ((1, 101),), ((1, True),), ((1, 1), (1, 2))]
)
def test_a_wrong_bias_is_refused(bias):
    with pytest.raises(ConfigError, match="logit_bias"):
        SamplingSettings(logit_bias=bias)


def test_a_bias_outside_the_vocabulary_is_refused():
    with pytest.raises(InputError, match="token id 7 is not in the vocabulary"):
        choose(array([1, 2]), SamplingSettings(logit_bias=((7, 1.0),)), [], generator(0, 0))


@pytest.mark.parametrize("temperature", [0, 1])
@pytest.mark.parametrize("size", [2, 5000])
def test_a_mask_that_allows_nothing_is_an_error(temperature, size):
    chosen = SamplingSettings(temperature=temperature)
    with pytest.raises(InputError, match="no token is allowed"):
        sample(np.zeros(size, np.float32), chosen, [], generator(0, 0), np.zeros(size, dtype=bool))
    with pytest.raises(InputError, match="no token is allowed"):
        sample(np.full(size, -np.inf, np.float32), chosen, [], generator(0, 0))


def test_a_mask_of_another_size_is_refused():
    with pytest.raises(ConfigError, match="shape"):
        choose(array([1, 2]), SamplingSettings(), [], generator(0, 0), np.ones(3, dtype=bool))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
def test_the_likeliest_tokens_come_in_order_with_their_log_probabilities(kind, size):
    logits = scores(kind, size, np.random.default_rng(size))
    n = min(20, size)
    found = top_logprobs(logits, n)
    order = [int(id) for id in np.argsort(-logits, kind="stable")[:n] if logits[id] > -np.inf]
    assert [id for id, _ in found] == order
    for id, logprob in found:
        assert math.isclose(logprob, plain_log_probability(logits, id), abs_tol=1e-5)
    assert top_logprobs(logits, 0) == []
    with pytest.raises(ConfigError, match="top_logprobs"):
        top_logprobs(logits, size + 1)


@pytest.mark.filterwarnings("error")
def test_every_seed_of_64_bits_has_a_randomness_of_its_own():
    seeds = [0, 1, (1 << 63) - 1, 1 << 63, (1 << 63) + 1, (1 << 64) - 2, (1 << 64) - 1]
    first = {generator(seed, index).integers(1 << 62) for seed in seeds for index in (0, 1)}
    assert len(first) == 2 * len(seeds)
    # As before for seeds that were never rounded.
    assert generator(7, 3).random() == np.random.Generator(np.random.Philox(key=[7, 3])).random()
