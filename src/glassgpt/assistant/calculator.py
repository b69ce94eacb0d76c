"""A calculator for the model: its arithmetic is exact, which a small model's own is not.

The text is parsed by Python's `ast` and walked over the few nodes that arithmetic needs; nothing is evaluated. Numbers
are fractions, so + - × ÷ and whole powers are exact (0.1 + 0.2 is 0.3). Roots, logarithms and broken powers are
rounded to 15 digits, and the result says so with ≈.
"""

from __future__ import annotations

import ast
import math
import re
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

from glassgpt.assistant.tool import tool
from glassgpt.core.errors import GlassError, InputError
from glassgpt.core.words import Sentence

MAX_EXPRESSION = 300  # characters
MAX_BITS = 4_000  # of a numerator or denominator: about 1,200 digits
MAX_SHOWN = 60  # digits of an exact decimal; more are rounded, and said to be
DIGITS = 15  # of a rounded result
_LARGEST_EXPONENT = 300  # of a number such as 1e10

_SAME = str.maketrans({"×": "*", "✕": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "—": "-", "^": "**", "。": ".",
                       "【": "(", "】": ")", "[": "(", "]": ")", "\u3000": " ", "π": " pi "})  # fmt: skip
_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789", strict=True))
_GROUPED = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
_PERCENT = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*%(?!\s*[\d.(a-z])")
_ALLOWED = re.compile(r"[0-9a-z+\-*/%().,\s]*")

# A message that is a sum and nothing else but a few words around it.
_SUM = re.compile(
    r"(?:what(?:'s| is)|how much is|calculate|compute|请?(?:帮我)?(?:算一?下|计算))?[\s:：,，]*"
    r"(?P<sum>[-+(]*\d[\d\s.,()+*/^%x×÷-]*[+*/^%x×÷-][\d\s.,()+*/^%x×÷-]*[\d)])"
    r"\s*(?:=|等于(?:多少|几)?|是多少)?\s*[?？.。!！]*",
    re.IGNORECASE,
)
_DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}")


class _Number:
    """A value, and whether it is exact."""

    def __init__(self, value: Fraction | int | float, exact: bool = True) -> None:
        if isinstance(value, float) and not math.isfinite(value):
            raise _too_large()
        self.value, self.exact = Fraction(value), exact
        if max(self.value.numerator.bit_length(), self.value.denominator.bit_length()) > MAX_BITS:
            raise _too_large()


def _calculator(expression: str) -> str:
    """Calculates exactly. Use it for every sum, price, discount or percentage.

    Args:
        expression: numbers with + - * / // % ^ and brackets, such as (3 + 4.5) * 2 or 299 * 15%; also sqrt, abs,
            round, floor, ceil, min, max, ln, log10, exp, sin, cos, tan, pi, e
    """
    return calculate(expression)


def spot_sum(message: str) -> dict[str, Any] | None:
    """The arguments of the calculator, where a message is a sum; a date or a telephone number is none."""
    found = _SUM.fullmatch(unicodedata.normalize("NFKC", message).strip()) if len(message) <= 200 else None
    if found is None or _DATE.fullmatch(found["sum"].strip()):
        return None
    expression = re.sub(r"(?<=[\d)\s])x(?=[\d(\s])", "*", found["sum"].strip(), flags=re.IGNORECASE)
    try:
        calculate(expression)
    except GlassError:
        return None
    return {"expression": expression}


calculator = replace(tool(name="calculator")(_calculator), spot=spot_sum)


