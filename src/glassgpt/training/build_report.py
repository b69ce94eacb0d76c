"""The story of a build as one page: what came in, what was left out, what was learned, and what it answers now."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from glassgpt.core.files import write_whole
from glassgpt.core.html import Html, element, page, table
from glassgpt.core.runs import Run
from glassgpt.core.words import say

if TYPE_CHECKING:
    from glassgpt.evaluation.answers import Answer
    from glassgpt.training.sft import FineTuneSettings
    from glassgpt.training.story import Story

REPORT = "report.html"
CELL = 300  # characters


def write_report(run: Run, story: Story, settings: FineTuneSettings, language: str) -> Path:
    """Write report.html into the run."""

    def words(template: str, **facts: object) -> str:
        return say(template, language, **facts)

    cleaning = story.cleaning
    rows: list[tuple[object, object]] = [
        (words("rows read"), cleaning["rows_in"]),
        (words("kept after cleaning"), cleaning["kept"]),
        (words("changed by cleaning"), cleaning["changed"]),
        *((words("dropped: {reason}", reason=reason), count) for reason, count in cleaning["dropped"].items() if count),
        (words("not readable"), cleaning["unreadable"]),
        (words("trained on"), story.train_rows),
        (words("held out"), story.held_out_rows),
        (words("too long or not to be expressed"), story.refused),
        (words("held-out rows that also stand in training"), story.leaks),
    ]
    read = run.about["doctor"]["sides"]["train"]
    examined = words("The doctor found nothing broken: of {tokens:,} tokens to train on {trained:,} are learned.",
                     tokens=read["trained"] + read["context"], trained=read["trained"])  # fmt: skip
    before, after = story.answers_before, story.answers_after
    measured: list[tuple[object, ...]] = [
        (words("loss on held-out rows (nats per token)"), _loss(story.loss_before), _loss(story.loss_after)),
    ]
    if after:
        measured += [
            (words("answers that match word for word"), _exact(before), _exact(after)),
            (words("characters in common with the wanted answer"), _overlap(before), _overlap(after)),
        ]
    given = [a.given for a in after] or ["–"] * len(before)
    cells = ((b.question, b.wanted, b.given, now) for b, now in zip(before, given, strict=True))
    examples = [tuple(map(shortened, row)) for row in cells]
    plot = run.folder / "loss.svg"
    go_on = words("The training was stopped, so it was not measured again. Go on with it: {command}",
                  command=f"glassgpt build --resume {run.folder}")  # fmt: skip
    parts = [
        element("p", words("{data} became a model that began as {base}.", data=story.data, base=settings.base)),
        element("p", element("code", f"glassgpt chat {run.folder}")),
        element("p", go_on) if story.loss_after is None else "",
        element("h2", words("The rows")),
        table([words("what"), words("rows")], rows),
        element("p", words("Every dropped row stands with its reason in {path}.", path="cleaning/rejects.csv")),
        element("p", examined),
        element("h2", words("Before and after")),
        table(["", words("before"), words("after")], measured),
        element("h2", words("The training")),
        Html(_svg(plot)) if plot.exists() else "",
        element("h2", words("Held-out questions, which it never saw")),
        table([words("question"), words("wanted"), words("before"), words("after")], examples) if examples else "",
    ]
    path = run.folder / REPORT
    write_whole(path, page(words("How {name} was built", name=run.folder.name), language, *parts))
    return path


def shortened(text: str) -> str:
    """A text for a cell: on one line, and no longer than can be looked over; an untrained model may repeat itself."""
    line = " ".join(text.split())
    return line if len(line) <= CELL else line[: CELL - 1] + "…"


def _svg(path: Path) -> str:
    """The plot without its XML declaration, so that it can stand in a page."""
    text = path.read_text(encoding="utf-8")
    return text[text.index("<svg") :]


def _loss(loss: float | None) -> str:
    return "–" if loss is None else f"{loss:.3f}"


def _exact(answers: list[Answer]) -> str:
    return f"{sum(answer.exact for answer in answers)} / {len(answers)}"


def _overlap(answers: list[Answer]) -> str:
    return f"{sum(answer.overlap for answer in answers) / max(1, len(answers)):.0%}"
