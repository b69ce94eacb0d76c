"""The dates example: its data against calendars of its own, and the whole trip to 99 % exact match."""

from __future__ import annotations

import calendar
import random
import re
import subprocess
import sys
from datetime import date, datetime
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))

import dates_data  # noqa: E402

days = st.dates(dates_data.FIRST, dates_data.LAST)
randomness = st.randoms(use_true_random=False)
WEEKDAY_NAMES = "|".join([*calendar.day_name, *calendar.day_abbr])


def read_english(text: str) -> date:
    """The day by `strptime`, and the weekday checked where the text names one."""
    weekday = re.match(rf"({WEEKDAY_NAMES})\b,? ", text, re.IGNORECASE)
    rest = text[weekday.end() :] if weekday else text
    rest = re.sub(r"(\d)(st|nd|rd|th)\b", r"\1", rest, flags=re.IGNORECASE)
    rest = re.sub(r"\bsept\b", "Sep", rest, flags=re.IGNORECASE)
    rest = re.sub(r"\b(the|of)\b|[,.\-/]", " ", rest, flags=re.IGNORECASE)
    found = set()
    for form in ("%B %d %Y", "%b %d %Y", "%d %B %Y", "%d %b %Y", "%Y %m %d"):
        try:
            found.add(datetime.strptime(" ".join(rest.split()), form).date())
        except ValueError:
            continue
    (day,) = found  # one reading alone
    if weekday:
        assert calendar.day_name[day.weekday()].lower().startswith(weekday[1].lower())
    return day


@cache
def chinese_numbers() -> dict[str, int]:
    """1 to 31 written out by counting, one name after the other."""
    units = ["", *"一二三四五六七八九"]
    names = [tens + unit for tens in ("", "十", "二十", "三十") for unit in units]
    return {name: number for number, name in enumerate(names) if 1 <= number <= 31}


def read_chinese(text: str) -> date:
    """The day, from a pattern and a list of names; the weekday checked where the text names one."""
    text = text.translate({0xFF10 + n: str(n) for n in range(10)}).replace(" ", "")
    year, month, number = re.search(r"(.{4})年(.{1,2})月(.{1,3}?)[日号]", text).groups()
    if not year.isascii():
        year = "".join(str("〇一二三四五六七八九".index(c)) for c in year.replace("零", "〇"))
    parts = [int(p) if p.isascii() else chinese_numbers()[p] for p in (month, number)]
    day = date(int(year), *parts)
    if weekday := re.search(r"(?:星期|礼拜|周)([一二三四五六日天])", text):
        assert "一二三四五六日".index(weekday[1].replace("天", "日")) == day.weekday()
    return day


@settings(max_examples=500, deadline=None)
@given(day=days, rng=randomness)
def test_an_independent_reader_finds_the_same_day_in_every_english_form(day, rng):
    assert read_english(dates_data.english(day, rng)) == day


def test_the_reader_takes_a_sunday_for_no_number():
    assert read_chinese("2021年3月7日周日") == date(2021, 3, 7)


@settings(max_examples=500, deadline=None)
@given(day=days, rng=randomness)
def test_an_independent_reader_finds_the_same_day_in_every_chinese_form(day, rng):
    assert read_chinese(dates_data.chinese(day, rng)) == day


@settings(max_examples=200, deadline=None)
@given(day=days, rng=randomness, language=st.sampled_from(dates_data.LANGUAGES))
def test_every_text_and_its_answer_survive_encoding(day, rng, language):
    alphabet, text = dates_data.ALPHABET, dates_data.write(day, language, rng)
    assert alphabet.decode(alphabet.encode(text)) == text.lower()
    answer = alphabet.encode(day.isoformat())
    assert min(answer) > dates_data.EOS and max(answer) < len(alphabet)
    assert alphabet.decode([*answer, dates_data.EOS, dates_data.PAD]) == day.isoformat()


def test_one_day_is_written_in_many_forms():
    rng, day = random.Random(0), date(2021, 3, 3)
    english = {dates_data.english(day, rng) for _ in range(3000)}
    chinese = {dates_data.chinese(day, rng) for _ in range(3000)}
    assert {"March 3rd, 2021", "3 Mar 2021", "Wednesday 3 March 2021", "3-Mar-2021", "2021/3/3"} <= english
    assert {
        "2021年3月3日",
        "二〇二一年三月三日",
        "二零二一年三月三号",
        "２０２１年０３月０３日",
        "2021年三月三日 周三",
    } <= chinese
    assert len(english) > 100 and len(chinese) > 100


def test_a_figure_only_form_never_begins_with_the_day_or_the_month():
    rng = random.Random(0)
    for _ in range(3000):
        text = dates_data.english(date(2003, 4, 5), rng)
        assert text.startswith("2003") or any(month.lower() in text.lower() for month in ("apr", "april")), text


@pytest.mark.parametrize("seed", [0, 1])
def test_held_out_days_are_never_trained_on_and_all_days_are_used(seed: int):
    train, held_out = dates_data.split_days(seed, 2000)
    assert len(held_out) == 2000 and not set(train) & set(held_out)
    everything = (dates_data.LAST - dates_data.FIRST).days + 1
    assert len(set(train) | set(held_out)) == everything == 73049
    assert dates_data.split_days(seed, 2000) == (train, held_out)


def test_the_seed_chooses_the_held_out_days():
    assert set(dates_data.split_days(0, 2000)[1]) != set(dates_data.split_days(1, 2000)[1])


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-X", "utf8", str(EXAMPLES / "dates.py"), *arguments]
    return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=290)


def test_characters_that_no_date_has_are_refused():
    refused = run("昨天")
    assert refused.returncode == 2
    assert "characters that occur in no date here: 昨" in refused.stderr


@pytest.mark.slow
def test_a_time_limit_is_told_and_an_untrained_model_fails_the_measure():
    short = run("--minutes", "0.02")
    assert short.returncode == 0, short.stderr
    assert re.search(r"stopped after \d+ of 2000 steps: 0.02 minutes were over", short.stdout)
    assert float(re.search(r"English ([\d.]+)%", short.stdout)[1]) < 50


@pytest.mark.slow
@pytest.mark.full
def test_the_transformer_learns_to_read_dates_in_both_languages_to_99_percent():
    done = run("--minutes", "2.5", "The 4th of May, 1999", "一九九九年五月四日")
    assert done.returncode == 0, done.stderr
    for language in dates_data.LANGUAGES:
        assert float(re.search(rf"{language} ([\d.]+)%", done.stdout)[1]) >= 99.0, done.stdout
    assert "The 4th of May, 1999 -> 1999-05-04" in done.stdout
    assert "一九九九年五月四日 -> 1999-05-04" in done.stdout
