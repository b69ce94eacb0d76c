"""`@tool`: what a function's hints become, and that a text fits the schema exactly when the call accepts it."""

from __future__ import annotations

import enum
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field
from typing_extensions import TypedDict

import glassgpt
from glassgpt.assistant.calling import ToolDescription, calls_format, tools_text
from glassgpt.assistant.tool import MAX_DESCRIPTION, Tool, tool
from glassgpt.core.errors import ConfigError, GlassError, InputError
from glassgpt.engine.json_schema import compilable


class Size(enum.Enum):
    SMALL = "small"
    LARGE = "large"


@dataclass
class Item:
    title: str
    count: int = 1


class Address(TypedDict, total=False):
    city: str
    zip: str | None


@tool
def order(
    item: Item, size: Size, address: Address, prices: dict[str, list[float]], paid: bool, way: Literal["air", "sea", 3],
    note: str | None = None, tags: list[str] = ["new"], weight: int | float = 2,  # noqa: B006
) -> str:  # fmt: skip
    """Orders something.

    It is sent at once.

    Args:
        item: what is
            ordered
        way (str): how it is sent
    Returns:
        a number
    """
    return f"{item.title} {item.count} {size.name} {note} {weight}"


GOOD: dict[str, Any] = {"item": {"title": "tea", "count": 2}, "size": "small", "address": {"city": "上海"},
                        "prices": {"a": [1, 2.5]}, "paid": True, "way": "air"}  # fmt: skip


def test_a_decorated_function_is_called_as_before():
    assert order(Item("tea"), Size.LARGE, {}, {}, True, "air", note="x") == "tea 1 LARGE x 2"
    assert isinstance(order, Tool) and order.__name__ == "order" and order.__doc__.startswith("Orders")  # type: ignore[union-attr]
    assert glassgpt.tool is tool


def test_the_schema_says_types_defaults_and_descriptions():
    schema = order.parameters
    jsonschema.Draft202012Validator.check_schema(schema)
    assert order.description == "Orders something.\n\nIt is sent at once."
    assert schema["required"] == ["item", "size", "address", "prices", "paid", "way"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["way"] == {"description": "how it is sent", "enum": ["air", "sea", 3]}
    assert schema["properties"]["item"]["description"] == "what is ordered"
    assert schema["properties"]["tags"] == {"items": {"type": "string"}, "type": "array", "default": ["new"]}
    assert schema["$defs"]["Item"]["properties"] == {"title": {"type": "string"},
                                                     "count": {"type": "integer", "default": 1}}  # fmt: skip


def test_arguments_become_what_the_hints_say():
    found = order.accept(json.dumps(GOOD))
    assert found["item"] == Item("tea", 2) and found["size"] is Size.SMALL and "note" not in found
    assert order.function(**found) == "tea 2 SMALL None 2"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-2, 2).filter(lambda x: x != int(x))
    | st.sampled_from(["small", "air", "x", ""]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["title", "city", "a"]), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from([*GOOD, "note", "tags", "weight", "other"]), VALUES, max_size=2),
       st.sets(st.sampled_from(list(GOOD)), max_size=1))  # fmt: skip
def test_a_text_is_accepted_exactly_when_it_fits_the_schema(changed, without):
    value = {k: v for k, v in (GOOD | changed).items() if k not in without}
    fits = jsonschema.Draft202012Validator(order.parameters).is_valid(value)
    try:
        order.accept(json.dumps(value))
    except InputError as error:
        assert not fits and "\n" not in str(error)
    else:
        assert fits


def test_a_function_without_parameters_takes_an_empty_object():
    @tool
    def ping() -> str:
        return "pong"

    assert ping.accept("{}") == {} and ping.description == ""
    with pytest.raises(InputError, match="do not fit: x"):
        ping.accept('{"x": 1}')


