"""Text that was decoded with the wrong encoding, put right where that can be undone without a guess.

UTF-8 read as a Western encoding ("Ã©", "æœ‰") is ftfy's work; of ftfy, only that is used. Chinese has two more
accidents, which ftfy does not know: UTF-8 read as GBK ("浣犲ソ" was "你好") and GBK read as Latin-1 ("ÄãºÃ").
"""

from __future__ import annotations

import re

import ftfy

# Each pattern of ftfy's detector needs one of these; `tests/data/test_repair.py` holds it against the detector.
_WESTERN = re.compile(
    "[\x80-\u00b6\u00b8-\u02ff\u0370-\u04ff\u201a\u201e\u2020\u2021\u2030\u2039\u203a\u2044\u20a7\u20ac\u2116\u2122"
    "\u2200-\u22ff\u2310\u2320\u2321\u2500-\u25ff\uf8ff\ufb01\ufb02\ufffd]"
)
# The bytes E3 to E9 begin UTF-8's Chinese characters; as GBK, with such a second byte, they are rare characters.
_READ_AS_GBK = re.compile(
    "["
    + "".join(
        bytes((lead, second)).decode("gbk", "ignore")
        for lead in (*range(0xE3, 0xEA), 0xEF)
        for second in range(128, 192)
    )
    + "]"
)
_HIGH = re.compile("[\x80-\xff]+")
_HAN = re.compile("[\u4e00-\u9fff]")


def repair_mojibake(text: str) -> str:
    """The text with its characters decoded rightly; unchanged where nothing is wrong, or nothing is certain."""
    if text.isascii():
        return text
    if _WESTERN.search(text):
        text = ftfy.fix_encoding(_gbk_read_as_latin(text))
    if _READ_AS_GBK.search(text):
        text = _utf8_read_as_gbk(text)
    return text


def _utf8_read_as_gbk(text: str) -> str:
    """Right Chinese text is almost never valid UTF-8 when it is written as GBK."""
    try:
        better = text.encode("gb18030").decode("utf-8")
        better.encode("gb2312")  # what comes out must be everyday characters
    except UnicodeError:
        return text
    return better if len(_HAN.findall(better)) >= 2 else text


def _gbk_read_as_latin(text: str) -> str:
    """Only where nearly all high characters stand in runs of pairs that are everyday Chinese: "AÇÃO" is no such run."""
    runs = _HIGH.findall(text)
    if any(len(run) % 2 for run in runs) or sum(len(run) for run in runs if len(run) >= 4) <= 0.8 * sum(map(len, runs)):
        return text
    if any(_is_utf8(run) for run in runs):  # "Ã©Ã©" would be two Chinese characters; ftfy knows better
        return text
    try:
        better = _HIGH.sub(lambda run: run[0].encode("latin-1").decode("gb2312"), text)
    except UnicodeError:
        return text
    return better if all(_everyday(c) for run in runs for c in run.encode("latin-1").decode("gb2312")) else text


def _is_utf8(run: str) -> bool:
    try:
        run.encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _everyday(character: str) -> bool:
    """Among GB2312's 3,755 most used characters, or its punctuation and forms of letters and digits."""
    lead = character.encode("gb2312")[0]
    return 0xB0 <= lead <= 0xD7 or lead in (0xA1, 0xA3)
