"""Which encoding a file is in, found from its bytes.

In this order: a byte order mark says it; zero bytes in a regular place are UTF-16 or UTF-32 without one; what decodes
as UTF-8 is UTF-8; otherwise the encoding under which the bytes are the likeliest writing (`languages`), and a second
opinion from charset-normalizer where none makes sense. A byte that the encoding does not explain is kept as a mark,
never replaced, so that the record it stands in can be told as a problem.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable
from dataclasses import dataclass

from charset_normalizer import from_bytes

from glassgpt.core.errors import ConfigError, FormatError
from glassgpt.data.languages import MARK, cost

SAMPLE = 24_000  # bytes of lines beyond ASCII that are looked at closely
_ERRORS = "glassgpt.mark"

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16: its mark begins with the same two bytes
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# What may stand behind bytes that are not UTF-8, the languages it is used for, and how rare it is (a cost).
_CANDIDATES = (
    ("utf-8", "any", 0.0),
    ("gb18030", "simplified", 0.0),
    ("gb18030", "traditional", 3.0),
    ("cp950", "traditional", 0.5),
    ("big5hkscs", "traditional", 3.0),
    ("cp932", "japanese", 0.5),
    ("euc_jp", "japanese", 5.0),
    ("cp949", "korean", 2.0),
    ("cp1252", "western", 0.0),
    ("cp1250", "central", 2.0),
    ("iso8859_2", "central", 2.5),
    ("cp1254", "turkish", 2.0),
    ("cp1251", "cyrillic", 2.0),
    ("koi8_r", "cyrillic", 3.0),
    ("cp866", "cyrillic", 4.0),
    ("iso8859_5", "cyrillic", 5.0),
    ("mac_cyrillic", "cyrillic", 6.0),
    ("cp1253", "greek", 4.0),
    ("cp1255", "hebrew", 4.0),
    ("cp1256", "arabic", 4.0),
    ("cp874", "thai", 5.0),
    *((f"utf-16-{end}", language, 4.0) for end in ("le", "be") for language in ("simplified", "traditional")),
    *((f"utf-16-{end}", language, 6.0) for end in ("le", "be") for language in ("japanese", "korean", "western")),
)
_SENSELESS = 9.0  # a cost for each byte beyond ASCII that no real text was seen to reach
_ENOUGH = 32  # bytes beyond ASCII below which charset-normalizer's opinion is worth less than ours
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_SURE = 12.0  # nats by which the best explanation beats the next: e**12 to one


@dataclass(frozen=True)
class Encoding:
    """An encoding as Python names it, and how it was found.

    Attributes:
        name: for `open` and `bytes.decode`. "utf-8-sig", "utf-16" and "utf-32" take the byte order mark off.
        bom: the file begins with a byte order mark.
        whole: every byte of the file is explained; otherwise marks may stand in the decoded text.
        rival: the next likeliest encoding where the choice is a close one, or "".
        found: told by statistics rather than by a mark, zero bytes or UTF-8's form.
    """

    name: str
    bom: bool = False
    whole: bool = False
    rival: str = ""
    found: bool = False


def _keep_as_marks(error: UnicodeError) -> tuple[str, int]:
    """A `codecs` error handler: each byte that cannot be decoded becomes the character U+DC00 + byte."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(chr(0xDC00 + b) for b in error.object[error.start : error.end]), error.end


codecs.register_error(_ERRORS, _keep_as_marks)
ERRORS = _ERRORS


def show_marks(text: str) -> str:
    """`text` with each byte that was not explained, or half of a character, written out as it stood."""

    def shown(mark: re.Match[str]) -> str:
        code = ord(mark[0])
        return f"\\x{code - 0xDC00:02x}" if 0xDC00 <= code <= 0xDCFF else f"\\u{code:04x}"

    return MARK.sub(shown, text)


def check_encoding(name: str) -> Encoding:
    """The encoding a user named.

    Raises:
        ConfigError: Python has no text encoding of that name.
    """
    try:
        codecs.lookup(name)
        "".encode(name)
    except (LookupError, ValueError):
        raise ConfigError(
            "there is no encoding named {name}",
            hint="Known ones are utf-8, utf-16, gb18030, big5, shift_jis, euc_kr, cp1252 and others that Python knows.",
            name=name,
        ) from None
    return Encoding("utf-8-sig" if codecs.lookup(name).name == "utf-8" else name)  # with or without a mark


