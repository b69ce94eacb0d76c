"""Every file, class and function that the tour names is where the tour says it is, in both languages."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pages
import pytest

TOURS = [pages.ROOT / "docs" / "tour.md", pages.ROOT / "docs" / "tour.zh.md"]
EACH = pytest.mark.parametrize("page", TOURS, ids=lambda page: page.name)
STOP = re.compile(r"\*\*(?:Where|在哪里)[:：]\*\* (.+?)\n\n", re.S)
PLACE = re.compile(r"\[`([\w/]+\.py)`\]\((.+?)\)[:：]\s*((?:`[\w.]+`[,、]?\s*)+)")


def names_in(file: Path) -> set[str]:
    """The classes and functions of a file, methods as `Class.method`."""
    found = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            methods = [one for one in node.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)]
            found |= {f"{node.name}.{one.name}" for one in methods}
    return found


def stops(page: Path) -> list[tuple[str, dict[Path, list[str]]]]:
    """Each stop's text, with the files and names of its line."""
    found = []
    for part in re.split(r"^## ", page.read_text(encoding="utf-8"), flags=re.M)[1:]:
        for where in STOP.findall(part):
            places = {
                (page.parent / link).resolve(): re.findall(r"`([\w.]+)`", names)
                for _, link, names in PLACE.findall(where)
            }
            assert len(places) == where.count(".py`]"), f"a place cannot be read in {where}"
            found.append((part, places))
    return found


@EACH
def test_every_name_of_a_stop_is_in_its_file(page):
    assert len(stops(page)) == 11
    for _, places in stops(page):
        for file, names in places.items():
            assert file.is_relative_to(pages.ROOT / "src" / "glassgpt")
            assert names and [name for name in names if name not in names_in(file)] == [], file.name


@EACH
def test_every_function_that_is_told_of_is_in_a_file_of_its_stop(page):
    """In running text a function is written with brackets, `so()`."""
    told = 0
    for part, places in stops(page):
        known = {name.rpartition(".")[2] for file in places for name in names_in(file)}
        prose = re.sub(r"^```.*?^```$", "", part, flags=re.S | re.M)
        functions = re.findall(r"`(\w+)\(\)`", prose)
        told += len(functions)
        assert [name for name in functions if name not in known] == []
    assert told > 15


def test_both_languages_name_the_same_places_and_functions():
    english, chinese = (stops(page) for page in TOURS)
    for (ours, there), (theirs, those) in zip(english, chinese, strict=True):
        assert there == those
        assert set(re.findall(r"`(\w+)\(\)`", ours)) == set(re.findall(r"`(\w+)\(\)`", theirs))


def test_a_name_that_is_not_there_is_seen(tmp_path):
    file = tmp_path / "x.py"
    file.write_text("class A:\n    def b(self): ...\nasync def c(): ...\nd = 1\n")
    assert names_in(file) == {"A", "A.b", "c"}
