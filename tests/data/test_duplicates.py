"""Duplicates against brute force over every pair."""

from __future__ import annotations

import random

import numpy as np
import pytest

from glassgpt.data.duplicates import (
    CHINESE_SHINGLE,
    SHINGLE,
    Pieces,
    band_hashes,
    find_duplicates,
    fingerprints,
    fold,
    shingles,
    similarity,
)
from glassgpt.data.rows import Row


def rows_of(texts: list[str]) -> list[Row]:
    return [Row("t", at + 1, ("text",), [text]) for at, text in enumerate(texts)]


def dropped(texts: list[str], **settings) -> dict[int, int]:
    prints = fingerprints(rows_of(texts), near=True)
    return {d.row: d.of for d in find_duplicates(prints, lambda at: [texts[at]], **settings)}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("What is AI?", "WHAT IS  AI ?", True),
        ("你好，世界！", "你好 世界", True),
        ("I don't know.", "i dont know", True),
        ("“Hello,” she said", '"Hello", she said', True),
        ("Call 13812345678.", "call", True),
        ("x < y", "x > y", False),
        ("What is C?", "What is C++?", False),
        ("1 + 1", "1 - 1", False),
        ("1.5", "15", False),
        ("1,000", "1 000", False),
        ("if !done", "if done", False),
        ("2*(3+4)", "2*3+4", False),
        ("now here", "nowhere", False),
        ("5:30", "530", False),
    ],
)
def test_variants_are_equal_and_different_meanings_are_not(one, other, same):
    assert (fold(one) == fold(other)) == same
    assert dropped([one, other]) == ({1: 0} if same else {})


def test_a_number_that_differs_makes_another_row():
    long = (
        "The parcel with our spring catalogue was sent to the old warehouse on day {} of the month and arrived safely."
    )
    assert dropped([long.format(3), long.format(4)]) == {}
    assert dropped([long.format(3), long.format(3).replace("safely", "safety")]) == {1: 0}


def test_the_least_similar_text_of_a_row_decides():
    """One prompt with two answers is two examples, however long the prompt."""
    prompt = "Read this long story about the fox and the crow and say whether the fox was right to flatter her. " * 3
    assert similarity(Pieces([prompt, "Yes."]), Pieces([prompt, "No."])) == 0
    assert similarity(Pieces([prompt]), Pieces([prompt])) == 1
    assert similarity(Pieces([prompt]), Pieces([prompt, prompt])) == 0


WORDS = ["alpha", "beta", "gamma", "delta", "river", "mountain", "teacher", "window", "quick", "brown", "lazy", "the"]


def corpus(size: int, seed: int) -> list[str]:
    """Texts of which a third is an earlier one with a few words or characters changed."""
    draw = random.Random(seed)
    texts: list[list[str]] = []
    for _ in range(size):
        if texts and draw.random() < 0.35:
            parts = list(draw.choice(texts))
        elif draw.random() < 0.5:
            parts = draw.choices(WORDS, k=24)
        else:
            parts = draw.choices("天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往秋收冬藏", k=60)
        for _ in range(draw.choice((0, 1, 1, 2, 6))):
            parts[draw.randrange(len(parts))] = draw.choice(("omega", "sigma") if len(parts) < 40 else ("龙", "凤"))
        texts.append(parts)
    return [("" if len(p) > 40 else " ").join(p) for p in texts]


def brute_force(texts: list[str], at_least: float) -> dict[int, float]:
    """Every pair; a row goes when an earlier kept one is similar. Sets made here, not by the code under test."""

    def pieces(text: str) -> set[str]:
        filled = text + "\0" * (SHINGLE - 1)
        size = [CHINESE_SHINGLE if c > "\u2e80" else SHINGLE for c in text]
        return {filled[at : at + n] for at, n in enumerate(size)}

    sets = [pieces(fold(text)) for text in texts]
    kept: list[int] = []
    gone: dict[int, float] = {}
    for at, mine in enumerate(sets):
        best = max((len(mine & sets[k]) / len(mine | sets[k]) for k in kept), default=0.0)
        if best >= at_least:
            gone[at] = best
        else:
            kept.append(at)
    return gone


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_near_duplicates_are_those_of_brute_force(seed):
    texts = corpus(400, seed)
    expected = brute_force(texts, 0.85)
    found = dropped(texts)
    assert 30 < len(expected) < 300
    # MinHash may miss a pair that is barely similar; it never takes one that is not.
    assert set(found) <= set(expected)
    assert len(found) >= 0.99 * len(expected)


