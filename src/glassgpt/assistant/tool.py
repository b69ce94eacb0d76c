"""`@tool`: a Python function with type hints becomes one that the assistant may call.

pydantic reads the hints: the JSON schema that a model is held to and the check of what it wrote come from one place,
so they cannot disagree. What no text can be held to is refused when the function is decorated, not when it is called.
"""

from __future__ import annotations

import inspect
import math
import re
import typing
from collections.abc import Callable
from dataclasses import dataclass
from functools import WRAPPER_ASSIGNMENTS
from typing import Annotated, Any, Generic, NotRequired, ParamSpec, Required, TypeVar, get_args, get_origin, overload

from glassgpt.assistant.calling import ToolDescription
from glassgpt.core.errors import ConfigError, GlassError, InputError
from glassgpt.core.words import Sentence
from glassgpt.engine.json_schema import compilable

MAX_PARAMETERS = 32
MAX_DESCRIPTION = 2_000  # characters; a model reads all of it before each answer
MAX_TIMEOUT = 600.0  # s
TIMEOUT_S = 10.0
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_SECTION = re.compile(r"^(Args|Arguments|Parameters|Returns?|Raises|Yields?|Examples?|Notes?|参数|返回|异常)[:：]\s*$")
_PARAMETER = re.compile(r"^ {1,8}\*{0,2}(\w+)(?: *\([^)]*\))? *[:：] *(.*)$")

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, repr=False, eq=False)
class Tool(ToolDescription, Generic[P, R]):
    """A function that can be called by a model and, as before, by Python.

    Attributes:
        function: what is run; it may be an `async` one.
        timeout_s: how long a call may take, in seconds.
        accept: JSON text to the function's keyword arguments; raises GlassError where it does not fit `parameters`.
        spot: a message of the user's to arguments, where it plainly asks for this tool; else None. A small model need
            not find that out.

    Raises:
        ConfigError: a name, a description or a time that cannot be used, or a schema that text cannot be held to.
    """

    function: Callable[P, R] = None  # type: ignore[assignment]
    timeout_s: float = TIMEOUT_S
    accept: Callable[[str], dict[str, Any]] = None  # type: ignore[assignment]
    spot: Callable[[str], dict[str, Any] | None] | None = None
    __eq__ = object.__eq__  # as functions: only itself is the same
    __hash__ = object.__hash__

    def __post_init__(self) -> None:
        if not callable(self.function) or not callable(self.accept):
            raise ConfigError("the tool {name} has nothing to run", hint="Make it with @tool.", name=repr(self.name))
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise ConfigError(
                "the tool's name is {name}; expected 1 to 64 letters, digits, _ and - of ASCII",
                hint="Give it another with `@tool(name=...)`.",
                name=repr(self.name)[:80],
            )
        if not isinstance(self.description, str) or len(self.description) > MAX_DESCRIPTION:
            raise ConfigError(
                "the description of the tool {name} has {count} characters; at most {limit} are allowed",
                hint="Say in a sentence or two what it does and when it is of use.",
                name=self.name,
                count=len(str(self.description)),
                limit=MAX_DESCRIPTION,
            )
        time = self.timeout_s
        if isinstance(time, bool) or not isinstance(time, int | float) or not 0 < time <= MAX_TIMEOUT:
            raise ConfigError(
                "the time limit of the tool {name} is {value}; expected seconds above 0, at most {limit:g}",
                name=self.name,
                value=repr(time)[:40],
                limit=MAX_TIMEOUT,
            )
        compilable(self.parameters)
        for part in WRAPPER_ASSIGNMENTS:  # it looks like the function that it is
            if hasattr(self.function, part):
                object.__setattr__(self, part, getattr(self.function, part))
        object.__setattr__(self, "__wrapped__", self.function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The function itself, without a time limit."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"Tool({self.name!r})"


@overload
def tool(function: Callable[P, R], /) -> Tool[P, R]: ...


@overload
def tool(
    *, name: str | None = None, description: str | None = None, timeout_s: float = TIMEOUT_S
) -> Callable[[Callable[P, R]], Tool[P, R]]: ...


def tool(
    function: Callable[..., Any] | None = None, /, *, name: str | None = None, description: str | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Any:  # fmt: skip
    """Makes a function one that the assistant may call: `@tool`, or `@tool(timeout_s=3)`.

    Args:
        function: with a type hint for each parameter: str, int, float, bool, list, dict[str, ...], Literal, an Enum,
            a dataclass, a TypedDict, unions of these, and what else pydantic can describe.
        name: what the model calls it; the function's own name unless given.
        description: what the model is told of it; otherwise its docstring. The docstring's lines on single parameters
            (after "Args:") become theirs.
        timeout_s: how long a call may take, in seconds.

    Raises:
        InputError: the function cannot be described: a parameter without a type hint, *args, a type that JSON has not.
        ConfigError: a name, a description or a time that cannot be used.
    """
    if function is None:
        return lambda it: tool_of(it, name, description, timeout_s)
    return tool_of(function, name, description, timeout_s)


def tool_of(
    function: Callable[P, R], name: str | None = None, description: str | None = None, timeout_s: float = TIMEOUT_S
) -> Tool[P, R]:
    """As `tool`, without the decorator."""
    if isinstance(function, Tool):
        raise InputError("{name} is a tool already", hint="Decorate it once.", name=function.name)
    called = name or getattr(function, "__name__", "") or "function"
    about, of_parameters = _docstring(function)
    adapter = _adapter(called, _fields(called, function, of_parameters))
    parameters = _schema(called, adapter, function)

    def accept(arguments: str) -> dict[str, Any]:
        from pydantic import ValidationError

        try:
            return adapter.validate_json(arguments)
        except ValidationError as error:
            raise unfit(called, error.errors(include_url=False, include_context=False)) from None

    shown = about if description is None else description
    return Tool(called, shown, parameters, function, timeout_s, accept)


def unfit(name: str, errors: list[Any]) -> InputError:
    """Arguments that do not fit, from pydantic's list of what is wrong; the first is told."""
    first = errors[0]
    where = ".".join(map(str, first["loc"]))[:100]
    what = f"{where}: {first['msg']}" if where else first["msg"]
    return wrong_arguments(name, what, len(errors) - 1)


def wrong_arguments(name: str, what: str, others: int = 0) -> InputError:
    """Arguments that do not fit a tool's schema."""
    return InputError(
        "the arguments of {name} do not fit: {what} (and {others} more)"
        if others
        else "the arguments of {name} do not fit: {what}",
        hint="Give a JSON object that matches the tool's parameters.",
        name=name,
        what=what if len(what) <= 200 else what[:197] + "...",
        others=others,
    )


def _fields(called: str, function: Callable[..., Any], told: dict[str, str]) -> dict[str, Any]:
    """Each parameter's type as a field of a TypedDict."""
    from pydantic import Field

    try:
        signature = inspect.signature(function)
        hints = typing.get_type_hints(function, include_extras=True)
    except (TypeError, ValueError, NameError, AttributeError) as error:
        raise _indescribable(called, Sentence("its type hints cannot be read ({why})", why=str(error)[:120])) from None
    if len(signature.parameters) > MAX_PARAMETERS:
        raise _indescribable(called, Sentence("it has more than {limit} parameters", limit=MAX_PARAMETERS))
    fields: dict[str, Any] = {}
    for name, parameter in signature.parameters.items():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise _indescribable(called, Sentence("{name} cannot be given by its name", name=str(parameter)))
        if name not in hints:
            raise _indescribable(called, Sentence("the parameter {name} has no type hint", name=name))
        kind = hints[name]
        if key := _odd_key(kind):
            raise _indescribable(called, Sentence("the names in a JSON object are texts, not {kind}", kind=key))
        if name in told:
            kind = Annotated[kind, Field(description=told[name])]
        optional = parameter.default is not parameter.empty
        fields[name] = NotRequired[kind] if optional else Required[kind]
    return fields


def _adapter(called: str, fields: dict[str, Any]) -> Any:
    """pydantic's reader of the arguments: exactly these, of exactly these types."""
    from pydantic import ConfigDict, TypeAdapter
    from pydantic.errors import PydanticUserError
    from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

    make: Any = TypedDict
    arguments = make("Arguments", fields)
    arguments.__pydantic_config__ = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    try:
        return TypeAdapter(arguments)
    except (PydanticUserError, TypeError, NameError) as error:
        raise _indescribable(called, _first(error)) from None


def _schema(called: str, adapter: Any, function: Callable[..., Any]) -> dict[str, Any]:
    """The JSON schema of the arguments, with the defaults and without what tells a model nothing."""
    from pydantic.errors import PydanticUserError
    from pydantic_core import to_jsonable_python

    try:
        schema = _without_titles(adapter.json_schema())
        compilable(schema)
    except PydanticUserError as error:
        raise _indescribable(called, _first(error)) from None
    except ConfigError as error:
        raise _indescribable(called, error.sentence()) from None
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.default is parameter.empty or parameter.default is None:
            continue
        try:
            default = to_jsonable_python(parameter.default)
        except ValueError:  # it is Python's own affair
            continue
        if not isinstance(default, float) or math.isfinite(default):
            schema["properties"][name] |= {"default": default}
    return schema


def _without_titles(node: Any, names: bool = False) -> Any:
    """A schema without "title", which repeats the name; `names`: the keys of `node` are names, not keywords."""
    if isinstance(node, list):
        return [_without_titles(part) for part in node]
    if not isinstance(node, dict):
        return node
    return {
        key: value if not names and key in ("const", "enum", "default", "examples")
        else _without_titles(value, not names and key in ("properties", "$defs"))
        for key, value in node.items() if names or key != "title"
    }  # fmt: skip


def _odd_key(kind: Any) -> str:
    """The type of a dict's keys, in a hint or inside it, where it is none that JSON has; "" where all is well."""
    inner = get_args(kind)
    if get_origin(kind) is dict and inner[0] is not str and get_origin(inner[0]) is not typing.Literal:
        return getattr(inner[0], "__name__", str(inner[0]))
    return next((found for part in inner if (found := _odd_key(part))), "")


def _docstring(function: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """What a docstring says of the function, and of each parameter."""
    about: list[str] = []
    parameters: dict[str, str] = {}
    section, last = "", ""
    for line in (inspect.getdoc(function) or "").splitlines():
        if found := _SECTION.match(line):
            section, last = found[1], ""
        elif not section:
            about.append(line)
        elif section in ("Args", "Arguments", "Parameters", "参数"):
            if (found := _PARAMETER.match(line)) and len(line) - len(line.lstrip()) <= 4:
                last = found[1]
                parameters[last] = found[2].strip()
            elif last and line.strip():
                parameters[last] += f" {line.strip()}"
    return "\n".join(about).strip(), parameters


def _first(error: Exception) -> str:
    """The first line of pydantic's complaint."""
    return str(error).strip().splitlines()[0][:200].rstrip(". ")


def _indescribable(name: str, why: Sentence | str) -> GlassError:
    return InputError(
        "the function {name} cannot be a tool: {why}",
        hint="Give each parameter a type that JSON has: str, int, float, bool, list, dict[str, ...], Literal, an Enum,"
        " a dataclass.",
        name=name,
        why=why,
    )
