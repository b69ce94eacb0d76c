"""What day and time it is, and counting with days: tools for a model, which knows neither.

Dates are those of the Gregorian calendar; time zones are those of the IANA's data base (`zoneinfo`).
"""

from __future__ import annotations

import calendar
import re
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from glassgpt.assistant.tool import Tool, tool
from glassgpt.core.errors import InputError, nearest
from glassgpt.core.words import Sentence

MAX_AMOUNT = 100_000  # days, weeks, months or years to be added
_DAYS = (("Monday", "星期一"), ("Tuesday", "星期二"), ("Wednesday", "星期三"), ("Thursday", "星期四"),
         ("Friday", "星期五"), ("Saturday", "星期六"), ("Sunday", "星期日"))  # fmt: skip
_NEAR = {"today": 0, "now": 0, "tomorrow": 1, "yesterday": -1, "今天": 0, "今日": 0, "明天": 1, "后天": 2, "昨天": -1,
         "前天": -2, "後天": 2}  # fmt: skip
_DATE = re.compile(r"(\d{4})\s*[-/.年]\s*(\d{1,2})\s*[-/.月]\s*(\d{1,2})\s*[日号號]?")
_TIME = re.compile(r"[T\s]*(\d{1,2})[:：](\d{2})(?:[:：]\d{2})?")
_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: 0x20}


# Questions for which a small model would make an answer up; see `Tool.spot`.
_NOW = re.compile(
    r"(?:(?:please )?(?:tell me )?(?:what(?:'s| is)?|which) (?:the )?(?:current )?"
    r"(?:time|date|day|weekday)(?: of the week)?"
    r"(?: is it| is today| today| now| right now)*"
    r"|(?:请问)?(?:今天|现在)(?:是)?(?:几月几[日号]|几[号点日]|几点钟|星期几|周几|礼拜几|什么日子|什么时间|什么时候)(?:了)?"
    r")[ ?!.。！,，呀啊]*"
)
_BETWEEN = re.compile(r"how many days|days between|多少天|几天|相差|相隔", re.IGNORECASE)


def date_tools(zone: str = "", clock: Callable[[tzinfo | None], datetime] = datetime.now) -> tuple[Tool[..., Any], ...]:
    """The tools: `current_time`, `day_of_week`, `add_to_date`, `days_between` and `convert_time`.

    Args:
        zone: the time zone that is meant where none is named, such as "Asia/Shanghai"; this computer's unless given.
        clock: what tells the time in a zone; a test gives its own.

    Raises:
        InputError: there is no such time zone.
    """
    home = _zone(zone) if zone else None

    def now(name: str = "") -> datetime:
        where = _zone(name) if name else home
        return clock(where) if where is not None else clock(UTC).astimezone()

    def day(text: str) -> date:
        return _date(text, now().date())

    @tool
    def current_time(time_zone: str = "") -> str:
        """Tells the current date, weekday and time.

        Args:
            time_zone: such as Asia/Shanghai or Europe/Berlin; leave it out for the time here
        """
        moment = now(time_zone)
        return f"{_day(moment.date())} {moment:%H:%M} ({_offset(moment)}{f', {time_zone}' if time_zone else ''})"

    @tool
    def day_of_week(date: str) -> str:
        """Tells which day of the week a date is.

        Args:
            date: such as 2026-05-31, today or tomorrow
        """
        return _day(day(date))

    @tool
    def add_to_date(date: str, amount: int, unit: Literal["days", "weeks", "months", "years"] = "days") -> str:
        """Tells the date so many days, weeks, months or years after a date, or before it.

        Args:
            date: such as 2026-05-31 or today
            amount: how many; below zero for a date before
            unit: of the amount
        """
        return _added(day(date), amount, unit)

    @tool
    def days_between(start: str, end: str) -> str:
        """Counts the days from one date to another.

        Args:
            start: such as 2026-05-31 or today
            end: such as 2026-12-24
        """
        first, last = day(start), day(end)
        count = (last - first).days
        return f"{count} days from {_day(first)} to {_day(last)}"

    @tool
    def convert_time(time: str, from_zone: str, to_zone: str) -> str:
        """Tells what time it is in another time zone.

        Args:
            time: such as 2026-05-31 14:30, or 14:30 for today
            from_zone: the time zone of that time, such as Asia/Shanghai
            to_zone: the wanted one, such as America/New_York
        """
        return _converted(time, _zone(from_zone), _zone(to_zone), now(from_zone).date())

    return (
        replace(current_time, spot=spot_now), day_of_week, add_to_date, replace(days_between, spot=spot_days),
        convert_time,
    )  # fmt: skip


