"""Guesses from the text itself: held to a search by brute force, and to what luck allows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glassgpt.engine.speculate import ENOUGH, LONGEST, MOST, PATIENCE, SHORTEST, PromptLookup

FEW_KINDS = st.lists(st.integers(0, 2), max_size=60)
SOME_KINDS = st.lists(st.integers(0, 9), max_size=120)
TEXTS = FEW_KINDS | SOME_KINDS


def what_followed(tokens: list[int], most: int = MOST) -> list[int]:
    """What stands behind the latest earlier place where the last tokens stood, of the longest run that has one."""
    end = len(tokens)
    for length in range(LONGEST, SHORTEST - 1, -1):
        for place in range(end - 1, length - 1, -1):
            if tokens[place - length : place] == tokens[end - length :]:
                return tokens[place : place + most]
    return []


@given(TEXTS)
def test_a_guess_is_what_followed_the_longest_run_the_last_time(tokens: list[int]):
    assert PromptLookup(tokens).guess() == what_followed(tokens)


@given(TEXTS, st.lists(st.integers(1, 5), max_size=40))
def test_a_text_that_came_in_pieces_is_guessed_as_if_it_came_at_once(tokens: list[int], pieces: list[int]):
    begin = len(tokens) // 3
    lookup, at = PromptLookup(tokens[:begin]), begin
    for count in pieces:
        lookup.append(tokens[at : at + count], guessed=0)
        at += count
        assert lookup.tokens == tokens[:at]
        assert lookup.guess() == what_followed(tokens[:at])


@pytest.mark.parametrize("tokens", [[], [1], [1, 1], [1, 2, 3, 4, 5, 6]])
def test_nothing_is_guessed_where_nothing_stood_before(tokens: list[int]):
    assert PromptLookup(tokens).guess() == []


def test_the_longest_run_wins_over_a_later_shorter_one_and_a_later_place_over_an_earlier():
    long, short = [1, 2, 3, 4], [9, 9, 3, 4]
    assert PromptLookup([*long, 50, *short, 60, *long]).guess()[0] == 50
    assert PromptLookup([*long, 50, *long, 60, *long]).guess()[0] == 60


@given(TEXTS, st.lists(st.tuples(st.integers(0, MOST), st.integers(0, 9)), max_size=60))
def test_a_guess_holds_nothing_new_and_is_never_too_long_whatever_the_luck(
    tokens: list[int], luck: list[tuple[int, int]]
):
    """Each step accepts some of what was guessed, and a token of the model's own choice."""
    lookup = PromptLookup(tokens)
    for right, chosen in luck:
        guessed = lookup.guess()
        assert len(guessed) <= MOST and set(guessed) <= set(lookup.tokens)
        assert guessed == what_followed(lookup.tokens, len(guessed) or 1) or not guessed
        lookup.append([*guessed[:right], chosen], len(guessed))
        assert ENOUGH <= lookup.rate <= 1


ROUND = list(range(30)) * 40  # something always stood there before


def lengths(lookup: PromptLookup, right: list[int]) -> list[int]:
    """How many tokens are guessed in each of some steps, of which so many turn out to be right."""
    found = []
    for count in right:
        guessed = lookup.guess()
        found.append(len(guessed))
        at = len(lookup.tokens)
        lookup.append(ROUND[at : at + min(count, len(guessed)) + 1], len(guessed))
    return found


def test_good_luck_keeps_guesses_as_long_as_they_may_be():
    assert lengths(PromptLookup(ROUND[:60]), [MOST] * 30) == [MOST] * 30


def test_bad_luck_makes_guesses_shorter_then_rests_and_then_tries_again():
    found = lengths(PromptLookup(ROUND[:60]), [0] * 60)
    first_rest = found.index(0)
    assert found[0] == MOST and 2 <= first_rest <= 8
    tried = found[:first_rest]
    assert tried == sorted(tried, reverse=True) and min(tried) > 0
    # From then on one careful guess after each rest, of the same length.
    careful = found[first_rest + PATIENCE]
    assert 0 < careful < MOST
    rounds = ([0] * PATIENCE + [careful]) * 10
    assert found[first_rest:] == rounds[: len(found) - first_rest]


def test_after_bad_luck_good_luck_brings_long_guesses_back():
    lookup = PromptLookup(ROUND[:60])
    lengths(lookup, [0] * 10)
    found = [count for count in lengths(lookup, [MOST] * 40) if count]
    assert found == sorted(found) and found[-1] == MOST
    assert 0 not in lengths(lookup, [MOST] * 10)


def test_steps_without_a_guess_do_not_count_as_bad_luck():
    lookup = PromptLookup(ROUND[:60])
    for token in range(100, 200):
        lookup.append([token], guessed=0)
        assert lookup.guess() == []
    lookup.append(ROUND[:4], guessed=0)
    assert lookup.guess() == ROUND[4 : 4 + MOST]
