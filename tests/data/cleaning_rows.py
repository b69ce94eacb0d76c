"""Rows for the tests of cleaning."""

from __future__ import annotations

import csv
from pathlib import Path

from glassgpt.data.rows import Row


def text_rows(*texts: str) -> list[Row]:
    return [Row("t.csv", at + 1, ("text",), [text]) for at, text in enumerate(texts)]


def chat_rows(*pairs: tuple[str, str]) -> list[Row]:
    return [Row("t.csv", at + 1, ("user", "assistant"), list(pair)) for at, pair in enumerate(pairs)]


def texts(rows: list[Row]) -> list[str]:
    return [text for row in rows for text in row.texts]


def rejects_of(out: Path) -> list[dict[str, str]]:
    with (out / "rejects.csv").open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def sample() -> list[Row]:
    rows = chat_rows(
        *[(f"<p>问题 {n}?</p>", f"Answer number {n} &amp; more") for n in range(60)],
        *[(f"问题 {n}?", f"Answer number {n} & more") for n in range(0, 60, 3)],
        *[(f"问题 {n}", f"ANSWER number {n} & more!") for n in range(0, 60, 5)],
        ("x", "nan"),
        ("=cmd|'/c calc'!A1", ""),
    )
    return [
        *rows,
        Row("t.csv", 99, ("text",), ["just\ta text"]),
        Row("p", 1, ("user", "chosen", "rejected"), ["q", "a", "b"]),
    ]
