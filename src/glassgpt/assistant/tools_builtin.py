"""The tools that come with the assistant, by name, for a persona to choose from."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from glassgpt.assistant.calculator import calculate, calculator
from glassgpt.assistant.dates import date_tools
from glassgpt.assistant.orders import order_lookup
from glassgpt.assistant.tool import Tool
from glassgpt.core.errors import ConfigError, GlassError, nearest

__all__ = ["BUILTIN", "builtin_tools", "calculate", "calculator", "date_tools", "order_lookup"]

# A message that is a sum and nothing else but a few words around it.
_SUM = re.compile(
    r"(?:what(?:'s| is)|how much is|calculate|compute|请?(?:帮我)?(?:算一?下|计算))?[\s:：,，]*"
    r"(?P<sum>[-+(]*\d[\d\s.,()+*/^%x×÷-]*[+*/^%x×÷-][\d\s.,()+*/^%x×÷-]*[\d)])"
    r"\s*(?:=|等于(?:多少|几)?|是多少)?\s*[?？.。!！]*",
    re.IGNORECASE,
)
_DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}")

BUILTIN = ("calculator", "current_time", "day_of_week", "add_to_date", "days_between", "convert_time")


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


def builtin_tools(names: Sequence[str] = BUILTIN, zone: str = "") -> tuple[Tool[..., Any], ...]:
    """The tools of these names, in this order.

    Args:
        names: of `BUILTIN`; all unless given. "dates" stands for all that have to do with dates.
        zone: the time zone that is meant where none is named; this computer's unless given.

    Raises:
        ConfigError: there is no tool of such a name.
        InputError: there is no such time zone.
    """
    tools = {one.name: one for one in (replace(calculator, spot=spot_sum), *date_tools(zone))}
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