def test_names_that_pydantic_has_uses_for_are_names_like_others():
    @tool
    def f(model_config: int, schema: str, copy: bool, title: str, _hidden: int = 1) -> None: ...

    value = {"model_config": 1, "schema": "s", "copy": True, "title": "t", "_hidden": 2}
    assert f.accept(json.dumps(value)) == value
    assert set(f.parameters["properties"]) == set(value), "a parameter called title is no annotation"


def test_limits_of_a_value_are_held_to():
    @tool
    def f(age: Annotated[int, Field(ge=0, le=150, description="in years")]) -> None: ...

    assert f.parameters["properties"]["age"] == {"type": "integer", "minimum": 0, "maximum": 150,
                                                 "description": "in years"}  # fmt: skip
    with pytest.raises(InputError, match="age"):
        f.accept('{"age": 151}')


class Other:
    pass


def no_hint(x): ...
def stars(*x: int): ...
def words(**x: int): ...
def positional(x: int, /): ...
def unknown(x: Nowhere): ...  # type: ignore[name-defined]  # noqa: F821
def a_set(x: set[int]): ...
def raw(x: bytes): ...
def keys(x: list[dict[int, str]]): ...
def thing(x: Other): ...
def callback(x: Callable[[], int]): ...


@pytest.mark.parametrize(
    ("function", "why"),
    [(no_hint, "x has no type hint"), (stars, "[*]x"), (words, "[*][*]x"), (positional, "by its name"),
     (unknown, "Nowhere"), (a_set, "uniqueItems"), (raw, "binary"), (keys, "not int"), (thing, "Other"),
     (callback, "Callable"), (print, "[*]args"), (order, "already"), (3, "type hints")],
)  # fmt: skip
def test_what_cannot_be_described_is_refused_when_it_is_decorated(function, why):
    with pytest.raises(InputError, match=why) as caught:
        tool(function)
    assert caught.value.hint() and caught.value.line("zh") != caught.value.line()


@pytest.mark.parametrize(
    "settings",
    [{"name": "two words"}, {"name": "x" * 65}, {"description": "d" * (MAX_DESCRIPTION + 1)}, {"timeout_s": 0},
     {"timeout_s": float("nan")}, {"timeout_s": 1e9}, {"timeout_s": True}],
)  # fmt: skip
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ConfigError):
        tool(**settings)(lambda: None)


def test_the_decorator_takes_arguments():
    @tool(name="find-it", description="Finds.", timeout_s=3)
    def f(x: int) -> int:
        """Not this."""
        return x

    assert (f.name, f.description, f.timeout_s, f(4)) == ("find-it", "Finds.", 3, 4)


def test_a_call_of_several_functions_keeps_what_each_schema_refers_to():
    @tool
    def other(size: Size) -> None: ...

    for functions, choice in (([order], "auto"), ([order, other], "required"), ([order, other], "other")):
        schema = calls_format(functions, choice).schema
        assert compilable(schema)  # type: ignore[arg-type]
        check = jsonschema.Draft202012Validator(schema)
        if choice != "other":
            assert check.is_valid({"name": "order", "arguments": GOOD})
            assert not check.is_valid({"name": "order", "arguments": GOOD | {"size": "medium"}})
        assert check.is_valid({"name": "other", "arguments": {"size": "large"}}) == (len(functions) == 2)
    with pytest.raises(ConfigError, match="no function is called 'odrer'") as caught:
        calls_format([order, other], "odrer")
    assert "'order'" in caught.value.hint()


def test_a_model_is_told_name_description_and_schema():
    text = tools_text([order, ToolDescription("f", "天气")])
    lines = [json.loads(line)["function"] for line in text.splitlines() if line.startswith('{"type"')]
    assert [f["name"] for f in lines] == ["order", "f"] and lines[0]["parameters"] == order.parameters
    assert "天气" in text


def test_nothing_is_raised_but_errors_of_the_house():
    for text in ["", "{", "[]", "null", '{"item": 1e999}', "{" * 5000, '{"a":' * 5000, "\ud800", '{"x": NaN}']:
        with pytest.raises(GlassError):
            order.accept(text)
