"""Guessing tokens before they are computed, so that one step can confirm several.

A guess costs a row in a step whose weights are read anyhow, and never changes a reply: it stays only where the model,
asked for the same position, chooses the same token with the same chance (Leviathan et al. 2023, arXiv:2211.17192, in
the exact form). Here guesses come from the text itself: what followed the last tokens when they stood there before
(prompt lookup), which is how answers quote questions, tables and code.
"""

from __future__ import annotations

from collections.abc import Sequence

LONGEST, SHORTEST = 4, 2  # tokens in a row that must have stood there before
MOST = 7  # tokens guessed at once: with the certain one, as many rows as two readings of the weights serve
ENOUGH = 0.35  # the share of guesses that must come true for guessing to pay
PATIENCE = 8  # steps without guessing before it is tried again


class PromptLookup:
    """Guesses for one text. How far they came true decides how many are made, and whether."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self.tokens: list[int] = []
        self._seen: dict[tuple[int, ...], int] = {}  # what stood before a place, to the last such place
        self.rate, self.resting = 1.0, 0
        self._add(tokens)

    def append(self, accepted: Sequence[int], guessed: int) -> None:
        """Note the tokens of a step, for which so many had been guessed."""
        self._add(accepted)
        if guessed:
            self.rate += 0.25 * ((len(accepted) - 1) / guessed - self.rate)
            if self.rate < ENOUGH:
                self.rate, self.resting = ENOUGH, PATIENCE

    def guess(self) -> list[int]:
        """What may come next; [] where nothing like it stood there before, or guessing has not paid lately."""
        if self.resting:
            self.resting -= 1
            return []
        for length in range(LONGEST, SHORTEST - 1, -1):
            place = self._seen.get(tuple(self.tokens[-length:]))
            if place is not None and place < len(self.tokens):
                return self.tokens[place : place + max(1, round(MOST * self.rate))]
        return []

    def _add(self, tokens: Sequence[int]) -> None:
        for token in tokens:
            # What ends before this token is known to be followed by it.
            for length in range(SHORTEST, LONGEST + 1):
                if len(self.tokens) >= length:
                    self._seen[tuple(self.tokens[-length:])] = len(self.tokens)
            self.tokens.append(token)
