"""Dates as people write them, in English and Chinese, each with its ISO form: the data of `dates.py`.

Every form names its day beyond doubt: the year has four digits, an English month is a word or stands between
year and day, and a weekday, where one is given, is the true one. All dates are Gregorian.
"""

from __future__ import annotations

import random
from datetime import date, timedelta

FIRST, LAST = date(1900, 1, 1), date(2099, 12, 31)
LANGUAGES = ("English", "Chinese")
PAD, BOS, EOS = 0, 1, 2

MONTHS = ["January", "February", "March", "April", "May", "June", "July"]
MONTHS += ["August", "September", "October", "November", "December"]
WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
DIGITS = "〇一二三四五六七八九"
FULL_WIDTH = str.maketrans("0123456789", "０１２３４５６７８９")


def split_days(seed: int, held_out: int) -> tuple[list[date], list[date]]:
    """All days from FIRST to LAST, shuffled: those to train on, and `held_out` that training never sees."""
    days = [FIRST + timedelta(days=n) for n in range((LAST - FIRST).days + 1)]
    random.Random(seed).shuffle(days)
    return days[held_out:], days[:held_out]


def write(day: date, language: str, rng: random.Random) -> str:
    """`day` in one of the language's forms, chosen by `rng`."""
    return english(day, rng) if language == "English" else chinese(day, rng)


def english(day: date, rng: random.Random) -> str:
    """Such as "March 3rd, 2021", "Wed 3 Mar 2021", "the 3rd of March 2021", "3-Mar-2021", "2021/3/3"."""
    if rng.random() < 0.1:  # year, month, day in figures
        form = rng.choice(["{0}/{1}/{2}", "{0}.{1}.{2}", "{0}/{1:02}/{2:02}", "{0}.{1:02}.{2:02}"])
        return form.format(day.year, day.month, day.day)
    name = MONTHS[day.month - 1]
    short = rng.choice(["Sept", "Sep"]) if day.month == 9 else name[:3]
    month = rng.choice([name, name, short, short + "." if short != name else short])
    number = rng.choice([f"{day.day}", f"{day.day:02}", f"{day.day}{suffix(day.day)}"])
    comma = rng.choice([",", ""])
    form = rng.choice(["mdy", "mdy", "dmy", "dmy", "of", "hyphen"])
    if form == "mdy":
        text = f"{month} {number}{comma} {day.year}"
    elif form == "dmy":
        text = f"{number} {month}{comma} {day.year}"
    elif form == "of":
        ordinal = f"{day.day}{suffix(day.day)}"
        text = rng.choice([f"the {ordinal} of {name}{comma} {day.year}", f"{name} the {ordinal}{comma} {day.year}"])
    else:
        text = f"{day.day}-{short}-{day.year}"
    if form != "hyphen" and rng.random() < 0.3:
        weekday = WEEKDAYS[day.weekday()]
        text = rng.choice([weekday, weekday[:3]]) + rng.choice([", ", " "]) + text
    return rng.choice([text, text, text, text.upper(), text.lower()])


def chinese(day: date, rng: random.Random) -> str:
    """Such as "2021年3月3日", "二〇二一年三月三日", "２０２１年０３月０３日", "2021年三月三号（周三）"."""
    end = rng.choice("日日号")
    year, month, number = f"{day.year}", f"{day.month}", f"{day.day}"
    style = rng.choice(["figures", "figures", "padded", "numerals", "numerals", "mixed"])
    if style == "padded":
        month, number = f"{day.month:02}", f"{day.day:02}"
    elif style in ("numerals", "mixed"):
        month, number = numeral(day.month), numeral(day.day)
    if style == "numerals":
        year = "".join(DIGITS[int(digit)] for digit in year).replace("〇", rng.choice("〇零"))
    gap = " " if style in ("figures", "padded") and rng.random() < 0.2 else ""
    text = gap.join([year, "年", month, "月", number, end])
    if not gap and rng.random() < 0.15:
        text = text.translate(FULL_WIDTH)
    if rng.random() < 0.3:
        last = rng.choice("日天") if day.weekday() == 6 else DIGITS[day.weekday() + 1]
        weekday = rng.choice(["星期", "礼拜"]) + last if last == "天" else rng.choice(["星期", "周", "礼拜"]) + last
        text = rng.choice([f"{text}{weekday}", f"{text} {weekday}", f"{text}（{weekday}）", f"{weekday}，{text}"])
    return text


def suffix(number: int) -> str:
    """What English writes after a day's figures: st, nd, rd or th."""
    return "th" if number in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")


def numeral(number: int) -> str:
    """1 to 99 in Chinese: 三, 十, 十二, 二十, 三十一."""
    tens, units = divmod(number, 10)
    return ("" if tens < 2 else DIGITS[tens]) + ("十" if tens else "") + (DIGITS[units] if units else "")


class Characters:
    """One id per character after padding, start and end; capitals read as small letters."""

    def __init__(self, alphabet: str) -> None:
        self.alphabet = "".join(sorted(set(alphabet)))
        self.ids = {character: number for number, character in enumerate(self.alphabet, start=EOS + 1)}

    def __len__(self) -> int:
        return len(self.alphabet) + EOS + 1

    def encode(self, text: str) -> list[int]:
        """The ids of `text`; KeyError on a character outside the alphabet."""
        return [self.ids[character] for character in text.lower()]

    def decode(self, ids: list[int]) -> str:
        """The text up to the end mark."""
        ids = ids[: ids.index(EOS)] if EOS in ids else ids
        return "".join(self.alphabet[number - EOS - 1] if number > EOS else "?" for number in ids)


# One alphabet for both sides: a year's figures are then copied with their own embedding.
ALPHABET = Characters(
    "".join(MONTHS + WEEKDAYS).lower()
    + "0123456789０１２３４５６７８９ ,./-（），"
    + DIGITS
    + "零十年月日号星期周礼拜天"
)
