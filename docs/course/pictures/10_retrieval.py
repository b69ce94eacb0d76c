"""The picture of chapter 10: what the search by words and the search by meaning think of a question and a row.

`python docs/course/pictures/10_retrieval.py`.
"""

from __future__ import annotations

import numpy as np
from bilingual import Words, plt, save
from matplotlib.figure import Figure

from glassgpt.assistant.bm25 import BEST, Bm25
from glassgpt.assistant.encoders import ENGLISH, load_encoders
from glassgpt.assistant.terms import terms

ROWS = (
    ("Return a teapot?", "How do I return a teapot? Unused goods can be returned within 30 days."),
    ("Delivery time?", "How long does delivery take? A parcel takes 2 to 3 working days."),
    ("Broken cup.", "My cup arrived broken. Send us a photo within 7 days and we replace it."),
    ("Gift wrapping?", "What does gift wrapping cost? Gift wrapping costs 3 euros."),
)
ASKED = ("How do I return my pot?", "Could somebody refund me?", "Shipping time?", "The mug was smashed.",
         "Do you wrap presents?", "Who won the world cup in 1998?")  # fmt: skip


def main() -> None:
    words, encoders = Bm25(), load_encoders()
    for _, text in ROWS:
        words.add(terms(text))
    by_words = []
    for question in ASKED:
        scores, whole = words.score(terms(question))
        by_words.append(scores / (BEST * whole))
    passages = encoders.encode(ENGLISH, [text for _, text in ROWS], "passage")
    by_meaning = encoders.encode(ENGLISH, list(ASKED), "query") @ passages.T
    tables = (np.array(by_words), np.array(by_meaning))

    def draw(say: Words) -> Figure:
        figure, both = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True, layout="constrained")
        titles = (
            say("by words: share of the question", "按词：问题中词的份额"),
            say("by meaning: cosine", "按含义：余弦"),
        )
        for axes, title, table in zip(both, titles, tables, strict=True):
            axes.imshow(table, cmap="Blues", vmin=0, vmax=0.8, aspect="auto")
            for (row, column), value in np.ndenumerate(table):
                axes.text(
                    column, row, f"{value:.2f}", ha="center", va="center", color="white" if value > 0.45 else "black"
                )
            axes.set_xticks(range(len(ROWS)), [short for short, _ in ROWS], fontsize=8)
            axes.set_title(title, fontsize=10)
            axes.tick_params(length=0)
        both[0].set_yticks(range(len(ASKED)), ASKED)
        return figure

    save("10-retrieval", draw)


if __name__ == "__main__":
    main()
