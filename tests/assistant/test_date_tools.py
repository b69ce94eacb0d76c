"""Dates and times beside other ways of counting them."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glassgpt.assistant.dates import date_tools, spot_days, spot_now
from glassgpt.assistant.tool_run import run_tool
from glassgpt.assistant.tools_builtin import BUILTIN, builtin_tools, calculator
from glassgpt.core.errors import ConfigError, InputError

NOW = datetime(2026, 5, 31, 20, 30, tzinfo=UTC)


def clock(zone: tzinfo | None) -> datetime:
    return NOW.astimezone(zone)


TOOLS = {one.name: one for one in date_tools("Asia/Shanghai", clock)}


def ask(name: str, /, **arguments: Any) -> str:
    result = run_tool(TOOLS[name], json.dumps(arguments))
    assert result.ok, result.text
    return result.text


def refused(name: str, /, **arguments: Any) -> str:
    result = run_tool(TOOLS[name], json.dumps(arguments))
    assert not result.ok and result.error is not None
    assert result.error.message("zh") != result.error.message()
    return result.text


def test_the_time_here_and_elsewhere():
    assert ask("current_time") == "2026-06-01 Monday 星期一 04:30 (UTC+08:00)"
    assert ask("current_time", time_zone="america/new york").startswith("2026-05-31 Sunday 星期日 16:30 (UTC-04:00")
    assert "Europe/Berlin" in refused("current_time", time_zone="Berlin")
    for name in ("../../etc/passwd", "/etc/localtime", "x" * 5000):
        assert len(refused("current_time", time_zone=name)) < 300


@given(st.dates())
def test_the_day_of_the_week_is_the_calendars(day):
    assert ask("day_of_week", date=day.isoformat()).split()[:2] == [day.isoformat(), day.strftime("%A")]


@given(st.dates(date(1800, 1, 1), date(2200, 1, 1)), st.integers(-2000, 2000),
       st.sampled_from(["days", "weeks", "months", "years"]))  # fmt: skip
def test_adding_agrees_with_pandas(day, amount, unit):
    amount = max(-150, min(amount, 150)) if unit == "years" else amount
    expected = pd.Timestamp(day).as_unit("s") + pd.DateOffset(**{unit: amount})
    assert ask("add_to_date", date=day.isoformat(), amount=amount, unit=unit).startswith(expected.strftime("%Y-%m-%d"))


@given(st.dates(), st.dates())
def test_days_between_lead_from_one_to_the_other(start, end):
    count = int(ask("days_between", start=str(start), end=str(end)).split()[0])
    assert start + timedelta(count) == end


@pytest.mark.parametrize(
    ("text", "day"),
    [("today", "2026-06-01"), ("明天", "2026-06-02"), ("Yesterday", "2026-05-31"), ("2026年5月3日", "2026-05-03"),
     ("２０２６－５－３", "2026-05-03"), ("2026/05/03", "2026-05-03"), (" 2026-05-03 ", "2026-05-03")],
)  # fmt: skip
def test_dates_as_people_write_them(text, day):
    assert ask("day_of_week", date=text).startswith(day)


@pytest.mark.parametrize("text", ["", "2026-02-30", "5/6/2026", "soon", "0000-01-01", "x" * 9999, "2026-05-31T10:00"])
def test_what_is_no_date_is_refused(text):
    assert "2026-05-31, or today" in refused("day_of_week", date=text)


def test_a_shorter_month_is_told():
    assert "no day 31" in ask("add_to_date", date="2026-01-31", amount=1, unit="months")
    assert ask("add_to_date", date="2024-02-29", amount=1, unit="years").startswith("2025-02-28")
    assert "9999" in refused("add_to_date", date="9999-12-31", amount=1)
    assert "9999" in refused("add_to_date", date="2026-01-01", amount=-90_000, unit="years")
    refused("add_to_date", date="2026-01-01", amount=10**9)
    refused("add_to_date", date="2026-01-01", amount=1, unit="hours")


@given(st.datetimes(datetime(1990, 1, 1), datetime(2035, 1, 1)),
       st.sampled_from(["Asia/Shanghai", "Europe/Berlin", "America/New_York", "Asia/Kathmandu"]),
       st.sampled_from(["UTC", "Australia/Lord_Howe", "Europe/London"]))  # fmt: skip
def test_conversions_agree_with_pandas(moment, source, target):
    text = moment.strftime("%Y-%m-%d %H:%M")
    result = run_tool(TOOLS["convert_time"], json.dumps({"time": text, "from_zone": source, "to_zone": target}))
    try:
        expected = pd.Timestamp(text).tz_localize(source, ambiguous="raise", nonexistent="raise").tz_convert(target)
    except ValueError as error:
        doubled = "Cannot infer" in str(error) or "ambiguous" in str(error).lower()
        assert ("comes twice" in result.text) == doubled and result.ok == doubled
        return
    assert f" is {expected.strftime('%Y-%m-%d %A')}" in result.text and expected.strftime(" %H:%M (") in result.text


def test_hours_that_the_clocks_skip_or_repeat_are_told():
    zones = {"from_zone": "Europe/Berlin", "to_zone": "UTC"}
    assert "put forward" in refused("convert_time", time="2026-03-29 02:30", **zones)
    told = ask("convert_time", time="2026-10-25 02:30", **zones)
    assert "00:30" in told and "comes twice" in told and "01:30" in told
    assert "2026-05-31 Sunday 星期日 14:30" in ask("convert_time", time="14:30", **zones), "today, there"
    for text in ("25:00", "14", "", "14:60", "soon 14:30"):
        refused("convert_time", time=text, **zones)


def test_a_persona_chooses_from_the_tools_by_name():
    assert [one.name for one in builtin_tools()] == list(BUILTIN)
    assert builtin_tools(["calculator", "calculator"]) == (calculator,)
    assert [one.name for one in builtin_tools(["dates"])] == list(BUILTIN[1:])
    with pytest.raises(ConfigError, match="calculater") as caught:
        builtin_tools(["calculater"])
    assert "'calculator'" in caught.value.hint()
    with pytest.raises(InputError, match="Mars"):
        builtin_tools(zone="Mars")


@pytest.mark.parametrize(("message", "found"), [
    ("What day is it today?", True), ("what time is it", True), ("What's the date today?", True),
    ("今天星期几？", True),
    ("请问现在几点了", True), ("今天是几号", True), ("Which day is it?", True), ("What day do you deliver?", False),
    ("What is the time limit for returns?", False), ("今天几点关门", False),
    ("", False), ("What time is it " * 50, False),
])  # fmt: skip
def test_a_question_for_the_time_is_spotted_and_nothing_else(message, found):
    assert (spot_now(message) == {}) is found and (spot_now(message) is None) is not found


@pytest.mark.parametrize(("message", "found"), [
    ("How many days are there between 2026-11-01 and 2026-12-25?", ("2026-11-01", "2026-12-25")),
    ("2026年11月1日到2026年12月25日有多少天", ("2026年11月1日", "2026年12月25日")),
    ("How many days until 2026-12-25?", None), ("From 2026-11-01 to 2026-12-25 you are closed?", None), ("", None),
])  # fmt: skip
def test_two_dates_and_a_question_for_the_days_between_them_are_spotted(message, found):
    spotted = spot_days(message)
    assert (spotted and (spotted["start"], spotted["end"])) == found
