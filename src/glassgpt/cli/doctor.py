"""`glassgpt doctor`: what training would read of a file, or reads of a run, token by token, and what is wrong."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassgpt.cli.options import DEFAULT_MODEL, add_data_options, columns_given, note, print_json
from glassgpt.cli.training import RUNS
from glassgpt.core.errors import ConfigError
from glassgpt.core.words import say

if TYPE_CHECKING:
    from glassgpt.data.doctor import Report
    from glassgpt.text.tokenizer import Tokenizer

PAGE, ROWS = "doctor.html", "doctor.csv"
MOST_EXAMPLES = 500


def add_parser(verbs: Any, common: argparse.ArgumentParser, language: str) -> None:
    """Describe the verb."""
    parser = verbs.add_parser(
        "doctor", parents=[common], help=say("look at what would be learned of a file, token by token", language)
    )
    parser.add_argument("data", metavar="FILE|RUN", help=say("rows to learn from, or the folder of a run", language))
    parser.add_argument("--model", metavar="M", help=say("the model to begin with (default: {name})", language,
                                                         name=DEFAULT_MODEL))  # fmt: skip
    parser.add_argument(
        "--template", metavar="T", help=say("the chat template's name, if it is not recognised", language)
    )
    parser.add_argument(
        "--context", type=int, metavar="N", help=say("the most tokens of an example (default: as finetune)", language)
    )
    parser.add_argument(
        "--validation", metavar="FILE", help=say("rows to measure on (default: a tenth of FILE is held out)", language)
    )
    add_data_options(parser, language)
    parser.add_argument(
        "--out", metavar="DIR",
        help=say("the folder for {page} and {rows} (default: the run, or runs/doctor-NAME)", language, page=PAGE,
                 rows=ROWS),
    )  # fmt: skip
    parser.add_argument(
        "--examples", type=int, default=20, metavar="N",
        help=say("how many rows the page shows token by token (default: {value})", language, value=20),
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help=say("print the result as JSON", language))
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Examine, tell, write the page; the error comes last."""
    if not 0 <= args.examples <= MOST_EXAMPLES:
        raise ConfigError("{name} is {value}; expected 0 to {most}", name="--examples", value=args.examples,
                          most=MOST_EXAMPLES)  # fmt: skip
    from glassgpt.core.files import refusing_disk, write_whole
    from glassgpt.core.runs import is_run
    from glassgpt.data.doctor_page import to_html

    of_run = is_run(Path(args.data))
    out = Path(args.out) if args.out else Path(args.data) if of_run else RUNS / f"doctor-{_stem(args.data)}"
    examine, tokenizer = (_of_run if of_run else _of_file)(args)
    with refusing_disk(out):
        out.mkdir(parents=True, exist_ok=True)
    with refusing_disk(out), (out / ROWS).open("w", encoding="utf-8-sig", newline="") as file:
        write = csv.writer(file).writerow
        write(("side", "source", "row", "trained", "context", "truncated", "dropped", "faults"))

        def watch(side: str, row: Any, found: Any) -> None:
            faults = " ".join(fault.kind for fault in found.faults)
            write((side, row.source, row.number, found.trained, found.context, found.truncated, found.dropped, faults))

        report = examine(watch)
    write_whole(out / PAGE, to_html(report, tokenizer, args.language).encode("utf-8", "backslashreplace"))
    if args.json:
        print_json(report.summary() | {"page": str(out / PAGE), "rows": str(out / ROWS)})
    else:
        _tell(report, args.language)
        print(say("Written: {path}", args.language, path=f"{out / PAGE}, {out / ROWS}"))
    report.refuse()
    return 0


