"""What happened in a build: kept beside its run, so that one that was stopped can go on and still tell everything."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from glassgpt.core.errors import ConfigError, FormatError
from glassgpt.core.files import write_whole
from glassgpt.core.runs import STORY
from glassgpt.data.rows import Row
from glassgpt.evaluation.answers import Answer

COUNTS = ("rows_in", "kept", "changed", "unreadable")  # of cleaning, told in the report


@dataclass
class Story:
    """`before` and `after` training are measured on the same held-out rows; None and empty where that has not been done
    (yet).

    Attributes:
        data: the file, as the user named it.
        cleaning: the counts of `CleanReport.summary`.
        refused: clean rows that make no example.
        leaks: held-out rows that also stand in training.
        asked: the held-out conversations that are answered before and after.
    """

    data: str
    cleaning: dict[str, Any]
    train_rows: int = 0
    held_out_rows: int = 0
    refused: int = 0
    leaks: int = 0
    asked: list[Row] = field(default_factory=list)
    loss_before: float | None = None
    loss_after: float | None = None
    answers_before: list[Answer] = field(default_factory=list)
    answers_after: list[Answer] = field(default_factory=list)

    def save(self, folder: Path) -> None:
        """Write it into a run's folder."""
        write_whole(folder / STORY, json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Story:
        """The story in a run's folder. Raises ConfigError when there is none, FormatError when it is damaged."""
        path = folder / STORY
        if not path.is_file():
            raise ConfigError(
                "{folder} is no build whose rows were ready", folder=folder,
                hint="Start it anew, or go on with a run of `glassgpt finetune` by that verb's --resume.",
            )  # fmt: skip
        try:
            story = cls(**json.loads(path.read_text(encoding="utf-8")))
            if not story._is_whole():
                raise TypeError
            story.asked = [Row(**row | {"roles": tuple(row["roles"])}) for row in story.asked]  # type: ignore[operator, index]
            story.answers_before = [Answer(**answer) for answer in story.answers_before]  # type: ignore[arg-type]
            story.answers_after = [Answer(**answer) for answer in story.answers_after]  # type: ignore[arg-type]
        except (ValueError, TypeError, KeyError, AttributeError):
            raise FormatError("{path} is damaged", hint="Restore it from a copy.", path=path) from None
        return story

    def _is_whole(self) -> bool:
        """Whether all that is told later is there and of its kind."""
        counts = [self.train_rows, self.held_out_rows, self.refused, self.leaks, *map(self.cleaning.get, COUNTS)]
        losses = [loss for loss in (self.loss_before, self.loss_after) if loss is not None]
        return (
            all(isinstance(count, int) for count in counts) and isinstance(self.cleaning.get("dropped"), dict)
            and all(isinstance(loss, float) for loss in losses)
        )  # fmt: skip
