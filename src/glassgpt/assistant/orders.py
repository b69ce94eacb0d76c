"""Looking an order up in a table, as an example of a tool over the business's own data.

Only rows whose number is exactly the one that was asked for are shown: nobody learns what others ordered, not even
which numbers there are.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any

from glassgpt.assistant.tool import TIMEOUT_S, Tool, tool
from glassgpt.core.errors import ConfigError, FormatError, GlassError, NotFoundError, nearest
from glassgpt.core.words import say
from glassgpt.data.columns import fold
from glassgpt.data.reading import TextFile
from glassgpt.data.tables import Table, Trouble

MAX_BYTES = 64 << 20
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./-]{2,}")  # what an order number may look like in a message
MAX_ROWS = 500_000
MAX_NUMBER = 100  # characters of what is looked up
MAX_SHOWN = 20  # rows of one order
MAX_CELL = 500  # characters of a cell that are shown


def order_lookup(
    path: str | Path, column: str, *, name: str = "order_lookup", description: str = "", hide: Collection[str] = (),
    language: str = "en",
) -> Tool[..., Any]:  # fmt: skip
    """A tool that looks an order up by its number.

    The table is read when it is first asked for and again whenever the file has changed. Numbers are the same where
    they are so after NFKC (full-width digits) and without white space around them; nothing similar is shown.

    Args:
        path: a table (CSV, TSV) with a header.
        column: the name of the column with the number.
        name, description: what the model is told.
        hide: names of columns that are never shown.
        language: of the sentences around the rows, "en" or "zh".

    Raises:
        NotFoundError: there is no such file.
        FormatError: it is too large, damaged, or no table.
        ConfigError: it has no such column.
    """
    orders = _Orders(Path(path), column, hide)
    orders.rows()

    def look_up(number: str) -> str:
        return orders.told(number, language)

    about = description or (
        "Looks up an order: its state, date and contents.\n\nUse it when the user gives an order number."
    )
    made = tool(name=name, description=about, timeout_s=TIMEOUT_S)(look_up)
    return replace(made, spot=orders.spotted)


class _Orders:
    """The rows of a file by their numbers."""

    def __init__(self, path: Path, column: str, hide: Collection[str]) -> None:
        self.path, self.column, self.hide = path, column, hide
        self._lock = Lock()
        self._stamp: tuple[int, int, int] | None = None
        self._rows: dict[str, list[list[tuple[str, str]]]] = {}
        self._unread = 0

    def rows(self) -> dict[str, list[list[tuple[str, str]]]]:
        """All rows; reads the file where it is another than before. What cannot be read is an error, never an old
        state that looks like the present one."""
        with self._lock:
            try:
                stat = self.path.stat()
            except OSError:
                self._stamp = None
                raise NotFoundError(
                    "there is no file {path}", hint="Check where the orders are.", path=self.path.name
                ) from None
            stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if stamp != self._stamp:
                self._stamp = None
                self._read(stat.st_size)
                self._stamp = stamp
            return self._rows

    def spotted(self, message: str) -> dict[str, Any] | None:
        """The number in a message that is one of an order; None where there is none. A file that cannot be read is told
        when it is looked up in."""
        try:
            rows = self.rows()
        except GlassError:
            return None
        return next(({"number": word} for word in _WORD.findall(_key(message)) if word in rows), None)

    def told(self, number: str, language: str) -> str:
        """What the file says of a number."""
        key = _key(number)
        if not key or len(number) > MAX_NUMBER:
            return say("No order number was given. Ask the user for it.", language)
        found = self.rows().get(key, [])
        if not found:
            text = say("There is no order with the number {number} in the list.", language, number=repr(key))
            if self._unread:
                more = say("{count} rows of the list could not be read.", language, count=self._unread)
                text = f"{text} {more}"
            return text
        lines = ["\n".join(f"{name}: {cell}" for name, cell in row) for row in found[:MAX_SHOWN]]
        if len(found) > MAX_SHOWN:
            lines.append(say("[{shown} of {count} rows are shown]", language, shown=MAX_SHOWN, count=len(found)))
        return "\n\n".join(lines)

    def _read(self, size: int) -> None:
        if size > MAX_BYTES:
            raise FormatError("{path} is larger than {limit} bytes", path=self.path.name, limit=MAX_BYTES)
        names = frozenset(fold(name) for name in (self.column, *self.hide))
        table = Table(TextFile(self.path, self.path.name), names)
        at = _column(table, self.column, self.path.name)
        hidden = {_column(table, name, self.path.name) for name in self.hide}
        shown = [i for i, name in enumerate(table.header) if name and i not in hidden]
        rows: dict[str, list[list[tuple[str, str]]]] = {}
        unread, count = len(table.preamble), 0
        for block in table.records():
            for record in block:
                if isinstance(record, Trouble):
                    unread += 1
                    continue
                count += 1
                if count > MAX_ROWS:
                    raise FormatError(
                        "{path} has more than {limit} rows",
                        hint="Keep the orders of the last months in it.",
                        path=self.path.name,
                        limit=MAX_ROWS,
                    )
                cells = [(table.header[i], _cell(record[i])) for i in shown if record[i].strip()]
                if key := _key(record[at]):
                    rows.setdefault(key, []).append(cells)
        self._rows, self._unread = rows, unread


def _column(table: Table, wanted: str, path: str) -> int:
    folded = [fold(name) for name in table.header]
    if folded.count(fold(wanted)) != 1:
        near = nearest(wanted, table.header)
        raise ConfigError(
            "{path} has no column {column}, or several; it has {known}",
            hint="Did you mean {near!r}?" if near and fold(near) != fold(wanted) else "Name one of its columns.",
            path=path,
            column=repr(wanted),
            known=", ".join(table.header)[:200],
            near=near,
        )
    return folded.index(fold(wanted))


def _key(text: str) -> str:
    return unicodedata.normalize("NFKC", text).strip()


def _cell(text: str) -> str:
    """On one line, so that no cell looks like a row of its own."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_CELL else line[:MAX_CELL] + "..."
