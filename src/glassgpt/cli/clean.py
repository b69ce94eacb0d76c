"""`glassgpt clean`: a file or folder of rows made fit for training, with an account of every change."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from glassgpt.cli.options import add_data_options, columns_given, note, print_json
from glassgpt.core.words import say

TEXT_UNITS = ("paragraph", "file", "line")
# What --help shows; `data` has what holds, and importing it here would import pandas.
FILTERS = (
    "mojibake, html, control, normalize, whitespace, personal, missing, length, language, duplicates, near-duplicates"
)
LIMITS = {"min_chars": 1, "max_chars": 10_000_000, "similarity": 0.85}


def add_parser(verbs: Any, common: argparse.ArgumentParser, language: str) -> None:
    """Describe the verb."""
    parser = verbs.add_parser("clean", parents=[common], help=say("repair and sort out a file of examples", language))
    parser.add_argument(
        "input", metavar="IN", help=say("a file or a folder: CSV, JSONL, JSON, Parquet, text", language)
    )
    parser.add_argument("--out", required=True, metavar="DIR", help=say("the new folder for the result", language))
    add_data_options(parser, language)
    parser.add_argument(
        "--text-unit", choices=TEXT_UNITS, default=TEXT_UNITS[0],
        help=say("what one row of a text file is (default: {value})", language, value=TEXT_UNITS[0]),
    )  # fmt: skip
    several = {
        "--skip": ("skip", "NAME", say("leave out a filter; may be given several times: {names}", language,
                                       names=FILTERS)),
        "--only": ("only", "NAME", say("use this filter alone; may be given several times", language)),
        "--language": ("languages", "L", say("keep rows in this language: en, zh, ja, ko; may be given several times",
                                             language)),
    }  # fmt: skip
    for flag, (name, metavar, text) in several.items():
        parser.add_argument(flag, dest=name, action="append", default=[], metavar=metavar, help=text)
    parser.add_argument(
        "--no-near-duplicates", action="store_true",
        help=say("the same as --skip near-duplicates, the slowest filter", language),
    )  # fmt: skip
    parser.add_argument(
        "--mask-personal", action="store_true",
        help=say("put [PHONE], [EMAIL] and the like in the place of personal data", language),
    )  # fmt: skip
    words = {
        "min_chars": "drop rows with fewer characters (default: {value})",
        "max_chars": "drop rows with more characters (default: {value})",
        "similarity": "from which similarity on rows are near-duplicates (default: {value})",
    }
    for name, text in words.items():
        parser.add_argument("--" + name.replace("_", "-"), type=type(LIMITS[name]), metavar="N",
                            help=say(text, language, value=LIMITS[name]))  # fmt: skip
    parser.add_argument(
        "--processes", type=int, metavar="N", help=say("processes to work with (default: all cores)", language)
    )
    parser.add_argument("--json", action="store_true", help=say("print the result as JSON", language))
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Read, clean and tell."""
    columns = columns_given(args)
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    from glassgpt.data.clean import clean
    from glassgpt.data.filters import CleanSettings
    from glassgpt.data.report import Problem, SourceReport
    from glassgpt.data.sources import read_rows

    skip = [*args.skip, *(["near-duplicates"] if args.no_near_duplicates else [])]
    given = {name: getattr(args, name) for name in (*LIMITS, "mask_personal")}
    settings = CleanSettings.from_dict(
        {name: value for name, value in given.items() if value is not None}
        | {"skip": skip, "only": args.only, "languages": args.languages}
    )
    problems: list[Problem] = []
    files: list[SourceReport] = []
    columns_shown = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    quiet = not sys.stderr.isatty()
    with nullcontext() if quiet else Progress(*columns_shown, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(say("reading", args.language), total=None) if bar else None

        def reading(done: int, total: int) -> None:
            if bar and task is not None:
                bar.update(task, completed=done, total=total)

        def cleaned(rows: int) -> None:
            if bar and task is not None:
                bar.update(task, description=say("{rows:,} rows", args.language, rows=rows))

        def comparing(done: int, total: int) -> None:
            if bar and task is not None:
                bar.update(task, description=say("comparing", args.language), completed=done, total=total)

        report = clean(
            read_rows(
                args.input,
                columns=columns,
                encoding=args.encoding,
                text_unit=args.text_unit,
                report=files,
                problems=problems.append,
                progress=reading,
            ),
            Path(args.out),
            settings=settings,
            processes=args.processes if args.processes is not None else os.cpu_count() or 1,
            problems=problems,
            progress=cleaned,
            comparing=comparing,
            language=args.language,
        )
    for file in files:
        for sentence in file.sentences():
            note(f"{file.name}: {sentence.text(args.language)}")
    if not report.kept:
        note(say("no row is left; {file} has the reasons", args.language, file=Path(report.out) / "rejects.csv"))
    if args.json:
        print_json(report.summary())
        return 0
    Console().print(report.to_table(args.language))
    for line in report.lines(args.language):
        print(line)
    print(say("Written: {path}", args.language, path=", ".join(sorted(str(p) for p in Path(args.out).iterdir()))))
    return 0
