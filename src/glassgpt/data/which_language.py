"""Which language a text is in, by a rule that can be read: enough to sort Chinese from English, and no more.

A Chinese character counts as much as a Latin word, and the script with the most decides. Kana make a text with
Chinese characters Japanese. A longer text in Latin letters is English when English's small words are in it.
"""

from __future__ import annotations

import re

LANGUAGES = ("en", "zh", "ja", "ko", "other", "none")

_LETTER = re.compile(r"[^\W\d_]")
_LATIN_WORD = re.compile("[A-Za-z\u00c0-\u024f]+")
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+")
_KANA = re.compile("[\u3041-\u30fa]+")
_HANGUL = re.compile("[\uac00-\ud7af\u1100-\u11ff]+")
_OTHER_WORD = re.compile("[\u0370-\u10ff\u1200-\u1fff\ua000-\uabff\ufb1d-\ufefc]+")
_NEITHER = re.compile("[\u0370-\u1fff\u3041-\u30fa\ua000-\ud7af\ufb1d-\ufefc]")
_ENGLISH = frozenset(
    word
    for line in (
        "the of and to is that it was for on are with as his they at be this have from had by not but what all were we",
        "when your can an each which she how their if will about out many then them these so some her would has you my",
        "do does who where why a in i",
    )
    for word in line.split()
)
_ENOUGH_WORDS = 12
_FIRST = 5000  # characters looked at


def language_of(text: str) -> str:
    """ "en", "zh", "ja", "ko", "other", or "none" for a text without letters."""
    text = text[:_FIRST]
    if text.isascii():
        return _latin(text)
    latin, han = len(_LATIN_WORD.findall(text)), _length(_HAN, text)
    if not _NEITHER.search(text):  # the shorter way, for most texts
        return "zh" if han and han >= latin else _latin(text)
    kana = _length(_KANA, text)
    counts = {
        "latin": latin,
        "ja" if kana * 9 > han else "zh": han + kana,
        "ko": _length(_HANGUL, text) // 2,
        "other": len(_OTHER_WORD.findall(text)),
    }
    most = max(counts, key=counts.__getitem__)
    return _latin(text) if most == "latin" else most


def _latin(text: str) -> str:
    """English, another language in Latin letters, or no letters at all."""
    words = text.lower().split()
    if len(words) >= _ENOUGH_WORDS and sum(map(_ENGLISH.__contains__, words)) * 12 < len(words):
        return "other" if _LETTER.search(text) else "none"
    return "en" if _LETTER.search(text) else "none"


def _length(pattern: re.Pattern[str], text: str) -> int:
    return sum(map(len, pattern.findall(text)))
