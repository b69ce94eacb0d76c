"""`glassgpt knowledge`: what an assistant knows of your files: add, list, remove, ask."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassgpt.cli.options import add_data_options, columns_given, note, print_json
from glassgpt.core.words import say

if TYPE_CHECKING:
    from glassgpt.assistant.encoders import Encoders
    from glassgpt.assistant.knowledge import Added, Hit

INDEX = "knowledge.db"


def add_parser(verbs: Any, common: argparse.ArgumentParser, language: str) -> None:
    """Describe the verb and its parts."""
    parser = verbs.add_parser("knowledge", parents=[common],
                              help=say("index your own files, and ask them", language))  # fmt: skip
    parts = parser.add_subparsers(dest="part", required=True, metavar="PART")
    add = parts.add_parser("add", parents=[common], help=say("add files or folders, or their new content", language))
    add.add_argument("files", nargs="+", metavar="FILE",
                     help=say("a table of questions and answers, Markdown, text, HTML, PDF, DOCX, or a folder",
                              language))  # fmt: skip
    add_data_options(add, language)
    ls = parts.add_parser("list", parents=[common], help=say("list the files that were added", language))
    remove = parts.add_parser("remove", parents=[common], help=say("forget files", language))
    remove.add_argument("names", nargs="+", metavar="NAME", help=say("a name that `list` shows", language))
    ask = parts.add_parser("ask", parents=[common], help=say("show what is found for a question, with scores",
                                                             language))  # fmt: skip
    ask.add_argument("question", metavar="QUESTION", help=say("what a customer would ask", language))
    ask.add_argument("--limit", type=int, default=3, metavar="N",
                     help=say("how many passages to show (default: {value})", language, value=3))  # fmt: skip
    for part in (add, ls, remove, ask):
        part.add_argument("--index", default=INDEX, metavar="FILE",
                          help=say("the index (default: {value})", language, value=INDEX))  # fmt: skip
        part.add_argument("--json", action="store_true", help=say("print the result as JSON", language))
    for part in (add, ask):
        part.add_argument("--words-only", action="store_true",
                          help=say("compare words alone; needs no model", language))  # fmt: skip
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do the part that was named."""
    return {"add": _add, "list": _list, "remove": _remove, "ask": _ask}[args.part](args)


def _add(args: argparse.Namespace) -> int:
    from glassgpt.assistant.knowledge_files import add_files, open_index

    columns, begin = columns_given(args), time.perf_counter()
    knowledge = open_index(Path(args.index), _encoders(args), make=True)
    found = add_files(knowledge, args.files, columns=columns, encoding=args.encoding, progress=progress())
    if args.json:
        print_json({"index": args.index, "seconds": round(time.perf_counter() - begin, 3),
                    "added": [vars(one) | {"notes": list(map(str, one.notes))} for one in found.added],
                    "notes": list(map(str, found.notes))})  # fmt: skip
        return 0
    for one in found.added:
        print(told(one, args.language))
        tell(one.notes, args.language)
    tell(found.notes, args.language)
    return 0


def _list(args: argparse.Namespace) -> int:
    from glassgpt.assistant.knowledge_files import list_sources

    sources = list_sources(Path(args.index))
    if args.json:
        print_json([vars(source) | {"notes": list(source.notes)} for source in sources])
        return 0
    for source in sources:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(source.added))
        print(say("{name}: {count} passages, added {when}", args.language, name=source.name, count=source.passages,
                  when=when))  # fmt: skip
    if not sources:
        print(say("The index is empty.", args.language))
    return 0


def _remove(args: argparse.Namespace) -> int:
    from glassgpt.assistant.knowledge_files import remove_files

    remove_files(Path(args.index), args.names)
    if args.json:
        print_json({"removed": args.names})
    else:
        print(say("Forgotten: {names}", args.language, names=", ".join(args.names)))
    return 0


def _ask(args: argparse.Namespace) -> int:
    from glassgpt.assistant.knowledge_files import open_index

    knowledge = open_index(Path(args.index), _encoders(args))
    begin = time.perf_counter()
    hits = knowledge.search(args.question, args.limit)
    took = time.perf_counter() - begin
    if args.json:
        print_json({"ms": round(took * 1e3, 1), "hits": [
            {"source": h.source, "place": h.passage.place, "score": round(h.score, 4), "known": h.known,
             "words": round(h.words, 4), "meaning": None if h.meaning is None else round(h.meaning, 4),
             "question": h.passage.question, "answer": h.passage.answer, "text": h.passage.text}
            for h in hits
        ]})  # fmt: skip
        return 0
    for hit in hits:
        _show(hit, args.language)
    if not hits or not hits[0].known:
        print(say("None of these has a score of 0.5 or more: an assistant would say that it does not know.",
                  args.language))  # fmt: skip
    return 0


def _show(hit: Hit, language: str) -> None:
    from glassgpt.assistant.passage import place_text

    meaning = "–" if hit.meaning is None else f"{hit.meaning:.3f}"
    print(say("{score} · {source}, {place} (words {words}, meaning {meaning})", language,
              score=f"{hit.score:.2f}", source=hit.source, place=place_text(hit.passage.place, language),
              words=f"{hit.words:.2f}", meaning=meaning))  # fmt: skip
    for line in hit.passage.text.splitlines():
        print(f"    {line}")


def told(one: Added, language: str) -> str:
    """What became of a file, in a line."""
    if one.unchanged:
        return say("{name}: unchanged, {count} passages", language, name=one.source, count=one.passages)
    return say("{name}: {count} passages added", language, name=one.source, count=one.passages)


def tell(notes: Any, language: str) -> None:
    """What was assumed or left out, on stderr."""
    for one in notes:
        note("  " + (one.text(language) if hasattr(one, "text") else str(one)))


def progress() -> Any:
    """Shows how far the indexing is, on a terminal."""
    shown = sys.stderr.isatty()

    def show(done: int, all: int) -> None:
        if shown:
            print(f"\r{done:,} / {all:,}", end="\n" if done >= all else "", file=sys.stderr, flush=True)

    return show


def _encoders(args: argparse.Namespace) -> Encoders | None:
    if args.words_only:
        return None
    from glassgpt.assistant.encoders import load_encoders

    return load_encoders()
