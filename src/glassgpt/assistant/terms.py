"""Words to search by, in English and Chinese: what two texts have in common whichever way they write it."""

from __future__ import annotations

import re
import unicodedata
from functools import cache, lru_cache
from itertools import pairwise
from typing import Any

# Chinese has no spaces: single characters find what is written in part, pairs find what belongs together.
_CHINESE = r"\u3400-\u9fff\U00020000-\U0003ffff"
_WORDS = re.compile(rf"[^\W{_CHINESE}_]+(?:'[a-z]+)?|[{_CHINESE}]+")
# Characters that are simplified in some words and not in others count as one: 計畫 is 计划, a 畫 is a 画. So what a
# text contains is found wherever the rest of it is cut off.
_AS_ONE = str.maketrans("沈藉覆炼坯锺迳瞭钜衹甦哩画幺𫫇俱彷", "沉借复链坏钟径了巨只苏里划么恶具仿")


def fold(text: str) -> str:
    """A text in one way of writing: small letters, plain forms of characters (NFKC), simplified Chinese (each character
    for itself, so that a part of a text is the same part of it afterwards)."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return folded if folded.isascii() else folded.translate(_SIMPLE)


def terms(text: str) -> list[str]:
    """The words of a text, in order: stems of English words, numbers, and of Chinese each character and each pair."""
    found: list[str] = []
    for word in _WORDS.findall(fold(text)):
        if word[0] < "\u3400" or "\ua000" <= word[0] <= "\U0001ffff":
            found.append(_stem(word))
        else:
            found += [*word, *(a + b for a, b in pairwise(word))]
    return found


class _Simple(dict[int, str]):
    """Characters as they are simplified, each looked up once."""

    def __missing__(self, code: int) -> str:
        chinese = 0x3400 <= code <= 0x9FFF or code >= 0x20000
        simple = str(_converter().convert(chr(code))).translate(_AS_ONE) if chinese else chr(code)
        self[code] = simple
        return simple


_SIMPLE = _Simple()


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
