"""Code in colours, by classes; what they look like is in `page.css`."""

from __future__ import annotations

from functools import lru_cache
from html import escape
from typing import Any

LONGEST = 30_000  # characters that are coloured


def highlight(code: str, language: str) -> str:
    """Code as spans with classes of Pygments' short names; plain where the language is not known or the code long."""
    lexer = _lexer(language.lower()) if language and len(code) <= LONGEST else None
    if lexer is None:
        return escape(code)
    from pygments import highlight as colour
    from pygments.formatters.html import HtmlFormatter

    return str(colour(code, lexer, HtmlFormatter(nowrap=True, classprefix="hl-")))


@lru_cache(maxsize=64)
def _lexer(language: str) -> Any:
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    try:
        return get_lexer_by_name(language, stripnl=False, ensurenl=False)
    except ClassNotFound:
        return None
