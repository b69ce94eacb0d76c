"""Tokens as pictures show them: white space made visible, and fonts that have their characters."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

VISIBLE = {" ": "␣", "\n": "⏎", "\t": "⇥", "\r": "←"}
# Sans-serif fonts with Chinese characters: of Linux, Windows and macOS.
CHINESE_FONTS = (
    "Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "Microsoft YaHei", "PingFang SC", "Hiragino Sans GB",
    "SimHei", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Noto Sans CJK TC", "Noto Sans CJK JP", "Noto Sans CJK HK",
    "Noto Sans CJK KR", "Microsoft JhengHei", "PingFang TC", "SimSun", "Droid Sans Fallback", "Arial Unicode MS",
)  # fmt: skip
MATPLOTLIBS_OWN = "DejaVu Sans"  # comes along with matplotlib
LONGEST = 14  # characters of a token in a label


def shown(token: str, longest: int = LONGEST) -> str:
    """A token as a label: white space and what has no picture made visible, cut with "…" where it is longer than
    `longest` characters."""
    seen = "".join(VISIBLE.get(c) or (c if c.isprintable() else f"<{ord(c):02X}>") for c in token)
    return seen if len(seen) <= longest else seen[: longest - 1] + "…"


def width(text: str) -> int:
    """How wide a text is, in narrow letters: a Chinese character is two."""
    from unicodedata import east_asian_width

    return sum(2 if east_asian_width(c) in "WF" else 1 for c in text)


@cache
def families() -> tuple[str, ...]:
    """The fonts to draw with, the first that has a character first: matplotlib's own, and one with Chinese characters
    where one is installed."""
    from matplotlib.font_manager import fontManager

    installed = {entry.name for entry in fontManager.ttflist}
    return (MATPLOTLIBS_OWN, *[name for name in CHINESE_FONTS if name in installed][:1])


def without_glyph(texts: Iterable[str]) -> list[str]:
    """The characters of some texts that no font of `families` has, sorted."""
    known = _known(families())
    return sorted({c for text in texts for c in text if ord(c) not in known and not c.isspace()})


@cache
def _known(names: tuple[str, ...]) -> frozenset[int]:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return frozenset().union(*(get_font(findfont(FontProperties(family=name))).get_charmap() for name in names))