def test_what_is_kept_has_no_near_duplicates_left():
    texts = corpus(300, 9)
    gone = dropped(texts)
    assert dropped([text for at, text in enumerate(texts) if at not in gone]) == {}


def test_a_rows_bands_do_not_depend_on_its_neighbours():
    texts = ["", "a", "你好世界", "the quick brown fox jumps", "混合 mixed 文字 text", "x" * 1000]
    together = band_hashes(texts)
    assert together.dtype == np.uint64
    for at, text in enumerate(texts):
        assert (band_hashes([text])[0] == together[at]).all()


def test_the_share_of_equal_bands_follows_the_jaccard_similarity():
    """A band of five is shared with probability J to the power of five; over 300 pairs the average must be near it."""
    draw = random.Random(5)
    shared, expected = [], []
    for _ in range(300):
        one = "".join(draw.choices("abcdefghij klmnop", k=200))
        other = one[:170] + "".join(draw.choices("abcdefghij klmnop", k=30))
        jaccard = len(shingles(one) & shingles(other)) / len(shingles(one) | shingles(other))
        bands = band_hashes([one, other])
        shared.append((bands[0] == bands[1]).mean())
        expected.append(jaccard**5)
    assert abs(np.mean(shared) - np.mean(expected)) < 0.05


@pytest.mark.parametrize(
    ("texts", "gone"),
    [
        (["WHAT IS AI?", "what is ai", "What is AI?"], {0: 2, 1: 2}),
        (["GOSSIPS", "gossips!"], {0: 1}),
        (["What is AI?", "what is ai", "WHAT IS AI?"], {1: 0, 2: 0}),
        (["你好，世界", "你好 世界"], {1: 0}),
    ],
)
def test_of_rows_that_differ_in_form_the_best_written_one_stays(texts, gone):
    assert dropped(texts) == gone


def test_answers_from_one_template_take_no_quadratic_time():
    """10,000 of them took 145 s when all that share a bucket were compared."""
    draw = random.Random(3)
    texts = [
        f"Your order {draw.randrange(10**6)} was sent on day {at % 31} and should arrive soon. Thank you for waiting!"
        for at in range(2000)
    ]
    compared = 0

    def texts_of(at: int) -> list[str]:
        nonlocal compared
        compared += 1
        return [texts[at]]

    assert find_duplicates(fingerprints(rows_of(texts), near=True), texts_of) == []
    assert compared < 500


def test_rows_that_are_rather_like_all_others_hide_no_duplicate():
    """The rows that share the most buckets are compared first, so the limit on comparisons costs nothing."""
    draw = random.Random(4)
    words = [chr(ord("a") + at % 26) * 2 + WORDS[at % 12] for at in range(40)]
    originals = [" ".join(WORDS * 2 + draw.choices(words, k=9)) for _ in range(300)]
    twins = [text.replace("quick", "quirk", 1) for text in originals]
    expected = brute_force(originals + twins, 0.85)
    found = dropped(originals + twins)
    assert len(expected) > 250
    assert set(found) <= set(expected) and len(found) >= 0.99 * len(expected)


def test_exact_and_near_can_be_looked_for_alone():
    texts = ["Same text", "Same text", "same TEXT!"]
    assert dropped(texts, near=False) == {1: 0}
    assert dropped(texts) == {1: 0, 2: 0}
    assert dropped(texts, exact=False) == {1: 0, 2: 0}
    assert dropped([]) == {}


def test_roles_are_part_of_a_row():
    rows = [Row("t", 1, ("user", "assistant"), ["a", "b"]), Row("t", 2, ("system", "user"), ["a", "b"])]
    prints = fingerprints(rows, near=True)
    assert find_duplicates(prints, lambda at: [*rows[at].roles, *rows[at].texts]) == []
