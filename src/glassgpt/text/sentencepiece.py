"""SentencePiece's BPE from a vocabulary and its scores, as GGUF files carry it (no list of merges).

Kudo and Richardson, "SentencePiece" (2018): start from single characters and always merge the adjacent pair
whose concatenation is the vocabulary entry with the highest score, leftmost first. The list of merges that
other libraries want is never needed for this; building it for Gemma's 262,144 entries would take most of the
time of loading that model.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from itertools import compress

SPACE = "▁"  # SentencePiece writes a space as U+2581
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6  # token types in GGUF files
_LONGEST_CACHED, _MOST_CACHED = 32, 1 << 16
_INNER_SPACE = re.compile(f"([^{SPACE}]){SPACE}")


def byte_of(token: str) -> int | None:
    """The byte that a byte token such as "<0x0A>" stands for; None for any other text."""
    if not token.startswith("<0x"):
        return None
    match = re.fullmatch(r"<0x([0-9A-F]{2})>", token)
    return int(match[1], 16) if match else None


class ScoredPieces:
    """The encoder: text to ids by scores.

    Args:
        tokens: vocabulary entries by id.
        scores: the score of each; higher merges first.
        types: the GGUF type of each. Normal entries merge, user-defined ones are found first and stand for
            themselves, byte tokens spell characters that are not in the vocabulary; the rest is never produced.
        add_space_prefix: whether a text begins with a space that is not there.
    """

    def __init__(
        self, tokens: Sequence[str], scores: Sequence[float], types: Sequence[int], *, add_space_prefix: bool
    ) -> None:
        self.add_space_prefix = add_space_prefix
        normal = [t == NORMAL for t in types]
        others = [i for i, yes in enumerate(normal) if not yes]
        self._ids = dict(zip(compress(tokens, normal), compress(range(len(tokens)), normal), strict=True))
        self._scores = scores
        self._bytes = {byte_of(tokens[i]): i for i in others if types[i] == BYTE}
        own = {tokens[i].replace(" ", SPACE): i for i in others if types[i] == USER_DEFINED and tokens[i]}
        self._user_defined = own
        longest_first = sorted(own, key=len, reverse=True)
        self._split = re.compile("(" + "|".join(map(re.escape, longest_first)) + ")") if own else None
        # Words can be merged one by one, and cached, but for the few characters after which some entry
        # runs on into the next word (Gemma has one such entry, ">▁</").
        inner = {c for t in self._ids if t.rfind(SPACE) > 0 for c in _INNER_SPACE.findall(t)}
        runs_on = f"(?:(?<=[{re.escape(''.join(sorted(inner)))}]){SPACE}+[^{SPACE}]*)*" if inner else ""
        self._words = re.compile(f"{SPACE}*[^{SPACE}]+{runs_on}|{SPACE}+")
        self._cache: dict[str, tuple[int, ...]] = {}

    def encode(self, text: str, *, prefix: bool = True) -> list[int]:
        """The ids of `text`. `prefix=False` leaves out the space that `add_space_prefix` puts before it."""
        text = text.replace(" ", SPACE)
        if prefix and self.add_space_prefix and text:
            text = SPACE + text
        ids: list[int] = []
        for part in self._split.split(text) if self._split else (text,):
            if part in self._user_defined:
                ids.append(self._user_defined[part])
                continue
            for word in self._words.findall(part):
                ids.extend(self._cache.get(word) or self._encode_word(word))
        return ids

    def cannot_encode(self, text: str) -> int | None:
        """The position of the first character that has neither an entry nor byte tokens; None when all have."""
        if len(self._bytes) == 256:
            return None
        plain = text.replace(" ", SPACE)
        inside = {i for m in self._split.finditer(plain) for i in range(*m.span())} if self._split else set()
        for i, character in enumerate(plain):
            known = character in self._ids or all(b in self._bytes for b in character.encode())
            if not known and i not in inside:
                return i
        return None

    def _encode_word(self, word: str) -> tuple[int, ...]:
        ids: list[int] = []
        for symbol in self._merge(word):
            known = self._ids.get(symbol)
            ids.extend([known] if known is not None else [self._bytes[b] for b in symbol.encode()])
        result = tuple(ids)
        if len(word) <= _LONGEST_CACHED:
            if len(self._cache) >= _MOST_CACHED:
                self._cache.clear()
            self._cache[word] = result
        return result

    def _merge(self, word: str) -> list[str]:
        """Symbols left when no adjacent pair is an entry. A linked list of symbols and a heap of pairs:
        O(n log n) in the length of the word."""
        ids, scores, n = self._ids, self._scores, len(word)
        symbols = list(word)
        after, before = list(range(1, n + 1)), list(range(-1, n - 1))
        heap = []
        for i in range(n - 1):
            pair = word[i : i + 2]
            if (known := ids.get(pair)) is not None:
                heap.append((-scores[known], i, pair))
        heapify(heap)
        while heap:
            _, i, pair = heappop(heap)
            j = after[i]
            if not symbols[i] or j >= n or symbols[i] + symbols[j] != pair:
                continue  # one of the two has been merged since
            symbols[i], symbols[j] = pair, ""
            after[i] = k = after[j]
            if k < n:
                before[k] = i
                joined = pair + symbols[k]
                if (known := ids.get(joined)) is not None:
                    heappush(heap, (-scores[known], i, joined))
            h = before[i]
            if h >= 0:
                joined = symbols[h] + pair
                if (known := ids.get(joined)) is not None:
                    heappush(heap, (-scores[known], h, joined))
        return [s for s in symbols if s]

    def merges(self) -> list[list[str]]:
        """The pairs that merge, best first: what tokenizer.json holds instead of scores."""
        pairs = []
        for token, number in self._ids.items():
            for cut in range(len(token) - 1, 0, -1):
                left, right = token[:cut], token[cut:]
                if left in self._ids and right in self._ids:
                    pairs.append((-self._scores[number], [left, right]))
        pairs.sort(key=lambda pair: pair[0])
        return [pair for _, pair in pairs]
