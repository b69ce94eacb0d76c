"""What the README promises: its code runs, its links lead somewhere, and both languages say the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from glassgpt.cli.main import VERBS, build_parser
from glassgpt.formats.catalog import CATALOG

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
READMES = [ROOT / "README.md"]


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text(path), re.S)


def without_comments(code: str) -> list[str]:
    return [line.partition("#")[0].rstrip() for line in code.splitlines()]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_link_to_a_file_leads_somewhere(page):
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text(page))
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", READMES, ids=lambda p: p.name)
def test_every_verb_and_every_model_is_named(page):
    names = [verb.__name__.rpartition(".")[2].replace("evaluate", "eval") for verb in VERBS]
    assert [name for name in names if f"glassgpt {name}" not in text(page)] == []
    assert [name for name in CATALOG if f"`{name}`" not in text(page)] == []


@pytest.mark.parametrize("page", READMES, ids=lambda p: p.name)
def test_every_command_in_the_readme_is_understood(page):
    commands = re.findall(r"`glassgpt ([^`]+)`", text(page))
    assert commands
    parser = build_parser("en")
    import shlex

    for command in commands:
        words = shlex.split(command.replace("FILE", "x.txt"))
        parser.parse_args(words)  # exits with 2 where the command line is wrong


@pytest.mark.slow
def test_the_code_of_the_readme_runs(smollm2_path, capsys):
    (code,) = blocks(READMES[0], "python")
    exec(compile(code, "README.md", "exec"), {})  # noqa: S102 - our own file
    assert "Paris" in capsys.readouterr().out
