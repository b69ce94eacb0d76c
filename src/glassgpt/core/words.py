"""English and Chinese as equals: every sentence a user reads, and how the language is chosen.

The English template is the key; `words_zh/`, one file a subject, holds the Chinese one with the same
named fields.
`tests/core/test_words.py` walks the code and fails when a sentence has no translation.
"""

from __future__ import annotations

import json
import locale
import os
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

LANGUAGES = ("en", "zh")


@cache
def _chinese() -> dict[str, str]:
    catalog: dict[str, str] = {}
    for file in (files("glassgpt.core") / "words_zh").iterdir():
        catalog |= json.loads(file.read_text(encoding="utf-8"))
    return catalog


class Sentence:
    """A translatable part of a message: a template and its fields, put into words when the language is known."""

    def __init__(self, template: str, **facts: Any) -> None:
        self.template, self.facts = template, facts

    def text(self, language: str) -> str:
        """The sentence in `language`."""
        return say(self.template, language, **self.facts)

    def __str__(self) -> str:
        return self.text("en")


def translate(template: str, language: str) -> str:
    """The template in `language`; English where no translation exists."""
    return _chinese().get(template, template) if language == "zh" else template


def say(template: str, language: str, **facts: Any) -> str:
    """A sentence for the user: the translated template with its named fields filled in."""
    told = {k: v.text(language) if isinstance(v, Sentence) else v for k, v in facts.items()}
    return translate(template, language).format(**told)


def choose_language(environ: Mapping[str, str] | None = None) -> str:
    """ "zh" when `GLASSGPT_LANG`, or else the locale, says Chinese; "en" otherwise."""
    environ = os.environ if environ is None else environ
    wanted = environ.get("GLASSGPT_LANG") or next(
        (environ[k] for k in ("LC_ALL", "LC_MESSAGES", "LANG") if environ.get(k)), ""
    )
    if not wanted:  # Windows sets none of these
        wanted = locale.getlocale()[0] or ""
    return "zh" if wanted.lower().startswith(("zh", "chinese")) else "en"
