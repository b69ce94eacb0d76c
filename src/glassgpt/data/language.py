"""Which language a text is in, by a rule that can be read: enough to sort Chinese from English, and no more.

A Chinese character counts as much as a Latin word, and the script with the most decides. Kana make a text with
Chinese characters Japanese. A longer text in Latin letters is English when English's small words are in it.
"""

from __future__ import annotations

import re

LANGUAGES = ("en", "zh", "ja", "ko", "other", "none")

_LATIN = re.compile("[A-Za-z\u00c0-\u024f]+(?:['’][a-z]+)?")
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+")
_KANA = re.compile("[\u3041-\u30fa]+")
_HANGUL = re.compile("[\uac00-\ud7af\u1100-\u11ff]+")
_OTHER = re.compile("[\u0370-\u1fff\ua000-\uabff\ufb1d-\ufefc]+")
_ENGLISH = re.compile(
    r"\b(?:the|of|and|to|is|that|it|was|for|on|are|with|as|his|they|at|be|this|have|from|had|by|not|but|what|all|were|we|"
    r"when|your|can|an|each|which|she|how|their|if|will|about|out|many|then|them|these|so|some|her|would|has|you|my|do|"
    r"does|who|where|why|a|in)\b",
    re.IGNORECASE,
)
_ENOUGH_WORDS = 12
_FIRST = 5000  # characters looked at


def language_of(text: str) -> str:
    """ "en", "zh", "ja", "ko", "other", or "none" for a text without letters."""
    text = text[:_FIRST]
    counts: dict[str, float] = {"latin": len(_LATIN.findall(text))}
    if not text.isascii():
        han, kana = _length(_HAN, text), _length(_KANA, text)
        japanese = kana > 0.1 * (han + kana)
        counts |= {
            "ja" if japanese else "zh": han + kana,
            "ko": _length(_HANGUL, text) / 2,
            "other": len(_OTHER.findall(text)),
        }
    language = max(counts, key=counts.__getitem__)
    if not counts[language]:
        return "none"
    if language != "latin":
        return language
    foreign = counts["latin"] >= _ENOUGH_WORDS and len(_ENGLISH.findall(text)) * 12 < counts["latin"]
    return "other" if foreign else "en"


def _length(pattern: re.Pattern[str], text: str) -> int:
    return sum(map(len, pattern.findall(text)))
