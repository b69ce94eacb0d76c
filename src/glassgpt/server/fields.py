"""What all schemas share: strict bodies, limits, and what becomes of a body that does not fit.

No framework of the web here: bytes in, a checked object or a `Problem` out.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from pydantic_core import from_json

from glassgpt.server.problems import Problem

MAX_TEXT = 4_000_000  # characters of one text
MAX_MESSAGES = 4_096
MAX_STOPS, MAX_STOP = 16, 256
MAX_TOOLS = 128
MAX_CHOICES = 16
MAX_BIAS = 1_024
MAX_ITEMS = 2_048  # in a list that is not one of those
MAX_NAME = 256
MAX_DEPTH = 64  # of what is not further described: schemas, metadata
MAX_VALUES = 200_000  # in a body

Text = Annotated[str, StringConstraints(max_length=MAX_TEXT)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=MAX_NAME)]
Short = Annotated[str, StringConstraints(max_length=MAX_NAME)]
FunctionName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
Stop = Annotated[str, StringConstraints(min_length=1, max_length=MAX_STOP)]
Metadata = Annotated[dict[Annotated[str, StringConstraints(max_length=64)],
                          Annotated[str, StringConstraints(max_length=512)]], Field(max_length=16)]  # fmt: skip


class Body(BaseModel):
    """A part of a request: exactly the fields that are named, of exactly these kinds. A null is what was not given, so
    others may be null."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, values: Any) -> Any:
        if not isinstance(values, dict) or all(value is not None for value in values.values()):
            return values
        known = {field.alias or name for name, field in cls.model_fields.items()}
        return {name: value for name, value in values.items() if value is not None or name in known}


B = TypeVar("B", bound=BaseModel)


def parse(kind: type[B], body: bytes) -> B:
    """A checked body.

    Raises:
        Problem: it is not JSON, or a field is unknown, missing, of another kind or out of range; the first is named.
    """
    try:
        values = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise Problem(400, f"the body is not JSON: {_short(error)}", code="invalid_json") from None
    if not isinstance(values, dict):
        raise Problem(400, "the body must be a JSON object", code="invalid_json")
    _check_size(values)
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise _refusal(error, values) from None


def _refusal(error: ValidationError, values: Any) -> Problem:
    first = _deepest(error.errors(include_url=False, include_context=False))
    path = _path(first["loc"], values, first["type"] == "missing")
    if first["type"] == "extra_forbidden":
        return Problem(400, f"the field {path} is not supported here", param=path, code="unsupported_parameter")
    if first["type"] == "missing":
        return Problem(400, f"the field {path} is missing", param=path, code="missing_required_parameter")
    given = "" if isinstance(first["input"], dict | list) else f"; given was {_short(repr(first['input']))}"
    return Problem(400, f"{path}: {first['msg']}{given}", param=path, code="invalid_value")


def _deepest(errors: list[Any]) -> Any:
    """The complaint that tells most: where a value may have several forms, the form that came furthest."""
    return max(errors, key=lambda e: (e["type"] == "extra_forbidden" and len(e["loc"]) == 1, len(e["loc"])))


def _path(parts: tuple[int | str, ...], values: Any, missing: bool) -> str:
    """`messages[0].content`, without the names of the forms that were tried: what is no place in the body is one."""
    path = ""
    for number, part in enumerate(parts):
        if isinstance(part, int) and isinstance(values, list) and part < len(values):
            path, values = f"{path}[{part}]", values[part]
        elif (
            isinstance(part, str)
            and isinstance(values, dict)
            and (part in values or (missing and number == len(parts) - 1))
        ):
            path, values = f"{path}.{part}" if path else part, values.get(part)
    return path[:200] or "body"


def _check_size(values: Any) -> None:
    """Refuses what is nested too deeply or holds too many values, without recursion."""
    seen, stack = 0, [(values, 1)]
    while stack:
        value, depth = stack.pop()
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        seen += 1 + len(inner)
        if depth > MAX_DEPTH:
            raise Problem(400, f"the body is nested more than {MAX_DEPTH} deep", code="invalid_json")
        if seen > MAX_VALUES:
            raise Problem(400, f"the body holds more than {MAX_VALUES} values", code="invalid_json")
        stack += [(v, depth + 1) for v in inner if isinstance(v, dict | list)]


def _short(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 120 else text[:117] + "..."
