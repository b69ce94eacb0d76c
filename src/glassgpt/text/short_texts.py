"""Byte-pair encoding of a first short text, while the library's engine does not exist yet.

The engine is built from all merges, and that takes longer than reading a model; a prompt needs a few of them. What is
encoded here has the engine's ids exactly, only slower by the character, so the engine takes over soon.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from itertools import chain, pairwise, repeat
from typing import Any

from glassgpt.text import tokenizer_json as tj

BUDGET = 20_000  # characters; by then the engine would have been quicker
_PART = 4096  # merges
_LONGEST_WORD = 100  # characters: the time grows with its square


class ShortTexts:
    """The encoder: words as the library cuts them, then always the merge that comes first in the list, leftmost first.

    Args:
        cutter: the library's pre-tokenizer.
        merges: "a b", the best first.
        ids: of each entry.
        control: the ids that no text becomes.
    """

    def __init__(self, cutter: Any, merges: list[str], ids: Mapping[str, int], control: Set[int]) -> None:
        self._cutter, self._ids, self._control = cutter, ids, control
        self._ranks = dict(zip(merges, range(len(merges)), strict=True))
        self._left = BUDGET

    def encode(self, text: str) -> list[int] | None:
        """The ids of `text`; None when it is for the engine, as is all that the engine would refuse or drop."""
        self._left -= len(text)
        if self._left < 0:
            return None
        words = [word for word, _ in self._cutter.pre_tokenize_str(text)]
        if any(len(word) > _LONGEST_WORD for word in words):
            return None
        try:
            return [self._ids[symbol] for word in words for symbol in self._merge(list(word))]
        except KeyError:  # a character without an entry, or a merge that gives a control token
            return None

    def _merge(self, symbols: list[str]) -> list[str]:
        ranks, never = self._ranks, len(self._ranks)
        costs = [ranks.get(f"{a} {b}", never) for a, b in pairwise(symbols)]
        while costs and (best := min(costs)) < never:
            i = costs.index(best)
            merged = symbols[i] + symbols[i + 1]
            if self._ids[merged] in self._control:
                raise KeyError(merged)
            symbols[i : i + 2] = [merged]
            del costs[i]
            for j in (i - 1, i):
                if 0 <= j < len(costs):
                    costs[j] = ranks.get(f"{symbols[j]} {symbols[j + 1]}", never)
        return symbols


def short_texts(spec: tj.Spec, control: Mapping[str, int]) -> ShortTexts | None:
    """The encoder for a tokenizer.json that holds merges of bytes and nothing else; None for any other, and where the
    engine has something to refuse."""
    model, added = spec["model"], {a["content"] for a in spec.get("added_tokens") or []}
    if model.get("ignore_merges") or spec.get("normalizer") or added - control.keys():
        return None
    if not _fit(model.get("merges"), model["vocab"]):
        return None
    cutter = tj.build({**spec, "model": {}, "added_tokens": [], "post_processor": None}).pre_tokenizer
    return ShortTexts(cutter, model["merges"], model["vocab"], frozenset(control.values())) if cutter else None


def _fit(merges: Any, ids: Mapping[str, int]) -> bool:
    """Whether merges are all "a b" with a, b and ab in the vocabulary."""
    if not merges or not isinstance(merges, list):
        return False
    # In parts: each of these lines lets no other thread run, and a server may be answering meanwhile.
    return all(_all_fit(merges[at : at + _PART], ids) for at in range(0, len(merges), _PART))


def _all_fit(merges: list[Any], ids: Mapping[str, int]) -> bool:
    if set(map(type, merges)) != {str} or set(map(str.count, merges, repeat(" "))) != {1}:
        return False
    parts = chain.from_iterable(map(str.split, merges, repeat(" ")))
    return all(map(ids.__contains__, parts)) and all(
        map(ids.__contains__, map(str.replace, merges, repeat(" "), repeat("")))
    )
