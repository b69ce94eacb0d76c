"""A text that is asked about, as tokens of the run's own tokenizer and as bytes: what offsets are counted by."""

from __future__ import annotations

import numpy as np

from glassgpt.core.errors import InputError
from glassgpt.inside.suffix_array import REACH, UNKNOWN, Ints
from glassgpt.text.tokenizer import Tokenizer

MOST_CHARACTERS = 100_000
MOST_UNKNOWN = 100  # different characters that a tokenizer lacks


class Asked:
    """A text as tokens and bytes.

    Attributes:
        text: as the tokenizer sees it: one that normalises (NFC) may change it, and all offsets are of this one.
        symbols: the ids plus 1, [T]; `UNKNOWN` for a character that the tokenizer lacks.
        edges: at which byte each token begins, and the end, [T + 1].
    """

    def __init__(self, text: str, tokenizer: Tokenizer) -> None:
        check_text(text)
        symbols: list[int] = []
        pieces: list[bytes] = []
        for known, part in _parts(text, tokenizer):
            if not known:
                symbols.append(UNKNOWN)
                pieces.append(part.encode("utf-8", "replace"))
                continue
            ids = tokenizer.encode_segment(part, after="text" if symbols else "start")
            said = [tokenizer.token_bytes(i) for i in ids]
            if said and b"".join(said) == b" " + part.encode():  # a tokenizer that puts a space before a text
                said[0] = said[0][1:]
            symbols += [i + 1 for i in ids]
            pieces += said
        if len(symbols) > REACH:
            raise InputError(
                "the text has {count:,} tokens; at most {limit:,} can be asked about",
                hint="Give a part of it.", count=len(symbols), limit=REACH,
            )  # fmt: skip
        self.symbols = np.array(symbols, np.int64)
        self.bytes = b"".join(pieces)
        self.text = self.bytes.decode("utf-8", "replace")
        self.edges = np.concatenate([[0], np.cumsum([len(piece) for piece in pieces])]).astype(np.int64)
        begun = (np.frombuffer(self.bytes, np.uint8) & 0xC0) != 0x80
        self._begun = np.concatenate([[0], np.cumsum(begun)])  # characters that began before each byte
        self._boundary = np.append(begun, True)

    def character_from(self, byte: int) -> int:
        """The first character that begins at this byte or after it."""
        return int(self._begun[byte])

    def character_to(self, byte: int) -> int:
        """The character before which all bytes are whole characters and lie before this byte."""
        return int(self._begun[byte]) - int(not self._boundary[byte])

    def touched(self) -> tuple[Ints, Ints]:
        """The characters that each token's first byte and last byte belong to, [T]: one and the same for each piece of
        a character that was cut."""
        begun = self._begun.astype(np.int64)
        last = len(begun) - 1
        first_byte, last_byte = np.minimum(self.edges[:-1] + 1, last), self.edges[1:]
        return np.maximum(begun[first_byte] - 1, 0), np.maximum(begun[last_byte] - 1, 0)

    def byte_at(self, character: int) -> int:
        """The byte at which a character begins; of the number of all of them, the end."""
        return int(np.searchsorted(self._begun, character + 1)) - 1


def check_text(text: str) -> None:
    """Raises InputError where a text is empty or has too many characters to be asked about."""
    if not text.strip():
        raise InputError("the text is empty", hint="Give a reply, or a part of one.")
    if len(text) > MOST_CHARACTERS:
        raise InputError(
            "the text has {count:,} characters; at most {limit:,} can be asked about",
            hint="Give a part of it.", count=len(text), limit=MOST_CHARACTERS,
        )  # fmt: skip


def _parts(text: str, tokenizer: Tokenizer) -> list[tuple[bool, str]]:
    """The text cut at characters that the tokenizer cannot express, which so stand nowhere in its data."""
    unknown: set[str] = set()
    while True:
        known = "".join(c for c in text if c not in unknown) if unknown else text
        try:
            tokenizer.encode_segment(known)
            break
        except InputError as error:
            position = error.facts.get("position")
            if position is None or len(unknown) == MOST_UNKNOWN:
                raise
            unknown.add(known[position])
    parts: list[tuple[bool, str]] = []
    for character in text if unknown else ():
        if character in unknown or not parts or not parts[-1][0]:
            parts.append((character not in unknown, character))
        else:
            parts[-1] = (True, parts[-1][1] + character)
    return parts or [(True, text)]
