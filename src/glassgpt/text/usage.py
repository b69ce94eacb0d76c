"""How a tokenizer fares on a text: characters and bytes per token by script, and which tokens occur how often."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from glassgpt.text.tokenizer import Tokenizer

SCRIPTS = ("other", "english", "chinese")
_OTHER, _ENGLISH, _CHINESE = range(3)
_HAN = ((0x3005, 0x3007), (0x3021, 0x3029), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3347F))
_LATIN = ((0x41, 0x5A), (0x61, 0x7A), (0xC0, 0x24F))
_PIECE = 1 << 17  # characters encoded at a time
_BREAK = re.compile(r"\n(?=\S)")


@dataclass
class Part:
    """Tokens, and the characters and UTF-8 bytes that they stand for."""

    tokens: int = 0
    characters: int = 0
    bytes: int = 0

    @property
    def characters_per_token(self) -> float:
        """0 where there is no token."""
        return self.characters / max(1, self.tokens)

    @property
    def bytes_per_token(self) -> float:
        """0 where there is no token."""
        return self.bytes / max(1, self.tokens)


class Usage:
    """Counts the tokens of texts that are added one by one.

    A token belongs to "chinese" when it has a Chinese character or bytes of one in it, to "english" when it has a
    Latin letter, and to "other" (digits, punctuation, spaces, other scripts) when it has neither; the space that a
    word brings with it counts for the word.

    Attributes:
        parts: what each script has.
        counts: how often each id occurred, [V].
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.parts = {name: Part() for name in SCRIPTS}
        self.counts = np.zeros(tokenizer.vocab_size, dtype=np.int64)
        self._lengths = np.array([len(tokenizer.token_bytes(i)) for i in range(tokenizer.vocab_size)])

    @property
    def whole(self) -> Part:
        """All scripts together."""
        parts = self.parts.values()
        return Part(sum(p.tokens for p in parts), sum(p.characters for p in parts), sum(p.bytes for p in parts))

    def add(self, text: str) -> None:
        """Count one text; raises InputError at a character that the tokenizer cannot express."""
        for piece in _pieces(text):
            ids = np.array(self.tokenizer.encode(piece, add_bos=False), dtype=np.int64)
            if len(ids):
                self._count(ids, b"".join(map(self.tokenizer.token_bytes, ids.tolist())).decode("utf-8", "replace"))

    def most_frequent(self, count: int) -> list[tuple[int, int]]:
        """Ids with how often they occurred, the most frequent first; none that did not."""
        order = np.argsort(-self.counts, kind="stable")[:count]
        return [(int(i), int(self.counts[i])) for i in order if self.counts[i]]

    def _count(self, ids: np.ndarray, text: str) -> None:
        self.counts += np.bincount(ids, minlength=len(self.counts))
        code = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
        width = 1 + (code >= 0x80) + (code >= 0x800) + (code >= 0x10000)
        script = np.full(len(code), _OTHER)
        for which, ranges in ((_ENGLISH, _LATIN), (_CHINESE, _HAN)):
            for first, last in ranges:
                script[(code >= first) & (code <= last)] = which
        begins = np.zeros(int(width.sum()), dtype=np.int64)  # by byte: 1 where a character begins
        begins[np.cumsum(width) - width] = 1
        lengths = self._lengths[ids]
        starts = np.cumsum(lengths) - lengths
        script = np.maximum.reduceat(np.repeat(script, width), starts)  # by token: the highest of its bytes
        characters = np.add.reduceat(begins, starts)
        for which, name in enumerate(SCRIPTS):
            mine, part = script == which, self.parts[name]
            part.tokens += int(mine.sum())
            part.characters += int(characters[mine].sum())
            part.bytes += int(lengths[mine].sum())


def _pieces(text: str) -> Iterator[str]:
    """The text in pieces of lines, so that the ids of a long one do not fill the memory. A word never goes on over the
    end of a line, so they are the ids of the whole."""
    start = 0
    while len(text) - start > _PIECE and (end := _BREAK.search(text, start + _PIECE)):
        yield text[start : end.end()]
        start = end.end()
    yield text[start:]
