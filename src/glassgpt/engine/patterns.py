r"""Regular expressions that generated text can be held to, and the formats of JSON Schema as such.

The dialect is what JSON Schema recommends and all engines agree on: characters, classes, groups, `|`, repetition,
`^` and `$` at the ends; `\d \w \s` are ASCII. What engines read differently is refused by name.
"""

from __future__ import annotations

import re
from typing import Any

from glassgpt.core.errors import ConfigError
from glassgpt.core.words import Sentence

MAX_LENGTH = 2_000  # characters of a pattern
MAX_SIZE = 3_000  # characters when its repetitions are written out; nested ones can take seconds and gigabytes
_REPEAT = re.compile(r"\{([0-9]{1,6})(,([0-9]{0,6}))?\}")
_GROUP = re.compile(r"\(\?(?::|P?<[A-Za-z_][A-Za-z0-9_]*>)")
# Of the others, some have all control characters in them (see `check_pattern`), some are unknown to other engines.
_SCRIPTS = "Han|Hiragana|Katakana|Hangul|Latin|Greek|Cyrillic|Arabic|Hebrew|Devanagari|Thai"
_ESCAPE = re.compile(
    r"\\(?:[dDwWsSnrtfv]|p\{(?:(?:sc|Script)=)?(?:[LMNPSZ][a-z]?|Letter|Number|Punctuation|Symbol|Alphabetic|digit|"
    + _SCRIPTS
    + r")\}|x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|[^0-9A-Za-z_<>])"
)
_DELETE = 0x7F
_UNQUOTED = frozenset(range(32)) - {8, 9, 10, 12, 13} | {_DELETE}  # what JSON writes as \\u and four digits
_PARTS = re.compile(r"\\.|\[\^?|.", re.DOTALL)
_CONTROL = r"\x00-\x07\x0b\x0e-\x1f\x7f"
_WHITE = {  # by escape, and whether it stands in a negated class
    (r"\s", False): r"[ \t\n\r\f\v]",
    (r"\s", True): r"[\s\x{FEFF}]",
    (r"\S", False): r"[^\s\x{FEFF}]",
    (r"\S", True): r"[^ \t\n\r\f\v]",
}

_DAY = r"(?:0[1-9]|1\d|2[0-8])"
_LEAP = r"(?:[1-9]\d(?:0[48]|[2468][048]|[13579][26])|(?:[2468][048]|[13579][26])00)"
_DATE = (
    rf"(?:[1-9]\d{{3}}-(?:(?:0[1-9]|1[0-2])-{_DAY}|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)|{_LEAP}-02-29)"
)
_TIME = r"(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,6})?(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)"
_LABEL = r"[A-Za-z0-9]{1,16}(?:-[A-Za-z0-9]{1,14}){0,2}"  # no "--", which begins encoded names
_HOST = rf"{_LABEL}(?:\.{_LABEL}){{0,4}}"
_BYTE = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_WORD = r"[0-9A-Fa-f]{1,4}"
_URI_CHARACTER = r"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})"

# Each is narrower than its RFC (years from 1000, no leap seconds, at most five labels in a name), so that every
# validator agrees and no value goes on for ever.
FORMATS = {
    name: f"^{pattern}$"
    for name, pattern in {
        "date": _DATE,
        "time": _TIME,
        "date-time": rf"{_DATE}T{_TIME}",
        "duration": r"P(?:\d{1,4}W|\d{1,4}D|T\d{1,4}H|T\d{1,4}M|T\d{1,4}S|\d{1,4}DT\d{1,2}H(?:\d{1,2}M(?:\d{1,2}S)?)?)",
        "email": rf"[A-Za-z0-9_+-]{{1,32}}(?:\.[A-Za-z0-9_+-]{{1,16}}){{0,2}}@{_LABEL}(?:\.{_LABEL}){{1,3}}",
        "hostname": _HOST,
        "ipv4": rf"{_BYTE}(?:\.{_BYTE}){{3}}",
        "ipv6": rf"(?:(?:{_WORD}:){{7}}{_WORD}|::(?:{_WORD}(?::{_WORD}){{0,6}})?|(?:{_WORD}:){{1,6}}(?::{_WORD}))",
        "uuid": r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}",
        "uri": rf"[A-Za-z][A-Za-z0-9+.-]{{0,15}}://{_HOST}(?::[1-9]\d{{0,3}})?(?:/{_URI_CHARACTER}{{0,64}}){{0,8}}"
        rf"(?:\?{_URI_CHARACTER}{{0,64}})?(?:#{_URI_CHARACTER}{{0,64}})?",
    }.items()
}


