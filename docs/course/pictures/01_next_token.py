"""The picture of chapter 1: a sentence, each token shaded by the probability that SmolLM2 gave it.

`python docs/course/pictures/01_next_token.py`.
"""

from __future__ import annotations

from bilingual import save

import glassgpt
from glassgpt.inside import plots
from glassgpt.inside.steps import read_steps

TEXT = "Water boils at one hundred degrees Celsius at sea level."


def main() -> None:
    steps = read_steps(glassgpt.load("smollm2"), TEXT)
    save("01-next-token", lambda words: plots.probabilities(steps, language=words("en", "zh")))


if __name__ == "__main__":
    main()
