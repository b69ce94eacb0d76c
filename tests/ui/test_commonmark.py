"""CommonMark's own examples: drawn as its specification says, except where this page differs on purpose."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from html_walk import Walk, check_harmless, examples

from glassgpt.ui import markdown, markdown_rules
from glassgpt.ui.markdown import to_html

# Numbers of the examples that are drawn otherwise, by the reason.
RAW_HTML_IS_SHOWN_AS_TEXT = {
    21,
    31,
    148,
    149,
    150,
    151,
    152,
    153,
    154,
    155,
    156,
    157,
    158,
    159,
    160,
    161,
    162,
    163,
    164,
    165,
    166,
    167,
    168,
    169,
    170,
    171,
    172,
    173,
    174,
    175,
    176,
    177,
    178,
    179,
    180,
    181,
    182,
    183,
    184,
    185,
    186,
    187,
    188,
    189,
    190,
    191,
    192,
    193,
    203,
    310,
    311,
    346,
    478,
    479,
    493,
    496,
    526,
    538,
    615,
    616,
    617,
    618,
    619,
    625,
    627,
    628,
    629,
    630,
    631,
    632,
    633,
    645,
    646,
}
IMAGES_ARE_LINKS = {
    477,
    519,
    522,
    533,
    574,
    575,
    576,
    577,
    578,
    579,
    580,
    581,
    582,
    583,
    584,
    585,
    586,
    587,
    588,
    589,
    590,
    591,
    593,
}
LINKS_WITHOUT_ADDRESS_ARE_TEXT = {202, 487, 488, 489, 569}
LINKS_LEAD_ONLY_TO_PAGES_AND_MAIL = {
    22,
    23,
    32,
    33,
    194,
    195,
    196,
    197,
    198,
    200,
    204,
    205,
    206,
    207,
    208,
    209,
    210,
    212,
    216,
    217,
    218,
    219,
    220,
    319,
    406,
    421,
    424,
    435,
    475,
    476,
    484,
    485,
    486,
    491,
    494,
    497,
    498,
    500,
    501,
    502,
    503,
    504,
    505,
    506,
    507,
    508,
    509,
    511,
    512,
    514,
    516,
    517,
    518,
    520,
    521,
    523,
    524,
    529,
    530,
    531,
    532,
    534,
    535,
    536,
    537,
    539,
    540,
    541,
    542,
    543,
    544,
    545,
    546,
    547,
    551,
    552,
    555,
    556,
    557,
    558,
    559,
    560,
    561,
    562,
    563,
    564,
    565,
    566,
    567,
    568,
    570,
    571,
    572,
    573,
    594,
    595,
    598,
    600,
    601,
    603,
}
LEFT_OUT = RAW_HTML_IS_SHOWN_AS_TEXT | IMAGES_ARE_LINKS | LINKS_WITHOUT_ADDRESS_ARE_TEXT


def normal(markup: str) -> list[Any]:
    """Its tags and texts, without what this page adds to links and code, and without space between blocks."""
    markup = re.sub(r'<div class="gg-language">.*?</div>', "", markup, flags=re.DOTALL)
    kept: list[Any] = []
    for node in Walk(markup).nodes:
        if isinstance(node, list):  # text
            if kept and isinstance(kept[-1], list):
                kept[-1] = [kept[-1][0] + node[0]]
            else:
                kept.append(list(node))
        elif isinstance(node, tuple):
            tag, attributes = node
            if tag in ("span", "div"):
                continue
            ours = {"rel", "target", "tabindex"} | ({"class"} if tag in ("code", "a") else set())
            kept.append((tag, [one for one in attributes if one[0] not in ours]))
        elif node not in ("/span", "/div"):
            kept.append(node)
    return [node for node in kept if not isinstance(node, list) or node[0].strip()]


def differing(shared_data: Path) -> set[int]:
    return {
        int(example["example"])
        for example in examples(shared_data)
        if normal(to_html(example["markdown"])) != normal(example["html"])
    }


def test_examples_are_drawn_as_the_specification_says(shared_data: Path):
    expected = LEFT_OUT | LINKS_LEAD_ONLY_TO_PAGES_AND_MAIL
    assert differing(shared_data) == expected
    assert len(examples(shared_data)) - len(expected) > 400


def test_where_links_are_refused_nothing_else_is_different(shared_data: Path, monkeypatch: pytest.MonkeyPatch):
    """With any address let through, those examples are as the specification has them."""
    for module in (markdown, markdown_rules):
        monkeypatch.setattr(module, "is_link", lambda url: True)
    monkeypatch.setattr(markdown, "clean", lambda html: html)
    assert differing(shared_data) == LEFT_OUT


def test_every_example_is_harmless_and_raw_markup_keeps_its_words(shared_data: Path):
    for example in examples(shared_data):
        found = check_harmless(to_html(example["markdown"]))
        if example["section"] == "Raw HTML" and not re.search(r"[&\\`]", example["markdown"]):
            assert re.sub(r"\W", "", found.text) == re.sub(r"\W", "", example["markdown"])


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("a | b\n:-|-:\n1 | 2", '<th align="left">a</th>\n<th align="right">b</th>'),
        ("~~gone~~", "<p><s>gone</s></p>"),
        ("- [ ] one\n- [x] two", "<li>☐ one</li>\n<li>☑ two</li>"),
        ("3. three", '<ol start="3">'),
        ("![a cat](https://e.example/c.png)", '<a href="https://e.example/c.png" class="gg-image"'),
        ("[![a cat](https://e.example/c.png)](https://e.example/)", ">a cat</a></p>"),
        ("![](https://e.example/c.png)", ">https://e.example/c.png</a>"),
        ("![*a* $x$ `b`](https://e.example/c.png)", ">a $x$ b</a>"),
        ("[nowhere]()", "<p>nowhere</p>"),
        ("<https://e.example>", '<a href="https://e.example"'),
        ("<me@e.example>", '<a href="mailto:me@e.example"'),
    ],
)
def test_what_is_beyond_commonmark(text: str, html: str):
    assert html in to_html(text)
    assert to_html(text).count("<a ") <= 1