def check_pattern(pattern: Any, quoted: bool = False) -> int:
    """The size of a pattern with its repetitions written out.

    Args:
        pattern: the pattern, from outside.
        quoted: whether it is for the inside of a JSON string. Control characters without a short escape are
            refused there: the compiler leaves them out of a text without a word, and takes a class that has all
            of them for one that has quotation marks too.

    Raises:
        ConfigError: not a text, too long or too large, or it uses what cannot be held to or is read differently
            by different engines.
    """
    if not isinstance(pattern, str):
        raise ConfigError("{value} is not a regular expression", value=repr(pattern)[:60])
    if len(pattern) > MAX_LENGTH:
        raise _too_large(pattern, len(pattern), MAX_LENGTH)
    if any("\ud800" <= c <= "\udfff" for c in pattern):
        raise _refused(pattern, Sentence("half of a surrogate pair"))
    frames, i = [[0, 0]], 0  # per open group: the size so far without its last atom, and that atom's (0: none)
    while i < len(pattern):
        character, frame = pattern[i], frames[-1]
        if character == "(":
            i = _group_start(pattern, i)
            frames.append([0, 0])
            continue
        if character in "*+?{":
            i, times = _repetition(pattern, i)
            if not frame[1]:
                raise _refused(pattern, Sentence("a repetition of nothing, or of a repetition"))
            frame[:] = [frame[0] + frame[1] * times, 0]
        else:
            atom, end = (0 if character in "|^$" else 1), i + 1
            if character == ")":
                if len(frames) == 1:
                    raise _refused(pattern, ")")
                atom, frame = max(sum(frames.pop()), 1), frames[-1]
            frame[:] = [sum(frame), atom]
            if character == "[":
                end = _class_end(pattern, i, quoted)
            elif character == "\\":
                end = _escape_end(pattern, i)
            if quoted and character != "[" and _code(pattern[i:end]) in _UNQUOTED:
                raise _refused(pattern, Sentence("a control character"))
            i = end
        if sum(frame) > MAX_SIZE:
            raise _too_large(pattern, sum(frame), MAX_SIZE)
    if len(frames) > 1:
        raise _refused(pattern, "(")
    return sum(frames[0])


def portable(pattern: str) -> str:
    """A checked pattern for the inside of a JSON string: `\\s` and `\\S` narrowed to what all engines take for white
    space, and for none; negated classes without the control characters that are not written anyway."""
    out, negated = "", False
    for part in _PARTS.findall(pattern):
        negated = part == "[^" or (negated and part != "]")
        out += _WHITE.get((part, negated), part) + (_CONTROL if part == "[^" else "")
    return out


def _group_start(pattern: str, i: int) -> int:
    if pattern[i + 1 : i + 2] != "?":
        return i + 1
    if found := _GROUP.match(pattern, i):
        return found.end()
    raise _refused(pattern, pattern[i : i + 4])


def _repetition(pattern: str, i: int) -> tuple[int, int]:
    """Where the repetition at `i` ends, and how many times it writes out what stands before it."""
    times, end = 1, i + 1
    if pattern[i] == "{":
        if not (found := _REPEAT.match(pattern, i)):
            raise _refused(pattern, "{")
        times, end = max(int(found[1]), int(found[3] or 0), 1), found.end()
    return end + (pattern[end : end + 1] == "?"), times  # a lazy one writes the same texts


def _class_end(pattern: str, i: int, quoted: bool) -> int:
    negated = pattern[i + 1 : i + 2] == "^"
    start = i = i + 1 + negated
    while i < len(pattern):
        if pattern[i] == "]" and i > start:
            return i + 1
        if pattern[i] in "[]" or pattern[i : i + 2] in ("&&", "--", "~~"):  # literal here, an operation there
            raise _refused(pattern, Sentence("{what} inside a class", what=pattern[i : i + 2]))
        end = _escape_end(pattern, i) if pattern[i] == "\\" else i + 1
        if quoted and not negated and (code := _code(pattern[i:end])) in _UNQUOTED:
            # Harmless as the end of a range, and in one that reaches beyond the quotation mark and the backslash.
            to = _escape_end(pattern, end + 1) if pattern[end + 1 : end + 2] == "\\" else end + 2
            wide = pattern[end : end + 1] == "-" and _code(pattern[end + 1 : to]) > ord("\\")
            if not wide and not (code == _DELETE and pattern[i - 1] == "-" and i - 1 > start):
                raise _refused(pattern, Sentence("a control character"))
            end = to if wide else end
        i = end
    raise _refused(pattern, "[")


def _code(atom: str) -> int:
    """The character that a part of a pattern stands for, as its number; -1 for a class of them."""
    if len(atom) == 1:
        return ord(atom)
    if atom[1:2] in ("x", "u"):
        return int(atom[2:], 16)
    return {"\\v": 0x0B, "\\t": 9, "\\n": 10, "\\f": 12, "\\r": 13}.get(atom, -1)


def _escape_end(pattern: str, i: int) -> int:
    if found := _ESCAPE.match(pattern, i):
        return found.end()
    raise _refused(pattern, pattern[i : i + 2])


def _refused(pattern: str, what: str | Sentence) -> ConfigError:
    return ConfigError(
        "the regular expression {pattern} uses {what}, which is not supported",
        hint="Write it with characters, classes, groups, | and repetition.",
        pattern=repr(pattern)[:60],
        what=what,
    )


def _too_large(pattern: str, size: int, limit: int) -> ConfigError:
    return ConfigError(
        "the regular expression {pattern} is too large: {size} characters when written out, at most {limit}",
        hint="Make it simpler.",
        pattern=repr(pattern)[:60],
        size=size,
        limit=limit,
    )
