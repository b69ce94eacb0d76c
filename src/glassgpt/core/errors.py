"""The one error family: what was given, what was expected, and what to do next.

A message is a template in English with named fields, so that the same error can be told in Chinese
(`core.words` holds the translations) without a second sentence in the code. The library raises; the edge
(command line, server, page) prints one line and the hint.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from glassgpt.core.words import Sentence, say


class GlassError(Exception):
    """Something a person can act on. `str(error)` is the English message, `hint` what to do next.

    Args:
        message: one line, a `str.format` template over `facts`.
        hint: one line that says what to do next, a template over the same facts.
        facts: the values named in the two templates. A value is never treated as a template;
            a `Sentence` is put into the language of the message.
    """

    def __init__(self, message: str, *, hint: str = "", **facts: Any) -> None:
        self._message, self._hint, self.facts = message, hint, facts
        super().__init__(self.message("en"))

    def message(self, language: str = "en") -> str:
        """The message in `language` ("en" or "zh"), on one line."""
        return _one_line(say(self._message, language, **self.facts))

    def sentence(self) -> Sentence:
        """The message as a part of another one, which puts it into its own language."""
        return Sentence(self._message, **self.facts)

    def hint(self, language: str = "en") -> str:
        """What to do next, in `language`; empty where there is nothing to add."""
        return _one_line(say(self._hint, language, **self.facts)) if self._hint else ""

    def line(self, language: str = "en") -> str:
        """Message and hint as two sentences on one line."""
        stop = "。" if language == "zh" else ". "
        return f"{self.message(language)}{stop}{self.hint(language)}".rstrip()


class ConfigError(GlassError):
    """A setting that is unknown, of the wrong kind, out of range, or at odds with another."""


class InputError(GlassError):
    """Text, messages or ids that cannot be used as they are (empty, or too long for the model)."""


class NotFoundError(GlassError):
    """A model, file or name that is not there."""


class FormatError(GlassError):
    """A file that is damaged, unsupported, or not what its name says."""


class FetchError(GlassError):
    """Something could not be brought here: no connection, no space, or a wrong hash."""


def nearest(name: str, known: list[str]) -> str:
    """The known name most like `name`, or "" when none is close: for hints such as "did you mean x?"."""
    folded = {k.casefold(): k for k in known}
    matches = get_close_matches(name.casefold(), folded, n=1, cutoff=0.6)
    return folded[matches[0]] if matches else ""


def _one_line(text: str) -> str:
    return " ".join(text.split())