def spot_now(message: str) -> dict[str, Any] | None:
    """The arguments of `current_time`, where a message asks for the time, the day or the date here and now."""
    return {} if _NOW.fullmatch(_one_line(message)) else None


def spot_days(message: str) -> dict[str, Any] | None:
    """The arguments of `days_between`, where a message asks for that and names two dates, such as 2026-05-31."""
    asks = len(message) <= 200 and _BETWEEN.search(message)
    found = [one.group().strip() for one in _DATE.finditer(message)] if asks else []
    return {"start": found[0], "end": found[1]} if len(found) == 2 else None


def _one_line(message: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", message).split()).lower() if len(message) <= 200 else ""


def _zone(name: str) -> ZoneInfo:
    known = available_timezones()
    folded = {each.casefold(): each for each in known}
    found = folded.get(name.strip().casefold().replace(" ", "_"))
    if found is None:  # asked by name only among those there are: no path goes to the file system
        near = nearest(name, sorted(known)) or next((z for z in sorted(known) if name and z.endswith(f"/{name}")), "")
        raise InputError(
            "there is no time zone {name}",
            hint="Did you mean {near}?" if near else "Give a name such as Asia/Shanghai or Europe/Berlin.",
            name=repr(name[:60]),
            near=near,
        )
    return ZoneInfo(found)


def _date(text: str, today: date) -> date:
    told = text.translate(_FULL_WIDTH).strip()
    if told.lower() in _NEAR:
        return today + timedelta(_NEAR[told.lower()])
    found = _DATE.fullmatch(told)
    try:
        return date(*map(int, found.groups())) if found else date.fromisoformat(told[:40])
    except ValueError:
        raise _no_date(text, Sentence("a date such as 2026-05-31, or today")) from None


def _added(start: date, amount: int, unit: str) -> str:
    if abs(amount) > MAX_AMOUNT:
        raise _no_date(str(amount), Sentence("a whole number from {low} to {high}", low=-MAX_AMOUNT, high=MAX_AMOUNT))
    try:
        if unit in ("days", "weeks"):
            return _day(start + timedelta(amount * (7 if unit == "weeks" else 1)))
        months = start.year * 12 + start.month - 1 + amount * (12 if unit == "years" else 1)
        year, month = months // 12, months % 12 + 1
        last = calendar.monthrange(year, month)[1]
        found = _day(date(year, month, min(start.day, last)))
    except (ValueError, OverflowError, calendar.IllegalMonthError):
        raise _no_date(f"{start} {amount:+d} {unit}", Sentence("a date from the year 1 to 9999")) from None
    return f"{found} (the last day of that month, which has no day {start.day})" if start.day > last else found


def _converted(text: str, source: ZoneInfo, target: ZoneInfo, today: date) -> str:
    told = text.translate(_FULL_WIDTH).strip()
    found = re.fullmatch(rf"(.*?){_TIME.pattern}", told[:60])
    hour, minute = (int(found[2]), int(found[3])) if found else (99, 99)
    if hour > 23 or minute > 59:
        raise _no_date(text, Sentence("a time such as 2026-05-31 14:30, or 14:30"))
    assert found is not None
    day = _date(found[1], today) if found[1].strip() else today
    moment = datetime(day.year, day.month, day.day, hour, minute, tzinfo=source)
    try:
        there = moment.astimezone(target)
        back = there.astimezone(source)
    except OverflowError:
        raise _no_date(text, Sentence("a date from the year 1 to 9999")) from None
    if back.replace(tzinfo=None) != moment.replace(tzinfo=None):
        raise _no_date(text, Sentence("a time that exists: the clocks there are put forward over it"))
    shown = f"{_moment(moment)} is {_moment(there)}"
    if moment.utcoffset() != moment.replace(fold=1).utcoffset():
        second = _moment(moment.replace(fold=1).astimezone(target))
        shown += f". The clocks are put back then, and that time comes twice; the second one is {second}"
    return shown


def _moment(moment: datetime) -> str:
    return f"{_day(moment.date())} {moment:%H:%M} ({_offset(moment)}, {moment.tzinfo})"


def _day(day: date) -> str:
    english, chinese = _DAYS[day.weekday()]
    return f"{day.isoformat()} {english} {chinese}"


def _offset(moment: datetime) -> str:
    minutes = round((moment.utcoffset() or timedelta()).total_seconds() / 60)
    return f"UTC{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"


def _no_date(given: str, expected: Sentence) -> InputError:
    return InputError("{given} was given; expected {expected}", given=repr(given[:60]), expected=expected)
