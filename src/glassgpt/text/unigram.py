"""The tokenizer of encoders that come from XLM-R: the likeliest way to write a text in pieces (Kudo 2018,
arXiv:1804.10959), found by the `tokenizers` library.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import tokenizers

from glassgpt.core.errors import FormatError

_SPACES = re.compile(" {2,}")


class Unigram:
    """Text to the ids of pieces.

    Args:
        pieces, scores: the entries in the order of their ids, and their log-probabilities.
        begin, end, unknown: ids of what stands around a text, and of a character that is in no piece.
        changes: what single characters become first, by their numbers (compatibility forms, control characters).

    Raises:
        FormatError: the library refuses the pieces.
    """

    def __init__(self, pieces: Sequence[str], scores: Sequence[float], begin: int, end: int, unknown: int,
                 changes: Mapping[int, str]) -> None:  # fmt: skip
        self.begin, self.end, self._changes = begin, end, dict(changes)
        try:
            model = tokenizers.models.Unigram(list(zip(pieces, scores, strict=True)), unknown, False)
            self._engine = tokenizers.Tokenizer(model)
        except Exception as error:  # the library raises bare Exception
            raise FormatError("the tokenizer cannot be built: {reason}", reason=str(error)[:200]) from error
        self._engine.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace(prepend_scheme="always", split=False)

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without those that stand around it; white space around it does not count."""
        text = _SPACES.sub(" ", text.translate(self._changes)).strip()
        return self._engine.encode_batch_fast([text], add_special_tokens=False)[0].ids if text else []
