"""Settings as frozen dataclasses, filled from TOML and from the command line.

A key that is not known is an error that names the nearest one; a value of the wrong kind is one that says what kind was
expected. Ranges are each dataclass's own business.
"""

from __future__ import annotations

import tomllib
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from glassgpt.core.errors import ConfigError, FormatError, NotFoundError, nearest

T = TypeVar("T")
_LARGEST = 1 << 20  # bytes; settings are written by hand


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file as a dictionary.

    Raises:
        NotFoundError: it cannot be read.
        FormatError: it is too large, not UTF-8, or not TOML; with the line.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise FormatError("{path} is larger than {limit} bytes", path=path, limit=_LARGEST)
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise NotFoundError(
            "{path} cannot be read ({reason})", hint="Check the path.", path=path, reason=error.strerror
        ) from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise FormatError(
            "{path} is not TOML: {reason}", hint="Mend that place.", path=path, reason=str(error)
        ) from None


def settings_from(kind: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """A dataclass `kind` from plain values; a field that is itself a dataclass takes a table.

    `where` is the name of the table, for messages ("train." makes `train.steps`).

    Raises:
        ConfigError: an unknown key (with the nearest known one), a missing one, or a value of the wrong kind.
    """
    hints = get_type_hints(kind)
    known = {f.name: hints[f.name] for f in fields(kind)}  # type: ignore[arg-type]
    given: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            raise ConfigError(
                "unknown setting {key!r}",
                hint="Did you mean {near!r}?" if nearest(key, list(known)) else "Known are {known}.",
                key=where + key,
                near=where + nearest(key, list(known)),
                known=", ".join(known),
            )
        if is_dataclass(known[key]) and isinstance(value, Mapping):
            given[key] = settings_from(known[key], value, f"{where}{key}.")
        else:
            given[key] = _converted(where + key, value, known[key])
    try:
        return kind(**given)
    except TypeError as error:
        raise ConfigError("the settings do not fit: {reason}", reason=str(error)) from None


def override(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`values` with those of `changes`, table by table; a change that is None leaves what was there."""
    merged = dict(values)
    for key, value in changes.items():
        if isinstance(value, Mapping):
            inner = merged.get(key, {})
            inside = override(inner if isinstance(inner, Mapping) else {}, value)
            if inside or isinstance(inner, Mapping):  # a table of nothing but None takes nothing away
                merged[key] = inside
        elif value is not None:
            merged[key] = value
    return merged


def _converted(name: str, value: Any, hint: Any) -> Any:
    """`value` if it is of the kind `hint`; whole numbers serve as fractions and lists as tuples."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in parts:
            return None
        return _converted(name, value, next(p for p in parts if p is not type(None)))
    if origin is Literal:
        if value not in parts:
            raise _wrong(name, value, ", ".join(map(str, parts)))
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise _wrong(name, value, "[...]")
        return tuple(_converted(name, v, parts[0]) for v in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if origin is dict or hint is dict:
        hint = dict
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        names = {int: "12", float: "0.5", str: '"text"', bool: "true / false", dict: "{...}"}
        raise _wrong(name, value, names.get(hint, str(hint)))
    return value


def _wrong(name: str, value: Any, expected: str) -> ConfigError:
    return ConfigError("{name} is {value!r}; expected {expected}", name=name, value=str(value)[:80], expected=expected)