def find_encoding(blocks: Iterable[bytes], name: str = "") -> Encoding:
    """The encoding of a file that is given in blocks from its beginning, all of it.

    Args:
        blocks: the bytes; one block is held at a time, and a sample.
        name: the file's name, for the error.

    Raises:
        FormatError: the bytes are no text, or no encoding explains them.
    """
    blocks = iter(blocks)
    head = next(blocks, b"")
    for mark, codec in _BOMS:
        if head.startswith(mark):
            return Encoding(codec, bom=True)
    wide = _wide(head[:SAMPLE])
    if wide:
        return Encoding(wide)
    if len(_CONTROL.findall(head[:SAMPLE])) > 2 + len(head[:SAMPLE]) // 20:
        raise _binary(name)
    utf8 = codecs.getincrementaldecoder("utf-8")()
    sample: list[bytes] = []
    size, valid = 0, True
    block = head
    while block:
        following = next(blocks, b"")
        if valid:
            try:
                utf8.decode(block, final=not following)
            except UnicodeDecodeError:
                valid = False
        if size < SAMPLE and not block.isascii():
            for line in re.findall(rb"[^\r\n]*[\r\n]*", block):
                if size < SAMPLE and not line.isascii():
                    sample.append(line[:SAMPLE])
                    size += len(sample[-1])
        if not valid and size >= SAMPLE:
            break
        block = following
    if valid:
        return Encoding("utf-8", whole=True)
    return _likeliest(b"".join(sample), head[:SAMPLE], name)


def _binary(name: str) -> FormatError:
    return FormatError(
        "{name} is not text: it is full of bytes that stand for no character",
        hint="Give a table, JSON or text file; save a spreadsheet or document as CSV or plain text first.",
        name=name,
    )


def _wide(head: bytes) -> str:
    """UTF-16 or UTF-32 without a mark, which is full of zero bytes or, in Chinese, of bytes that no text holds."""
    if not _CONTROL.search(head) or len(head) % 2:
        return ""
    if head.count(0) > len(head) // 2 and len(head) % 4 == 0:
        for codec in ("utf-32-le", "utf-32-be"):
            if not MARK.search(head.decode(codec, ERRORS)):
                return codec
    costs = [(cost(head.decode("utf-8", ERRORS), "any"), "")]
    for codec, language, rarity in _CANDIDATES:
        if codec.startswith("utf-16"):
            costs.append((cost(head.decode(codec, ERRORS), language) + rarity, codec))
    lowest, best = min(costs)
    return best if lowest < _SENSELESS / 2 * len(head) + 12 else ""


def _likeliest(sample: bytes, head: bytes, name: str) -> Encoding:
    """The candidate under which the sample costs least."""
    costs = []
    for codec, language, rarity in _CANDIDATES:
        raw = head if codec.startswith("utf-16") else sample  # UTF-16 has no lines before it is decoded
        text = raw.decode(codec, ERRORS)
        scale = len(sample) / max(1, len(raw))
        costs.append((cost(text, language) * scale + rarity, codec))
    costs.sort()
    lowest, best = costs[0]
    beyond = sum(1 for b in sample if b > 0x7F)
    ascii_cost = cost("".join(chr(b) for b in sample if b < 0x80), "any")
    if lowest - ascii_cost > _SENSELESS * beyond:
        opinion = from_bytes(sample).best() if beyond >= _ENOUGH else None
        if opinion is None and beyond >= _ENOUGH:
            raise FormatError(
                "{name} is in no encoding that explains its bytes",
                hint="It may not be text; if it is, save it as UTF-8 and try again.",
                name=name,
            )
        if opinion is not None:
            return Encoding(opinion.encoding, rival=best, found=True)
    rival = ""
    for value, codec in costs[1:]:
        if value - lowest > _SURE:
            break
        if codec != best and sample.decode(codec, ERRORS) != sample.decode(best, ERRORS):
            rival = codec
            break
    return Encoding(best, rival=rival, found=True)
