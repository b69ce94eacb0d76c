"""The pictures of chapter 11: which heads of SmolLM2 copy, and where the answer lies on its way through the layers.

`python docs/course/pictures/11_inside.py`.
"""

from __future__ import annotations

from bilingual import save

import glassgpt
from glassgpt.inside import plots
from glassgpt.inside.ablate import patch
from glassgpt.inside.heads import head_scores


def main() -> None:
    model = glassgpt.load("smollm2")
    scores = head_scores(model)
    save("11-heads", lambda words: plots.heads(scores, "induction", language=words("en", "zh")))
    moved = patch(model, "The capital of France is", "The capital of Italy is", " Paris", " Rome")
    save("11-patching", lambda words: plots.patching(moved, language=words("en", "zh")))


if __name__ == "__main__":
    main()
