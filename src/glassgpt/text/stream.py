"""Ids to text while they arrive: nothing is shown before its last byte is there."""

from __future__ import annotations

import codecs
from collections.abc import Callable


class StreamDecoder:
    """Turns a growing list of ids into text, piece by piece.

    What all `push` calls and one `finish` return, joined, is exactly `Tokenizer.decode` of the same ids.
    A character whose bytes are spread over several tokens appears with the last of them, so every prefix is
    valid UTF-8. Bytes that can no longer become a character appear as U+FFFD as soon as that is certain.
    """

    def __init__(self, token_bytes: Callable[[int], bytes]) -> None:
        self._token_bytes = token_bytes
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token_id: int) -> str:
        """The text that this token completes; "" while a character is unfinished."""
        return self._utf8.decode(self._token_bytes(token_id))

    @property
    def unfinished(self) -> bool:
        """Whether a character has begun whose last byte is not there."""
        return bool(self._utf8.getstate()[0])

    def finish(self) -> str:
        """The rest: U+FFFD where the ids end in the middle of a character, else ""."""
        return self._utf8.decode(b"", final=True)
