"""JSON Schema as far as generated text can be held to it (draft 2020-12); what is beyond is refused by name.

The grammar compiler ignores keywords that it does not know, and some that it knows it gets wrong; nothing may be
ignored here. So a schema is read twice: `compilable` walks it, checks each keyword, and writes a new one of those that
are known to hold. Annotations are left out of it, formats become patterns, exclusive bounds become inclusive ones.
"""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import Any
from urllib.parse import quote, unquote

from glassgpt.core.errors import ConfigError, nearest
from glassgpt.core.words import Sentence
from glassgpt.engine.patterns import FORMATS, check_pattern, portable

Node = dict[str, Any] | bool

MAX_TEXT = 100_000  # characters of the schema as JSON
MAX_DEPTH = 40
MAX_VALUES = 20_000  # objects, lists and values in it
MAX_NUMBER = 2**53  # beyond it the compiler's floats skip whole numbers
MAX_STRING = 1_000_000  # minLength and maxLength
# Over a whole schema; each was measured to keep compiling below a second or two.
MAX_ITEMS = 20_000  # minItems and maxItems together
MAX_MULTIPLE = 10_000  # the digits of multipleOf together; 1,000,003 takes nine seconds
MAX_NAME_PATTERNS = 10  # in patternProperties; each pair of them is compared
MAX_PATTERNS = 20_000  # patterns, in `check_pattern`'s measure
MAX_JOINED = 2  # patterns that may have to hold together with others: the work grows exponentially with them

TYPES = ("null", "boolean", "number", "integer", "string", "array", "object")
ANNOTATIONS = frozenset(
    [
        *("$schema", "$comment", "title", "description", "default", "examples"),
        *("deprecated", "readOnly", "writeOnly"),
    ]
)
ONE, LIST = ("items", "additionalProperties"), ("anyOf", "oneOf", "allOf", "prefixItems")
MAPS = ("properties", "patternProperties", "$defs", "definitions")
COUNTS = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
SUPPORTED = (
    *("type", "const", "enum", "required", "multipleOf", "pattern", "format", "$ref"),
    *(*ONE, *LIST, *MAPS, *COUNTS, *BOUNDS),
)


def compilable(schema: Node) -> Node:
    """The schema with only what the grammar compiler does rightly. The order of properties is kept: they are written
    in that order.

    Raises:
        ConfigError: an unsupported keyword (named, with its place), a value that does not fit its keyword, a
            schema above the limits, or one that no finite value can satisfy.
    """
    text = as_text(schema)
    if len(text) > MAX_TEXT:
        raise _too_large(Sentence("characters"), len(text), MAX_TEXT)
    walk = _Walk()
    root = walk.node(schema, "#")
    walk.check_references()
    walk.check_ends()
    return root


def literals(schema: Node) -> list[str]:
    """The texts that values of a schema from `compilable` are made of: names of properties and constants."""
    found: list[str] = []

    def visit(node: Any) -> None:
        if not isinstance(node, dict):
            return
        found.extend([*node.get("properties", ()), *node.get("required", ())])
        constants = [*node.get("enum", ()), *([node["const"]] if "const" in node else [])]
        found.extend(json.dumps(c, ensure_ascii=False) for c in constants)
        for key in ONE:
            visit(node.get(key))
        for key in LIST:
            for child in node.get(key, ()):
                visit(child)
        for key in MAPS:
            for child in node.get(key, {}).values():
                visit(child)

    visit(schema)
    return found


def as_text(value: Any) -> str:
    """`value` as JSON, for a key or a limit. Checks depth and size before it recurses.

    Raises:
        ConfigError: too deep or too large, or not JSON (a set, NaN, half of a surrogate pair...).
    """
    level, depth, count = [value], 0, 0
    while level:
        depth, count = depth + 1, count + len(level)
        if depth > MAX_DEPTH:
            raise _too_large(Sentence("levels"), depth, MAX_DEPTH)
        if count > MAX_VALUES:
            raise _too_large(Sentence("values"), count, MAX_VALUES)
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below += item.values()
            elif isinstance(item, list | tuple):
                below += item
        level = below
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        text.encode()
    except (TypeError, ValueError) as error:
        raise ConfigError("the JSON schema is not JSON: {why}", why=str(error)[:120]) from error
    return text


