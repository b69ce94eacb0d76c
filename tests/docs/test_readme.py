"""What the README promises: it names every verb and model, its commands are understood, its benchmarks exist."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from pages import PAGES, ROOT, blocks, name

from glassgpt.assistant.persona import load_persona
from glassgpt.cli.main import VERBS, build_parser
from glassgpt.formats.catalog import CATALOG

READMES = [ROOT / "README.md", ROOT / "README.zh.md"]


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


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


@pytest.mark.parametrize("page", ["assistant.md", "assistant.zh.md"])
def test_the_persona_of_the_assistants_page_is_one(page, tmp_path):
    (persona,) = [block.text for block in blocks(ROOT / "docs" / page) if block.marks.get("file") == "shop.toml"]
    (tmp_path / "shop.toml").write_text(persona, encoding="utf-8")
    assert load_persona(tmp_path / "shop.toml").only_known


@cache
def help_of(benchmark: str) -> str:
    command = [sys.executable, "-m", f"benchmarks.{benchmark}", "--help"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_benchmark_that_a_page_names_exists_with_its_options(page):
    for words in re.findall(r'make bench ARGS="?([a-z][^"`]*)', text(page)):
        benchmark, *rest = words.split()
        if not (ROOT / "benchmarks" / f"{benchmark}.py").is_file():
            assert benchmark == "NAME"
            continue
        known = help_of(benchmark)
        assert [word for word in rest if word.startswith("--") and f"{word} " not in known] == [], words