def calculate(expression: str) -> str:
    """The value of an expression: exact, or after ≈ rounded to 15 digits.

    Full-width characters, × and ÷ are read as what they mean; 15% is 15/100 unless a number, a name or a bracket
    follows, when % is the remainder; `round` rounds halves away from zero, and angles are in radians.

    Raises:
        InputError: it is too long, no arithmetic, too large, or has no value (a division by zero, a root of -1).
    """
    if len(expression) > MAX_EXPRESSION:
        raise _bad(Sentence("it has more than {limit} characters", limit=MAX_EXPRESSION))
    text = _plain(expression)
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise _bad(Sentence("it is not a complete expression")) from None
    try:
        return _shown(_value(tree.body, text))
    except ZeroDivisionError:
        raise _bad(Sentence("it divides by zero")) from None
    except OverflowError:
        raise _too_large() from None
    except RecursionError:
        raise _bad(Sentence("it is not a complete expression")) from None


def _plain(expression: str) -> str:
    """The expression in ASCII, as Python writes it."""
    text = expression.translate(_FULL_WIDTH).translate(_SAME).lower().strip()
    text = re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹]+", lambda found: "**" + "".join(map(_SUPERSCRIPTS.__getitem__, found[0])), text)
    text = re.sub(r"\s*=\s*\??$", "", text)
    if not re.search("[a-z]", text):  # else the comma may stand between a function's arguments
        text = _GROUPED.sub(lambda found: found[0].replace(",", ""), text)
    text = _PERCENT.sub(r"(\1/100)", text)
    text = re.sub(r"(?<![\d.a-z])0+(?=\d)", "", text)  # 007, which Python does not read
    if not _ALLOWED.fullmatch(text):
        strange = next(c for c in text if not _ALLOWED.fullmatch(c))
        raise _bad(Sentence("{character} has no meaning in it", character=repr(strange)))
    return " ".join(text.split())


def _value(node: ast.expr, text: str) -> _Number:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return _constant(text[node.col_offset : node.end_col_offset])
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.UAdd | ast.USub):
        inner = _value(node.operand, text)
        return _Number(-inner.value if isinstance(node.op, ast.USub) else inner.value, inner.exact)
    if isinstance(node, ast.BinOp):
        return _pair(node.op, _value(node.left, text), _value(node.right, text))
    if isinstance(node, ast.Name) and node.id in ("pi", "e"):
        return _Number(math.pi if node.id == "pi" else math.e, exact=False)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        return _call(node.func.id, [_value(argument, text) for argument in node.args])
    part = (ast.get_source_segment(text, node) or text)[:40]
    raise _bad(Sentence("{part} is no arithmetic", part=repr(part)))


def _constant(written: str) -> _Number:
    """The number as it stands there: as a float, 0.1 would not be a tenth."""
    exponent = re.search(r"e([+-]?\d+)$", written)
    if exponent and (len(exponent[1]) > 5 or abs(int(exponent[1])) > _LARGEST_EXPONENT):
        raise _too_large()
    try:
        return _Number(Fraction(written.removesuffix(".")))
    except ValueError:  # 0x10
        raise _bad(Sentence("{part} is no arithmetic", part=repr(written[:40]))) from None


