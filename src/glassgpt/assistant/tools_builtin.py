"""The tools that come with the assistant, by name, for a persona to choose from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from glassgpt.assistant.calculator import calculate, calculator
from glassgpt.assistant.dates import date_tools
from glassgpt.assistant.orders import order_lookup
from glassgpt.assistant.tool import Tool
from glassgpt.core.errors import ConfigError, nearest

__all__ = ["BUILTIN", "builtin_tools", "calculate", "calculator", "date_tools", "order_lookup"]

BUILTIN = ("calculator", "current_time", "day_of_week", "add_to_date", "days_between", "convert_time")


def builtin_tools(names: Sequence[str] = BUILTIN, zone: str = "") -> tuple[Tool[..., Any], ...]:
    """The tools of these names, in this order.

    Args:
        names: of `BUILTIN`; all unless given. "dates" stands for all that have to do with dates.
        zone: the time zone that is meant where none is named; this computer's unless given.

    Raises:
        ConfigError: there is no tool of such a name.
        InputError: there is no such time zone.
    """
    tools = {one.name: one for one in (calculator, *date_tools(zone))}
    found: list[Tool[..., Any]] = []
    for name in names:
        if name != "dates" and name not in tools:
            near = nearest(name, [*BUILTIN, "dates"])
            raise ConfigError(
                "no built-in tool is called {name!r}",
                hint="Did you mean {near!r}?" if near else "There are {known}.",
                name=name,
                near=near,
                known=", ".join([*BUILTIN, "dates"]),
            )
        found += [tools[name]] if name != "dates" else [tools[each] for each in BUILTIN[1:]]
    return tuple(dict.fromkeys(found))
