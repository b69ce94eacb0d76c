"""A file's bytes as lines: unpacked, decoded, and never more of it in memory than a block.

Lines end with "\\n", "\\r\\n" or "\\r" and keep their end, so that a table can hold line breaks within a cell.
"""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from glassgpt.core.errors import FormatError, InputError
from glassgpt.core.words import Sentence
from glassgpt.data.encoding import ERRORS, Encoding, check_encoding, find_encoding

BLOCK = 1 << 20  # bytes read at once
MAX_LINE = 16 << 20  # characters of one line or record
_MAX_RATIO, _RATIO_FROM = 200, 256 << 20  # real text packs at most 20 to 1; a trap packs 1,000 to 1

_BINARY = (  # how files begin that are no text
    (b"PK\x03\x04", Sentence("a zip archive or Excel workbook")),
    (b"\xd0\xcf\x11\xe0", Sentence("an old Office document")),
    (b"%PDF", Sentence("a PDF document")),
    (b"\x89PNG", Sentence("an image")),
    (b"\xff\xd8\xff", Sentence("an image")),
    (b"GIF8", Sentence("an image")),
    (b"BZh", Sentence("a bzip2 archive")),
    (b"\xfd7zXZ", Sentence("an xz archive")),
    (b"7z\xbc\xaf", Sentence("a 7z archive")),
    (b"Rar!", Sentence("a RAR archive")),
    (b"\x28\xb5\x2f\xfd", Sentence("a zstd archive")),
    (b"PAR1", Sentence("a Parquet file")),
    (b"SQLite format 3", Sentence("a database")),
    (b"\x7fELF", Sentence("a program")),
    (b"GGUF", Sentence("a model")),
)


def cannot_open(name: str, error: Exception) -> FormatError:
    """The error for a file or folder that the system refuses."""
    return FormatError(
        "{name} cannot be opened ({reason})",
        hint="Check that the file may be read.",
        name=name,
        reason=getattr(error, "strerror", None) or str(error),
    )


class TextFile:
    """One text file, plain or packed with gzip, in the encoding that was found.

    Args:
        path: the file.
        name: what the user is told it is called.
        encoding: the encoding's name where the user gave one; otherwise it is found.
        advance: told the number of bytes of the file that each block took.

    Attributes:
        encoding: what was found.
        zeros: how many zero characters were taken out so far.

    Raises:
        InputError: the file is empty.
        FormatError: it is no text, or damaged.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        *,
        encoding: str | None = None,
        advance: Callable[[int], None] | None = None,
    ) -> None:
        self.path, self.name, self._advance = path, name, advance
        self.zeros = 0
        try:
            with path.open("rb") as file:
                head = file.read(16)
        except OSError as error:
            raise cannot_open(name, error) from None
        self.packed = head.startswith(b"\x1f\x8b")
        if self.packed:
            head = next(self._blocks(), b"")[:16]
        if not head:
            raise InputError("{name} is empty", hint="Give a file with at least one record.", name=name)
        for start, kind in _BINARY:
            if head.startswith(start):
                raise FormatError(
                    "{name} is {kind}, not a text file",
                    hint="Give CSV, TSV, JSON, JSONL, Parquet or plain text; spreadsheets can be saved as CSV.",
                    name=name,
                    kind=kind,
                )
        self.encoding: Encoding = check_encoding(encoding) if encoding else find_encoding(self._blocks(), name)

    def _blocks(self, advance: Callable[[int], None] | None = None) -> Iterator[bytes]:
        """The unpacked bytes."""
        size, given, before = self.path.stat().st_size, 0, 0
        with self.path.open("rb") as raw:
            file = gzip.GzipFile(fileobj=raw) if self.packed else raw
            while True:
                try:
                    block = file.read(BLOCK)
                except (OSError, EOFError, zlib.error) as error:
                    raise FormatError(
                        "{name} is damaged: it cannot be unpacked to its end ({reason})",
                        hint="Fetch or pack the file again.",
                        name=self.name,
                        reason=str(error),
                    ) from None
                if advance:
                    advance(raw.tell() - before)
                    before = raw.tell()
                if not block:
                    return
                given += len(block)
                if self.packed and given > _RATIO_FROM and given > _MAX_RATIO * size:
                    raise FormatError(
                        "{name} unpacks to more than {ratio} times its size, as no text does",
                        hint="If it is meant to, unpack it and give the plain file.",
                        name=self.name,
                        ratio=_MAX_RATIO,
                    )
                yield block

    def beginning(self) -> str:
        """The text of the first block, for a look ahead."""
        return codecs.getincrementaldecoder(self.encoding.name)(ERRORS).decode(next(self._blocks(), b""))

    def texts(self) -> Iterator[str]:
        """The decoded text in blocks; zero characters are taken out and counted, since no text means them."""
        decoder = codecs.getincrementaldecoder(self.encoding.name)(ERRORS)
        for block in self._blocks(self._advance):
            yield self._without_zeros(decoder.decode(block))
        yield self._without_zeros(decoder.decode(b"", final=True))

    def _without_zeros(self, text: str) -> str:
        if "\0" not in text:
            return text
        self.zeros += text.count("\0")
        return text.replace("\0", "")

    def lines(self) -> Iterator[list[str]]:
        """The lines in blocks, each with the characters that end it.

        Raises:
            FormatError: a line is longer than any record may be.
        """
        carry = ""
        for text in self.texts():
            lines = io.StringIO(carry + text, newline="").readlines()
            carry = lines.pop() if lines else ""  # it may go on, and "\r" may be half of "\r\n"
            if len(carry) > MAX_LINE:
                raise FormatError(
                    "{name} has a line of more than {limit} characters",
                    hint="One record may not be longer; put each record on a line of its own.",
                    name=self.name,
                    limit=MAX_LINE,
                )
            if lines:
                yield lines
        if carry:
            yield [carry]
