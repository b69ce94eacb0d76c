"""The sampling chain against transformers' logits processors, and against its own definitions by brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from glassgpt.core.errors import ConfigError
from glassgpt.engine.sampling import (
    SamplingSettings,
    choose,
    filtered,
    generator,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    log_probability,
    penalize,
    softmax,
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
        {"seed": -1},
        {"seed": 1 << 64},
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(ConfigError, match=f"{name} is {value}; expected"):
        SamplingSettings(**wrong)
