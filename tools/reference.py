"""Writes docs/reference.md and docs/reference.zh.md from the command line itself: `make reference`.

python tools/reference.py            # writes both
python tools/reference.py --check    # says whether they are current, code 1 where they are not
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from glassgpt.cli.main import build_parser

ROOT = Path(__file__).resolve().parent.parent
PAGES = {"en": ROOT / "docs" / "reference.md", "zh": ROOT / "docs" / "reference.zh.md"}
# Told once, at the top.
COMMON = ("--lang", "--debug")
WORDS = {
    "en": {
        "title": "Reference of the command line",
        "other": "中文：[reference.zh.md](reference.zh.md)",
        "about": "What `--help` says of every verb and option, written by `make reference`. By purpose and with an "
        "example each they stand in [commands](commands.md).",
        "common": "Every verb takes `--help` and these:",
        "head": "| option | what it is |",
        "argument": "| argument | what it is |",
        "either": "exactly one of {}",
        "at most": "at most one of {}",
    },
    "zh": {
        "title": "命令行参考",
        "other": "English: [reference.md](reference.md)",
        "about": "这里是每个命令和选项的 `--help` 说明，由 `make reference` 生成。"
        "按用途排列并各带一个例子的在[命令](commands.zh.md)里。",
        "common": "每个命令都接受 `--help` 和：",
        "head": "| 选项 | 说明 |",
        "argument": "| 参数 | 说明 |",
        "either": "必须且只能给出其中一个：{}",
        "at most": "最多给出其中一个：{}",
    },
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    old = [page for language, page in PAGES.items() if not page.is_file() or page.read_text("utf-8") != text(language)]
    for page in old:
        print(f"{page.relative_to(ROOT)} {'is not current: run `make reference`' if check else 'written'}")
        if not check:
            page.write_text(text(next(k for k, v in PAGES.items() if v == page)), encoding="utf-8")
    return 1 if check and old else 0


def text(language: str) -> str:
    """The whole page in `language`."""
    words, parser = WORDS[language], build_parser(language)
    lines = [f"# {words['title']}", "", words["other"], "", words["about"], "", plain(parser.epilog or ""), ""]
    first = next(child for _, child, _ in verbs(parser, language))
    shared = [action for action in first._actions if set(COMMON) & set(action.option_strings)]
    lines += [words["common"], "", *table(first, shared, words["head"]), ""]
    for path, child, about in verbs(parser, language):
        lines += [f"## {path}", "", f"{about}", ""]
        arguments = [a for a in child._actions if not a.option_strings and not inner(a)]
        options = [a for a in child._actions if a.option_strings and not common(a)]
        lines += [*table(child, arguments, words["argument"]), ""] if arguments else []
        lines += [*table(child, options, words["head"]), ""] if options else []
        for group in child._mutually_exclusive_groups:
            names = " ".join(f"`{'/'.join(a.option_strings) or a.metavar or a.dest}`" for a in group._group_actions)
            lines += [
                words["either" if group.required else "at most"].format(names) + ("。" if language == "zh" else "."),
                "",
            ]
    return "\n".join(lines).rstrip() + "\n"


def verbs(
    parser: argparse.ArgumentParser, language: str, path: str = "glassgpt"
) -> Iterator[tuple[str, argparse.ArgumentParser, str]]:
    """Each verb that can be run, in the order of `--help`: its words, its parser and its description."""
    for action in filter(inner, parser._actions):
        helps = {choice.dest: choice.help or "" for choice in action._choices_actions}  # type: ignore[attr-defined]
        for name, child in action.choices.items():  # type: ignore[union-attr]
            below = list(filter(inner, child._actions))
            if not any(one.required for one in below):
                yield f"{path} {name}", child, plain(child.description or helps.get(name, ""))
            yield from verbs(child, language, f"{path} {name}")


def table(parser: argparse.ArgumentParser, actions: list[argparse.Action], head: str) -> list[str]:
    return [head, "|---|---|", *(f"| `{call(parser, one)}` | {meaning(parser, one)} |" for one in actions)]


def call(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    """An option as it is written: `--top-k N`, `--keep|--no-keep`."""
    formatter = parser._get_formatter()
    if not action.option_strings:
        return formatter._format_args(action, action.metavar or action.dest).strip()
    values = "" if action.nargs == 0 else " " + formatter._format_args(action, action.metavar or action.dest.upper())
    return (", ".join(action.option_strings) + values).replace("|", "\\|")


def meaning(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    """The help of an option with its choices, on one line."""
    about = plain(parser._get_formatter()._expand_help(action)) if action.help else ""
    if action.choices and action.metavar and not inner(action):
        choices = ", ".join(f"`{one}`" for one in action.choices)
        about = f"{about} ({choices})" if about else choices
    return about


def plain(words: str) -> str:
    """On one line, with nothing that Markdown or a table would read."""
    pieces = re.split(r"(`[^`]*`)", " ".join(words.split()))
    outside = [re.sub(r"([<*\[])", r"\\\1", piece) if at % 2 == 0 else piece for at, piece in enumerate(pieces)]
    return "".join(outside).replace("|", "\\|")


def common(action: argparse.Action) -> bool:
    return any(name in (*COMMON, "--help") for name in action.option_strings)


def inner(action: argparse.Action) -> bool:
    return isinstance(action, argparse._SubParsersAction)


if __name__ == "__main__":
    sys.exit(main())
