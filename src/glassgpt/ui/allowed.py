"""The second wall: what may be in the HTML of a text, whoever made it. Everything else is taken out by nh3."""

from __future__ import annotations

import nh3

from glassgpt.ui import math
from glassgpt.ui.highlight import CLASSES

SCHEMES = {"http", "https", "mailto"}
_MATH_ATTRIBUTES = {*math.VALUES, *math.LENGTHS, *math.PATTERNS}
TAGS = {
    "p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "strong", "em", "s", "code", "pre", "blockquote", "ul", "ol",
    "li", "a", "table", "thead", "tbody", "tr", "th", "td", "span", "div", *math.TAGS,
}  # fmt: skip
# No attribute can hold any text but these: href (checked), title, and what sizes and colours a formula.
ATTRIBUTES: dict[str, set[str]] = {
    "a": {"href", "title"},
    "ol": {"start"},
    **dict.fromkeys(math.TAGS, _MATH_ATTRIBUTES),
}
# nh3 holds these apart: attributes with all the values that they may have.
ATTRIBUTE_VALUES: dict[str, dict[str, set[str]]] = {
    "th": {"align": {"left", "center", "right"}},
    "td": {"align": {"left", "center", "right"}},
    "pre": {"tabindex": {"0"}},
    "div": {"tabindex": {"0"}},
    "a": {"target": {"_blank"}},
}
CLASS_NAMES: dict[str, set[str]] = {
    "span": {*CLASSES},
    "div": {"gg-code", "gg-language", "gg-plain", "gg-wide"},
    "code": {"gg-formula"},
    "a": {"gg-image"},
}
REL = "noopener noreferrer nofollow"

_cleaner = nh3.Cleaner(
    tags=TAGS,
    attributes=ATTRIBUTES,
    tag_attribute_values=ATTRIBUTE_VALUES,
    allowed_classes=CLASS_NAMES,
    set_tag_attribute_values={"a": {"target": "_blank"}},
    link_rel=REL,
    url_schemes=SCHEMES,
    url_relative="deny",
    clean_content_tags=set(),
)


def clean(html: str) -> str:
    """HTML without anything that is not on the lists."""
    return _cleaner.clean(html)
