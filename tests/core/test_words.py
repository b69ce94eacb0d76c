"""English and Chinese as equals: every sentence a user can read has a translation with the same fields."""

from __future__ import annotations

import ast
import json
import re
import string
from collections.abc import Iterator
from pathlib import Path

import pytest

import glassgpt
from glassgpt.core import errors
from glassgpt.core.errors import GlassError
from glassgpt.core.words import Sentence, choose_language, say

PACKAGE = Path(glassgpt.__file__).parent
FILES = {p.name: json.loads(p.read_text(encoding="utf-8")) for p in (PACKAGE / "core" / "words_zh").glob("*.json")}
CHINESE = {english: chinese for words in FILES.values() for english, chinese in words.items()}
ERRORS = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, GlassError)}
# Calls whose first argument (and `hint`) is a sentence. `self.say` is the chat loop's own, `words` a window's.
CALLS = ERRORS | {"say", "Sentence", "words", "_damaged"}


def templates() -> Iterator[tuple[str, str, str]]:
    """(template, where it stands, "hint", "error" or "say") for every sentence in the code."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            if name not in CALLS:
                continue
            place = f"{path.relative_to(PACKAGE)}:{node.lineno}"
            role = "error" if name in ERRORS else "say"
            found = [(arg, role) for arg in (node.args[1:2] if name == "_damaged" else node.args[:1])]
            found += [(k.value, "hint") for k in node.keywords if k.arg == "hint"]
            for value, kind in found:
                for text in constants(value):
                    yield text, place, kind


def constants(node: ast.expr) -> list[str]:
    """The strings that an argument can be: a literal, or one of two."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value] if node.value else []
    if isinstance(node, ast.IfExp):
        return constants(node.body) + constants(node.orelse)
    return []


def fields(template: str) -> set[tuple[str, str | None, str | None]]:
    """The fields with their conversions and formats: ("value", None, ".4f") for {value:.4f}."""
    return {(name, turn, form) for _, name, form, turn in string.Formatter().parse(template) if name}


SENTENCES = list(templates())


def test_no_sentence_stands_in_two_files():
    assert sum(map(len, FILES.values())) == len(CHINESE)


def test_the_walk_finds_the_sentences():
    assert len({text for text, _, _ in SENTENCES}) > 150


def test_every_sentence_has_a_chinese_translation_with_the_same_fields():
    missing = sorted({f"{place}: {text}" for text, place, _ in SENTENCES if text not in CHINESE})
    assert missing == []
    wrong = [text for text, _, _ in SENTENCES if not fields(CHINESE[text]) <= fields(text)]
    assert wrong == []
    lost = [text for text, _, _ in SENTENCES if fields(text) - fields(CHINESE[text])]
    assert lost == [], "a fact that English tells must not be missing in Chinese"


def test_translations_are_chinese_and_none_is_left_over():
    used = {text for text, _, _ in SENTENCES} | words_from_tables()
    assert sorted(set(CHINESE) - used) == []
    assert [k for k, v in CHINESE.items() if not re.search(r"[\u4e00-\u9fff]", v)] == []


def words_from_tables() -> set[str]:
    """Sentences that reach `say` through a variable: string constants anywhere that are keys of the catalog."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return found


def test_messages_are_one_clause_and_hints_are_sentences():
    hints = {text for text, _, kind in SENTENCES if kind == "hint"}
    assert [h for h in hints if not re.match(r"[A-Z{/`]", h) or not h.endswith((".", "?"))] == []
    assert [h for h in hints if not CHINESE[h].endswith(("。", "？"))] == []
    messages = {text for text, _, kind in SENTENCES if kind == "error"}
    assert [m for m in messages if not re.match(r"[a-z{/-]", m) or m.endswith((".", "?"))] == []
    assert [m for m in messages if CHINESE[m].endswith(("。", "？"))] == []
    assert [text for text, _, _ in SENTENCES if "\n" in text + CHINESE[text]] == []


def test_chinese_sentences_use_full_width_punctuation():
    """Outside fields, back-ticks and between Latin letters, where commands and names keep theirs."""
    bare = {k: re.sub(r"\{[^{}]*\}|`[^`]*`", "", v) for k, v in CHINESE.items()}
    assert [k for k, v in bare.items() if re.search(r"[\u4e00-\u9fff}] ?[,;:?!()]|[,;:?!()] ?[\u4e00-\u9fff]", v)] == []


def test_an_error_speaks_both_languages_and_translates_its_parts():
    error = GlassError("{file} is damaged or not GGUF: {what}", file="模型.gguf", what=Sentence("tensors"))
    assert error.message() == str(error) == "模型.gguf is damaged or not GGUF: tensors"
    assert error.message("zh") != error.message()
    assert "模型.gguf" in error.message("zh")


def test_values_from_outside_are_never_templates():
    error = GlassError("no model is called {name!r}", name="{__class__} {0} %s", hint="")
    assert "{__class__} {0} %s" in str(error)


def test_a_value_with_line_breaks_stays_on_one_line():
    assert "\n" not in str(GlassError("{value} is wrong", value="a\nb\r\nc"))


@pytest.mark.parametrize(
    ("environ", "language"),
    [
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "en_US.UTF-8"}, "en"),
        ({"LC_ALL": "C", "LANG": "zh_CN.UTF-8"}, "en"),
        ({"GLASSGPT_LANG": "zh", "LANG": "de_DE"}, "zh"),
        ({"GLASSGPT_LANG": "en", "LANG": "zh_TW"}, "en"),
        ({"LANG": "de_DE.UTF-8"}, "en"),
    ],
)
def test_the_language_follows_the_users_settings(environ, language):
    assert choose_language(environ) == language


def test_a_sentence_without_translation_is_told_in_english():
    assert say("nothing like this {x}", "zh", x=1) == "nothing like this 1"


def test_a_line_is_two_sentences_in_either_language():
    error = GlassError("the prompt is empty", hint="Give some text to continue.")
    assert error.line() == "the prompt is empty. Give some text to continue."
    assert re.fullmatch(r"[^。]+。[^。]+。", error.line("zh"))
    assert GlassError("the prompt is empty").line() == "the prompt is empty."
