"""Records of named values: JSON lines, JSON, Parquet, and data sets of a hub.

Each reader gives the records one by one, or a `Trouble` where one is damaged.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from glassgpt.core.errors import ConfigError, FetchError, FormatError, InputError
from glassgpt.core.words import Sentence
from glassgpt.data.columns import recognise
from glassgpt.data.languages import MARK
from glassgpt.data.reading import MAX_LINE, TextFile
from glassgpt.data.tables import Trouble

_BLANKS = re.compile(r"[\s\ufeff]*")
_BEGINS_JSON = re.compile(r"[\s\ufeff]*(?:\{[^\S\n]*\n|\[\s*\{)")
_BETWEEN = re.compile(r"[\s,]*")
_DECODER = json.JSONDecoder()
_BATCH = 1000
_HUB_NAME = re.compile(r"hf:([\w.-]+/[\w.-]+|[\w.-]+)(?::([\w.\[\]:%+-]+))?")


def spans_lines(file: TextFile) -> bool:
    """Whether a file of JSON lines is none: it begins with an array of objects, or its first line opens an object
    only, as indented JSON does."""
    return _BEGINS_JSON.match(file.beginning()) is not None


def jsonl_records(file: TextFile) -> Iterator[Any | Trouble]:
    """One JSON value a line; blank lines are none."""
    for lines in file.lines():
        for line in lines:
            if line.strip():
                yield _value_of(line, file)


def _value_of(line: str, file: TextFile) -> Any | Trouble:
    if not file.encoding.whole and MARK.search(line):
        return Trouble(
            Sentence("it holds bytes that {encoding} does not explain", encoding=file.encoding.name), line.strip()
        )
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        reason = Sentence("it is not valid JSON: {reason} at character {at}", reason=error.msg, at=error.pos + 1)
    except (ValueError, RecursionError):
        reason = Sentence("its JSON holds a number too long or lists within lists too deep")
    return Trouble(reason, line.strip())


def json_records(file: TextFile) -> Iterator[Any | Trouble]:
    """The elements of an array, or of the one list of objects within an object, or objects one after another.

    The file is read a block at a time: memory holds one element and one block.

    Raises:
        FormatError: the JSON is damaged; what follows the damage cannot be found in an array.
    """
    buffer = _Buffer(file)
    buffer.skip(_BLANKS)
    if buffer.peek() != "[":
        first = True
        while buffer.peek():
            value = buffer.value()
            buffer.skip(_BLANKS)
            lists = [v for v in value.values() if isinstance(v, list) and v] if isinstance(value, dict) else []
            alone = first and not buffer.peek() and len(lists) == 1 and len(value) == 1 and not recognise(list(value))
            if alone and all(isinstance(v, dict) for v in lists[0]):  # {"data": [{...}, ...]}
                yield from lists[0]
            else:
                yield value
            first = False
        return
    buffer.at += 1
    buffer.skip(_BETWEEN)
    while buffer.peek() not in ("]", ""):
        yield buffer.value()
        buffer.skip(_BETWEEN)
    if not buffer.peek():
        raise buffer.damaged(Sentence("the array has no end"))
    buffer.at += 1
    buffer.skip(_BLANKS)
    if buffer.peek():
        raise buffer.damaged(Sentence("there is more after the end of the array"))


class _Buffer:
    """The part of a JSON file that is being read."""

    def __init__(self, file: TextFile) -> None:
        self.file, self._texts = file, file.texts()
        self.text, self.at, self._line = "", 0, 1

    def _more(self) -> bool:
        for text in self._texts:
            if text:
                self._line += self.text.count("\n", 0, self.at)
                self.text, self.at = self.text[self.at :] + text, 0
                return True
        return False

    def skip(self, blanks: re.Pattern[str]) -> None:
        while True:
            found = blanks.match(self.text, self.at)
            self.at = found.end() if found else self.at
            if self.at < len(self.text) or not self._more():
                return

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def value(self) -> Any:
        """The next value."""
        step = 0
        while True:
            try:
                value, end = _DECODER.raw_decode(self.text, self.at)
            except json.JSONDecodeError as error:
                reason, at = error.msg, error.pos
            except (ValueError, RecursionError):
                raise self.damaged(Sentence("a number too long or lists within lists too deep")) from None
            else:
                # A number at the end of the block may go on in the next one.
                if end < len(self.text) or not isinstance(value, int | float) or not self._more():
                    self.at = end
                    return value
                continue
            if len(self.text) - self.at > MAX_LINE:
                raise self.damaged(Sentence("a record of more than {limit} characters", limit=MAX_LINE))
            step = step * 2 or 1
            if not sum(self._more() for _ in range(step)):
                raise self.damaged(reason, at)

    def damaged(self, reason: str | Sentence, at: int | None = None) -> FormatError:
        return FormatError(
            "{name} is not valid JSON at line {line}: {reason}",
            hint="Correct the file there. If each line is an object of its own, name the file .jsonl.",
            name=self.file.name,
            line=self._line + self.text.count("\n", 0, self.at if at is None else at),
            reason=reason,
        )


def parquet_records(
    path: Path, name: str, columns: Callable[[list[str]], list[str]], advance: Callable[[int], None] | None = None
) -> Iterator[dict[str, Any]]:
    """The records of a Parquet file, a batch at a time.

    Args:
        columns: told the columns that are there, gives the ones to read.

    Raises:
        ConfigError: pyarrow is not installed.
        FormatError: the file is damaged.
    """
    parquet = _library("pyarrow.parquet", "parquet", name)
    arrow = _library("pyarrow", "parquet", name)
    if path.stat().st_size == 0:
        raise InputError("{name} is empty", hint="Give a file with at least one record.", name=name)
    try:
        with parquet.ParquetFile(path) as file:
            size, count = path.stat().st_size, max(1, file.metadata.num_rows)
            for batch in file.iter_batches(batch_size=_BATCH, columns=columns(list(file.schema_arrow.names))):
                yield from batch.to_pylist()
                if advance:
                    advance(size * batch.num_rows // count)
    except (arrow.ArrowException, OSError) as error:
        raise FormatError(
            "{name} is not a Parquet file that can be read ({reason})",
            hint="Fetch the file again.",
            name=name,
            reason=str(error).split("\n")[0][:200],
        ) from None


def hub_records(name: str) -> Iterator[dict[str, Any]]:
    """The records of a data set of the Hugging Face hub, streamed.

    Args:
        name: "hf:owner/name" or "hf:owner/name:split"; the split is "train" unless told.

    Raises:
        ConfigError: the name is not one, or `datasets` is not installed.
        FetchError: it could not be fetched.
    """
    match = _HUB_NAME.fullmatch(name)
    if match is None:
        raise ConfigError(
            "{name} is not the name of a data set",
            hint="Names look like hf:owner/name or hf:owner/name:train.",
            name=name,
        )
    datasets = _library("datasets", "hub-data", name)
    try:
        yield from datasets.load_dataset(match[1], split=match[2] or "train", streaming=True)
    except Exception as error:  # whatever the library and the network raise
        raise FetchError(
            "the data set {name} could not be read ({reason})",
            hint="Check the name, the split and the connection, or download the file and give its path.",
            name=name,
            reason=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:200],
        ) from None


def _library(module: str, extra: str, name: str) -> Any:
    """A library that only some installations have; ConfigError where it is missing."""
    try:
        return import_module(module)
    except ImportError:
        raise ConfigError(
            "reading {name} needs {library}, which is not installed",
            hint='Install it with `pip install "glassgpt[{extra}]"`, or give the data as a JSONL or CSV file.',
            name=name,
            library=module.partition(".")[0],
            extra=extra,
        ) from None
