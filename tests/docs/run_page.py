"""Runs a page's code as a reader would, in a process and a folder of its own: `python run_page.py < ORDERS`.

Each order is a line of JSON, `{"page": PATH, "folder": PATH}`, and each answer is `{"code": 0, "seconds": 1.5}`; what
was printed stands in the folder's `.printed`. Everything is imported once, before the processes part, which spares
each page two seconds. Blocks of Python share one namespace and keep the page's line numbers; commands run in the same
process. The first block that does not do what the page says ends it with code 1.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import sys
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import pages

MOST_SECONDS = 300.0


class WrongError(Exception):
    """A block did something else than its marks say."""


def main() -> int:
    import torch  # noqa: F401 - before the clock starts

    import glassgpt.cli.main  # noqa: F401

    for line in sys.stdin:
        order = json.loads(line)
        print(json.dumps(apart(Path(order["page"]), Path(order["folder"]))), flush=True)
    return 0


def apart(page: Path, folder: Path) -> dict[str, float]:
    """Runs a page in a process of its own, of which nothing is left afterwards."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.chdir(folder)
            printed = os.open(".printed", os.O_CREAT | os.O_WRONLY)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(printed, 1)
            os.dup2(printed, 2)
            code = run(page)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    until = time.monotonic() + MOST_SECONDS
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.01)
    timing = folder / ".timing.json"
    seconds = json.loads(timing.read_text())["seconds"] if timing.exists() else 0.0
    return {"code": os.waitstatus_to_exitcode(status), "seconds": seconds}


def run(page: Path) -> int:
    """All blocks of a page, from top to bottom; 0 where each did what its marks say."""
    began, used = time.perf_counter(), time.process_time()
    names: dict[str, object] = {"__name__": "__main__"}
    printed = ""
    for block in pages.blocks(page):
        try:
            printed = do(page, block, names, printed)
        except (Exception, SystemExit):
            traceback.print_exc()
            print(f"{pages.name(page)}:{block.line}: this block failed", file=sys.stderr)
            return 1
    seconds = min(time.perf_counter() - began, time.process_time() - used)  # other programs do not count
    Path(".timing.json").write_text(json.dumps({"seconds": seconds}))
    return 0


def do(page: Path, block: pages.Block, names: dict[str, object], printed: str) -> str:
    """One block; gives back what was printed last."""
    if (file := block.marks.get("file")) is not None:
        target = Path(file)
        if target.is_absolute() or ".." in target.parts:
            raise WrongError(f"{file}: a page writes only into its own folder")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(block.text, encoding="utf-8")
    if "prints" in block.marks:
        pattern = "[^\0]*".join(map(re.escape, normal(block.text).split("...")))
        if not re.fullmatch(pattern, normal(printed)):
            raise WrongError(f"printed instead:\n{printed}")
    if block.language not in ("python", "sh") or "file" in block.marks or pages.why_not_run(page, block) is not None:
        return printed
    out = Both(sys.stdout)
    with contextlib.redirect_stdout(out):
        if block.language == "sh":
            commands(block)
        else:
            python(page, block, names)
    return out.getvalue()


def python(page: Path, block: pages.Block, names: dict[str, object]) -> None:
    wanted, _, words = block.marks.get("raises", "").partition(": ")
    code = compile("\n" * (block.line - 1) + block.text, str(page), "exec", dont_inherit=True)
    try:
        exec(code, names)  # noqa: S102 - our own page
    except Exception as error:
        if type(error).__name__ != wanted or words not in str(error):
            raise
    else:
        if wanted:
            raise WrongError(f"should have raised {wanted}")


def commands(block: pages.Block) -> None:
    from glassgpt.cli.main import main as glassgpt

    for words in block.commands:
        if words[0] != "glassgpt":
            raise WrongError(
                f"only glassgpt is run, and this is {words[0]}: mark the block as not run, with the reason"
            )
        try:
            code = glassgpt(words[1:])
        except SystemExit as end:  # --help, or wrong usage
            code = end.code
        last = words is block.commands[-1] or words == block.commands[-1]
        if code != (int(block.marks.get("exits", "0")) if last else 0):
            raise WrongError(f"{' '.join(words)} ended with {code}")


def normal(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


class Both(io.StringIO):
    """Keeps what is printed and shows it."""

    def __init__(self, shown: io.TextIOBase | object) -> None:
        super().__init__()
        self._shown = shown

    def write(self, text: str) -> int:
        self._shown.write(text)  # type: ignore[attr-defined]
        return super().write(text)


if __name__ == "__main__":
    sys.exit(main())
