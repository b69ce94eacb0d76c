"""`glassgpt tokenizer`: train one on your own text, or see what a model's makes of a text."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassgpt.cli.options import add_data_options, columns_given, note, print_json
from glassgpt.core.errors import ConfigError, FormatError, InputError, NotFoundError
from glassgpt.core.words import say

if TYPE_CHECKING:
    from glassgpt.text.tokenizer import Tokenizer
    from glassgpt.text.usage import Usage

KINDS, UNITS = ("bpe", "characters"), ("file", "paragraph", "line")
VOCABULARY = 4096
MEASURED = 20_000_000  # characters that the report is about, at most
FREQUENT = 20
MAX_SHOWN = 1 << 20  # bytes of a file that is shown token by token
_COLOURS = ("on blue", "on magenta", "on dark_green", "on dark_orange3")


def add_parser(verbs: Any, common: argparse.ArgumentParser, language: str) -> None:
    """Describe the verb."""
    about = say("train a tokenizer, or look at what one makes of a text", language)
    parser = verbs.add_parser("tokenizer", parents=[common], help=about)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    train = actions.add_parser("train", parents=[common], help=say("learn a vocabulary from a text", language))
    train.add_argument("--data", required=True, metavar="FILE",
                       help=say("a file, a folder or python-docs, of any kind that clean reads", language))  # fmt: skip
    train.add_argument("--vocab", type=int, metavar="N",
                       help=say("how many tokens, of bpe (default: {value})", language, value=VOCABULARY))  # fmt: skip
    train.add_argument("--out", required=True, metavar="FOLDER", help=say("the new folder for the result", language))
    train.add_argument("--kind", choices=KINDS, default="bpe",
                       help=say("bpe (default): pieces of words; characters: one token each", language))  # fmt: skip
    unit = say("what one row of a text file is (default: {value})", language, value="file")
    train.add_argument("--text-unit", choices=UNITS, default="file", help=unit)
    add_data_options(train, language)
    train.add_argument("--json", action="store_true", help=say("print the result as JSON", language))
    train.set_defaults(run=run_train)
    show = actions.add_parser("show", parents=[common], help=say("a text, token by token", language))
    show.add_argument("model", metavar="MODEL", help=say("a model, a run, or a folder with a tokenizer", language))
    show.add_argument("--text", metavar="TEXT", help=say("the text", language))
    show.add_argument("--file", metavar="F", help=say("a text file instead", language))
    show.add_argument("--encoding", metavar="E", help=say("the encoding of text files (found unless given)", language))
    show.add_argument("--json", action="store_true", help=say("print the result as JSON", language))
    show.set_defaults(run=run_show)


def run_train(args: argparse.Namespace) -> int:
    """Train, save, and tell how it fares on its own text."""
    if args.kind == "characters" and args.vocab is not None:
        raise ConfigError(
            "--vocab has no meaning with --kind characters", hint="Each character that occurs has a token."
        )
    out = Path(args.out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(
            "{out} already exists and is not an empty folder",
            hint="Choose another name; nothing is overwritten.",
            out=out,
        )
    from glassgpt.core.files import refusing_disk
    from glassgpt.data.report import Problem, SourceReport
    from glassgpt.data.sources import read_rows
    from glassgpt.text.bpe import train_bpe, train_characters

    files: list[SourceReport] = []
    problems: list[Problem] = []

    def texts(**more: Any) -> Iterator[str]:
        rows = read_rows(
            args.data, columns=columns_given(args), encoding=args.encoding, text_unit=args.text_unit, **more
        )
        return (text for row in rows for text in row.texts)

    read = texts(report=files, problems=problems.append)
    wanted = VOCABULARY if args.vocab is None else args.vocab
    tokenizer = train_characters(read) if args.kind == "characters" else train_bpe(read, wanted)
    with refusing_disk(out):
        tokenizer.save(out)
    for file in files:
        for sentence in file.notes:
            note(f"{file.name}: {sentence.text(args.language)}")
    if problems:
        note(say("records that could not be read: {count}", args.language, count=len(problems)))
    if args.kind == "bpe" and tokenizer.vocab_size < wanted:
        note(say("the text gives no more than {size} of {wanted} tokens", args.language, size=tokenizer.vocab_size,
                 wanted=wanted))  # fmt: skip
    usage = measure(tokenizer, texts())
    rows = sum(file.rows for file in files)
    if args.json:
        _print_json(usage, args, rows, len(problems))
    else:
        _print_usage(usage, args, rows)
    return 0


def measure(tokenizer: Tokenizer, texts: Iterator[str]) -> Usage:
    """How the tokenizer fares on these texts, up to `MEASURED` characters of them."""
    from glassgpt.text.usage import Usage

    usage, left = Usage(tokenizer), MEASURED
    for text in texts:
        usage.add(text[:left])
        left -= len(text)
        if left <= 0:
            break
    return usage


def _print_json(usage: Usage, args: argparse.Namespace, rows: int, problems: int) -> None:
    parts = {**usage.parts, "all": usage.whole}
    print_json(
        {
            "kind": args.kind,
            "vocab_size": usage.tokenizer.vocab_size,
            "used": int((usage.counts > 0).sum()),
            "rows": rows,
            "problems": problems,
            "parts": {
                name: {
                    "tokens": part.tokens,
                    "characters": part.characters,
                    "bytes": part.bytes,
                    "characters_per_token": round(part.characters_per_token, 4),
                    "bytes_per_token": round(part.bytes_per_token, 4),
                }
                for name, part in parts.items()
            },
            "most_frequent": [
                {"id": i, "text": readable(usage.tokenizer, i), "count": count}
                for i, count in usage.most_frequent(FREQUENT)
            ],
            "out": str(args.out),
        }
    )


def _print_usage(usage: Usage, args: argparse.Namespace, rows: int) -> None:
    from rich.console import Console
    from rich.table import Table

    language, size = args.language, usage.tokenizer.vocab_size
    table = Table(box=None)
    for name in ("", "tokens", "characters", "characters per token", "bytes per token"):
        table.add_column(say(name, language) if name else "", justify="right" if name else "left")
    names = {"english": "English", "chinese": "Chinese", "other": "neither"}
    for key, name in {**names, "all": "all"}.items():
        part = usage.whole if key == "all" else usage.parts[key]
        shown = (f"{part.characters_per_token:.2f}", f"{part.bytes_per_token:.2f}") if part.tokens else ("–", "–")
        table.add_row(say(name, language), f"{part.tokens:,}", f"{part.characters:,}", *shown)
    print(say("{size:,} tokens, learned from {rows:,} rows; {used:,} of them occur in the text", language, size=size,
              rows=rows, used=int((usage.counts > 0).sum())))  # fmt: skip
    Console().print(table)
    if usage.whole.characters >= MEASURED:
        print(say("measured on the first {count:,} characters", language, count=MEASURED))
    frequent = "  ".join(f"{readable(usage.tokenizer, i)} {n:,}" for i, n in usage.most_frequent(FREQUENT))
    print(say("the most frequent: {tokens}", language, tokens=frequent))
    print(say("Written: {path}", language, path=args.out))


def run_show(args: argparse.Namespace) -> int:
    """Print every token of a text."""
    text = _text_given(args)
    from glassgpt.formats.place import read_tokenizer

    tokenizer = read_tokenizer(args.model)
    ids = tokenizer.encode(text, add_bos=False)
    size, count = len(text.encode()), max(1, len(ids))
    if args.json:
        print_json(
            {
                "tokenizer": args.model,
                "vocab_size": tokenizer.vocab_size,
                "tokens": len(ids),
                "characters": len(text),
                "bytes": size,
                "characters_per_token": round(len(text) / count, 4),
                "bytes_per_token": round(size / count, 4),
                "bos": tokenizer.bos_id if tokenizer.add_bos else None,
                "ids": ids,
                "texts": [readable(tokenizer, i) for i in ids],
            }
        )
        return 0
    _print_tokens(tokenizer, ids, args.language)
    print(say("{tokens:,} tokens, {characters:,} characters, {bytes:,} bytes: {rate:.2f} characters per token",
              args.language, tokens=len(ids), characters=len(text), bytes=size, rate=len(text) / count))  # fmt: skip
    if tokenizer.add_bos and tokenizer.bos_id is not None:
        name = tokenizer.decode([tokenizer.bos_id], show_control=True)
        print(say("before a text this model puts {token} ({id}), which is not counted", args.language, token=name,
                  id=tokenizer.bos_id))  # fmt: skip
    return 0


def _print_tokens(tokenizer: Tokenizer, ids: list[int], language: str) -> None:
    """In a terminal the text with its tokens coloured in turn; then, everywhere, a line for each token."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    shown = [readable(tokenizer, i) for i in ids]
    if console.is_terminal:
        parts = [_plain(_raw(tokenizer, i) or name) for i, name in zip(ids, shown, strict=True)]
        console.print(Text.assemble(*((part, f"black {_COLOURS[n % len(_COLOURS)]}") for n, part in enumerate(parts))))
    width = len(str(max(ids, default=0)))
    for number, name in zip(ids, shown, strict=True):
        console.print(Text(f"{number:>{width}}  {name}"))


