"""The page's colours: text can be read on its ground, in light and in dark (WCAG 2.2, 1.4.3: 4.5 to 1)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from glassgpt import ui

CSS = Path(ui.__file__).parent / "page.css"
PAIRS = [
    ("text", "ground"), ("text", "side"), ("text", "line"), ("text", "mine"), ("text", "code"), ("faint", "ground"),
    ("faint", "side"), ("faint", "code"), ("accent", "ground"), ("accent", "side"), ("on-accent", "accent"),
    ("good", "ground"), ("bad", "ground"), ("warn", "warn-ground"), ("text", "sure"), ("text", "unsure"),
]  # fmt: skip


def colours(dark: bool) -> dict[str, str]:
    css = CSS.read_text(encoding="utf-8")
    block = re.search(r"body\.body--dark \{(.*?)\}" if dark else r":root \{(.*?)\}", css, re.DOTALL)
    assert block
    return dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", block[1]))


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_the_measure_itself_is_that_of_wcag():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)  # the well-known one that just fails


@pytest.mark.parametrize("dark", [False, True])
def test_text_can_be_read(dark: bool):
    found = colours(dark)
    assert set(found) == set(colours(not dark))
    low = {pair: contrast(found[pair[0]], found[pair[1]]) for pair in PAIRS}
    assert {pair: round(value, 2) for pair, value in low.items() if value < 4.5} == {}


def test_no_part_of_the_page_is_given_its_looks_twice():
    """A name that was taken before changed the bar above the conversation, so that its buttons could not be clicked."""
    css = re.sub(r"/\*.*?\*/", "", CSS.read_text(encoding="utf-8"), flags=re.DOTALL)
    css = re.sub(r"@media[^{]*\{(?:[^{}]*\{[^{}]*\})*[^{}]*\}", "", css)
    names = re.findall(r"(?:^|\})\s*(\.gg-[a-z-]+) \{", css)
    assert len(names) > 50 and [name for name in set(names) if names.count(name) > 1] == []
