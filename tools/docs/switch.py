"""A link in the sidebar from each page to the same page in the other language, where there is one."""

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


def setup(app: Any) -> dict[str, bool]:
    app.connect("html-page-context", add_switch)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
