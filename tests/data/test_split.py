"""Holding out: nothing alike on both sides, about as much as was asked for, and the same every time."""

from __future__ import annotations

import random
import tracemalloc
from itertools import combinations

import pytest

from glassgpt.core.errors import ConfigError, InputError
from glassgpt.data.duplicates import fold, shingles
from glassgpt.data.rows import Row
from glassgpt.data.split import LEAK, TOGETHER, alike, leakage, split

SUBJECTS = [
    "my order",
    "the parcel",
    "a refund",
    "the invoice",
    "this coat",
    "a voucher",
    "订单",
    "这件外套",
    "退款",
    "发票",
]
ASKED = [
    "when will {x} arrive at my house", "why is {x} not here after two weeks", "how can I return {x} without a receipt",
    "请问{x}什么时候能够送到我家里", "为什么{x}过了两个星期还没有消息", "没有收据的话怎么退掉{x}呢",
]  # fmt: skip


def question_rows(count: int, seed: int) -> list[Row]:
    """Questions and answers of which many differ in a letter, a word or nothing at all, in a random order."""
    chance = random.Random(seed)
    rows = []
    while len(rows) < count:
        words = " ".join(f"{chance.randrange(10**6)}" for _ in range(4))
        asked = chance.choice(ASKED).format(x=chance.choice(SUBJECTS)) + " " + words
        answer = f"it is number {chance.randrange(10**9)} of {chance.randrange(10**9)}"
        for _ in range(chance.choice([1, 1, 1, 2, 3])):
            altered = (
                asked if chance.random() < 0.5 else asked.replace("e", "E", 1) + chance.choice(["", "?", " !", "？"])
            )
            rows.append(
                Row("q.csv", 0, ("user", "assistant"), [altered, answer if chance.random() < 0.5 else answer + "."])
            )
    chance.shuffle(rows)
    for number, row in enumerate(rows[:count]):
        row.number = number + 1
    return rows[:count]


def shingled(rows: list[Row]) -> list[tuple[set[int], set[int]]]:
    """Of each row the shingles of its question and of the whole."""
    return [(set(shingles(fold(r.texts[0]))), set(shingles(fold(" ".join(r.texts))))) for r in rows]


@pytest.mark.parametrize("seed", range(3))
def test_nothing_nearly_alike_stands_on_both_sides(seed):
    """Each held-out row against each training row, questions and whole texts, in full."""
    train, held_out = split(question_rows(200, seed), 0.2, seed)
    known = shingled(train)
    for row, parts in zip(held_out, shingled(held_out), strict=True):
        for other, others in zip(train, known, strict=True):
            for one, two in zip(parts, others, strict=True):
                assert len(one & two) < LEAK * len(one | two), (row.texts, other.texts)
    assert leakage(train, held_out) == []


@pytest.mark.parametrize("share", [0.05, 0.1, 0.3, 0.5])
def test_about_as_many_are_held_out_as_were_asked_for(share):
    rows = question_rows(300, 8)
    train, held_out = split(rows, share)
    assert abs(len(held_out) - share * 300) <= 4
    assert sorted(r.number for r in train + held_out) == list(range(1, 301))
    for side in (train, held_out):
        assert [r.number for r in side] == sorted(r.number for r in side)


def test_a_split_is_repeated_by_its_seed():
    rows = question_rows(120, 1)
    first, again, other = (split(rows, 0.2, seed)[1] for seed in (5, 5, 6))
    assert first == again and first != other


def test_the_same_question_with_other_answers_stays_together():
    rows = [
        Row("q", n, ("user", "assistant"), [f"what does part {n // 5 * 7919} cost?", f"{n} euros"]) for n in range(40)
    ]
    train, held_out = split(rows, 0.25)
    assert not {r.texts[0] for r in train} & {r.texts[0] for r in held_out} and held_out


def test_leaks_are_found_with_the_row_they_are_like():
    rows = question_rows(60, 2)
    train, held_out = split(rows, 0.3)
    copied = Row("q.csv", 99, held_out[2].roles, [held_out[2].texts[0].upper(), held_out[2].texts[1]])
    leaks = leakage([*train, copied], held_out)
    assert (leaks[0].train, leaks[0].held_out, leaks[0].similarity) == (len(train), 2, 1.0)


def test_what_cannot_be_split_is_refused():
    same = [Row("q", n, ("text",), ["the very same words over and over"]) for n in range(10)]
    with pytest.raises(InputError, match="10 rows that say the same"):
        split(same)
    for few in (same[:1], []):
        with pytest.raises(InputError, match=f"fewer than two rows .{len(few)}.") as error:
            split(few)
        assert "say the same" not in str(error.value)
    for share in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(ConfigError):
            split(same, share)


def test_pairs_are_those_of_a_comparison_of_all_with_all():
    rows = [*question_rows(150, 4), Row("q", 1, ("user", "assistant"), ["", "x"])]
    found = {(a, b): similarity for a, b, similarity in alike(rows, TOGETHER)}
    for (a, one), (b, other) in combinations(enumerate(shingled(rows[:-1])), 2):
        most = max(len(x & y) / len(x | y) for x, y in zip(one, other, strict=True))
        if most >= 0.85:  # nearer to the bound one may be missed
            assert (a, b) in found
        assert (a, b) not in found or most >= TOGETHER


def test_of_many_that_are_the_same_each_meets_the_first_and_no_pair_is_compared_twice():
    rows = [Row("q", n, ("text",), ["what does this lamp cost, please?" + "!" * n]) for n in range(80)]
    pairs = list(alike(rows, TOGETHER))
    assert len(pairs) == 2 * 79 and {(a, b) for a, b, _ in pairs} == {(0, n) for n in range(1, 80)}


def test_a_row_costs_little_memory():
    rows = [Row("q", n, ("text",), [random.Random(n).randbytes(40).hex()]) for n in range(8000)]
    tracemalloc.start()
    try:
        assert list(alike(rows, TOGETHER)) == []
        assert tracemalloc.get_traced_memory()[1] < 2000 * len(rows)  # most of it is there whatever their number
    finally:
        tracemalloc.stop()
