"""Constrained output: whatever is chosen among the allowed tokens, an independent validator accepts the text."""

from __future__ import annotations

import json
import random
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from schemas import SCHEMAS, json_valid

from glassgpt.core.errors import ConfigError, GlassError, InputError
from glassgpt.engine.constrain import Constraint, Grammars, OutputFormat
from glassgpt.formats.place import read_tokenizer
from glassgpt.text.bpe import train_bpe, train_characters

TEXT = 'hello world 你好 {"a": 1, "name": true} 红绿蓝 姓名年龄 null false ' * 3


@pytest.fixture(scope="module")
def grammars() -> Grammars:
    """A small byte-level tokenizer, two ends, and a network with five rows more than it."""
    tokenizer = train_bpe([TEXT], 330)
    return Grammars(tokenizer, tokenizer.vocab_size + 5, [0, 2])


@pytest.fixture(scope="module")
def smollm2(smollm2_path: Path) -> Grammars:
    tokenizer = read_tokenizer(str(smollm2_path))
    return Grammars(tokenizer, tokenizer.vocab_size, [0, 2])


def walk(constraint: Constraint, grammars: Grammars, seed: int, limit: int = 300) -> tuple[str, bool]:
    """A random text of allowed tokens, and whether it has ended. Prefers to end, and tokens that close something."""
    rng, ids = random.Random(seed), []
    while len(ids) < limit:
        allowed = np.flatnonzero(constraint.allowed()).tolist()
        assert allowed
        ends = [t for t in allowed if t in grammars.end_ids]
        others = [t for t in allowed if t not in grammars.end_ids]
        assert not any(t >= grammars.tokenizer.vocab_size or grammars.tokenizer.is_control(t) for t in others)
        if ends and (not others or rng.random() < 0.5):
            constraint.accept(ends[0])
            return grammars.tokenizer.decode(ids), True
        some = others if len(others) < 300 else rng.sample(others, 300)
        closing = [t for t in some if grammars.tokenizer.token_bytes(t)[:1] in b'"}]']
        token = rng.choice(closing) if closing and rng.random() < 0.4 + len(ids) / limit else rng.choice(others)
        constraint.accept(token)
        ids.append(token)
    return grammars.tokenizer.decode(ids), False


def accepts(grammars: Grammars, format: OutputFormat, text: str) -> bool:
    constraint = grammars.constraint(format)
    try:
        for token in grammars.tokenizer.encode(text):
            constraint.accept(token)
        constraint.accept(grammars.end_ids[0])
    except InputError:
        return False
    return True


def holds(grammars: Grammars, schema: Any, seeds: int, limit: int = 300) -> int:
    """How many walks ended; each that did is an instance of the schema."""
    start, ended = grammars.constraint(OutputFormat(json_schema=schema)), 0
    for seed in range(seeds):
        text, whole = walk(start.copy(), grammars, seed, limit)
        if whole:
            assert json_valid(text, schema) == ""
            ended += 1
    return ended


def test_there_are_enough_schemas():
    assert len(SCHEMAS) >= 160


@pytest.mark.parametrize("number", range(len(SCHEMAS)))
def test_a_random_text_of_a_schema_is_an_instance_of_it(grammars, number):
    holds(grammars, SCHEMAS[number], 6)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(0, len(SCHEMAS), 4))
def test_it_holds_with_the_tokenizer_of_a_real_model(smollm2, number):
    holds(smollm2, SCHEMAS[number], 1, limit=60)


def suite(shared_data: Path) -> list[dict[str, Any]]:
    groups = []
    with zipfile.ZipFile(shared_data / "peers" / "json_schema" / "JSON-Schema-Test-Suite_2020-12_d7.zip") as file:
        for name in sorted(n for n in file.namelist() if n.startswith("tests/") and n.endswith(".json")):
            for group in json.loads(file.read(name)):
                if "draft7" in name and isinstance(group["schema"], dict):
                    group["schema"] = {"$schema": "http://json-schema.org/draft-07/schema#", **group["schema"]}
                groups.append(group)
    return groups


def check_suite(grammars: Grammars, groups: list[dict[str, Any]]) -> int:
    supported = 0
    for group in groups:
        try:
            format = OutputFormat(json_schema=group["schema"])
            grammars.constraint(format)
        except ConfigError:
            continue
        supported += 1
        if r"\p" not in json.dumps(group["schema"]):  # Python's expressions know no Unicode properties
            holds(grammars, group["schema"], 4)
        for case in group["tests"]:
            text = json.dumps(case["data"], ensure_ascii=False, separators=(",", ":"))
            if not case["valid"] and text.isprintable():
                assert not accepts(grammars, format, text), (group["schema"], text)
    return supported


def test_the_published_test_suite_holds_where_it_is_supported(grammars, shared_data):
    assert check_suite(grammars, random.Random(1).sample(suite(shared_data), 300)) > 120


@pytest.mark.full
def test_the_whole_published_test_suite_holds_where_it_is_supported(grammars, shared_data):
    assert check_suite(grammars, suite(shared_data)) > 340


