"""Small repairs of one text: each a function from text to text, and the same text again when nothing is wrong.

Code, mathematics and verse must survive: `a < b`, `<3`, `List<int>`, an indented line. Where a character could be
meant, it stays.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from html import unescape
from html.entities import name2codepoint


def _words(line: str) -> frozenset[str]:
    return frozenset(line.split())


# ---- html -----------------------------------------------------------------------------------------------------------
_BLOCK = _words(
    "p div br hr li ul ol dl dt dd tr table thead tbody tfoot caption h1 h2 h3 h4 h5 h6 blockquote pre section article "
    "header footer main nav aside form fieldset figure figcaption address center option body html head title"
)
_INLINE = _words(
    "a b i u s em strong span font small big sub sup code tt img td th input label button select textarea strike del "
    "ins mark abbr acronym cite q nobr wbr kbd samp var dfn bdi bdo iframe video audio source embed object param link "
    "meta base svg path canvas noscript picture ruby rb rt rp time"
)
_NEVER_PAIRED = frozenset(("br", "hr", "img", "input", "wbr", "link", "meta"))
_VALUE = r"""\s*=\s*(?:"[^"<>]*"|'[^'<>]*'|[^\s"'<>=]+)"""
_FLAG = (
    r"(?:checked|disabled|selected|hidden|nowrap|controls|autoplay|loop|async|defer|open|required|readonly|multiple)"
)
_TAG = re.compile(rf"<(/?)([A-Za-z][A-Za-z0-9]*)((?:\s+(?:[A-Za-z_:@][\w:.-]*{_VALUE}|{_FLAG}))*)\s*/?>", re.ASCII)
# Whole parts that hold no text: (how it begins, how it ends).
_PARTS = (
    (re.compile("<!--"), re.compile("-->")),
    (re.compile(r"<(?:script|style)(?:\s[^<>]*)?>", re.I), re.compile(r"</(?:script|style)\s*>", re.I)),
    (re.compile("<!doctype(?= )", re.I), re.compile(">")),
)
_CODE = re.compile(r"(```.*?(?:```|\Z)|`[^`\n]+`)", re.S)
_POWER = re.compile(r"<sup>(-?\d+|n)</sup>", re.I)
_BREAKS = re.compile("[ \t\n]*\x1e[ \t\n\x1e]*")
_ENTITY = re.compile(r"&(?:amp;)*(#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,7});")
_EVERYDAY_ENTITIES = frozenset(("amp", "lt", "gt", "quot", "apos", "nbsp"))


def strip_html(text: str) -> str:
    """Tags away (a block's becomes a line break), entities as the characters they mean; code in back-ticks stays.

    A bare tag without a partner ("What does <b> do?") is being talked about and stays.
    """
    if "<" not in text and "&" not in text:
        return text
    if "`" not in text:
        return _strip_html(text, text)
    parts = _CODE.split(text)
    prose = "".join(parts[::2])
    parts[::2] = [_strip_html(part, prose) for part in parts[::2]]
    return "".join(parts)


def _strip_html(text: str, prose: str) -> str:
    """`prose` is what the partner of a tag is looked for in."""
    if "<" in text:
        for begins, ends in _PARTS:
            text = _cut_parts(text, begins, ends)
        text = _POWER.sub(r"^\1", text)
        marks = [(m[1], m[2].lower()) for m in _TAG.finditer(prose)]
        closed = {name for slash, name in marks if slash}
        times = Counter(name for _, name in marks)

        def replace(tag: re.Match[str]) -> str:
            name = tag[2].lower()
            if name not in _BLOCK and name not in _INLINE:
                return tag[0]
            alone = not (tag[1] or tag[3]) and name not in closed and name not in _NEVER_PAIRED
            if alone and times[name] == 1:
                return tag[0]
            return "\x1e" if name in _BLOCK else " " if name in ("td", "th") else ""

        stripped = _TAG.sub(replace, text)
        if stripped != text:
            text = _BREAKS.sub("\n", stripped)
    return _ENTITY.sub(_character, text) if "&" in text else text


def _cut_parts(text: str, begins: re.Pattern[str], ends: re.Pattern[str]) -> str:
    """Without the stretches from `begins` to `ends`; by hand, because `.*?` takes quadratic time on hostile text."""
    kept, at = [], 0
    while (start := begins.search(text, at)) and (end := ends.search(text, start.end())):
        kept.append(text[at : start.start()])
        at = end.end()
    return "".join([*kept, text[at:]])


