"""JSON schemas for the tests of constrained output, and oracles that share no code with it."""

from __future__ import annotations

import datetime
import decimal
import ipaddress
import json
import re
import uuid
from typing import Any
from urllib.parse import urlsplit

import jsonschema

# Exact arithmetic on numbers of any length that a random walk can write.
EXACT = decimal.Context(prec=4000, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN)

_STR, _INT, _NUM, _BOOL, _NULL = ({"type": t} for t in ("string", "integer", "number", "boolean", "null"))


def obj(required: str = "", **properties: Any) -> dict[str, Any]:
    """A closed object of these properties; `required` names some of them."""
    return {
        "type": "object",
        "properties": properties,
        "required": required.split(),
        "additionalProperties": False,
    }


def array(items: Any, **more: Any) -> dict[str, Any]:
    return {"type": "array", "items": items, **more}


def texts(**more: Any) -> dict[str, Any]:
    return {"type": "string", **more}


_TREE = {"$defs": {"node": obj("value", value=_INT, left={"$ref": "#/$defs/node"}, right={"$ref": "#/$defs/node"})}}
_LIST = {"$defs": {"l": {"anyOf": [_NULL, obj("head tail", head=_INT, tail={"$ref": "#/$defs/l"})]}}}
_PERSON = obj("name age", name=texts(maxLength=20), age={"type": "integer", "minimum": 0, "maximum": 130})

