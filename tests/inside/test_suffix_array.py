"""The suffix array against brute force: every order, every match, every count, however it was cut into parts."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from glassgpt.inside.suffix_array import PAD, SuffixArray, sort_suffixes

DOCUMENTS = st.lists(st.lists(st.integers(1, 3), max_size=25), min_size=1, max_size=5)


def padded(symbols: list[int], start: int, reach: int) -> list[int]:
    return (symbols + [0] * reach)[start : start + reach]


@settings(max_examples=80, deadline=None)
@given(DOCUMENTS, st.integers(1, 30), st.integers(2, 40))
def test_each_part_is_sorted_by_what_follows_and_by_place(documents, part, reach):
    array = SuffixArray.of([np.array(d, np.int64) for d in documents], part, reach)
    symbols = array.text[:-PAD].tolist()
    for begin, end in zip(array.begins, array.ends, strict=True):
        found = array.order[begin:end].tolist()
        assert sorted(found) == list(range(begin, end))
        keys = [padded(symbols, start, reach) for start in found]
        assert keys == sorted(keys)


@settings(max_examples=60, deadline=None)
@given(DOCUMENTS, st.integers(1, 30), st.lists(st.integers(1, 4), min_size=1, max_size=12))
@example([[1] * 25], 7, [1] * 12)
def test_every_match_and_every_count_is_that_of_brute_force(documents, part, question):
    array = SuffixArray.of([np.array(d, np.int64) for d in documents], part, reach=12)
    symbols, asked = array.text[:-PAD].tolist(), np.array(question, np.int64)
    found = array.match(asked)
    for at in range(len(question)):
        stands = {
            length: [s for s in range(len(symbols)) if symbols[s : s + length] == question[at : at + length]]
            for length in range(1, len(question) - at + 1)
        }
        longest = max((length for length, places in stands.items() if places), default=0)
        assert found.longest[at] == longest
        for length in range(1, longest + 1):
            begins, ends = array.ranges(asked, found, np.array([at]), np.array([length]))
            assert array.starts(begins[0], ends[0], 1000).tolist() == stands[length]
            assert array.starts(begins[0], ends[0], 2).tolist() == stands[length][:2]


def test_a_text_of_one_token_alone_and_large_ids_are_sorted():
    same = np.ones(5000, np.uint16)
    assert sort_suffixes(same, 5000).tolist() == list(range(5000))[::-1]
    chance = np.random.default_rng(1)
    wide = chance.choice(np.array([1, 70_000, 250_000], np.uint32), 3000)
    symbols = wide.tolist()
    assert sort_suffixes(wide, 3000).tolist() == sorted(range(3000), key=lambda s: symbols[s:])


def test_groups_too_large_for_one_sort_are_sorted_in_chunks(monkeypatch):
    monkeypatch.setattr("glassgpt.inside.suffix_array._SORTED_AT_ONCE", 7)
    symbols = np.random.default_rng(2).integers(1, 3, 400).astype(np.uint16)
    assert sort_suffixes(symbols, 400).tolist() == sorted(range(400), key=lambda s: symbols.tolist()[s:])
