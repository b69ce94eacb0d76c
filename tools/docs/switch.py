"""What each page is given: a link to the same page in the other language, where there is one, and what those need who
listen or use no mouse."""

from __future__ import annotations

import json
import os
from typing import Any


def add_switch(app: Any, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    here = os.environ["GLASSGPT_DOCS_LANGUAGE"]
    other = {"en": "zh", "zh": "en"}[here]
    both = set(json.loads(os.environ["GLASSGPT_DOCS_TRANSLATED"]))
    up = "../" * (pagename.count("/") + 1)
    exact = pagename in both or pagename == "search"
    context["switch_to"] = f"{up}{other}/{pagename if exact else 'index'}.html"
    context["switch_exact"] = exact
    context["switch_language"] = {"en": "English", "zh": "中文"}[other]
    context["switch_code"] = {"en": "en", "zh": "zh-CN"}[other]


def open_to_all(app: Any, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """Blocks of code that are wider than the page are reached by keyboard, and headings of the sidebar have a level."""
    if context.get("body"):
        context["body"] = context["body"].replace("<pre>", '<pre tabindex="0">')
    tree = context.get("furo_navigation_tree", "")
    context["furo_navigation_tree"] = tree.replace(' role="heading">', ' role="heading" aria-level="2">')


def setup(app: Any) -> dict[str, bool]:
    app.connect("html-page-context", add_switch)
    app.connect("html-page-context", open_to_all, priority=900)  # when the theme has made its tree
    return {"parallel_read_safe": True, "parallel_write_safe": True}
