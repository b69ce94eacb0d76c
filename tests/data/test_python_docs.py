"""The built-in data set: what the standard library says about itself, held against what Python itself says of it."""

from __future__ import annotations

import ast
import importlib
import inspect
import pydoc_data.topics
import re
import subprocess
import sys
import sysconfig
import tokenize
from pathlib import Path

import pytest

from glassgpt.core.errors import NotFoundError
from glassgpt.data.python_docs import python_docs, texts_of
from glassgpt.data.report import SourceReport
from glassgpt.data.rows import Row
from glassgpt.data.sources import read_rows

LIBRARY = Path(sysconfig.get_path("stdlib"))


@pytest.fixture(scope="module")
def read() -> tuple[list[Row], SourceReport]:
    reports: list[SourceReport] = []
    return list(read_rows("python-docs", report=reports)), reports[0]


def row_with(rows: list[Row], text: str) -> str:
    """The one row that begins with this text."""
    (found,) = [row.texts[0] for row in rows if row.texts[0].startswith(text)]
    return found


def tidy(text: str) -> str:
    return "\n".join(line.rstrip() for line in inspect.cleandoc(text).split("\n")).strip("\n")


def test_it_has_megabytes_of_text_in_numbered_rows(read):
    rows, report = read
    assert sum(len(row.texts[0].encode()) for row in rows) > 2_000_000
    assert [(row.source, row.number, row.kind) for row in rows] == [
        ("python-docs", i, "text") for i in range(1, len(rows) + 1)
    ]
    assert all(row.texts[0].strip() for row in rows)
    assert len(rows) == report.rows


def test_reading_twice_gives_the_same(read):
    again = list(read_rows("python-docs", text_unit="file"))
    assert again == read[0]


@pytest.mark.parametrize("name", ["textwrap", "heapq", "random", "statistics", "difflib", "collections"])
def test_every_docstring_that_python_shows_is_there(read, name):
    """`inspect` imports the module, which reading for training never does."""
    module = importlib.import_module(name)
    text = row_with(read[0], tidy(module.__doc__))
    things = [t for t in vars(module).values() if getattr(t, "__module__", "") == name]
    methods = [m for t in things if inspect.isclass(t) for m in vars(t).values()]
    functions = [f for f in [*things, *methods] if inspect.isfunction(f) and f.__doc__]
    here = [f for f in functions if f.__code__.co_filename == module.__file__]  # not made by dataclass or namedtuple
    assert len(here) >= 5
    assert [f for f in here if tidy(f.__doc__) not in text] == []


def test_the_language_reference_is_there(read):
    for topic in ("while", "integers", "comparisons"):
        assert any(tidy(pydoc_data.topics.topics[topic]) in row.texts[0] for row in read[0])


@pytest.mark.parametrize("name", ["argparse.py", "asyncio/streams.py", "tokenize.py", "_pydecimal.py", "typing.py"])
def test_every_line_is_a_comment_or_stands_in_a_text_of_the_source(name):
    """Python's own tokenizer says which lines are which; no line of code may be among them."""
    path = LIBRARY / name
    words = re.compile(r"\S+")
    allowed: set[str] = set()
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type == tokenize.STRING and "f" not in token.string[:2].lower():
                text = ast.literal_eval(token.string)
                allowed.update(" ".join(words.findall(line)) for line in str(text).split("\n"))
            elif token.type == tokenize.COMMENT:
                allowed.add(" ".join(words.findall(token.string.strip("#"))))
    lines = {" ".join(words.findall(line)) for text in texts_of(path.read_text("utf-8")) for line in text.split("\n")}
    assert len(lines) > 50
    assert sorted(lines - allowed) == []


SOURCE = '''#!/usr/bin/env python3
# -*- coding: utf-8 -*-
"""A module.

    Indented,
        and more.
"""
# type: ignore
# One comment that goes on
#   for two lines.

# x = compute(1)
# if x: print("switched off")
##################
def f(x):
    """What f does."""
    text = """not a docstring
# and no comment
"""
    return "# nor this"  # nor a remark beside code


def g(): ...


g.__doc__ = "What g does."


class C:
    # Some remark, 中文。

    async def m(self):
        r"""Raw \\n text."""
'''


def test_docstrings_and_prose_comments_are_taken_and_nothing_else():
    assert texts_of(SOURCE) == [
        "A module.\n\nIndented,\n    and more.",
        "One comment that goes on\n  for two lines.",
        "What f does.",
        "What g does.",
        "Some remark, 中文。",
        r"Raw \n text.",
    ]


def test_tests_packages_and_damaged_files_are_left_out_and_counted(tmp_path):
    for name, text in {
        "a.py": '"""First."""',
        "b/test/x.py": '"""A test."""',
        "lib2to3/x.py": '"""Old."""',
        "site-packages/x.py": '"""Somebody else\'s."""',
        "c.py": "x = 1",
        "d.py": "def :",
        "e.py": '# coding: latin-1\n"""Caf\xe9."""',
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(text.encode("latin-1"))
    report = SourceReport("python-docs", "built-in")
    assert [row.texts[0] for row in python_docs(report, tmp_path)] == ["First.", "Café."]
    (note,) = report.notes
    counts = {name: note.facts[name] for name in ("read", "tests", "others", "silent", "broken")}
    assert counts == {"read": 2, "tests": 1, "others": 1, "silent": 1, "broken": 1}
    assert sysconfig.get_python_version() in note.text("zh")


def test_nothing_of_it_is_run(tmp_path):
    (tmp_path / "a.py").write_text('"""Text."""\nopen("ran", "w")\nraise SystemExit\n')
    assert len(list(python_docs(SourceReport("python-docs", "built-in"), tmp_path))) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.py"]


@pytest.mark.parametrize("place", ["python311.zip", "nowhere", "."])
def test_a_python_without_sources_is_a_named_error(tmp_path, place):
    (tmp_path / "python311.zip").write_bytes(b"PK")
    (tmp_path / "a.pyc").write_bytes(b"")
    with pytest.raises(NotFoundError, match="sources are not in"):
        python_docs(SourceReport("python-docs", "built-in"), tmp_path / place)


def test_reading_it_needs_no_torch():
    code = "import sys; from glassgpt.data.sources import read_rows; next(read_rows('python-docs'))\n"
    subprocess.run([sys.executable, "-c", code + "assert 'torch' not in sys.modules"], check=True)
