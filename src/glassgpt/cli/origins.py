"""`glassgpt origins`: where a reply of a model that was trained here came from."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassgpt.cli.options import note, print_json
from glassgpt.core.errors import InputError, NotFoundError
from glassgpt.core.words import Sentence, say

if TYPE_CHECKING:
    from glassgpt.inside.origins import Explanation
    from glassgpt.inside.spans import Place, Span

_MOST_BYTES = 1 << 20  # of a file or of what is piped in
_COLOURS = {"memorised": "\x1b[31m", "retrieved": "\x1b[34m"}


def add_parser(verbs: Any, common: argparse.ArgumentParser, language: str) -> None:
    """Describe the verb."""
    parser = verbs.add_parser(
        "origins", parents=[common], help=say("show which training rows say the same as a reply", language)
    )
    parser.add_argument("folder", metavar="RUN", help=say("the folder of a run that was trained here", language))
    parser.add_argument("text", metavar="TEXT", help=say("a reply or another text; - reads standard input", language))
    parser.add_argument(
        "--least", type=int, metavar="N",
        help=say("tokens that a span needs to be called memorised (default: by the size of the data)", language),
    )  # fmt: skip
    parser.add_argument("--places", type=int, default=5, metavar="N",
                        help=say("the most places shown of a span (default: {value})", language, value=5))  # fmt: skip
    parser.add_argument("--nearest", type=int, default=3, metavar="N",
                        help=say("the most near rows shown for the rest (default: {value})", language,
                                 value=3))  # fmt: skip
    parser.add_argument(
        "--retrieved", action="append", default=[], metavar="FILE",
        help=say("a text file that the reply was written from; give it again for more", language),
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help=say("print the result as JSON", language))
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Ask, and show the answer."""
    from glassgpt.inside.origins import Origins, check_question

    language = args.language
    text = _piped() if args.text == "-" else args.text
    check_question(text, args.least, args.places, args.nearest)  # now, and not after minutes of sorting
    retrieved = [(name, _file(Path(name))) for name in args.retrieved]

    def tell(sentence: Sentence) -> None:
        note(sentence.text(language))

    with Origins.open(args.folder, tell=tell, progress=_progress) as origins:
        found = origins.explain(
            text, retrieved=retrieved, least=args.least, places=args.places, nearest=args.nearest
        )  # fmt: skip
    if args.json:
        print_json(found.to_json(language) | {"run": args.folder})
    else:
        _show(found, language)
    return 0


def _show(found: Explanation, language: str) -> None:
    numbers = {id(span): i for i, span in enumerate((s for s in found.spans if s.kind != "composed"), 1)}
    print("".join(_marked(_shown(found.text[s.start : s.end]), s, numbers.get(id(s))) for s in found.spans))
    print()
    shares = {kind: f"{share:.0%}" for kind, share in found.shares.items()}
    print(say("memorised {memorised}, retrieved {retrieved}, composed {composed} of the characters; a span has {least} "
              "tokens or more ({ms} ms)", language, least=found.least, ms=round(found.seconds * 1e3),
              **shares))  # fmt: skip
    for remark in found.notes:
        print(remark.text(language))
    for span in found.spans:
        if (number := numbers.get(id(span))) is None:
            continue
        print()
        if span.quote:
            print(say("[{number}] retrieved: {source}, from character {offset} on", language, number=number,
                      source=span.quote.source, offset=span.quote.offset + 1))  # fmt: skip
        for match in span.matches:
            words = (
                say("[{number}] memorised: {tokens} tokens, {count:,} times in the training data", language,
                    number=number, tokens=match.tokens, count=match.count)
                if not span.quote
                else say("    also in the training data: {tokens} tokens, {count:,} times", language,
                         tokens=match.tokens, count=match.count)
            )  # fmt: skip
            print(words)
            for place in match.places:
                print("    " + _place(place, language))
                print(f"        …{_line(place.before)}【{_line(place.text)}】{_line(place.after)}…")
    if found.nearest:
        print()
        print(say("Nearest rows for the rest:", language))
    for row in found.nearest:
        shared = " · ".join(_line(found.text[s.start : s.end]).strip() for s in row.shared)
        print("    " + say("{source}, row {row} ({score} bits shared: {shared})", language, source=row.source,
                           row=row.row, score=f"{row.score:.0f}", shared=shared))  # fmt: skip
        print(f"        {_line(row.text)[:200]}")


def _marked(text: str, span: Span, number: int | None) -> str:
    """A span between brackets with its number, coloured on a terminal."""
    if number is None:
        return text
    marked = f"[{number}: {text}]"
    return _COLOURS[span.kind] + marked + "\x1b[0m" if sys.stdout.isatty() else marked


def _place(place: Place, language: str) -> str:
    told = say("{source}, row {row}, after {offset} tokens", language, source=place.source, row=place.row,
               offset=place.offset)  # fmt: skip
    parts = {"question": Sentence("in the question"), "answer": Sentence("in the answer"),
             "both": Sentence("across question and answer")}  # fmt: skip
    return told if place.part is None else f"{told} ({parts[place.part].text(language)})"


def _shown(text: str, kept: str = "\n") -> str:
    """Text from outside without what would steer the terminal."""
    return "".join(c if c.isprintable() or c in kept else " " for c in text)


def _line(text: str) -> str:
    return _shown(text, kept="")


def _piped() -> str:
    data = sys.stdin.buffer.read(_MOST_BYTES + 1)
    return _text(data, "-").removesuffix("\n")


def _file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return _text(file.read(_MOST_BYTES + 1), str(path))
    except OSError as error:
        raise NotFoundError("{path} cannot be read ({reason})", hint="Give a text file.", path=path,
                            reason=error.strerror or str(error)) from None  # fmt: skip


def _text(data: bytes, name: str) -> str:
    if len(data) > _MOST_BYTES:
        raise InputError("{name} is longer than {limit:,} bytes", hint="Give a part of it.", name=name,
                         limit=_MOST_BYTES)  # fmt: skip
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError("{name} is not UTF-8 text", hint="Save it as UTF-8.", name=name) from None


def _progress(done: int, all: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{done:,} / {all:,}", end="\n" if done >= all else "", file=sys.stderr, flush=True)
