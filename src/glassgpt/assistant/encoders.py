"""Which encoder reads which text: a small English one is better at English than a multilingual one of its size.

Vectors of two encoders say nothing about each other. So a row is read by the encoder of its language alone, and a
question by each encoder that has read rows.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from glassgpt.assistant.index import Floats
from glassgpt.core.errors import ConfigError

MULTILINGUAL, ENGLISH = 0, 1  # which of `Encoders`
_FOREIGN = 0.1  # the share of letters outside ASCII from which a text is not taken for English


class Encodes(Protocol):
    """What turns texts into vectors."""

    name: str
    width: int

    def encode(self, texts: Sequence[str], role: str = "") -> Floats: ...


@dataclass(frozen=True)
class Encoders:
    """An encoder for all languages, and one for English where there is one.

    Raises:
        ConfigError: their vectors differ in length.
    """

    multilingual: Encodes
    english: Encodes | None = None

    def __post_init__(self) -> None:
        if self.english is not None and self.english.width != self.multilingual.width:
            raise ConfigError(
                "{one} gives vectors of {width}, {other} of {given}",
                hint="Choose two of the same length, or one alone.",
                one=self.multilingual.name,
                width=self.multilingual.width,
                other=self.english.name,
                given=self.english.width,
            )

    @property
    def name(self) -> str:
        """Tells these encoders from others."""
        return self.multilingual.name + (f" + {self.english.name}" if self.english else "")

    @property
    def width(self) -> int:
        """How many numbers a vector has."""
        return self.multilingual.width

    def which(self, text: str) -> int:
        """The encoder that reads a text."""
        return ENGLISH if self.english is not None and is_english(text) else MULTILINGUAL

    def encode(self, which: int, texts: Sequence[str], role: str) -> Floats:
        """Vectors of one of them, [N, width]; see `TextEncoder.encode`."""
        encoder = self.multilingual if which == MULTILINGUAL else self.english
        assert encoder is not None
        return encoder.encode(texts, role)

    def question(self, text: str, read: Collection[int]) -> dict[int, Floats]:
        """A question's vector by each encoder of `read` that may read it. The English one knows nothing else."""
        kinds = {MULTILINGUAL, self.which(text)} & set(read)
        return {kind: np.asarray(self.encode(kind, [text], "query")[0]) for kind in kinds}


def is_english(text: str) -> bool:
    """Whether a text is written in ASCII letters, but for a few."""
    if text.isascii():
        return True
    letters = [c for c in text if c.isalpha()]
    return sum(not c.isascii() for c in letters) <= _FOREIGN * len(letters)


def load_encoders(*, threads: int = 0) -> Encoders:
    """Those of the catalog, fetched where they are not here.

    Raises:
        FetchError: one could not be brought here.
    """
    from glassgpt.engine.load_encoder import load_encoder

    # 4 bits: as good as 8 here, and twice as fast (docs/log.md).
    return Encoders(
        load_encoder("e5-small", threads=threads), load_encoder("minilm", precision="int4", threads=threads)
    )
