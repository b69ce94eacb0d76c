"""The nearest rows against a plain sum over all rows."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from origins_runs import Letters

from glassgpt.inside import nearest
from glassgpt.inside.asked import Asked
from glassgpt.inside.nearest import find_nearest
from glassgpt.inside.suffix_array import SuffixArray

LETTERS = Letters(300)


def near(texts: list[str], text: str, rest: list[bool], part: int, most: int = 100):
    array = SuffixArray.of([np.array(LETTERS.encode_segment(t), np.int64) + 1 for t in texts], part)
    asked = Asked(text, LETTERS)
    begins = np.cumsum([0, *(len(t) + 1 for t in texts)])
    return find_nearest(array, begins, asked, array.match(asked.symbols), np.array(rest), most), len(array.order)


def times(text: str, run: str) -> int:
    return sum(text.startswith(run, at) for at in range(len(text)))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text("abc", max_size=20), min_size=1, max_size=6), st.data())
def test_scores_are_the_bits_of_the_longest_runs_that_a_row_has(texts, data):
    text = data.draw(st.text("abcd", min_size=1, max_size=15))
    rest = data.draw(st.lists(st.booleans(), min_size=len(text), max_size=len(text)))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(nearest, "SURE", 0)
        found, size = near(texts, text, rest, data.draw(st.integers(5, 200)))
    scores = [0.0] * len(texts)
    for at in range(len(text)):
        end = at
        while end < len(text) and rest[end]:
            end += 1
        while end > at and not any(text[at:end] in t for t in texts):
            end -= 1
        if end > at:
            run = text[at:end]
            bits = math.log2(size / sum(times(t, run) for t in texts))
            scores = [score + bits * (run in t) for score, t in zip(scores, texts, strict=True)]
    wanted = {n: score for n, score in enumerate(scores) if score}
    assert {place.document: place.score for place in found} == pytest.approx(wanted)
    # Equal scores may differ in their last bits, by the order in which they were added up.
    assert all(first.score >= second.score - 1e-9 for first, second in pairwise(found))
    for place in found:
        for shared in place.shared:
            assert text[shared.start : shared.end] in texts[place.document]


def test_of_a_long_document_the_part_that_is_near_is_told():
    long = "x" * 3000 + "quartz kiln".replace(" ", "") + "x" * 3000
    (place,), _ = near([long], "quartzandkiln", [True] * 13, 1000)
    assert 2990 <= place.symbol <= 3010


def test_what_every_row_says_is_left_out_and_rare_runs_come_first(monkeypatch):
    texts = ["ab" * 50 + "q"] + ["ab" * 50] * 20
    assert [p.document for p in near(texts, "abq", [True] * 3, 500)[0]] == [0]
    monkeypatch.setattr(nearest, "OCCURRENCES", 0)
    assert near(texts, "abq", [True] * 3, 500)[0] == []