def _pair(kind: ast.operator, a: _Number, b: _Number) -> _Number:
    exact = a.exact and b.exact
    match kind:
        case ast.Add():
            return _Number(a.value + b.value, exact)
        case ast.Sub():
            return _Number(a.value - b.value, exact)
        case ast.Mult():
            return _Number(a.value * b.value, exact)
        case ast.Div():
            return _Number(a.value / b.value, exact)
        case ast.FloorDiv():
            return _Number(a.value // b.value, exact)
        case ast.Mod():
            return _Number(a.value % b.value, exact)
        case ast.Pow():
            return _power(a, b)
    raise _bad(Sentence("{part} is no arithmetic", part=type(kind).__name__))


def _power(a: _Number, b: _Number) -> _Number:
    if b.value.denominator == 1:
        bits = max(a.value.numerator.bit_length(), a.value.denominator.bit_length())
        # 1 and -1 may have any power; of the others, the size is known before it is computed.
        if abs(a.value) not in (0, 1) and (bits - 1) * abs(b.value.numerator) > MAX_BITS:
            raise _too_large()
        if abs(a.value) == 1:
            return _Number(a.value ** (b.value.numerator % 2), a.exact and b.exact)
        return _Number(a.value ** int(b.value), a.exact and b.exact)
    if a.value < 0:
        raise _bad(Sentence("a negative number has no such power"))
    return _Number(float(a.value) ** float(b.value), exact=False)


def _call(name: str, given: list[_Number]) -> _Number:
    exact = all(one.exact for one in given)
    values = [one.value for one in given]
    if name in ("min", "max") and values:
        return _Number(min(values) if name == "min" else max(values), exact)
    if name == "round" and len(values) == 2 and values[1].denominator == 1 and abs(values[1]) <= 100:
        return _Number(_rounded(values[0], int(values[1])), exact)
    if name in _WHOLE and len(values) == 1:
        return _Number(_WHOLE[name](values[0]), exact)
    if name == "sqrt" and len(values) == 1 and values[0] >= 0:
        root = Fraction(math.isqrt(values[0].numerator), math.isqrt(values[0].denominator))
        return _Number(root, exact) if root**2 == values[0] else _Number(math.sqrt(values[0]), exact=False)
    if name in _ROUNDED and len(values) == 1:
        try:
            return _Number(_ROUNDED[name](float(values[0])), exact=False)
        except ValueError:
            pass
    if name in (*_WHOLE, *_ROUNDED, "min", "max", "sqrt"):
        raise _bad(Sentence("{name} has no value for what it is given", name=name))
    raise _bad(Sentence("it knows no function called {name}", name=name))


def _rounded(value: Fraction, places: int = 0) -> Fraction:
    """Halves away from zero, as people do it."""
    scale = Fraction(10) ** places
    whole = math.floor(abs(value) * scale + Fraction(1, 2))
    return (whole if value >= 0 else -whole) / scale


_WHOLE: dict[str, Callable[[Fraction], Fraction | int]] = {
    "abs": abs, "floor": math.floor, "ceil": math.ceil, "round": _rounded,
}  # fmt: skip
_ROUNDED: dict[str, Callable[[float], float]] = {
    "ln": math.log, "log10": math.log10, "exp": math.exp, "sin": math.sin, "cos": math.cos,
    "tan": math.tan,
}  # fmt: skip


def _shown(number: _Number) -> str:
    """An exact decimal where there is one of bearable length."""
    value, exact = number.value, number.exact
    rest, places = value.denominator, 0
    while rest % 10 == 0 or rest % 5 == 0 or rest % 2 == 0:
        rest, places = rest // math.gcd(rest, 10), places + 1
    if exact and rest == 1 and (places == 0 or places <= MAX_SHOWN):
        digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
        text = f"{digits[:-places]}.{digits[-places:]}" if places else digits
        return f"-{text}" if value < 0 else text
    near = _near(value)
    if exact and len(fraction := f"{value.numerator}/{value.denominator}") <= MAX_SHOWN:
        return f"{fraction} ≈ {near}"
    return f"≈ {near}"


def _near(value: Fraction) -> str:
    """Rounded to 15 digits."""
    if value == 0:
        return "0"
    size = len(str(abs(value.numerator))) - len(str(value.denominator))
    size -= abs(value) < Fraction(10) ** size  # now 10 ** size <= |value| < 10 ** (size + 1)
    kept = _rounded(value, DIGITS - 1 - size)
    if -5 <= size < 20:
        return _shown(_Number(kept))
    mantissa = _shown(_Number(_rounded(value / Fraction(10) ** size, DIGITS - 1)))
    return f"{mantissa}e{size:+d}"


def _bad(why: Sentence) -> InputError:
    return InputError(
        "that cannot be calculated: {why}",
        hint="Give one expression of numbers, + - * / ^ and brackets, such as (3 + 4.5) * 2.",
        why=why,
    )


def _too_large() -> InputError:
    return _bad(Sentence("a number on the way has more digits than are computed here"))
