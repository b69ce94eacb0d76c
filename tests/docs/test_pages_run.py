"""Every block of code in the READMEs, the docs and the course runs as it stands there, or says why it does not."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pages
import pytest

RUNNER = Path(__file__).with_name("run_page.py")
FEW_SECONDS = 3.0  # from here on a page must say that it is slow
ENGLISH = [page for page in pages.PAGES if not pages.is_chinese(page)]
EACH = pytest.mark.parametrize("page", pages.PAGES, ids=pages.name)


def parameters() -> list[object]:
    """Pages with code to run, the Chinese ones too where their code says something else; slow as their marks say."""

    def code(page: Path) -> list[list[str]]:
        return [pages.without_comments(block.text) for block in pages.code_blocks(page)]

    found = []
    for page in pages.PAGES:
        if pages.runs(page) and not (pages.is_chinese(page) and code(page) == code(pages.translation(page))):
            slow = {"needs", "slow"} & set(pages.page_marks(page))
            found.append(pytest.param(page, id=pages.name(page), marks=[pytest.mark.slow] if slow else []))
    return found


@pytest.fixture(scope="module")
def run_page():
    """Runs a page's blocks in a process and a folder of their own; gives the code, the seconds and what was printed."""
    if not hasattr(os, "fork"):
        pytest.skip("needs a system on which processes can be parted")
    fixed = {"GLASSGPT_LANG": "en", "MPLBACKEND": "Agg", "PYTHONIOENCODING": "utf-8", "HF_HUB_OFFLINE": "1"}
    path = os.pathsep.join([str(pages.ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    runner = subprocess.Popen(
        [sys.executable, str(RUNNER)],
        env=os.environ | fixed | {"PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def run(page: Path, folder: Path) -> tuple[int, float, str]:
        assert runner.stdin is not None and runner.stdout is not None
        print(json.dumps({"page": str(page), "folder": str(folder)}), file=runner.stdin, flush=True)
        answer = json.loads(runner.stdout.readline())
        return answer["code"], answer["seconds"], (folder / ".printed").read_text(encoding="utf-8")

    yield run
    runner.communicate(timeout=30)  # ends with its input


@pytest.mark.parametrize("page", parameters())
def test_the_code_of_a_page_runs_as_it_stands_there(page, run_page, packaged_model, tmp_path):
    marks = pages.page_marks(page)
    for model in re.findall(r"[^, ]+", marks.get("needs", "")):
        packaged_model(model)
    code, seconds, printed = run_page(page, tmp_path)
    assert code == 0, printed[-8000:]
    said = float(marks.get("slow", f"{FEW_SECONDS} s").removesuffix(" s"))
    assert seconds < 3 * said, f"took {seconds:.1f} s: say so at the top, <!-- slow: {seconds:.0f} s -->"


@EACH
def test_what_is_not_run_says_why(page):
    for block in pages.code_blocks(page):
        reason = pages.why_not_run(page, block)
        assert reason is None or len(reason) >= 6, f"line {block.line}: {reason!r} is no reason"


@EACH
def test_a_command_stands_in_a_block_that_is_run(page):
    """A bare or indented block is not run, so no command may hide in one."""
    for block in pages.blocks(page):
        if block.language not in ("python", "sh"):
            assert not re.search(r"^(\$ )?glassgpt ", block.text, re.M), f"line {block.line}: the block wants ```sh"
    indented = [token for token in pages.tokens(page) if token.type == "code_block"]
    assert [token.map for token in indented if re.search("^glassgpt ", token.content, re.M)] == []


@EACH
def test_toml_and_json_on_a_page_can_be_read(page):
    for block in pages.blocks(page):
        if block.language == "toml":
            tomllib.loads(block.text)
        elif block.language == "json":
            json.loads(block.text)


def test_few_blocks_are_not_run():
    """Prints them all with their reasons (`pytest -s`); a page that gives up on most of its code is looked at here."""
    left = [
        (pages.name(page), block.line, reason)
        for page in ENGLISH
        for block in pages.code_blocks(page)
        if (reason := pages.why_not_run(page, block)) is not None
    ]
    for page, line, reason in left:
        print(f"not run: {page}:{line}: {reason}")
    course = [one for one in left if one[0].startswith("docs/course/")]
    total = sum(len(pages.code_blocks(page)) for page in pages.chapters() if not pages.is_chinese(page))
    assert len(course) <= 0.2 * total, course


@pytest.mark.slow
def test_a_page_that_fails_says_where_and_the_next_one_runs(run_page, tmp_path):
    left = "import os, sys\nos.environ['LEFT'] = '1'\nsys.exit()"
    texts = {"bad.md": left, "good.md": "import os\n\nassert 'LEFT' not in os.environ"}
    for name, text in texts.items():
        (tmp_path / name).write_text(f"# Page\n\n```python\n{text}\n```\n")
    code, _, printed = run_page(tmp_path / "bad.md", tmp_path)
    assert code == 1 and "bad.md:4" in printed and "SystemExit" in printed
    code, _, printed = run_page(tmp_path / "good.md", tmp_path)
    assert code == 0, printed


WRONG = {
    "an error": ("```python\n1 / 0\n```\n", "ZeroDivisionError"),
    "an error that does not come": (
        "<!-- raises: NameError -->\n```python\nx = 1\n```\n",
        "should have raised NameError",
    ),
    "another error": ("<!-- raises: NameError -->\n```python\n1 / 0\n```\n", "ZeroDivisionError"),
    "other output": ("```python\nprint(1)\n```\n\n<!-- prints -->\n```\n2\n```\n", "printed instead"),
    "a failing command": ("```sh\nglassgpt doctor not-there.csv\n```\n", "ended with 1"),
    "another program": ("```sh\nls\n```\n", "only glassgpt is run"),
    "a file elsewhere": ("<!-- file: ../x -->\n```\n1\n```\n", "only into its own folder"),
}
RIGHT = """\
<!-- raises: NameError: math -->
```python
math.pi
```

<!-- file: numbers.csv -->
```csv
question,answer
```

```python
from pathlib import Path

rows = Path("numbers.csv").read_text()
```

```python
print(rows, "and more")
```

<!-- prints -->
```
question,answer
... more
```

<!-- exits: 1 -->
```sh
glassgpt models # all of them
glassgpt doctor \\
    not-there.csv
```

<!-- not run: it would never end -->
```python
while True:
    pass
```
"""


@pytest.fixture
def page_of(tmp_path, monkeypatch):
    """Runs a page of the given text in this process."""
    from run_page import run

    def do(text: str) -> int:
        page = tmp_path / "page.md"
        page.write_text(text)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(pages, "ROOT", tmp_path)
        return run(page)

    return do


@pytest.mark.parametrize(("text", "message"), WRONG.values(), ids=WRONG)
def test_a_block_that_does_something_else_fails(text, message, page_of, capsys):
    assert page_of(text) == 1
    said = capsys.readouterr().err
    assert message in said and "page.md:" in said


def test_a_page_with_every_mark_runs(page_of, capsys):
    assert page_of(RIGHT) == 0, capsys.readouterr().err
