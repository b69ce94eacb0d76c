"""What the tests of sources share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from glassgpt.data.report import Problem, SourceReport
from glassgpt.data.rows import Row
from glassgpt.data.sources import read_rows


def rows(path: Path | str, content: str | bytes | None = None, **settings: Any) -> tuple[list[Row], list[Problem], Any]:
    """The rows of a file, the problems, and the first report."""
    if content is not None:
        Path(path).write_bytes(content if isinstance(content, bytes) else content.encode())
    problems: list[Problem] = []
    reports: list[SourceReport] = []
    found = list(read_rows(path, report=reports, problems=problems.append, **settings))
    assert sum(r.rows for r in reports) == len(found)
    assert sum(r.problems for r in reports) == len(problems)
    return found, problems, reports[0]


def texts(found: list[Row]) -> list[list[str]]:
    return [row.texts for row in found]


def jsonl(*records: Any) -> str:
    return "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records)


def csvish(text: str) -> bytes:
    """Text with a table's own characters strewn in."""
    return ("question,answer\n" + text.replace("0", '"').replace("1", ",").replace("a", "\n")).encode("utf-16")


PAIR = ("user", "assistant")
LONG = ("system", "user", "assistant")
