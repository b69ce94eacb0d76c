"""Formulas as MathML, which browsers draw by themselves: no script, no font from elsewhere."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.util import logging

log = logging.getLogger(__name__)


def mathml(node: nodes.Element, display: str) -> str:
    """The formula of a node; what the converter does not know is a warning, not a word in the page: it leaves `\\name`
    and `&` as they are (so it does with `aligned`, in whose place `align*` works)."""
    made = convert(node.astext(), display=display)
    if unknown := re.findall(r">\s*(\\\w+|&)\s*<", made):
        log.warning("formula %r: what is %s here?", node.astext(), unknown, location=node)
    return made


def visit_inline(translator: Any, node: nodes.Element) -> None:
    translator.body.append(mathml(node, "inline"))
    raise nodes.SkipNode


def visit_block(translator: Any, node: nodes.Element) -> None:
    translator.body.append(f'<div class="formula">{mathml(node, "block")}</div>\n')
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
