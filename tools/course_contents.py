"""Writes the list of chapters into docs/course/README.md and README.zh.md, from the chapters' titles: `make reference`.

python tools/course_contents.py [--check]
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COURSE = ROOT / "docs" / "course"
PLACE = re.compile(r"<!-- chapters -->\n(?:\n(?:\d+\. .*\n)+)?")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    check, old = parser.parse_args().check, 0
    for page in (COURSE / "README.md", COURSE / "README.zh.md"):
        before = page.read_text(encoding="utf-8")
        after = PLACE.sub(lambda _, page=page: contents(page), before, count=1)
        if before != after:
            old += 1
            print(f"{page.relative_to(ROOT)} {'is not current: run `make reference`' if check else 'written'}")
            if not check:
                page.write_text(after, encoding="utf-8")
    return 1 if check and old else 0


def contents(page: Path) -> str:
    """The list in a page's language. A title has its number already."""
    chinese = page.name.endswith(".zh.md")
    lines = []
    for chapter in sorted(COURSE.glob("[0-9][0-9]-*.md")):
        if chapter.name.endswith(".zh.md") == chinese:
            number, _, title = chapter.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ").partition(". ")
            lines.append(f"{number}. [{title}]({chapter.name})\n")
    return "<!-- chapters -->\n" + ("\n" + "".join(lines) if lines else "")


if __name__ == "__main__":
    sys.exit(main())
