"""The picture of chapter 7: what became of the sample's records. `python docs/course/pictures/07_cleaning.py`."""

from __future__ import annotations

from importlib.resources import files

from bilingual import BLUE, GREEN, RED, Words, plt, save
from matplotlib.figure import Figure

from glassgpt.data.clean import clean_rows
from glassgpt.data.report import Problem
from glassgpt.data.sources import read_rows


def main() -> None:
    problems: list[Problem] = []
    rows = list(read_rows(str(files("glassgpt") / "samples" / "shop.csv"), problems=problems.append))
    _, report = clean_rows(rows)

    def draw(words: Words) -> Figure:
        bars = [
            (words("kept as they are", "原样保留"), report.kept - report.changed, GREEN),
            (words("kept, repaired", "修复后保留"), report.changed, BLUE),
            (words("nothing in a cell", "问题或答案为空"), report.dropped["missing"], RED),
            (words("equal to another", "与别的行相同"), report.dropped["duplicates"], RED),
            (words("nearly equal", "与别的行几乎相同"), report.dropped["near-duplicates"], RED),
            (words("no row at all", "读不成一行"), len(problems), RED),
        ]
        figure, axes = plt.subplots(figsize=(7, 2.6))
        names, counts, colours = zip(*bars[::-1], strict=True)
        axes.barh(names, counts, color=colours)
        for place, count in enumerate(counts):
            axes.text(count + 4, place, str(count), va="center")
        axes.set_xlim(0, 360)
        axes.set_xlabel(
            words(f"records, of {len(rows) + len(problems)}", f"记录数（共 {len(rows) + len(problems)} 条）")
        )
        return figure

    save("07-cleaning", draw)


if __name__ == "__main__":
    main()