def _of_file(args: argparse.Namespace) -> tuple[Callable[[Any], Report], Tokenizer]:
    """What examines the rows of a file, split and made into examples as `glassgpt finetune` does."""
    from glassgpt.core.errors import InputError
    from glassgpt.core.words import Sentence
    from glassgpt.data.doctor import doctor
    from glassgpt.data.report import Problem
    from glassgpt.data.sources import read_rows
    from glassgpt.data.split import split
    from glassgpt.engine.load import load
    from glassgpt.training.sft import FineTuneSettings

    problems: list[Problem] = []
    notes: list[Sentence] = []

    def read(path: str) -> list[Any]:
        return list(read_rows(path, columns=columns_given(args), encoding=args.encoding, problems=problems.append))

    defaults = FineTuneSettings().train
    if args.context is not None:
        defaults = replace(defaults, context=args.context)
    rows = read(args.data)
    model = load(args.model or DEFAULT_MODEL, in_torch=True, template=args.template)
    context = min(defaults.context, model.context_length)
    if args.context and context < args.context:
        notes.append(Sentence("the model's context is {context}, so --context {given} counts as that", context=context,
                              given=args.context))  # fmt: skip
    held_out: list[Any] = []
    try:
        rows, held_out = (rows, read(args.validation)) if args.validation else split(rows, seed=defaults.seed)
    except InputError:
        if not rows:
            raise
        notes.append(Sentence("nothing is held out to measure on: the rows are too few or all alike"))
    # A model without a template can learn texts alone.
    talk = any(row.kind != "text" for row in [*rows, *held_out])
    template = model.template if talk else model.chat_template

    def examine(watch: Any) -> Report:
        report = doctor(rows, held_out, model.tokenizer, template, context, samples=args.examples, watch=watch)
        report.problems, report.notes = problems, notes
        report.about = {"data": args.data, "model": model.name, "template": template.name if template else "",
                        "context": context}  # fmt: skip
        return report

    return examine, model.tokenizer


def _of_run(args: argparse.Namespace) -> tuple[Callable[[Any], Report], Tokenizer]:
    """What examines the shards of a run, with its own tokenizer and template."""
    from glassgpt.core.runs import HELD_OUT, TOKENIZER, TRAIN, Run
    from glassgpt.data.doctor import check, documents, known_questions
    from glassgpt.data.shards import open_shards
    from glassgpt.engine.load import load
    from glassgpt.text.tokenizer import Tokenizer

    given = ("model", "template", "context", "validation", "columns", "encoding")
    for name in (name for name in given if getattr(args, name) is not None):
        raise ConfigError("--{name} goes with a file; a run has its own", hint="Leave it out.", name=name)
    run = Run.open(Path(args.data))
    settings, template = run.about.get("settings") or {}, None
    whole = not (run.folder / TOKENIZER).is_dir()  # pre-training cuts a text in two, and neither half is whole
    if whole:
        model = load(settings.get("base", DEFAULT_MODEL), in_torch=True, template=settings.get("template") or None)
        tokenizer, template = model.tokenizer, model.chat_template
    else:
        tokenizer = Tokenizer.from_file(run.folder / TOKENIZER)
    shards = {side: open_shards(run.folder / place, tokenizer)
              for side, place in (("train", TRAIN), ("validation", HELD_OUT))}  # fmt: skip
    context = int((settings.get("train") or {}).get("context", 0)) if whole else 0

    def examine(watch: Any) -> Report:
        sides = {side: documents(parts) for side, parts in shards.items()}
        report = check(sides, tokenizer, template, context=context, whole_texts=whole, samples=args.examples,
                       watch=watch)  # fmt: skip
        report.leaks = known_questions(shards["train"], shards["validation"])
        report.about = {"data": args.data, "template": template.name if template else ""}
        return report

    return examine, tokenizer


def _tell(report: Report, language: str) -> None:
    """The tables and the warnings."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from glassgpt.data.checkup import FAULTS
    from glassgpt.data.doctor import PERCENTS
    from glassgpt.data.doctor_page import SIDES, places, totals

    names = [SIDES[name].text(language) for name in report.sides]

    def show(head: list[str], rows: Any, numbers: int) -> None:
        shown = Table(box=None)
        for i, title in enumerate(head):
            shown.add_column(title, justify="right" if 0 < i <= numbers else "left", no_wrap=i == 0)
        for row in rows:
            shown.add_row(*(f"{cell:,}" if isinstance(cell, int) else escape(str(cell)) for cell in row))
        Console().print(shown)

    show(["", *names], totals(report, language), len(names))
    told = {"length": "tokens of an example, {side}", "trained": "tokens learned of an example, {side}"}
    percentiles = [
        (say(told[what], language, side=name), *values)
        for name, side in zip(names, report.sides.values(), strict=True)
        for what, values in side.percentiles().items()
    ]
    print()
    show(["", *(f"{p} %" for p in PERCENTS)], percentiles, len(PERCENTS))
    if report.faults:
        rows = [(FAULTS[kind].text(language), n, places(report.first[kind])) for kind, n in report.faults.items()]
        head = [say("fault", language), say("examples", language), say("the first of them", language)]
        print()
        show(head, rows, 1)
    for sentence in report.warnings():
        note(sentence.text(language))


def _stem(data: str) -> str:
    """A name for the folder, from that of the file or data set."""
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in Path(data).stem)[:80] or "data"
