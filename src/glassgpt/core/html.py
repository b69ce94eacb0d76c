"""One self-contained HTML page: escaped text, tables and bars, a script of ours where one is given, and nothing loaded
from anywhere.

Everything that becomes part of a page is `Html`; a plain string is text and is escaped. So what a user's file
holds can never become markup.
"""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

_STYLE = """
:root { color-scheme: light dark; --line: #8886; --bar: #3b7dd8; }
body { font: 15px/1.5 system-ui, "Noto Sans CJK SC", "Microsoft YaHei", sans-serif; max-width: 62rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: .5rem 0; }
th, td { text-align: left; vertical-align: top; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid var(--line); }
td { overflow-wrap: anywhere; white-space: pre-wrap; } td.number, th.number { text-align: right; white-space: nowrap; }
.bar { display: inline-block; height: .8em; background: var(--bar); vertical-align: baseline; }
svg { max-width: 100%; height: auto; background: #fff; }
"""


class Html(str):
    """Markup that may stand in a page as it is: only for what this module, or a caller that escapes, has made."""


def text(value: object) -> Html:
    """Any value as text; markup in it is shown, not obeyed."""
    return value if isinstance(value, Html) else Html(escape(str(value)))


def element(tag: str, *inside: object, **attributes: object) -> Html:
    """<tag attribute="...">inside</tag>; `class_` is class, `aria_label` aria-label; one that is None is
    left out."""
    names = {k: k.rstrip("_").replace("_", "-") for k in attributes}
    given = "".join(f' {names[k]}="{escape(str(v))}"' for k, v in attributes.items() if v is not None)
    return Html(f"<{tag}{given}>{''.join(map(text, inside))}</{tag}>")


def table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> Html:
    """A table; numbers stand on the right."""
    lines = [element("tr", *(element("th", cell) for cell in head))]
    for row in rows:
        kinds = ["number" if isinstance(cell, int | float) else None for cell in row]
        shown = [f"{cell:,}" if isinstance(cell, int) else cell for cell in row]
        lines.append(element("tr", *(element("td", c, class_=k) for c, k in zip(shown, kinds, strict=True))))
    return element("div", element("table", *lines), class_="wide")


def bars(labels: Sequence[object], counts: Sequence[int | float], head: Sequence[object]) -> Html:
    """A horizontal bar chart that is also a table, so that it can be read aloud. `head`: label and count."""
    most = max([*counts, 1])
    rows = [
        (label, count, element("span", class_="bar", style=f"width: {count / most * 20:.2f}rem"))
        for label, count in zip(labels, counts, strict=True)
    ]
    return table([*head, ""], rows)


def data(name: str, value: Any) -> Html:
    """A value for the page's script, as JSON in an element with that id. It is never run, and cannot end the element:
    every `<` in it is written as an escape. Raises ValueError: a number in it is none."""
    held = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return Html(f'<script type="application/json" id="{escape(name)}">{held}</script>')


def page(title: str, language: str, *parts: object, forms: bool = False, script: str = "") -> str:
    """The whole document, `language` "en" or "zh". `forms`: it may send a form to where it comes from. `script`: what
    runs in it, of ours and never of a user's."""
    # Even if something slipped through, the page may run nothing but that script, and load nothing.
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action "
    policy += "'self'" if forms else "'none'"
    if script:
        policy += f"; script-src 'sha256-{b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        parts = (*parts, Html(f"<script>{script}</script>"))
    head = element(
        "head",
        Html('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        element("title", title),
        element("style", Html(_STYLE)),
    )
    body = element("body", element("h1", title), *parts)
    return f'<!doctype html>\n<html lang="{language}">{head}{body}</html>\n'
