"""The calculator beside Python's own fractions, and what it refuses."""

from __future__ import annotations

import math
import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glassgpt.assistant.calculator import MAX_EXPRESSION, calculate, calculator
from glassgpt.assistant.tool_run import run_tool
from glassgpt.core.errors import InputError

NUMBERS = st.decimals(0, 10_000, places=2).map(lambda d: (str(d), Fraction(d)))


def both(parts: tuple) -> tuple[str, Fraction | None]:
    (left, a), sign, (right, b) = parts
    if a is None or b is None or (sign in "/÷" and b == 0):
        return f"({left}{sign}{right})", None
    value = {"+": a + b, "-": a - b, "*": a * b, "×": a * b}.get(sign)
    return f"({left}{sign}{right})", a / b if value is None else value


EXPRESSIONS = st.recursive(
    NUMBERS, lambda inner: st.tuples(inner, st.sampled_from("+-*/×÷"), inner).map(both), max_leaves=8
)


@given(EXPRESSIONS)
def test_arithmetic_is_exact(pair):
    text, value = pair
    if value is None:
        with pytest.raises(InputError, match="divides by zero"):
            calculate(text)
        return
    shown = calculate(text)
    exact = re.fullmatch(r"(-?[\d.]+)|(-?\d+/\d+) ≈ .+", shown)
    if exact:
        assert Fraction(exact[1] or exact[2]) == value
    else:
        near = Fraction(shown.removeprefix("≈ "))
        assert abs(near - value) <= abs(value) * Fraction(1, 10**14)


@given(st.fractions().filter(bool), st.integers(-200, 200))
def test_a_rounded_result_is_right_to_fifteen_digits(value, power):
    value *= Fraction(7) ** power / 3**50
    text = f"{value.numerator}/{value.denominator}"
    if len(text) > MAX_EXPRESSION:
        return
    near = Fraction(calculate(text).split("≈ ")[-1])
    assert abs(near - value) <= abs(value) * Fraction(1, 2 * 10**14)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("0.1+0.2", "0.3"), ("1/3", "1/3 ≈ 0.333333333333333"), ("2^10", "1024"), ("2²×3", "12"), ("-2^2", "-4"),
        ("（３＋４．５）×２", "15"), ("200－15%", "199.85"), ("299*15%", "44.85"), ("10%3", "1"), ("１００÷８", "12.5"),
        ("1,234,567.5*2", "2469135"), ("max(1,234)", "234"), ("sqrt(16)", "4"), ("sqrt(9/4)", "1.5"),
        ("sqrt(2)^2", "≈ 2"), ("round(2.5)", "3"), ("round(-2.345, 2)", "-2.35"), ("7//2", "3"), ("2^-3", "0.125"),
        ("3 + 5 =", "8"), ("007", "7"), ("1e10", "10000000000"), ("1e-20*3", "0.00000000000000000003"),
        ("10^-80", "≈ 1e-80"), ("1^99999999999", "1"), ("(-1)^3", "-1"), ("pi", "≈ 3.14159265358979"),
        ("0.000", "0"), ("-0", "0"), ("5.", "5"), (".5", "0.5"), ("abs(-3)", "3"), ("floor(-0.5)", "-1"), ("2π", None),
        ("9^9^9", None), ("1e999", None), ("1e99999999", None), ("2^4000", None), ("exp(1000)", None), ("1/0", None),
        ("5%0", None), ("0^-1", None), ("ln(0)", None), ("sqrt(-1)", None), ("(-8)^0.5", None), ("0x10", None),
        ("1j", None), ("True", None), ("1 if 1 else 2", None), ("1,2", None), ("[x for x in 1]", None), ("½", None),
        ("1½", None), ("2 3", None), ("3(4)", None), ("", None), ("   ", None), ("(1", None), ("1<2", None),
        ("().__class__", None), ("__import__('os')", None), ("lambda: 1", None), ("round(1, 1e9)", None),
        ("round(1, 1000)", None), ("log(10)", None), ("min()", None), ("sqrt(1, 2)", None), ("max(x=1)", None),
        ("(" * 40 + "1" + ")" * 40, "1"), ("1" * 301, None), ("1\x002", None), ("1\n+1", "2"), ("'a'*3", None),
        ("9" * 150 + "*" + "9" * 149, str((10**150 - 1) * (10**149 - 1))),
    ],
)  # fmt: skip
def test_what_an_expression_gives(text, result):
    if result is not None:
        assert calculate(text) == result
    else:
        with pytest.raises(InputError) as caught:
            calculate(text)
        assert caught.value.hint() and len(str(caught.value)) < 150


@given(st.text("0123456789.+-*/%^() ,esqrtpi×÷（）²", max_size=40))
def test_any_text_gives_a_value_or_a_sentence(text):
    try:
        assert calculate(text)
    except InputError as error:
        assert "\n" not in str(error)


def test_the_largest_powers_are_refused_before_they_are_computed():
    result = run_tool(calculator, '{"expression": "7^7^7^7"}')
    assert not result.ok and result.seconds < 0.5
    result = run_tool(calculator, '{"expression": "(1+1/3)^9999999999"}')
    assert not result.ok and result.seconds < 0.5


def test_functions_agree_with_the_library():
    for name in ("ln", "exp", "sin", "cos", "tan"):
        expected = getattr(math, "log" if name == "ln" else name)(1.25)
        assert float(calculate(f"{name}(1.25)").removeprefix("≈ ")) == pytest.approx(expected, rel=1e-14)
