"""Lines of a Chinese paragraph joined without a blank: the end of a line in Markdown is a blank in HTML; Chinese has
none between characters."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.transforms import SphinxTransform

WIDE = re.compile(r"[\u2014-\u2026\u3000-\u30ff\u3400-\u9fff\uff00-\uffef]")  # characters and their punctuation


class JoinLines(SphinxTransform):
    """Takes out each end of a line that stands between two wide characters."""

    default_priority = 400

    def apply(self, **kwargs: Any) -> None:
        """Every paragraph, list and cell of the page."""
        for text in list(self.document.findall(nodes.Text)):
            if "\n" not in text or isinstance(text.parent, nodes.literal_block | nodes.raw | nodes.math_block):
                continue
            siblings = text.parent.children
            at = next(i for i, one in enumerate(siblings) if one is text)  # others may be equal
            before = siblings[at - 1].astext()[-1:] if at else ""
            after = siblings[at + 1].astext()[:1] if at + 1 < len(siblings) else ""
            lines = str(text).split("\n")
            joined = lines[0]
            for line in lines[1:]:
                left, right = (joined or before)[-1:], (line or after)[:1]
                joined += ("" if WIDE.match(left) and WIDE.match(right) else "\n") + line
            if joined != text:
                siblings[at] = nodes.Text(joined)
                siblings[at].parent = text.parent


def setup(app: Any) -> dict[str, bool]:
    if app.config.language.startswith("zh"):
        app.add_transform(JoinLines)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