EXPRESSIONS = [r"\d{3}-\d{4}", r"^(yes|no)$", r"[a-z]+@[a-z]+\.com", r"a|ab|abc", r"(\w+ ){1,4}end\.", r"[一-龥]{2,4}"]
EXPRESSIONS += [
    r"a/b\"c",
    r"\S+\s\S+",
    r"[^abc]{3}",
    r"(?P<y>20\d\d)-(0[1-9]|1[0-2])",
    r"x*y?",
    r"\W\D",
    r"[\w.-]+",
    r"#\x41",
]


@pytest.mark.parametrize("pattern", EXPRESSIONS)
def test_a_random_text_of_a_regular_expression_matches_it(grammars, pattern):
    start = grammars.constraint(OutputFormat(regex=pattern))
    for seed in range(10):
        text, whole = walk(start.copy(), grammars, seed)
        assert not whole or re.fullmatch(pattern, text, re.ASCII)


def test_every_choice_can_be_reached_and_nothing_else(grammars):
    choices = ("yes", "yes, please", "no", "也许", "a.b*c", "two\nlines", " space")
    format = OutputFormat(choices=choices)
    assert all(accepts(grammars, format, choice) for choice in choices)
    assert not any(accepts(grammars, format, other) for other in ("ye", "yes,", "axb*c", "", "noo"))
    assert {walk(grammars.constraint(format), grammars, seed)[0] for seed in range(60)} <= set(choices)


def test_json_is_compact_and_an_object_is_one(grammars):
    start = grammars.constraint(OutputFormat(json_object=True))
    for seed in range(20):
        text, whole = walk(start.copy(), grammars, seed)
        assert not whole or isinstance(json.loads(text), dict)
    assert accepts(grammars, OutputFormat(json_object=True), '{"a":[1,{"b":null}]}')
    assert not accepts(grammars, OutputFormat(json_object=True), '{ "a":1}')
    assert not accepts(grammars, OutputFormat(json_object=True), "[1]")


def test_a_property_cannot_escape_its_schema_by_another_spelling(grammars):
    format = OutputFormat(
        json_schema={"type": "object", "properties": {"a": {"type": "integer"}, 'e"f': {"type": "null"}}}
    )
    assert accepts(grammars, format, '{"a":1,"b":"x"}')
    for text in (r'{"\u0061":"x"}', '{"a":"x"}', r'{"e\"f":1}', r'{"e\u0022f":1}'):
        assert not accepts(grammars, format, text)


@pytest.mark.parametrize("pattern", ['^[^"]$', r'^[^"\\]$', r"^[^\\]$"])
def test_a_class_without_quotation_marks_gives_none(grammars, pattern):
    """The compiler takes a class that has all control characters for one with quotation marks and backslashes."""
    for character in ('"', "\\", "x"):
        text = json.dumps(character)
        fits = re.fullmatch(pattern, character) is not None
        assert accepts(grammars, OutputFormat(json_schema={"type": "string", "pattern": pattern}), text) == fits


def test_an_end_is_allowed_where_the_text_may_end_and_nowhere_else(grammars):
    a, b = (grammars.tokenizer.encode(c)[0] for c in "ab")
    constraint = grammars.constraint(OutputFormat(regex="a|ab"))
    assert np.flatnonzero(constraint.allowed()).tolist() == [a]
    constraint.accept(a)
    assert set(np.flatnonzero(constraint.allowed())) == {0, 2, b}
    assert not constraint.finished
    constraint.accept(b)
    assert constraint.finished
    assert np.flatnonzero(constraint.allowed()).tolist() == [0, 2]
    constraint.accept(2)
    assert constraint.finished
    with pytest.raises(InputError, match="token 0 does not fit"):
        constraint.accept(0)


def test_a_token_that_does_not_fit_changes_nothing(grammars):
    constraint = grammars.constraint(OutputFormat(regex="hello"))
    before = constraint.allowed()
    for token in (0, 1, 7, grammars.vocab_size - 1, grammars.vocab_size, -1):
        with pytest.raises(InputError):
            constraint.accept(token)
    assert (constraint.allowed() == before).all()


def test_rollback_and_copies_lead_back_to_the_same_states(grammars):
    constraint, masks = grammars.constraint(OutputFormat(json_schema={"enum": ["abc", "abd", 12]})), []
    for token in [*grammars.tokenizer.encode('"abd"'), 0]:
        masks.append(constraint.allowed())
        constraint.accept(token)
    for back in range(1, len(masks) + 1):
        other = constraint.copy()
        other.rollback(back)
        assert (other.allowed() == masks[-back]).all()
    with pytest.raises(InputError, match="cannot be taken back"):
        constraint.rollback(len(masks) + 1)


