"""Personal data in text: found to be counted, and masked when that is asked for.

A number is taken only when it cannot easily be something else: identity cards and bank cards must pass their check
digits, and what is announced as an order or serial number is none.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date

# What a text must have before the patterns are tried: an "@", or seven digits not far from each other.
_MAYBE = re.compile(r"@|\d(?:[-\s().（]{0,3}\d){6}|\d{6}[(（]A")
_PLACE = r"(?<![A-Za-z0-9_.@+#¥$€£-])"  # where a number may begin
_END = r"(?![A-Za-z0-9_@]|[.,-]\d|\s?[元%])"
_OTHER_NUMBER = re.compile(
    r"(?:order|invoice|tracking|serial|ticket|item|isbn|part|sku|no\.|number|订单|单|编|流水|序列|物流|运单|快递)"
    r"[a-z ]{0,8}号?码?\s*(?:is|为|是)?\s*[:：#]?\s*$",
    re.I,
)
_PHONE_NUMBER = re.compile(r"(?:phone|mobile|cell|tel|fax|contact|call)[a-z ]{0,8}number|\b(?:my|our) number", re.I)


def luhn(digits: str) -> bool:
    """Whether the last digit fits the others: ISO/IEC 7812-1, annex B."""
    doubled = [int(d) * (1 + at % 2) for at, d in enumerate(reversed(digits))]
    return sum(d - 9 if d > 9 else d for d in doubled) % 10 == 0


def chinese_id(number: str) -> bool:
    """Whether an 18-character Chinese identity number has a real date and the right check character: GB 11643-1999."""
    try:
        born = date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
    except ValueError:
        return False
    total = sum(int(d) * pow(2, 17 - at, 11) for at, d in enumerate(number[:17]))
    return born <= date.today() and "10X98765432"[total % 11] == number[17].upper()


def taiwan_id(number: str) -> bool:
    """Whether a letter and nine digits have the check digit of an identity number of Taiwan."""
    place = 10 + "ABCDEFGHJKLMNPQRSTUVXYWZIO".index(number[0].upper())
    digits = [place // 10, place % 10, *map(int, number[1:])]
    return sum(d * w for d, w in zip(digits, (1, 9, 8, 7, 6, 5, 4, 3, 2, 1, 1), strict=True)) % 10 == 0


def hong_kong_id(number: str) -> bool:
    """Whether one or two letters and six digits have the check character, in brackets, of an identity card of Hong
    Kong; a missing first letter counts as a space."""
    signs = re.sub(r"[^A-Z0-9]", "", number.upper()).rjust(9)
    values = [36 if c == " " else ord(c) - 55 if c.isalpha() else int(c) for c in signs[:-1]]
    total = sum(v * w for v, w in zip(values, range(9, 1, -1), strict=True))
    return (total + (10 if signs[-1] == "A" else int(signs[-1]))) % 11 == 0


def _card(number: str) -> bool:
    digits = re.sub(r"\D", "", number)
    first = int(digits[:4])
    length = len(digits)
    known = (
        (digits[0] == "4" and length in (13, 16, 19))
        or (length == 16 and (5100 <= first <= 5599 or 2221 <= first <= 2720 or 3528 <= first <= 3589))
        or (digits[:2] in ("34", "37") and length == 15)
        or (digits[:2] == "62" and 16 <= length <= 19)
        or (digits[:4] == "6011" and length == 16)
    )
    return known and luhn(digits)


def _always(number: str) -> bool:
    return True


def _international(number: str) -> bool:
    return 10 <= sum(c.isdigit() for c in number) <= 15


# (kind, pattern, further check), the most certain first: what one has taken, the next does not see.
_KINDS: tuple[tuple[str, re.Pattern[str], Callable[[str], bool]], ...] = (
    (
        "EMAIL",
        re.compile(
            r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}"
            r"(?![A-Za-z0-9-])"
        ),
        _always,
    ),
    ("ID", re.compile(_PLACE + r"[1-9]\d{5}(?:18|19|20)\d{2}[01]\d[0-3]\d{4}[\dXx]" + _END), chinese_id),
    ("ID", re.compile(_PLACE + r"[A-Z][12]\d{8}" + _END), taiwan_id),
    ("ID", re.compile(_PLACE + r"[A-Z]{1,2}\d{6}[(（][\dA][)）](?!\w)"), hong_kong_id),
    # Of the United States: social security numbers, in whose parts these never stand.
    ("ID", re.compile(_PLACE + r"(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}" + _END), _always),
    ("CARD", re.compile(_PLACE + r"[2-6]\d{3}(?:[ -]?\d{4,6}){2}(?:[ -]?\d{1,5}){0,2}" + _END), _card),
    ("PASSPORT", re.compile(r"(护照号?码?[^\dA-Za-z]{0,8})(?:[EG]\d{8}|E[A-Z]\d{7})" + _END), _always),
    (
        "PASSPORT",
        re.compile(r"((?i:passport(?: no\.?| number)?(?: is)?[^\dA-Za-z]{0,4}))[A-Z]{1,2}\d{7,8}" + _END),
        _always,
    ),
    ("PHONE", re.compile(r"(?<![\w+])(?<!\d )\+[1-9]\d{0,3}(?:[ -]?\(?\d{1,4}\)?){1,5}" + _END), _international),
    ("PHONE", re.compile(_PLACE + r"(?:(?:00)?86[- ]?)?1[3-9]\d(?:[- ]?\d{4}){2}" + _END), _always),
    ("PHONE", re.compile(_PLACE + r"[(（]?0(?:10|2\d|[3-9]\d{2})(?:[)）] ?|[- ])\d{3,4}[- ]?\d{4}" + _END), _always),
    ("PHONE", re.compile(_PLACE + r"[48]00-(?:\d{3}-\d{4}|\d{4}-\d{3})" + _END), _always),
    (
        "PHONE",
        re.compile(_PLACE + r"(?:1[-. ])?(?:\([2-9]\d{2}\) ?|[2-9]\d{2}[-. ])[2-9]\d{2}[-. ]\d{4}" + _END),
        _always,
    ),
)
KINDS = ("EMAIL", "ID", "CARD", "PASSPORT", "PHONE")


def find_personal(text: str) -> dict[str, int]:
    """How many of each kind the text holds; empty for most texts."""
    if not _MAYBE.search(text):
        return {}
    return _replace(text)[1]


def mask_personal(text: str) -> str:
    """The text with [EMAIL], [ID], [CARD], [PASSPORT] and [PHONE] in the place of such data."""
    return _replace(text)[0] if _MAYBE.search(text) else text


def _replace(text: str) -> tuple[str, dict[str, int]]:
    counts: dict[str, int] = {}
    for kind, pattern, check in _KINDS:

        def mask(found: re.Match[str], kind: str = kind, check: Callable[[str], bool] = check) -> str:
            if kind in ("ID", "CARD", "PHONE") and _announced_as_other(found):
                return found[0]
            if not check(found[0]):
                return found[0]
            counts[kind] = counts.get(kind, 0) + 1
            return (found[1] if found.re.groups else "") + f"[{kind}]"

        text = pattern.sub(mask, text)
    return text, counts


def _announced_as_other(found: re.Match[str]) -> bool:
    """Whether the words before a number say that it is an order number or the like."""
    before = found.string[max(found.start() - 24, 0) : found.start()]
    return bool(_OTHER_NUMBER.search(before)) and not _PHONE_NUMBER.search(before)
