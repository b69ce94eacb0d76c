"""BM25 against its formula, and an index that has changed against one made anew."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glassgpt.assistant.bm25 import Bm25
from glassgpt.assistant.terms import fold, terms

word = st.sampled_from(list("abcdef"))
text = st.lists(word, min_size=0, max_size=8)


def by_hand(texts: list[list[str]], question: list[str], k1: float = 1.2, b: float = 0.75) -> list[float]:
    """As Robertson and Zaragoza write it, with the idf that is never negative."""
    average = max(1.0, sum(map(len, texts)) / max(1, len(texts)))
    found = []
    for one in texts:
        counts, score = Counter(one), 0.0
        for w in set(question):
            n = sum(w in other for other in texts)
            idf = math.log(1 + (len(texts) - n + 0.5) / (n + 0.5))
            score += idf * counts[w] * (k1 + 1) / (counts[w] + k1 * (1 - b + b * len(one) / average))
        found.append(score)
    return found


@given(st.lists(text, min_size=1, max_size=12), text)
def test_scores_are_those_of_the_formula(texts: list[list[str]], question: list[str]):
    index = Bm25()
    for one in texts:
        index.add(one)
    np.testing.assert_allclose(index.score(question)[0], by_hand(texts, question), rtol=1e-4, atol=1e-6)


@settings(max_examples=200)
@given(st.lists(text, min_size=1, max_size=12), st.sets(st.integers(0, 11)), st.lists(text, max_size=4), text)
def test_removing_and_adding_leaves_what_an_index_made_anew_has(texts, gone, later, question):
    index = Bm25()
    numbers = [index.add(one) for one in texts]
    for number in gone & set(numbers):
        index.remove(number)
        index.remove(number)  # twice is once
    numbers += [index.add(one) for one in later]
    alive = [n for n in numbers if n not in gone or n >= len(texts)]
    rest = [(texts + later)[n] for n in alive]
    scores, _ = index.score(question)
    assert len(index) == len(rest)
    np.testing.assert_allclose(scores[alive], by_hand(rest, question), rtol=1e-4, atol=1e-6)
    assert all(scores[n] == 0 for n in numbers if n not in alive)


def test_a_text_that_says_the_question_has_nearly_the_whole_score():
    index = Bm25()
    for one in ("where is my parcel", "how do I return a cup", "do you have gift cards"):
        index.add(terms(one))
    scores, whole = index.score(terms("how do I return a cup"))
    assert scores.argmax() == 1 and scores[1] > 0.9 * whole


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ("退货", "收到后可以退货"), ("退貨", "收到后可以退货"), ("退货", "收到後可以退貨"),
        ("货", "可以退货"),
        ("RETURNS", "how to return it"), ("ＡＢＣ１２", "order abc12"), ("cups", "a cup of tea"), ("naïve", "NAÏVE"),
        ("Привет", "привет мир"), ("don't", "DON'T"), ("㈱", "(株)"),
    ],
)  # fmt: skip
def test_words_are_found_whichever_way_they_are_written(question: str, text: str):
    assert set(terms(question)) <= set(terms(text)) and terms(question)


def test_chinese_gives_each_character_and_each_pair_and_punctuation_nothing():
    assert terms("我要退货，A1！") == ["我", "要", "退", "货", "我要", "要退", "退货", "a1"]
    assert terms("?! 。，") == [] and fold("ＡＢ 龍") == "ab 龙"