def test_forced_tokens_are_allowed_one_after_the_other(grammars):
    schema = {"type": "object", "properties": {"name": {"const": "hello world"}}, "required": ["name"]}
    constraint = grammars.constraint(OutputFormat(json_schema={**schema, "additionalProperties": False}))
    written = []
    while not constraint.finished:
        tokens = constraint.forced() or [int(np.flatnonzero(constraint.allowed())[0])]
        for token in tokens:
            assert constraint.allowed()[token]
            constraint.accept(token)
        written += tokens
    assert grammars.tokenizer.decode(written) == '{"name":"hello world"}'
    assert constraint.forced() == []


REFUSED: list[tuple[Any, str]] = [
    *(({k: {}}, k) for k in ("not", "if", "contains", "propertyNames", "dependentSchemas", "dynamicRef", "nullable")),
    *(({k: {}}, k) for k in ("unevaluatedProperties", "unevaluatedItems", "additionalItems", "x-guidance")),
    ({"uniqueItems": True}, "uniqueItems"),
    ({"minimun": 1}, "minimun"),
    ({"items": [{}]}, "items"),
    ({"minProperties": 2}, "minProperties"),
    ({"format": "regex"}, "format"),
    ({"type": "strin"}, "type"),
    ({"type": {"a": 1}}, "type"),
    ({"properties": {"a": {"maxItems": 10**9}}}, "#/properties/a"),
    ({"$ref": "https://example.com/x"}, "pointer"),
    ({"$ref": "#/$defs/no"}, "#/\\$defs/no"),
    ({"$ref": "#"}, "contain itself"),
    ({"properties": {"a": {"$ref": "#"}}, "required": ["a"], "type": "object"}, "contain itself"),
    ({"oneOf": [{"type": "number"}, {"type": "integer"}]}, "oneOf"),
    ({"const": "a\0b"}, "control characters"),
    ({"pattern": r"a\x01b"}, "control character"),
    ({"const": 2**70}, "const"),
    ({"const": float("nan")}, "not JSON"),
    ({"const": "\ud800"}, "not JSON"),
    ({"multipleOf": 1000003}, "multipleOf"),
    ({"type": "integer", "minimum": 5, "maximum": 3}, "cannot be used"),
    (False, "cannot be used"),
    ({"pattern": "(?=a)"}, "not supported"),
    ({"allOf": [{"pattern": f".*a.{{{i}}}b"} for i in range(9)]}, "too large"),
    ("text", "expected an object"),
]


@pytest.mark.parametrize(("schema", "named"), REFUSED)
def test_what_a_schema_cannot_have_is_refused_by_name(grammars, schema, named):
    with pytest.raises(ConfigError, match=named) as caught:
        grammars.constraint(OutputFormat(json_schema=schema))
    assert re.search("[\u4e00-\u9fff]", caught.value.line("zh"))


def test_a_deep_or_wide_schema_is_refused_at_once():
    deep: Any = {}
    for _ in range(5000):
        deep = {"items": deep}
    wide: Any = {}
    for _ in range(35):
        wide = {"anyOf": [wide, wide]}
    for schema in (deep, wide, {"enum": ["x" * 200_000]}):
        with pytest.raises(ConfigError, match="too large"):
            OutputFormat(json_schema=schema)


BAD = [
    "(",
    ")",
    "a**",
    "a++",
    "a{,3}",
    "[a",
    "[[a]]",
    "[a&&b]",
    r"\b",
    r"(a)\1",
    "a\\",
    "(?i)a",
    "(?=a)",
    "a$b",
    "[z-a]",
]


@pytest.mark.parametrize("pattern", [*BAD, "(a{1000}){1000}", "a" * 3000, "\ud800"])
def test_an_expression_that_cannot_be_held_to_is_refused(grammars, pattern):
    with pytest.raises(ConfigError):
        grammars.constraint(OutputFormat(regex=pattern))


@pytest.mark.parametrize(
    "given", [{}, {"regex": "a", "json_object": True}, {"choices": ()}, {"choices": ("a", "")}, {"choices": "ab"}]
)
def test_a_format_is_exactly_one_thing(given):
    with pytest.raises(ConfigError):
        OutputFormat(**given)


def test_end_ids_must_be_there():
    tokenizer = train_characters(["abc"])
    for ends in ([], [-1], [4]):
        with pytest.raises(ConfigError, match="end a text"):
            Grammars(tokenizer, 4, ends)


def test_a_tokenizer_without_the_characters_is_told_so():
    tokenizer = train_characters(["hello 你"])
    grammars = Grammars(tokenizer, tokenizer.vocab_size + 1, [tokenizer.vocab_size])
    assert walk(grammars.constraint(OutputFormat(choices=("hell", "hello"))), grammars, 3)[0] in ("hell", "hello")
    for format in (OutputFormat(choices=("hex",)), OutputFormat(json_object=True), OutputFormat(regex="x")):
        with pytest.raises(ConfigError, match="cannot"):
            grammars.constraint(format)
    constraint = grammars.constraint(OutputFormat(regex="he(x|y)"))
    with pytest.raises(GlassError, match="cannot go on"):
        for character in "he":
            constraint.accept(tokenizer.encode(character)[0])
            constraint.allowed()