SCHEMAS: list[Any] = [
    # types
    *({"type": t} for t in ("null", "boolean", "integer", "number", "string", "array", "object")),
    *(
        {"type": t}
        for t in (["string", "null"], ["integer", "boolean"], ["array", "null"], ["object", "string", "null"])
    ),
    True,
    {},
    # const and enum
    *({"const": c} for c in (None, True, False, 0, -7, 1.5, "", "a b", "你好", 'say "hi"\n\\', [], [1, "a", None], {})),
    {"const": {"a": [1, {"b": "c"}], "名字": None}},
    *({"enum": e} for e in (["a", "ab", "abc"], [1, 2, 30], ["红", "绿", "蓝"], [None, True, 3, "x", [1], {"k": 2}])),
    {"enum": [0.1, 1e-7, 2.5e10, -3]},
    {"type": "string", "enum": ["1", "2", 3]},
    {"type": "integer", "enum": [1, "1", 2.5, 4]},
    {"enum": ["a\tb", "c/d", "é", "😀", "a\bb", "<tag>"]},
    # whole numbers
    {"type": "integer", "minimum": 0},
    {"type": "integer", "maximum": -1},
    {"type": "integer", "minimum": -5, "maximum": 5},
    {"type": "integer", "minimum": 97, "maximum": 1234},
    {"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 2},
    {"type": "integer", "exclusiveMinimum": -10.5, "maximum": 10.5},
    {"type": "integer", "minimum": 2**52, "maximum": 2**53},
    *({"type": "integer", "multipleOf": m} for m in (1, 2, 3, 7, 10, 25, 100, 997)),
    {"type": "integer", "multipleOf": 5, "minimum": 11, "maximum": 99},
    {"type": "integer", "multipleOf": 0.5, "minimum": -3, "maximum": 3},
    # numbers
    {"type": "number", "minimum": 0, "maximum": 1},
    {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
    {"type": "number", "exclusiveMinimum": 1, "exclusiveMaximum": 1.0001},
    {"type": "number", "exclusiveMinimum": -0.5, "exclusiveMaximum": 0},
    {"type": "number", "exclusiveMinimum": 2, "maximum": 2.6},
    {"type": "number", "exclusiveMinimum": -10.175, "exclusiveMaximum": -10},
    {"type": "number", "minimum": -273.15},
    {"type": "number", "maximum": -0.001},
    {"type": "number", "minimum": 1e-7, "maximum": 1e-6},
    {"type": "number", "minimum": 3.25, "exclusiveMinimum": 3, "maximum": 4, "exclusiveMaximum": 4},
    *({"type": "number", "multipleOf": m} for m in (0.01, 0.1, 0.25, 1.5, 3)),
    {"type": "number", "multipleOf": 0.1, "exclusiveMinimum": 0, "maximum": 0.5},
    {"type": "number", "multipleOf": 0.01, "minimum": -1, "maximum": 1},
    # strings
    *(texts(**s) for s in ({"minLength": 1}, {"maxLength": 0}, {"maxLength": 3}, {"minLength": 5, "maxLength": 9})),
    texts(minLength=200, maxLength=210),
    *(
        texts(pattern=p)
        for p in (
            *(r"^[A-Z]{2}\d{4}$", r"^\d{3}-\d{3,4}$", r"ab+c", r"^(foo|bar|baz)+$", r"^a|b$", r"^x", r"y$", r"^$"),
            *(
                r"^[^a-z]{1,5}$",
                r"^\w+\s\w+$",
                r"^[\u4e00-\u9fff]{2,4}$",
                r"^1[3-9]\d{9}$",
                r"^\S+$",
                r"^.{2}$",
                r"^a*?b$",
            ),
            *(
                r"^\$\d+\.\d\d$",
                r"^[\w.-]+/[\w.-]+$",
                r"^\D\W$",
                r"[\"\\]",
                r"^(?:a(?:b|c){2}){1,2}$",
                r"^(?<y>20\d\d)?$",
            ),
            *(
                r'^[^"]{1,3}$',
                r'^[^"\\]+$',
                r"^[^\\]{2}$",
                r"^[\x20-\x7f]{3}$",
                r"^[^\s,]+$",
                r"^\S[^\S]\S$",
                r"^[\x00-\x7f]{2}$",
            ),
        )
    ),
    texts(pattern="^[a-z]*$", minLength=3, maxLength=6),
    texts(pattern="b", maxLength=4),
    *(
        texts(format=f)
        for f in ("date", "time", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri")
    ),
    texts(format="date", pattern="^2024-02"),
    texts(format="email", pattern=r"@example\.com$"),
    texts(format="ipv4", maxLength=8),
    {"format": "uuid"},
    {"type": ["string", "null"], "format": "date", "pattern": "-29$"},
    # arrays
    array(_INT),
    array(_STR, minItems=2, maxItems=4),
    array(_BOOL, minItems=3),
    array(_NULL, maxItems=0),
    array(_NULL, maxItems=5),
    array(array(array(_INT, maxItems=2), maxItems=2), maxItems=2),
    array(_PERSON, minItems=1, maxItems=2),
    array(False),
    array(True, maxItems=3),
    {"type": "array", "prefixItems": [_INT, _STR, _BOOL]},
    {"type": "array", "prefixItems": [_INT, _STR], "items": False, "minItems": 2},
    {"type": "array", "prefixItems": [_INT, _STR], "items": _NULL, "minItems": 1, "maxItems": 4},
    {"type": "array", "prefixItems": [{"const": "x"}, _NUM, _NUM], "items": False, "minItems": 3},
    {"type": "array", "prefixItems": [True, False]},
    {"prefixItems": [_INT], "minItems": 1},
    {"type": "array", "minItems": 2, "maxItems": 2, "uniqueItems": False},
    # objects
    _PERSON,
    obj(),
    obj("a", a=_INT, b=_STR),
    obj("b d", a=_INT, b=_STR, c=_BOOL, d=_NULL, e=_NUM),
    obj("姓名 年龄", 姓名=texts(minLength=1, maxLength=4), 年龄=_INT, 城市={"enum": ["北京", "上海"]}),
    {"type": "object", "properties": {"a": _INT}},
    {"type": "object", "properties": {"a": _INT}, "required": ["a", "b"]},
    {"type": "object", "properties": {"a/b": _INT, "c~d": _INT, 'e"f': _INT, "g\nh": _INT, "": _NULL}},
    {
        "type": "object",
        "properties": {"a/b": _INT, 'e"f': _INT},
        "required": ["a/b", 'e"f'],
        "additionalProperties": False,
    },
    {"type": "object", "additionalProperties": _INT},
    {"type": "object", "properties": {"x": _STR}, "additionalProperties": _BOOL},
    {"type": "object", "required": ["a", "b"], "additionalProperties": _INT},
    {"type": "object", "patternProperties": {"^n_": _INT, "^s_": _STR}, "additionalProperties": False},
    {"type": "object", "patternProperties": {"^x-": True}, "properties": {"y": _INT}, "additionalProperties": _NULL},
    {"type": "object", "properties": {"n_one": _NUM}, "patternProperties": {"^n_": {"minimum": 3}}},
    {"type": "object", "properties": {"a": False, "b": _INT}},
    {"type": "object", "maxProperties": 2},
    {"type": "object", "minProperties": 1},
    {"type": "object", "minProperties": 1, "maxProperties": 3, "additionalProperties": _INT},
    {"type": "object", "properties": {"a": _INT, "b": _INT}, "required": ["a", "b"], "minProperties": 2},
    obj("list map", list=array(obj("k", k=_STR), maxItems=2), map={"type": "object", "additionalProperties": _NUM}),
    obj("a", a=obj("b", b=obj("c", c=obj("d", d=array(_INT, maxItems=2))))),
    {"properties": {"a": _INT}, "required": ["a"]},
    {"required": ["only"]},
    # combinations
    {"anyOf": [_INT, _STR]},
    {"anyOf": [texts(maxLength=2), texts(pattern="^zz")]},
    {"anyOf": [obj("a", a=_INT), obj("b", b=_STR)]},
    {"type": "object", "anyOf": [{"required": ["a"]}, {"required": ["b"]}], "properties": {"a": _INT, "b": _INT}},
    {"type": "integer", "anyOf": [{"minimum": 10}, {"maximum": -10}]},
    {"anyOf": [False, _BOOL]},
    {"oneOf": [_INT, _STR, _NULL]},
    {"oneOf": [{"const": "a"}, {"const": "b"}]},
    {"oneOf": [obj("kind r", kind={"const": "circle"}, r=_NUM), obj("kind w", kind={"const": "square"}, w=_NUM)]},
    {"oneOf": [array(_INT), obj("a", a=_INT)]},
    {"oneOf": [{"oneOf": [_NULL, _BOOL]}, _STR]},
    {"allOf": [_INT, {"minimum": 3}, {"maximum": 9}]},
    {"allOf": [texts(minLength=2), texts(maxLength=4), {"pattern": "^[abc]"}]},
    {"allOf": [{"multipleOf": 4}, {"multipleOf": 6}, _INT]},
    {"allOf": [{"properties": {"a": _INT}, "required": ["a"]}, {"properties": {"b": _STR}, "required": ["b"]}]},
    {"allOf": [{"anyOf": [_INT, _STR]}, {"anyOf": [_STR, _NULL]}]},
    {"allOf": [{"enum": [1, 2, 3]}, {"enum": [2, 3, 4]}]},
    {"allOf": [{"properties": {"a": {"minimum": 5}}}, {"properties": {"a": {"maximum": 7}}}], **obj("a", a=_INT)},
    {"allOf": [{"minItems": 1}, {"maxItems": 2}, array(_INT)]},
    {"allOf": [{"prefixItems": [_INT]}, {"items": {"type": ["integer", "string"]}, "minItems": 2}], "type": "array"},
    {"allOf": [{"exclusiveMinimum": 1}, {"exclusiveMaximum": 1.5}, _NUM]},
    # references
    {"$ref": "#/$defs/p", "$defs": {"p": _PERSON}},
    {"$ref": "#/definitions/p", "definitions": {"p": _PERSON}},
    {"$ref": "#/$defs/人", "$defs": {"人": _PERSON}},
    {"$ref": "#/$defs/%E4%BA%BA", "$defs": {"人": _PERSON}},
    {"$ref": "#/$defs/a~1b~0c", "$defs": {"a/b~c": _INT}},
    {"$ref": "#/$defs/a%20b", "$defs": {"a b": _BOOL}},
    {"$ref": "#/$defs/n", "minimum": 4, "$defs": {"n": {"type": "integer", "maximum": 8}}},
    obj("a b", a=_INT, b={"$ref": "#/properties/a"}),
    {**_TREE, "$ref": "#/$defs/node"},
    {**_LIST, "$ref": "#/$defs/l"},
    {"anyOf": [_NULL, array({"$ref": "#"}, maxItems=2)]},
    {
        "$defs": {"e": {"anyOf": [_INT, {"type": "array", "items": {"$ref": "#/$defs/e"}, "maxItems": 2}]}},
        "$ref": "#/$defs/e",
    },
    {"$defs": {"a": obj("", b={"$ref": "#/$defs/b"}), "b": obj("", a={"$ref": "#/$defs/a"})}, "$ref": "#/$defs/a"},
    {"$defs": {"s": texts(maxLength=3)}, **array({"$ref": "#/$defs/s"}, minItems=1, maxItems=3)},
    {
        "$id": "https://example.com/s",
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$ref": "#/$defs/a",
        "$defs": {"a": _INT},
    },
    # as programs ask for them
    {"title": "T", "description": "d", "default": 1, "examples": [1], "deprecated": True, "x-order": 1, **_INT},
    obj(
        "city days",
        city=texts(minLength=1, maxLength=30),
        days={"type": "integer", "minimum": 1, "maximum": 14},
        unit={"enum": ["c", "f"]},
    ),
    obj(
        "steps answer",
        steps=array(obj("explanation output", explanation=texts(maxLength=40), output=texts(maxLength=40)), maxItems=3),
        answer=texts(maxLength=20),
    ),
    obj("情感 置信度", 情感={"enum": ["正面", "负面", "中性"]}, 置信度={"type": "number", "minimum": 0, "maximum": 1}),
    obj(
        "id when tags",
        id=texts(format="uuid"),
        when=texts(format="date-time"),
        tags=array(texts(pattern="^[a-z]{1,8}$"), maxItems=3),
    ),
    obj(
        "订单",
        订单=array(
            obj(
                "商品 数量 单价",
                商品=texts(maxLength=8),
                数量={"type": "integer", "minimum": 1},
                单价={"type": "number", "multipleOf": 0.01, "minimum": 0},
            ),
            minItems=1,
            maxItems=2,
        ),
    ),
    obj("answer", answer={"anyOf": [texts(maxLength=5), _NULL], "default": None}),
    obj(
        "lat lon",
        lat={"type": "number", "minimum": -90, "maximum": 90},
        lon={"type": "number", "minimum": -180, "maximum": 180},
    ),
    array(
        {"anyOf": [obj("t n", t={"const": "num"}, n=_NUM), obj("t s", t={"const": "str"}, s=texts(maxLength=4))]},
        maxItems=3,
    ),
]


def json_valid(text: str, schema: Any) -> str:
    """Why the JSON `text` is not an instance of `schema`, by jsonschema; "" if it is."""
    with decimal.localcontext(EXACT):
        value = json.loads(text, parse_float=decimal.Decimal, parse_constant=_not_json)
        exact = json.loads(json.dumps(schema), parse_float=decimal.Decimal)
        kind = jsonschema.validators.validator_for(exact, default=jsonschema.Draft202012Validator)
        checked = jsonschema.validators.extend(kind, {"pattern": _pattern, "patternProperties": _pattern_properties})
        error = next(checked(exact, format_checker=FORMATS).iter_errors(value), None)
    return "" if error is None else f"{error.message} for {text}"


def _not_json(name: str) -> None:
    raise ValueError(name)


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Any:
    """JSON Schema's expressions are JavaScript's, in which \\d and \\w are ASCII and groups are named without P."""
    if isinstance(instance, str) and not re.search(pattern.replace("(?<", "(?P<"), instance, re.ASCII):
        yield jsonschema.ValidationError(f"{instance!r} does not match {pattern!r}")


def _pattern_properties(validator: Any, patterns: Any, instance: Any, schema: Any) -> Any:
    for pattern, child in patterns.items():
        for name, value in instance.items() if isinstance(instance, dict) else ():
            if re.search(pattern, name, re.ASCII):
                yield from validator.descend(value, child, path=name, schema_path=pattern)


FORMATS = jsonschema.FormatChecker(formats=())


def _format(name: str) -> Any:
    return FORMATS.checks(name, raises=(ValueError, AssertionError))


@_format("date")
def _date(text: Any) -> bool:
    return not isinstance(text, str) or (len(text) == 10 and bool(datetime.date.fromisoformat(text)))


@_format("time")
def _time(text: Any) -> bool:
    return not isinstance(text, str) or datetime.time.fromisoformat(text).tzinfo is not None


@_format("date-time")
def _date_time(text: Any) -> bool:
    return not isinstance(text, str) or (datetime.datetime.fromisoformat(text).tzinfo is not None and text[10] == "T")


@_format("ipv4")
def _ipv4(text: Any) -> bool:
    return not isinstance(text, str) or bool(ipaddress.IPv4Address(text))


@_format("ipv6")
def _ipv6(text: Any) -> bool:
    return not isinstance(text, str) or ipaddress.IPv6Address(text) is not None


@_format("uuid")
def _uuid(text: Any) -> bool:
    return not isinstance(text, str) or str(uuid.UUID(text)) == text.lower()


@_format("uri")
def _uri(text: Any) -> bool:
    return not isinstance(text, str) or all([urlsplit(text).scheme, urlsplit(text).hostname, urlsplit(text).port != 0])


@_format("email")
def _email(text: Any) -> bool:
    return not isinstance(text, str) or bool(re.fullmatch(r"[^@\s.][^@\s]*(?<!\.)@[^@\s]+\.[^@\s]+", text))


@_format("hostname")
def _hostname(text: Any) -> bool:
    labels = text.split(".") if isinstance(text, str) else []
    return not isinstance(text, str) or all(re.fullmatch(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)", x) for x in labels)


@_format("duration")
def _duration(text: Any) -> bool:
    return not isinstance(text, str) or bool(
        re.fullmatch(r"P(?=[\dT])(\d+W|(\d+Y)?(\d+M)?(\d+D)?(T(?=\d)(\d+H)?(\d+M)?(\d+S)?)?)", text)
    )