def readable(tokenizer: Tokenizer, number: int) -> str:
    """A token as a person can read it: text in quotes, with spaces and line breaks to be seen; bytes that are only a
    part of a character as <E4 BD>."""
    text = _raw(tokenizer, number)
    return repr(text) if text else f"<{tokenizer.token_bytes(number).hex(' ').upper()}>"


def _raw(tokenizer: Tokenizer, number: int) -> str:
    """A token's text; "" where its bytes are not text by themselves."""
    try:
        return tokenizer.token_bytes(number).decode()
    except UnicodeDecodeError:
        return ""


def _plain(text: str) -> str:
    """Without characters that would command the terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "�" for c in text)


def _text_given(args: argparse.Namespace) -> str:
    if (args.text is None) == (args.file is None):
        raise ConfigError("a text is needed, and one only", hint="Give either --text or --file.")
    text = args.text if args.file is None else _read(Path(args.file), args.encoding)
    if not text:
        raise InputError("the text is empty", hint="Give at least one character.")
    return text


def _read(path: Path, encoding: str | None) -> str:
    """A text file, its encoding found."""
    from glassgpt.data.reading import TextFile

    if not path.is_file():
        raise NotFoundError("there is no file {name}", hint="Check the path.", name=str(path))
    if path.stat().st_size > MAX_SHOWN:
        raise FormatError("{path} is larger than {limit} bytes", hint="Give a part of it.", path=path, limit=MAX_SHOWN)
    return "".join(line for lines in TextFile(path, path.name, encoding=encoding).lines() for line in lines)
