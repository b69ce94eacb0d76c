"""What of a passage is searched: the same words whichever way they are written, without what every answer repeats.

Only the search reads this. What is shown and quoted stays as it stands in the file.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from glassgpt.assistant.passage import Passage
from glassgpt.data.mojibake import repair_mojibake
from glassgpt.data.repair import strip_control, strip_html

_SENTENCE = re.compile(r"[^.!?。！？\n]+[.!?。！？\n]*[\"'”’)」』]*\s*")
_LETTER = re.compile(r"\w")
# A sentence in this many different answers, and in this share of them, says nothing about any of them.
_TIMES, _SHARE = 5, 0.02


def plain(text: str) -> str:
    """A text without mark-up, wrongly decoded characters and invisible ones; compatible forms made alike (NFKC)."""
    text = strip_html(text) if "<" in text or "&" in text else text
    return unicodedata.normalize("NFKC", strip_control(repair_mojibake(text))).strip()


def search_texts(passages: Sequence[Passage]) -> list[tuple[str, str]]:
    """Of each passage of a file: the question, and what answers it; ("", the text) where it is no such row.

    Greetings and other sentences that many answers of the file share are left out, unless nothing else would be left.
    """
    answers = [plain(p.text if p.answer is None else p.answer) for p in passages]
    often = _often(answers)
    return [
        ("" if p.question is None else plain(p.question), _without(answer, often) if often else answer)
        for p, answer in zip(passages, answers, strict=True)
    ]


def _often(answers: Sequence[str]) -> set[str]:
    different = set(answers)
    counts = Counter(s for answer in different for s in {m.group().strip() for m in _SENTENCE.finditer(answer)})
    least = max(_TIMES, _SHARE * len(different))
    return {sentence for sentence, count in counts.items() if count >= least}


def _without(answer: str, often: set[str]) -> str:
    kept = "".join(m.group() for m in _SENTENCE.finditer(answer) if m.group().strip() not in often)
    return kept.strip() if _LETTER.search(kept) else answer
