"""`glassgpt conversations`: what was said and kept: list, show, search, rename, delete, export, import, lessons."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassgpt.cli.options import note, print_json
from glassgpt.core.errors import ConfigError
from glassgpt.core.words import say, translate

if TYPE_CHECKING:
    from glassgpt.assistant.store import Store
    from glassgpt.assistant.store_rows import Conversation

STORE = "conversations.db"
MARKDOWN = (".md", ".markdown")


def add_parser(verbs: Any, common: argparse.ArgumentParser, language: str) -> None:
    """Describe the verb and its parts."""
    parser = verbs.add_parser("conversations", parents=[common],
                              help=say("find, move and learn from conversations that were kept", language))  # fmt: skip
    parts = parser.add_subparsers(dest="part", required=True, metavar="PART")
    made = {
        name: parts.add_parser(name, parents=[common], help=say(about, language))
        for name, about in {
            "list": "list conversations, the one changed last first",
            "show": "print a conversation",
            "search": "find what was said",
            "rename": "give a conversation another title",
            "delete": "delete conversations for good",
            "export": "write conversations into a JSON file, or one into Markdown",
            "import": "take conversations from a file of ours, Markdown, or an export of ChatGPT's",
            "lessons": "make training data of feedback, for `glassgpt build`",
        }.items()
    }
    for name, part in made.items():
        part.add_argument("--store", default=STORE, metavar="DB",
                          help=say("the database: a file, or a URL as SQLAlchemy takes it (default: {value})", language,
                                   value=STORE))  # fmt: skip
        if name in ("list", "search"):
            part.add_argument("--limit", type=int, default=50, metavar="N",
                              help=say("how many to show (default: {value})", language, value=50))  # fmt: skip
        part.add_argument("--json", action="store_true", help=say("print the result as JSON", language))
    for name in ("show", "rename"):
        made[name].add_argument("id", metavar="ID", help=say("an id that `list` shows", language))
    made["rename"].add_argument("title", metavar="TITLE", help=say("the new title", language))
    made["delete"].add_argument("ids", nargs="+", metavar="ID", help=say("an id that `list` shows", language))
    made["search"].add_argument("query", metavar="TEXT", help=say("words, of two characters or more", language))
    made["export"].add_argument("file", metavar="FILE", help=say("a new file: .json or .md", language))
    made["export"].add_argument("--id", action="append", default=[], metavar="ID",
                                help=say("this conversation alone; give it again for more", language))  # fmt: skip
    made["import"].add_argument("file", metavar="FILE", help=say("a .json, .md or .zip file", language))
    made["lessons"].add_argument("folder", metavar="FOLDER", help=say("where the files go", language))
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do the part that was named."""
    from glassgpt.assistant.store import Store

    if "://" not in args.store and not Path(args.store).is_file() and args.part != "import":
        raise ConfigError("there is no database {path}", path=args.store,
                          hint="`glassgpt chat --store {path}` makes one.")  # fmt: skip
    with Store(args.store) as store:
        parts = {"list": _list, "show": _show, "search": _search, "rename": _rename, "delete": _delete,
                 "export": _export, "import": _import, "lessons": _lessons}  # fmt: skip
        parts[args.part](store, args)
    return 0


def _list(store: Store, args: argparse.Namespace) -> None:
    page = store.conversations(args.limit)
    if args.json:
        print_json({"conversations": [vars(one) for one in page.conversations], "more": bool(page.next)})
        return
    for one in page.conversations:
        print(_line(one, args.language))
    if page.next:
        note(say("There are more; --limit shows them.", args.language))


def _line(one: Conversation, language: str) -> str:
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(one.updated))
    return f"{one.id}  {when}  {one.title or say('(no title)', language)}"


def _show(store: Store, args: argparse.Namespace) -> None:
    about, path = store.conversation(args.id), store.path(args.id)
    if args.json:
        print_json(vars(about) | {"messages": [vars(message) for message in path]})
        return
    print(_line(about, args.language))
    for message in path:
        role = {"user": "> ", "system": "# "}.get(message.role, "")
        print(f"\n{role}{message.text}" + ("" if message.state == "done" else f" [{_state(message.state, args)}]"))


def _state(state: str, args: argparse.Namespace) -> str:
    names = {"interrupted": "interrupted", "failed": "failed", "writing": "being written"}
    return translate(names.get(state, state), args.language)


def _search(store: Store, args: argparse.Namespace) -> None:
    hits = store.search(args.query, args.limit)
    if args.json:
        print_json([{"conversation": h.conversation.id, "title": h.conversation.title,
                     "message": h.message.id if h.message else None, "excerpt": h.excerpt} for h in hits])  # fmt: skip
        return
    for hit in hits:
        print(f"{_line(hit.conversation, args.language)}\n    {hit.excerpt}")
    if not hits:
        print(say("Nothing was found.", args.language))


def _rename(store: Store, args: argparse.Namespace) -> None:
    store.rename(args.id, args.title)
    _tell(args, {"id": args.id, "title": args.title}, say("Renamed.", args.language))


def _delete(store: Store, args: argparse.Namespace) -> None:
    for id in args.ids:
        store.conversation(id)  # all of them or none
    for id in args.ids:
        store.delete(id)
    _tell(args, {"deleted": args.ids}, say("Deleted for good: {count}", args.language, count=len(args.ids)))


def _export(store: Store, args: argparse.Namespace) -> None:
    from glassgpt.assistant.portable import export_json, export_markdown

    path = Path(args.file)
    if path.exists():
        raise ConfigError("{path} exists already", hint="Choose another name; nothing is overwritten.", path=path)
    if path.suffix.lower() in MARKDOWN:
        if len(args.id) != 1:
            raise ConfigError("{count} conversations are to go into one Markdown file", count=len(args.id),
                              hint="Name one with --id, or write JSON.")  # fmt: skip
        export_markdown(store, path, args.id[0])
    else:
        export_json(store, path, args.id or None)
    _tell(args, {"file": str(path)}, say("Written: {path}", args.language, path=path))


def _import(store: Store, args: argparse.Namespace) -> None:
    from glassgpt.assistant.portable import import_file

    found = import_file(store, args.file)
    problems = [(title, sentence.text(args.language)) for title, sentence in found.problems]
    if args.json:
        print_json(vars(found) | {"problems": problems, "notes": dict(found.notes)})
    else:
        print(say("Conversations: {count} new with {messages} messages, {there} there already", args.language,
                  count=len(found.conversations), messages=found.messages, there=found.there_already))  # fmt: skip
        for title, problem in problems:
            note(f"  {title}: {problem}")
        for what, count in found.notes.items():
            note(f"  {translate(what, args.language)}: {count}")


def _lessons(store: Store, args: argparse.Namespace) -> None:
    from glassgpt.assistant.store_training import export_lessons

    found = export_lessons(store, args.folder)
    told = {"conversations": len(found.conversations), "preferences": len(found.preferences),
            "left_out": dict(found.left_out)}  # fmt: skip
    _tell(args, told, say("{conversations} conversations and {preferences} preferences, in {folder}", args.language,
                          conversations=len(found.conversations), preferences=len(found.preferences),
                          folder=args.folder))  # fmt: skip
    if not args.json:
        for why, count in found.left_out.items():
            note("  " + say("left out: {count} ({why})", args.language, count=count, why=translate(why, args.language)))


def _tell(args: argparse.Namespace, facts: dict[str, Any], sentence: str) -> None:
    if args.json:
        print_json(facts)
    else:
        print(sentence, file=sys.stdout)
