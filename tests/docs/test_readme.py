"""What the README promises: its code runs, its links lead somewhere, and both languages say the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from glassgpt.assistant.persona import load_persona
from glassgpt.cli.main import VERBS, build_parser
from glassgpt.formats.catalog import CATALOG

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
READMES = [ROOT / "README.md", ROOT / "README.zh.md"]


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def blocks(path: Path, language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text(path), re.S | re.M)
    return [code for name, code in found if name == language]


def without_comments(code: str) -> list[str]:
    return [line.partition("#")[0].rstrip() for line in code.splitlines()]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_link_to_a_file_leads_somewhere(page):
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text(page))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_both_readmes_have_the_same_commands_code_and_chapters():
    english, chinese = READMES
    for language in ("python", ""):
        ours, theirs = ([without_comments(b) for b in blocks(page, language)] for page in READMES)
        assert ours == theirs
    assert len(re.findall("^## ", text(english), re.M)) == len(re.findall("^## ", text(chinese), re.M))
    assert text(english).count("\n|") == text(chinese).count("\n|"), "tables have as many rows"


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


@pytest.mark.slow
@pytest.mark.parametrize("page", ["assistant.md", "assistant.zh.md"])
def test_the_code_and_the_persona_of_the_assistants_page_work(page, smollm2_path, encoders_path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = blocks(ROOT / "docs" / page, "python")
    exec(compile(code, page, "exec"), {})  # noqa: S102 - our own file
    (persona,) = blocks(ROOT / "docs" / page, "toml")
    (tmp_path / "shop.toml").write_text(persona, encoding="utf-8")
    assert load_persona(tmp_path / "shop.toml").only_known


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_benchmark_that_a_page_names_exists_with_its_options(page):
    import subprocess
    import sys

    for words in re.findall(r'make bench ARGS="?([a-z][^"`]*)', text(page)):
        name, *rest = words.split()
        if not (ROOT / "benchmarks" / f"{name}.py").is_file():
            assert name == "NAME"
            continue
        command = [sys.executable, "-m", f"benchmarks.{name}", "--help"]
        known = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert [word for word in rest if word.startswith("--") and f"{word} " not in known] == [], words