class _Walk:
    """One walk over one schema: what was found where, and how much of each limit is spent."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}  # by JSON pointer, as rewritten
        self.references: dict[str, str] = {}  # where a $ref stands: the pointer that it names
        self.users: dict[str, list[str]] = {}  # a pointer: those whose values may need one of its values
        self.items = self.patterns = self.multiples = self.joined = self.names = 0
        self.multiple = Decimal(1)
        self.old = False  # an older draft, in which prefixItems means nothing

    def node(self, schema: Any, where: str) -> Node:
        """The rewritten schema at the pointer `where`."""
        if isinstance(schema, bool):
            self.nodes[where] = schema
            return schema
        if not isinstance(schema, dict):
            raise _unfit(Sentence("a schema"), where, schema, Sentence("an object, true or false"))
        if where == "#":
            self.old = any(draft in str(schema.get("$schema", "")) for draft in ("draft-0", "2019-09"))
        out: dict[str, Any] = {}
        for key, value in schema.items():
            if key in ANNOTATIONS or (key == "$id" and where == "#") or (key == "uniqueItems" and value is False):
                continue
            if str(key).startswith("x-") and key != "x-guidance":  # that one would steer the compiler
                continue
            self._keyword(out, key, value, where)
        self._bounds(out)
        self._format(out)
        self._joined(out, where)
        self._properties(out, where)
        self.nodes[where] = out
        return out

    def _keyword(self, out: dict[str, Any], key: str, value: Any, where: str) -> None:
        place = f"{where}/{_escaped(str(key))}"
        if key not in SUPPORTED or (key == "prefixItems" and self.old) or (key == "items" and isinstance(value, list)):
            raise _unsupported(str(key), where)
        if key in ONE:
            out[key] = self._child(value, place, where)
        elif key in LIST:
            if not isinstance(value, list) or not value:
                raise _unfit(key, where, value, Sentence("a list of schemas"))
            out[key] = [self._child(child, f"{place}/{i}", where) for i, child in enumerate(value)]
        elif key in MAPS:
            if not isinstance(value, dict):
                raise _unfit(key, where, value, Sentence("an object of schemas"))
            if key == "patternProperties":
                self.names += len(value)
                if self.names > MAX_NAME_PATTERNS:
                    raise _too_large(Sentence("patterns in patternProperties"), self.names, MAX_NAME_PATTERNS)
                for pattern in value:
                    self._pattern(pattern)
            names = {name: portable(name) if key == "patternProperties" else name for name in value}
            out[key] = {names[n]: self._child(child, f"{place}/{_escaped(n)}", where) for n, child in value.items()}
        else:
            out[key] = self._value(key, value, where)

    def _child(self, schema: Any, where: str, parent: str) -> Node:
        self.users.setdefault(where, []).append(parent)
        return self.node(schema, where)

    def _value(self, key: str, value: Any, where: str) -> Any:
        if key == "type":
            given = value if isinstance(value, list) else [value]
            if not given or any(t not in TYPES for t in given if isinstance(t, str)) or not _strings(given):
                raise _unfit(key, where, value, Sentence("one or several of {known}", known=", ".join(TYPES)))
            return list(dict.fromkeys(given)) if isinstance(value, list) else value
        if key in COUNTS:
            limit = MAX_STRING if key.endswith("Length") else MAX_ITEMS
            if not _whole(value) or not 0 <= value <= limit:
                raise _unfit(key, where, value, Sentence("a whole number from 0 to {limit}", limit=limit))
            self.items += int(value) if key.endswith("Items") else 0
            if self.items > MAX_ITEMS:
                raise _too_large(Sentence("minItems and maxItems together"), self.items, MAX_ITEMS)
            return int(value)
        if key in BOUNDS or key == "multipleOf":
            self._number(key, value, where)
            return self._multiple(value, where) if key == "multipleOf" else value
        if key == "required":
            if not isinstance(value, list) or not _strings(value):
                raise _unfit(key, where, value, Sentence("a list of names"))
        elif key == "enum" and (not isinstance(value, list) or not value):
            raise _unfit(key, where, value, Sentence("a list of values"))
        elif key == "pattern":
            self._pattern(value)
            return portable(value)
        elif key == "format" and value not in FORMATS:
            raise _unfit(key, where, value, Sentence("one or several of {known}", known=", ".join(FORMATS)))
        elif key == "$ref":
            return self._reference(value, where)
        if key in ("const", "enum"):
            self._constant(key, value, where)
        return value

    def _number(self, key: str, value: Any, where: str) -> None:
        if not _is_number(value) or not math.isfinite(value) or abs(value) > MAX_NUMBER:
            raise _unfit(key, where, value, Sentence("a number from {low} to {high}", low=-MAX_NUMBER, high=MAX_NUMBER))

    def _multiple(self, value: Any, where: str) -> Any:
        """Its automaton has a state for each remainder, and `allOf` multiplies them."""
        exact = Decimal(repr(value))
        if exact <= 0:
            raise _unfit("multipleOf", where, value, Sentence("a number above 0"))
        self.multiples += int("".join(map(str, exact.normalize().as_tuple().digits)))
        a, b = self.multiple.as_integer_ratio(), exact.as_integer_ratio()
        common = math.lcm(a[1], b[1])
        whole = math.lcm(a[0] * (common // a[1]), b[0] * (common // b[1]))
        self.multiple = Decimal(whole) / common
        if (size := max(self.multiples, whole)) > MAX_MULTIPLE:
            raise _too_large(Sentence("the digits of multipleOf together"), size, MAX_MULTIPLE)
        return value

    def _constant(self, key: str, value: Any, where: str) -> None:
        if _is_number(value):
            self._number(key, value, where)
        if isinstance(value, str) and any((ord(c) < 32 and c not in "\b\t\n\f\r") or c == "\x7f" for c in value):
            raise _unfit(key, where, value, Sentence("a text without control characters"))
        for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            self._constant(key, item, where)

    def _pattern(self, value: Any) -> None:
        self.patterns += check_pattern(value, quoted=True)
        if self.patterns > MAX_PATTERNS:
            raise _too_large(Sentence("the patterns together"), self.patterns, MAX_PATTERNS)

    def _reference(self, value: Any, where: str) -> str:
        if not isinstance(value, str) or not (value == "#" or value.startswith("#/")):
            raise _unfit("$ref", where, value, Sentence("a pointer into this schema, such as #/$defs/name"))
        self.references[where] = unquote(value)
        return quote(unquote(value), safe="#/$~!&'()*+,;=:@")

    def _bounds(self, out: dict[str, Any]) -> None:
        """Numbers get bounds where they have none, so that each fits a float and its digits end before the point.
        Exclusive bounds become inclusive ones a little further in: between two bounds that are near each other the
        compiler takes an exclusive bound for an inclusive one."""
        kinds = out.get("type", ())
        if not {"number", "integer", *BOUNDS, "multipleOf"} & {*([kinds] if isinstance(kinds, str) else kinds), *out}:
            return
        for end, sign, tighter in (("inimum", 1, max), ("aximum", -1, min)):
            bounds = [out.get("m" + end, -sign * MAX_NUMBER)]
            if (exclusive := "exclusiveM" + end) in out:
                given = Decimal(repr(out.pop(exclusive)))
                bounds.append(float(given + sign * Decimal(10) ** (len(str(int(abs(given)))) - 15)))
            out["m" + end] = tighter(bounds)

    def _format(self, out: dict[str, Any]) -> None:
        """`format` as a pattern, beside one that is there already."""
        if "format" in out:
            pattern = FORMATS[out.pop("format")]
            if "pattern" in out:
                out["allOf"] = [*out.get("allOf", []), {"pattern": pattern}]
            else:
                out["pattern"] = pattern

    def _joined(self, out: dict[str, Any], where: str) -> None:
        beside = any(key in out for key in ("$ref", "allOf", "anyOf", "oneOf"))
        self.joined += "pattern" in out and (beside or "/allOf/" in where)
        if self.joined > MAX_JOINED:
            raise _too_large(Sentence("patterns beside or inside allOf, anyOf, oneOf or $ref"), self.joined, MAX_JOINED)

    def _properties(self, out: dict[str, Any], where: str) -> None:
        """A name may be written twice, and counts once: a minimum above 1 only holds if `required` reaches it."""
        least, names = out.get("minProperties", 0), set(out.get("required", ()))
        if least and least <= len(names):
            del out["minProperties"]
        elif least > 1:
            raise _unsupported("minProperties > 1", where)

    def check_references(self) -> None:
        """Each $ref names a schema that was walked: nothing comes in unchecked."""
        for where, pointer in self.references.items():
            if pointer not in self.nodes:
                raise ConfigError(
                    "the JSON schema refers at {where} to {pointer}, which is not a schema in it",
                    where=_short(where),
                    pointer=_short(pointer),
                )
            self.users.setdefault(pointer, []).append(where)

    def check_ends(self) -> None:
        """Each schema has a value that ends: none needs itself again and again."""
        ends: set[str] = set()
        todo = list(reversed(self.nodes))  # the innermost come first
        while todo:
            pointer = todo.pop()
            if pointer not in ends and self._ends(self.nodes[pointer], pointer, ends):
                ends.add(pointer)
                todo += self.users.get(pointer, [])
        if endless := [pointer for pointer in self.nodes if pointer not in ends]:
            raise ConfigError(
                "no value satisfies the JSON schema at {where}: it would contain itself without end",
                hint="Make one of the properties or items on the way optional.",
                where=_short(min(endless, key=len)),
            )

    def _ends(self, node: Node, where: str, ends: set[str]) -> bool:
        if isinstance(node, bool):
            return True
        if where in self.references and self.references[where] not in ends:
            return False
        own = {
            key: [p for i in range(len(node.get(key, ()))) if (p := f"{where}/{key}/{i}") in self.nodes] for key in LIST
        }
        if not ends.issuperset(own["allOf"]):  # not all of node["allOf"]: `_format` adds to it
            return False
        if any(own[key] and ends.isdisjoint(own[key]) for key in ("anyOf", "oneOf")):
            return False
        if "const" in node or "enum" in node:
            return True
        types = node.get("type", TYPES)
        return any(self._type_ends(kind, node, where, ends) for kind in ([types] if isinstance(types, str) else types))

    def _type_ends(self, kind: str, node: dict[str, Any], where: str, ends: set[str]) -> bool:
        def child(key: str, name: str, rest: str) -> bool:
            own = f"{where}/{key}/{_escaped(name)}"
            return own in ends if own in self.nodes else rest not in node or f"{where}/{rest}" in ends

        if kind == "object":
            return all(child("properties", name, "additionalProperties") for name in node.get("required", ()))
        if kind == "array":
            different = min(node.get("minItems", 0), len(node.get("prefixItems", ())) + 1)
            return all(child("prefixItems", str(i), "items") for i in range(different))
        return True


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _short(text: object) -> str:
    shown = str(text)
    return shown if len(shown) <= 80 else shown[:77] + "..."


def _strings(values: list[Any]) -> bool:
    return all(isinstance(v, str) for v in values)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _whole(value: Any) -> bool:
    return _is_number(value) and math.isfinite(value) and value == int(value)


def _unsupported(keyword: str, where: str) -> ConfigError:
    near = nearest(keyword, list(SUPPORTED)) if keyword not in SUPPORTED else ""
    return ConfigError(
        "the JSON schema uses {keyword} at {where}, which is not supported",
        hint="Did you mean {near!r}?" if near else "Leave it out, or say it with these: {known}.",
        keyword=_short(keyword),
        where=_short(where),
        near=near,
        known=", ".join(SUPPORTED),
    )


def _unfit(keyword: str | Sentence, where: str, value: Any, expected: Sentence) -> ConfigError:
    return ConfigError(
        "{keyword} at {where} in the JSON schema is {value}; expected {expected}",
        keyword=keyword,
        where=_short(where),
        value=_short(repr(value)),
        expected=expected,
    )


def _too_large(what: Sentence, size: int, limit: int) -> ConfigError:
    return ConfigError(
        "the JSON schema is too large: {what}: {size}, at most {limit}",
        hint="Make it simpler.",
        what=what,
        size=size,
        limit=limit,
    )
