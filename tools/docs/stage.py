"""Lays the pages of one language out for the generator: one folder, the same names in both languages, all links right.

On a code host `docs/x.md` and `docs/x.zh.md` stand together and `README.md` is the first page. A site has one folder
a language, `x.html` in each, and `index.html` first. So pages are copied under their names in the site, and every link
is written anew: to a page of the same language, to a page of the other one, to a picture, or to a file.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from urllib.parse import unquote, urlsplit

LANGUAGES = {"en": "English", "zh": "中文"}
# What stands in the sidebar, in this order; pages that are not named here end up in the first part.
SECTIONS = {
    "use": {"en": "Use it", "zh": "使用"},
    "course": {"en": "The course", "zh": "教程"},
    "code": {"en": "Read the code", "zh": "读源码"},
}
ORDER = {
    "use": ["page", "assistant", "serving", "deploy", "commands", "reference"],
    "code": ["tour", "architecture", "performance", "from-the-tutorial", "log", "contributing", "changelog"],
}
FENCE = re.compile(r"\s*(`{3,}|~{3,})")
CODE = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)")
TARGET = re.compile(r"(?<=\]\()[^)\s]+(?=\))")


class BrokenLinkError(Exception):
    """A link leads to nothing that could stand in the site."""


class Site:
    """The pages of a repository: `names` has each language's files with their names in the site, without the ending."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        files = sorted([*self.root.glob("*.md"), *(self.root / "docs").rglob("*.md")])
        chinese = {file for file in files if file.name.endswith(".zh.md")}
        self.names: dict[str, dict[Path, str]] = {
            "en": {file: self._name(file) for file in files if file not in chinese},
            "zh": {file: self._name(file) for file in files if file in chinese},
        }

    def _name(self, file: Path) -> str:
        place = file.relative_to(self.root)
        parts = place.parts[1:] if place.parts[0] == "docs" else place.parts
        name = parts[-1].removesuffix(".md").removesuffix(".zh")
        # Names in capitals are habits of code hosts.
        name = "index" if name == "README" else name.lower() if name.isupper() else name
        return "/".join([*parts[:-1], name])

    def stage(self, language: str, folder: Path) -> None:
        """Writes the pages of `language`, and the pictures and files that they lead to, into `folder`."""
        names = self.names[language]
        for file, name in names.items():
            out = folder / f"{name}.md"
            out.parent.mkdir(parents=True, exist_ok=True)
            text = self._relink(file, language, folder)
            out.write_text(text + (contents(names.values(), language) if name == "index" else ""), encoding="utf-8")

    def _relink(self, file: Path, language: str, folder: Path) -> str:
        """The text of a page with its links outside code rewritten."""
        lines, fence = [], ""
        for line in file.read_text(encoding="utf-8").splitlines():
            mark = FENCE.match(line)
            if fence:
                fence = "" if mark and mark[1].startswith(fence) and not line.strip().strip(mark[1][0]) else fence
            elif mark:
                fence = mark[1]
            else:
                line = outside_code(line, lambda found: self._target(found[0], file, language, folder))
            lines.append(line)
        return "\n".join(lines) + "\n"

    def _target(self, link: str, page: Path, language: str, folder: Path) -> str:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc or not parts.path:
            return link
        target = (page.parent / unquote(parts.path)).resolve()
        here = Path(self.names[language][page]).parent
        anchor = f"#{parts.fragment}" if parts.fragment else ""
        for other in LANGUAGES:
            name = self.names[other].get(target)
            if name is not None and other == language:
                return Path(os.path.relpath(f"{name}.md", here)).as_posix() + anchor
            if name is not None:
                up = os.path.relpath(".", here)
                path = Path(up, "..", other, f"{name}.html").as_posix()
                return f"at:{path}{anchor}" if anchor else f"to:{path}"
        if not target.is_file() or not target.is_relative_to(self.root):
            raise BrokenLinkError(f"{page.relative_to(self.root)}: {link} leads to no file")
        place = target.relative_to(self.root).as_posix().removeprefix("docs/")
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(target, folder / place)
        return Path(os.path.relpath(place, here)).as_posix()


def outside_code(line: str, new_target: Callable[[re.Match[str]], str]) -> str:
    """A line with each link's target replaced, but within `code`."""
    pieces, at = [], 0
    for code in CODE.finditer(line):
        pieces += [TARGET.sub(new_target, line[at : code.start()]), code[0]]
        at = code.end()
    return "".join([*pieces, TARGET.sub(new_target, line[at:])])


def contents(names: Iterable[str], language: str) -> str:
    """The sidebar: every page but the first, in sections."""
    left = sorted(set(names) - {"index"})
    groups = {
        "course": [name for name in left if name.startswith("course/")],
        "code": [name for name in ORDER["code"] if name in left],
    }
    rest = [name for name in left if name not in groups["course"] + groups["code"]]
    groups["use"] = [name for name in ORDER["use"] if name in rest] + [n for n in rest if n not in ORDER["use"]]
    groups["course"].sort(key=lambda name: (name != "course/index", name))
    text = ""
    for section, titles in SECTIONS.items():
        if groups[section]:
            entries = "\n".join(groups[section])
            text += f"\n```{{toctree}}\n:hidden:\n:caption: {titles[language]}\n\n{entries}\n```\n"
    return text
