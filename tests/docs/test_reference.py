"""What is written from elsewhere is current: the reference of the command line from `--help`, the course's list."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from pages import ROOT

PAGES = {"en": ROOT / "docs" / "reference.md", "zh": ROOT / "docs" / "reference.zh.md"}
OPTION = re.compile(
    r"^  (-\S.*?)(?:(?:  +|\n {10,})(\S.*))?$", re.M
)  # as argparse writes a line of help in a wide terminal


def sections(language: str) -> dict[str, str]:
    parts = re.split(r"^## (.+)\n", PAGES[language].read_text(encoding="utf-8"), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("tool", ["reference.py", "course_contents.py"])
def test_what_is_written_is_current(tool):
    command = [sys.executable, str(ROOT / "tools" / tool), "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("language", PAGES)
def test_each_line_of_help_stands_in_the_section_of_its_verb(language, monkeypatch, capsys):
    """Against what a person sees: the printed help of each verb, read line by line."""
    from glassgpt.cli.main import main

    monkeypatch.setenv("COLUMNS", "10000")
    for verb, text in sections(language).items():
        with pytest.raises(SystemExit):
            main([*verb.split()[1:], "--help", "--lang", language])
        printed = OPTION.findall(capsys.readouterr().out)
        rows = re.findall(r"^\| `(-.+?)` \| (.*) \|$", text.replace("\\", ""), re.M)
        names = [re.findall(r"--[a-z][a-z-]*", call)[0] for call, _ in printed]
        assert [re.findall(r"--[a-z][a-z-]*", call)[0] for call, _ in rows] == [
            name for name in names if name not in ("--help", "--lang", "--debug")
        ], verb
        helps = {re.findall(r"--[a-z][a-z-]*", call)[0]: words for call, words in printed}
        for call, words in rows:
            (name, *_) = re.findall(r"--[a-z][a-z-]*", call)
            said = words if helps[name] == words else words.partition(" (`")[0]  # choices are added
            assert " ".join(helps[name].split()) == said, f"{verb} {name}"


def test_both_languages_have_the_same_verbs_and_options():
    english, chinese = sections("en"), sections("zh")
    assert list(english) == list(chinese)
    for verb in english:
        assert re.findall(r"^\| `(.+?)`", english[verb], re.M) == re.findall(r"^\| `(.+?)`", chinese[verb], re.M)
