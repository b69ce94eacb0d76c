"""LaTeX as MathML, which browsers draw by themselves.

latex2mathml makes a tree of elements; it is never taken as markup. The tree is walked with a list of what may be in
it, and written out here with everything escaped: a formula can hold neither a link nor a style, nor reach far outside
its own place on the page.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from html import escape
from xml.etree.ElementTree import Element

from latex2mathml.converter import convert_to_element

MAX_SOURCE = 2_000  # characters of a formula
_MAX_DEPTH = 60  # elements within each other
_MAX_SHIFT = 4.0  # em that a formula may reach out of its box, over all its parts

# Macros can grow without bounds; \sideset writes its operand twice, so that nesting doubles the work each time.
_REFUSED = re.compile(
    r"\\(?:newcommand|renewcommand|def|DeclareMathOperator|newenvironment|sideset|href|class|style)\b"
)
_REFERENCE = re.compile(r"&#x([0-9A-Fa-f]{1,6});")
# Environments that latex2mathml does not know, or would number, by those that it does.
_ALIKE = {"aligned": "align*", "align": "align*", "gathered": "matrix", "gather": "matrix", "gather*": "matrix",
          "split": "align*", "equation": "", "equation*": ""}  # fmt: skip
_ENVIRONMENT = re.compile(r"\\(begin|end)\{([a-z]{1,12}\*?)\}")
_LABEL = re.compile(r"\\label\{[^{}]*\}")

TAGS = frozenset(
    {"math", "mfrac", "mi", "mn", "mo", "mover", "mpadded", "mphantom", "mroot", "mrow", "mspace", "msqrt", "mstyle",
     "msub", "msubsup", "msup", "mtable", "mtd", "mtext", "mtr", "munder", "munderover", "menclose"}
)  # fmt: skip
_SIDES = frozenset({"left", "right", "center"})
_YES_NO = frozenset({"true", "false"})
# The values that an attribute may have; attributes that are lengths are checked by their size.
VALUES: dict[str, frozenset[str]] = {
    "display": frozenset({"inline", "block"}),
    "mathvariant": frozenset({"normal"}),
    "columnalign": _SIDES,
    "form": frozenset({"prefix", "infix", "postfix"}),
    "notation": frozenset({"box", "circle", "updiagonalstrike", "downdiagonalstrike", "horizontalstrike",
                           "updiagonalstrike downdiagonalstrike"}),
    "mathsize": frozenset(f"{size}em" for size in ("0.5", "0.6", "0.7", "0.85", "1", "1.2", "1.44", "1.73", "2.07",
                                                   "2.49")),
    "linebreak": frozenset({"newline"}),
    **dict.fromkeys(("stretchy", "fence", "separator", "largeop", "movablelimits", "accent", "accentunder",
                     "displaystyle", "symmetric"), _YES_NO),
    "scriptlevel": frozenset({"0", "1", "2", "+1"}),
}  # fmt: skip
LENGTHS = frozenset(
    {"width", "height", "depth", "lspace", "rspace", "voffset", "minsize", "maxsize", "linethickness"}
)  # what moves or sizes a part
PATTERNS = {
    "mathcolor": re.compile(r"#[0-9A-Fa-f]{3,8}|[A-Za-z]{1,20}"),
    "mathbackground": re.compile(r"#[0-9A-Fa-f]{3,8}|[A-Za-z]{1,20}"),
    "columnlines": re.compile(r"(?:(?:solid|dashed|none) ?){1,50}"),
    "rowlines": re.compile(r"(?:(?:solid|dashed|none) ?){1,50}"),
    "columnspacing": re.compile(r"(?:[0-9.]{1,6}em ?){1,50}"),
    "rowspacing": re.compile(r"[0-9.]{1,4}(?:em|pt)"),
}
_LENGTH = re.compile(r"([+-]?)(\d{0,3}(?:\.\d{1,4})?) ?(em|ex|px|pt|mu|cm|mm|in|pc|bp)?")
_EM = {"em": 1.0, "ex": 0.5, "px": 1 / 16, "pt": 1 / 12, "mu": 1 / 18, "cm": 2.4, "mm": 0.24, "in": 6.0, "pc": 1.0,
       "bp": 1 / 12}  # fmt: skip
_NAMED = {"thin": 3, "medium": 4, "thick": 5}  # spaces, in eighteenths of an em
_FONTS = {"bold": "BOLD", "italic": "ITALIC", "bold-italic": "BOLD ITALIC", "double-struck": "DOUBLE-STRUCK",
          "script": "SCRIPT", "bold-script": "BOLD SCRIPT", "fraktur": "FRAKTUR", "bold-fraktur": "BOLD FRAKTUR",
          "sans-serif": "SANS-SERIF", "bold-sans-serif": "SANS-SERIF BOLD", "sans-serif-italic": "SANS-SERIF ITALIC",
          "sans-serif-bold-italic": "SANS-SERIF BOLD ITALIC", "monospace": "MONOSPACE"}  # fmt: skip
_DIGITS = ["ZERO", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE"]


class _UnreadableError(Exception):
    """The formula holds something that is not on the list."""


@lru_cache(maxsize=256)  # a reply that is being written shows the same formulas again and again
def to_mathml(source: str, display: bool) -> str | None:
    """A formula as a `<math>` element; None where it cannot be read, or is longer than `MAX_SOURCE`.

    Args:
        source: LaTeX without its delimiters.
        display: a line of its own, with large operators.
    """
    if len(source) > MAX_SOURCE or _REFUSED.search(source) or not _balanced(source):
        return None
    try:
        tree = convert_to_element(_known(source), display="block" if display else "inline")
        parts: list[str] = []
        _write(tree, parts, 0, [0.0])
    except Exception:  # each mistake in a formula has an exception of its own there, IndexError and StopIteration too
        return None
    return "".join(parts)


def _known(source: str) -> str:
    """The formula in the words that latex2mathml knows."""
    if "\\\\" in source and "\\begin" not in source:
        source = f"\\begin{{matrix}}{source}\\end{{matrix}}"  # lines that stand in no environment

    def alike(found: re.Match[str]) -> str:
        name = _ALIKE.get(found[2], found[2])
        return f"\\{found[1]}{{{name}}}" if name else ""

    return _ENVIRONMENT.sub(alike, _LABEL.sub("", source))


def _balanced(source: str) -> bool:
    """Whether the braces are in pairs and not nested too deep."""
    depth = 0
    for brace in re.findall(r"\\.|[{}]", source, re.DOTALL):
        depth += (brace == "{") - (brace == "}")
        if not 0 <= depth <= _MAX_DEPTH // 2:
            return False
    return depth == 0


def _write(element: Element, parts: list[str], depth: int, shift: list[float]) -> None:
    if element.tag not in TAGS or depth > _MAX_DEPTH:
        raise _UnreadableError
    text = _REFERENCE.sub(_character, element.text or "")
    if text.startswith("\\") and len(text) > 1 and element.tag in ("mi", "mo"):
        raise _UnreadableError  # a command that it does not know
    given = dict(element.attrib)
    given.pop("xmlns", None)
    variant = given.get("mathvariant", "normal")
    if variant != "normal":  # browsers know no other; Unicode has the letters
        given.pop("mathvariant")
        text = "".join(_styled(character, variant) for character in text)
    attributes = "".join(f' {name}="{escape(_value(name, value, shift))}"' for name, value in given.items())
    parts.append(f"<{element.tag}{attributes}>{escape(text)}")
    for child in element:
        _write(child, parts, depth + 1, shift)
    parts.append(f"</{element.tag}>")


def _character(reference: re.Match[str]) -> str:
    code = int(reference[1], 16)
    return chr(code) if 0x20 <= code < 0xD800 or 0xE000 <= code < 0x110000 else "\ufffd"


def _value(name: str, value: str, shift: list[float]) -> str:
    if name in LENGTHS:
        return _length(name, value, shift)
    pattern = PATTERNS.get(name)
    if value in VALUES.get(name, ()) or (pattern is not None and pattern.fullmatch(value)):
        return value.strip()
    raise _UnreadableError


def _length(name: str, value: str, shift: list[float]) -> str:
    """A length that is written out anew; `shift` adds up how far the parts move out of their places."""
    if value.endswith("mathspace"):
        negative, kind = value.startswith("negative"), value.removesuffix("mathspace").removeprefix("negative")
        value = f"{'-' if negative else ''}{_NAMED[kind]}mu"
    match = _LENGTH.fullmatch(value)
    if match is None or not match[2]:
        raise _UnreadableError
    size = float(match[2] + "0" if match[2].endswith(".") else match[2]) * _EM[match[3] or "em"]
    if match[1] == "-" or name in ("voffset", "lspace"):
        shift[0] += size
    if size > 20 or shift[0] > _MAX_SHIFT:
        raise _UnreadableError
    return f"{match[1]}{size:.4g}em"


@lru_cache(maxsize=2_048)
def _styled(character: str, variant: str) -> str:
    """A letter or digit in another style: its own sign in Unicode, where there is one."""
    style = _FONTS.get(variant)
    if style is None or not (character.isascii() and character.isalnum()):
        return character
    if character.isdigit():
        name = f"DIGIT {_DIGITS[int(character)]}"
    else:
        name = f"{'CAPITAL' if character.isupper() else 'SMALL'} {character.upper()}"
    # Some letters stood in Unicode before the others came: "DOUBLE-STRUCK CAPITAL R", "PLANCK CONSTANT".
    for full in (
        f"MATHEMATICAL {style} {name}",
        f"{style} {name}",
        f"{style.replace('FRAKTUR', 'BLACK-LETTER')} {name}",
    ):
        try:
            return unicodedata.lookup(full)
        except KeyError:
            pass
    return "ℎ" if (character, variant) == ("h", "italic") else character
