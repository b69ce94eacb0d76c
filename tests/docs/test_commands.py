"""The pages on the commands say what the command line takes: every verb, every option, and nothing else."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from glassgpt.cli.main import build_parser

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {"en": DOCS / "commands.md", "zh": DOCS / "commands.zh.md"}
COMMON = {"--help", "--lang", "--debug"}
OPTION = r"--[a-z][a-z-]*"


def verbs(parser: argparse.ArgumentParser, path: str = "glassgpt") -> Iterator[tuple[str, set[str]]]:
    """Every verb as a heading names it, with its arguments; and its options."""
    inner = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not inner or not any(action.required for action in inner):
        plain = [a for a in parser._actions if not a.option_strings and a not in inner]
        words = [f"[{a.metavar}]" if a.nargs == "?" else str(a.metavar) for a in plain]
        yield " ".join([path, *words]), {o for a in parser._actions for o in a.option_strings if o.startswith("--")}
    for action in inner:
        for name, child in action.choices.items():
            yield from verbs(child, f"{path} {name}")


LIVE = dict(verbs(build_parser("en")))


def sections(page: Path) -> dict[str, str]:
    """The text under each heading of a verb."""
    parts = re.split(r"^#{2,3} (.+)\n", page.read_text(encoding="utf-8"), flags=re.M)
    return {head: text for head, text in zip(parts[1::2], parts[2::2], strict=True) if head.startswith("glassgpt")}


def examples(text: str) -> list[str]:
    return [line for block in re.findall(r"```sh\n(.*?)```", text, re.S) for line in block.splitlines()]


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_a_page_has_a_section_for_every_verb_and_for_nothing_else(page):
    assert sorted(sections(page)) == sorted(LIVE)


@pytest.mark.parametrize("verb", LIVE)
@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_a_section_has_every_option_of_its_verb_once_and_nothing_else(page, verb):
    table = re.sub(r"```sh\n.*?```", "", sections(page)[verb], flags=re.S)
    found = re.findall(OPTION, table)
    assert sorted(found) == sorted(LIVE[verb] - COMMON)


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_the_common_options_are_told_at_the_top(page):
    assert set(re.findall(OPTION, page.read_text(encoding="utf-8").partition("\n## ")[0])) >= COMMON


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_every_verb_has_one_example_that_the_command_line_understands(page):
    parser = build_parser("en")
    for verb, text in sections(page).items():
        (example,) = examples(text)
        plain = " ".join(word for word in verb.split() if word.islower())
        assert example.startswith(plain), verb
        parser.parse_args(shlex.split(example)[1:])  # exits with 2 where it is wrong


def test_both_pages_show_the_same_commands_and_options_in_the_same_order():
    english, chinese = (sections(page) for page in PAGES.values())
    assert list(english) == list(chinese)
    for verb in english:
        assert examples(english[verb]) == examples(chinese[verb])
        assert re.findall(OPTION, english[verb]) == re.findall(OPTION, chinese[verb])
