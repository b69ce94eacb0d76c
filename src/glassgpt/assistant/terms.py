"""Words to search by, in English and Chinese: what two texts have in common whichever way they write it."""

from __future__ import annotations

import re
import unicodedata
from functools import cache, lru_cache
from itertools import pairwise
from typing import Any

# Chinese has no spaces: single characters find what is written in part, pairs find what belongs together.
_WORDS = re.compile(r"[^\W\u3400-\u9fff_]+(?:'[a-z]+)?|[\u3400-\u9fff\U00020000-\U0003ffff]+")


def fold(text: str) -> str:
    """A text in one way of writing: small letters, plain forms of characters (NFKC), simplified Chinese."""
    return _simplify(unicodedata.normalize("NFKC", text).casefold())


def terms(text: str) -> list[str]:
    """The words of a text, in order: stems of English words, numbers, and of Chinese each character and each pair."""
    found: list[str] = []
    for word in _WORDS.findall(fold(text)):
        if word[0] < "\u3400" or "\ua000" <= word[0] <= "\U0001ffff":
            found.append(_stem(word))
        else:
            found += word
            found += [a + b for a, b in pairwise(word)]
    return found


def _simplify(text: str) -> str:
    return text if text.isascii() else str(_converter().convert(text))


@cache
def _converter() -> Any:
    import opencc

    return opencc.OpenCC("t2s")


@cache
def _stemmer() -> Any:
    import snowballstemmer

    return snowballstemmer.stemmer("english")


@lru_cache(1 << 16)
def _stem(word: str) -> str:
    return str(_stemmer().stemWord(word)) if word.isascii() else word
