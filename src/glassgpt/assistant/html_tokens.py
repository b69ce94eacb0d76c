"""HTML as tags and text, in time that grows with its length only.

The rules are those of the standard's tokenizer as far as they decide what is text: comments, quoted attributes, and
elements whose content is no markup. `html.parser` of the Python versions that are in use takes minutes for a megabyte
of unfinished comments; the fast parsers in C do so for tags within tags or a tag with many attributes. Here
every search that fails ends the reading, so that no character is looked at twice.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

_TAG_NAME = re.compile(r"[A-Za-z][^\t\n\f\r />]*")
_BETWEEN = re.compile(r"[\t\n\f\r /]*")
_ATTRIBUTE = re.compile(r"[^\t\n\f\r />][^\t\n\f\r />=]*")
_EQUALS = re.compile(r"[\t\n\f\r ]*=[\t\n\f\r ]*")
_BARE = re.compile(r"[^\t\n\f\r >]*")
_COMMENT_END = re.compile(r"--!?>")
_NUMBER = re.compile(r"&#(?:0*[0-9]{8,}|[xX]0*[0-9a-fA-F]{8,});?")  # no character has such a number
_MAX_ATTRIBUTES, _MAX_NAME = 200, 50
# Elements whose content is text for the parser, whatever stands in it.
RAW = frozenset(("script", "style", "xmp", "iframe", "noembed", "noframes", "textarea", "title"))
_WITH_REFERENCES = frozenset(("textarea", "title"))


@dataclass
class Start:
    """A start tag. Attributes that begin with "on" are never taken up."""

    name: str
    attributes: dict[str, str] = field(default_factory=dict)


@dataclass
class End:
    """An end tag."""

    name: str


Token = Start | End | str


def tokens(source: str) -> Iterator[Token]:
    """The tags and texts of a page in order; comments, declarations and unfinished tags are none."""
    position, length = 0, len(source)
    while position < length:
        opened = source.find("<", position)
        if opened < 0:
            yield unescape(source[position:])
            return
        if opened > position:
            yield unescape(source[position:opened])
        following = source[opened + 1 : opened + 2]
        if following.isascii() and following.isalpha():
            found = _tag(source, opened + 1)
            if found is None:
                return
            start, position = found
            yield start
            if start.name == "plaintext":
                yield source[position:]
                return
            if start.name in RAW:
                end = _end_of(start.name).search(source, position)
                content = source[position : end.start() if end else length]
                yield unescape(content) if start.name in _WITH_REFERENCES else content
                position = end.start() if end else length
        elif (
            following == "/" and source[opened + 2 : opened + 3].isascii() and source[opened + 2 : opened + 3].isalpha()
        ):
            found = _tag(source, opened + 2)
            if found is None:
                return
            yield End(found[0].name)
            position = found[1]
        elif source.startswith("<!--", opened):
            if source.startswith((">", "->"), opened + 4):
                position = source.index(">", opened) + 1
                continue
            closed = _COMMENT_END.search(source, opened + 4)
            if closed is None:
                return
            position = closed.end()
        elif following in ("!", "?", "/"):
            closing = source.find(">", opened + 1)
            if closing < 0:
                return
            position = closing + 1
        else:
            yield "<"
            position = opened + 1


@lru_cache(maxsize=16)
def _end_of(name: str) -> re.Pattern[str]:
    return re.compile(rf"</{name}(?=[\t\n\f\r />])", re.IGNORECASE | re.ASCII)


def _tag(source: str, position: int) -> tuple[Start, int] | None:
    """The tag whose name begins at `position`, and where it ends; None where the file ends first."""
    name = _TAG_NAME.match(source, position)
    assert name is not None
    tag = Start(name[0][:_MAX_NAME].lower())
    position, length = name.end(), len(source)
    while True:
        between = _BETWEEN.match(source, position)
        position = between.end() if between else position
        if position >= length:
            return None
        if source[position] == ">":
            return tag, position + 1
        attribute = _ATTRIBUTE.match(source, position)
        assert attribute is not None
        position, value = attribute.end(), ""
        equals = _EQUALS.match(source, position)
        if equals:
            position = equals.end()
            quote = source[position : position + 1]
            if quote in ('"', "'"):
                closed = source.find(quote, position + 1)
                if closed < 0:
                    return None
                value, position = source[position + 1 : closed], closed + 1
            else:
                bare = _BARE.match(source, position)
                value, position = (bare[0], bare.end()) if bare else ("", position)
        key = attribute[0][:_MAX_NAME].lower()
        if not key.startswith("on") and len(tag.attributes) < _MAX_ATTRIBUTES:
            tag.attributes.setdefault(key, value)


def unescape(text: str) -> str:
    """Character references as characters; one with a number that no character has is U+FFFD."""
    return html.unescape(_NUMBER.sub("\ufffd", text)) if "&" in text else text
