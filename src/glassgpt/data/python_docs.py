"""A data set that every machine has already: what the Python standard library says about itself.

Docstrings and comments are taken out of the installed sources, which are parsed and never imported or run. A row is
a module, with its texts in the order in which they stand in the file.
"""

from __future__ import annotations

import ast
import inspect
import io
import os
import re
import sysconfig
import tokenize
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from glassgpt.core.errors import NotFoundError
from glassgpt.core.words import Sentence
from glassgpt.data.report import SourceReport
from glassgpt.data.rows import TEXT, Row

NAME = "python-docs"
TOPICS = "pydoc_data/topics.py"  # the language reference, as one dictionary of texts for `help()`

_TESTS = {"test", "tests", "idle_test"}
_FOREIGN = {"site-packages", "dist-packages"}  # what was installed beside the library
_LEFT_OUT = {"lib2to3", "ensurepip", "__phello__"}  # other text, old text, no text
_SIGN = re.compile(r"[^\W\d_]{2,} +[^\W\d_]{2,}")  # two words side by side: prose, and not a ruler or a table
_DIRECTIVE = re.compile(r"#!|#.*?coding[:=]|# *(type: |noqa|pragma|fmt: |pylint|mypy)")


def python_docs(report: SourceReport, folder: Path | None = None) -> Iterator[Row]:
    """The texts of the standard library, a row for each module that has any, in the order of their paths.

    Args:
        report: told how many modules were read and how many were not, and why, when the last row was given.
        folder: of the library; that of the Python that runs unless given.

    Raises:
        NotFoundError: this Python came without its sources.
    """
    folder = folder or Path(sysconfig.get_path("stdlib"))
    files = {path.relative_to(folder).as_posix(): path for path in _sources(folder)}
    if not files:
        raise NotFoundError(
            "the standard library's sources are not in {folder}",
            hint="Some Pythons come without them; use one from python.org, or give a text of your own.",
            folder=folder,
        )
    return _rows(dict(sorted(files.items())), report)


def _sources(folder: Path) -> Iterator[Path]:
    for where, folders, names in os.walk(folder):
        folders[:] = [f for f in folders if f not in _FOREIGN]
        yield from (Path(where) / name for name in names if name.endswith(".py"))


def _rows(files: dict[str, Path], report: SourceReport) -> Iterator[Row]:
    skipped: Counter[str] = Counter()
    read = 0
    for name, path in files.items():
        parts = set(name.split("/"))
        if parts & (_TESTS | _LEFT_OUT):
            skipped["tests" if parts & _TESTS else "others"] += 1
            continue
        try:
            text = texts_of(read_source(path), topics=name == TOPICS)
        except (OSError, SyntaxError, ValueError, RecursionError):  # a file that this Python itself could not import
            skipped["broken"] += 1
            continue
        if text:
            read += 1
            yield Row(NAME, read, (TEXT,), ["\n\n".join(text)])
        else:
            skipped["silent"] += 1
    report.notes.append(
        Sentence(
            "the texts of {read} modules of Python {version}; left out: {tests} of tests, {others} of lib2to3 and "
            "ensurepip, {silent} without a text, {broken} that cannot be read",
            read=read, version=sysconfig.get_python_version(),
            **{why: skipped[why] for why in ("tests", "others", "silent", "broken")},
        )
    )  # fmt: skip


def read_source(path: Path) -> str:
    """A source file in the encoding that its first lines name."""
    with path.open("rb") as file:
        encoding, _ = tokenize.detect_encoding(file.readline)
        file.seek(0)
        return io.TextIOWrapper(file, encoding).read()


def texts_of(source: str, *, topics: bool = False) -> list[str]:
    """The docstrings and the comments of a module, in their order; with `topics` its texts are in a dictionary.

    Of comments those are taken that stand on lines of their own, line by line joined; no directives, rulers, and
    no code that is switched off.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old sources escape characters that need none
        tree = ast.parse(source)
    found: list[tuple[int, str]] = []
    inside: set[int] = set()  # lines that a text of several lines goes on to: a # there begins no comment
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant | ast.JoinedStr) and (node.end_lineno or 0) > node.lineno:
            inside.update(range(node.lineno + 1, (node.end_lineno or 0) + 1))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            found.append((node.body[0].lineno if node.body else 0, text or ""))
        elif isinstance(node, ast.Assign) and any(map(_names_doc, node.targets)):
            value = node.value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                found.append((node.lineno, inspect.cleandoc(value.value)))
        elif topics and isinstance(node, ast.Dict):
            values = [value.value for value in node.values if isinstance(value, ast.Constant)]
            found += [(node.lineno, inspect.cleandoc(text)) for text in values if isinstance(text, str)]
    found += _comments(source.split("\n"), inside)
    tidy = ("\n".join(line.rstrip() for line in text.split("\n")).strip("\n") for _, text in sorted(found))
    return [text for text in tidy if text.strip()]


def _names_doc(target: ast.expr) -> bool:
    """Whether something is assigned as a docstring: `__doc__` or `function.__doc__`."""
    return getattr(target, "id", getattr(target, "attr", "")) == "__doc__"


def _comments(lines: list[str], inside: set[int]) -> Iterator[tuple[int, str]]:
    """The blocks of comments that are prose, each with its first line."""
    block: list[str] = []
    for number, line in enumerate([*lines, ""], 1):
        text = line.strip()
        if text.startswith("#") and number not in inside:
            if not _DIRECTIVE.match(text):
                block.append(text.lstrip("#").rstrip("#"))
            continue
        if block:
            prose = inspect.cleandoc("\n" + "\n".join(block))
            if _SIGN.search(prose) and not _is_code(prose):
                yield number - len(block), prose
        block = []


def _is_code(text: str) -> bool:
    """Whether Python would take it for a program. Prose is hardly ever one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