def _character(entity: re.Match[str]) -> str:
    name = entity[1]
    if name.startswith("#") or name in _EVERYDAY_ENTITIES:
        found = unescape(f"&{name};")
    elif name in name2codepoint and not re.search(r"=\s?$", entity.string[max(entity.start() - 2, 0) : entity.start()]):
        found = chr(name2codepoint[name])
    else:  # `p = &sum;` is C
        return entity[0]
    return " " if found == "\xa0" else found


# ---- control characters ---------------------------------------------------------------------------------------------
_EMOJI = "\u00a9\u00ae\u203c-\u3299\ufe0f\U0001f000-\U0001faff"
_JOINED_SCRIPTS = "\u0600-\u0dff\u0f00-\u109f\u1780-\u18af\ua840-\ua87f\ufb50-\ufdff\ufe70-\ufefc"
UNSEEN = re.compile(  # finds texts that may need the rest
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ufffe"
    "\uffff\ud800-\udfff\U000e0000-\U000e007f]|\r(?!\n)"
)
_TERMINAL = re.compile("\x1b\\[[0-9;?]*[@-~]")
_LINE_ENDS = re.compile("[\x0b\x0c\x85\u2028\u2029]|\r(?!\n)")
_FLAGS = re.compile("(\U0001f3f4[\U000e0020-\U000e007e]+\U000e007f)|[\U000e0000-\U000e007f]")
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x9f\xad\u200b\u2060-\u2064\u206a-\u206f\ufeff\ufff9-\ufffb\ufffe\uffff\ud800-\udfff]"
    f"|(?<![{_JOINED_SCRIPTS}])(?:\u200c|\u200d(?![{_EMOJI}])|(?<![{_EMOJI}])\u200d)"
)
_DIRECTIONS = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")


def strip_control(text: str) -> str:
    """Without control and zero-width characters; joiners stay in emoji and in scripts that are written with them,
    marks of direction beside scripts that run from right to left, the tags in flags."""
    if not UNSEEN.search(text):
        return text
    text = _LINE_ENDS.sub("\n", _TERMINAL.sub("", text))
    text = _FLAGS.sub(lambda found: found[1] or "", text)
    text = _INVISIBLE.sub("", text)
    return text if _RIGHT_TO_LEFT.search(text) else _DIRECTIONS.sub("", text)


# ---- forms of characters --------------------------------------------------------------------------------------------
_FULL_WIDTH = re.compile("[\uff01-\uff5e\u3000]")
_CHINESE = re.compile("[\u2e80-\u2fdf\u3001-\ua4cf\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]")
_HALF = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_HALF_LETTERS = {code: half for code, half in _HALF.items() if chr(half).isalnum()}
_SIGN_AFTER_LETTER = re.compile("(?<=[A-Za-z0-9])[．＠＿－＋％／＆＃＝＊＾]")


def normalize(text: str) -> str:
    """One form for each character: Unicode's NFC, and full-width letters and digits as ordinary ones.

    Beside Chinese, full-width punctuation is right and stays; in a text without Chinese it becomes half-width.
    """
    if text.isascii():
        return text
    if not unicodedata.is_normalized("NFC", text):
        text = unicodedata.normalize("NFC", text)
    if not _FULL_WIDTH.search(text):
        return text
    if not _CHINESE.search(text):
        return text.translate(_HALF).replace("\u3000", " ")
    # A sign that follows a letter or digit is part of a number or an address: ２４３．０１.
    return _SIGN_AFTER_LETTER.sub(lambda sign: chr(_HALF[ord(sign[0])]), text.translate(_HALF_LETTERS))


# ---- white space ----------------------------------------------------------------------------------------------------
_ODD_SPACES = re.compile("[\xa0\u1680\u2000-\u200a\u202f\u205f]")
_LINE_TAILS = re.compile("(?<![ \t\u3000])[ \t\u3000]++(?=\r?\n)")
_BLANK_LINES = re.compile("(\r?\n)(?:\r?\n){3,}")
_INDENTED = re.compile("\n[ \t\u3000]+[^ \t\u3000\r\n]")
_SPACES = " \t\u3000\r\n"


def tidy_whitespace(text: str) -> str:
    """No space at the ends, nor at the ends of lines; two blank lines at most; one kind of space. Spaces inside a
    line, and the indentation of a text that is indented further down too, stay: they are code or verse."""
    if not text.isascii():
        text = _ODD_SPACES.sub(" ", text)
    if "\n" not in text:
        return text.strip(_SPACES)
    text = _LINE_TAILS.sub("", text.rstrip(_SPACES))
    text = _BLANK_LINES.sub(r"\1\1\1", text).lstrip("\r\n")
    return text if _INDENTED.search(text) else text.lstrip(_SPACES)
