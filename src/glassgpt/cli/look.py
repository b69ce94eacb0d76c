"""`glassgpt look`: what is inside a model for one text, in the terminal, as JSON or as one HTML page; with
--checkpoints through a run's training. --tune trains the lens that reads a model's layers in their own language."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassgpt.cli.options import add_model_options, chosen_model, load_model, note, print_json
from glassgpt.core.errors import ConfigError, NotFoundError
from glassgpt.core.words import say

if TYPE_CHECKING:
    from glassgpt.inside.look import Look
    from glassgpt.inside.subject import Prompt
    from glassgpt.inside.through_time import ThroughTime

PAGE = "look.html"
MINUTES = 3.0
MOST_CHARACTERS = 4_000_000  # that a lens is trained on: more than its minutes reach


def add_parser(verbs: Any, common: argparse.ArgumentParser, language: str) -> None:
    """Describe the verb."""
    parser = verbs.add_parser(
        "look", parents=[common], help=say("look at what is inside a model for a text, or through a training", language)
    )
    add_model_options(parser, language, positional=True)
    parser.add_argument("text", nargs="?", metavar="TEXT", help=say("the text to look at", language))
    parser.add_argument("--prompt", metavar="TEXT", help=say("the same, where no model is named before it", language))
    parser.add_argument("--chat", action="store_true",
                        help=say("the text is a message: lay it out by the chat template", language))  # fmt: skip
    parser.add_argument("--checkpoints", action="store_true",
                        help=say("through the training of a run, as one page with a slider", language))  # fmt: skip
    parser.add_argument("--layer", type=int, metavar="N",
                        help=say("whose attention, counted from 0 (default: the most telling)", language))  # fmt: skip
    parser.add_argument("--head", type=int, metavar="N", help=say("and which of its heads, counted from 0", language))
    parser.add_argument("--top", type=int, default=5, metavar="K",
                        help=say("how many alternatives of a token (default: {value})", language, value=5))  # fmt: skip
    parser.add_argument("--tune", metavar="DATA",
                        help=say("train a tuned lens for the model on a text file, a folder or python-docs; it is kept "
                                 "beside the model, where --tuned and the page find it", language))  # fmt: skip
    parser.add_argument("--minutes", type=float, metavar="N",
                        help=say("how long to train it (default: {value})", language, value=int(MINUTES)))  # fmt: skip
    parser.add_argument("--tuned", action="store_true",
                        help=say("read the layers by the tuned lens that lies beside the model", language))  # fmt: skip
    parser.add_argument("--out", metavar="FILE",
                        help=say("write an HTML page (with --checkpoints the default is {page} in the run)", language,
                                 page=PAGE))  # fmt: skip
    parser.add_argument("--json", action="store_true", help=say("print the numbers as JSON", language))
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Look, then write and print what was asked for."""
    if args.text is not None and args.prompt is not None:
        raise ConfigError("two texts are given: {first} and {second}", hint="Give one of them.",
                          first=args.text[:40], second=args.prompt[:40])  # fmt: skip
    text = args.prompt if args.text is None else args.text
    if args.minutes is not None and args.tune is None:
        raise ConfigError("--minutes goes with --tune alone", hint="Leave it out, or train a lens: --tune DATA.")
    if args.tune is not None:
        if text is not None or args.checkpoints:
            raise ConfigError("--tune trains a lens and looks at no text", hint="Train it first, then look: --tuned.")
        return _tune(args)
    if text is None:
        raise ConfigError("a text to look at is needed", hint="Write it after the model, or give --prompt.")
    prompt: Any = [{"role": "user", "content": text}] if args.chat else text
    return _through_time(args, prompt) if args.checkpoints else _once(args, prompt)


def _once(args: argparse.Namespace, prompt: Any) -> int:
    from glassgpt.inside.look import look, look_numbers

    if args.tuned and args.out is None and not args.json:
        raise ConfigError("--tuned reads layers, which the table does not show", hint="Add --out FILE or --json.")
    model, _ = load_model(args)
    tuned = None
    if args.tuned:
        from glassgpt.inside.tuned import own_lens

        tuned = own_lens(model)
        if tuned is None:
            raise NotFoundError("no tuned lens lies beside {model}",
                                hint="Train one: `glassgpt look {model} --tune DATA`.", model=model.name)  # fmt: skip
    seen = look(model, prompt, layer=args.layer, head=args.head, top=args.top, every_head=args.out is not None,
                deep=args.json or args.out is not None, tuned=tuned)  # fmt: skip
    if args.out is not None:
        from glassgpt.inside.look_page import look_page

        _write(Path(args.out), look_page(seen, model.name, args.language))
    if args.json:
        told = look_numbers(seen)
        print_json({"model": model.name} | told | {"attention": told["attention"][:1]})
    elif args.out is None:
        _tell(seen, args.language)
    else:
        print(say("Written: {path}", args.language, path=args.out))
    return 0


def _through_time(args: argparse.Namespace, prompt: Any) -> int:
    usual = {"precision": "auto", "device": "cpu", "template": None, "tuned": False}
    for name in (name for name, value in usual.items() if getattr(args, name) != value):
        raise ConfigError("--{name} does not go with --checkpoints", hint="Leave it out; a run has its own.", name=name)
    from glassgpt.inside.through_time import through_time, time_numbers

    if args.threads is not None:
        import torch

        torch.set_num_threads(args.threads)
    folder = Path(chosen_model(args))
    through = through_time(folder, prompt, layer=args.layer, head=args.head, top=args.top, every_head=not args.json)
    if args.out is not None or not args.json:
        from glassgpt.inside.look_page import time_page

        out = Path(args.out) if args.out is not None else folder / PAGE
        _write(out, time_page(through, args.language))
    if args.json:
        print_json(time_numbers(through))
    else:
        _tell_time(through, args.language)
        print(say("Written: {path}", args.language, path=out))
    return 0


def _tune(args: argparse.Namespace) -> int:
    """Train a lens and put it beside the model; tells how near it comes."""
    from glassgpt.inside.tuned import TunedLens, lens_file

    model, _ = load_model(args)
    path = lens_file(model)
    texts = _texts(args.tune, args.language)
    tuned = TunedLens.train(model, texts, minutes=MINUTES if args.minutes is None else args.minutes,
                            progress=_progress)  # fmt: skip
    tuned.save(path)
    before, after = tuned.losses
    if args.json:
        print_json({"model": model.name, "path": str(path), "bits_before": before, "bits_after": after})
    else:
        print(say("Written: {path}", args.language, path=path))
        print(say("On text that was held out, the layers' guesses were {before:.2f} bits away from the model's own; "
                  "by the tuned lens they are {after:.2f} bits away.", args.language, before=before,
                  after=after))  # fmt: skip
    return 0


def _texts(data: str, language: str) -> list[Prompt]:
    """The texts and conversations of some data, up to `MOST_CHARACTERS`; what is left out is told."""
    from glassgpt.data.sources import read_rows

    texts: list[Prompt] = []
    room, left_out = MOST_CHARACTERS, 0
    for row in read_rows(data, text_unit="paragraph"):
        room -= sum(map(len, row.texts))
        if room < 0 and texts:
            left_out += 1
        else:
            texts.append(row.texts[0] if row.kind == "text" else row.messages())
    if left_out:
        note(say("{count} rows are left out: a lens is trained on {most:,} characters at most", language,
                 count=left_out, most=MOST_CHARACTERS))  # fmt: skip
    return texts


def _progress(share: float, loss: float) -> None:
    if sys.stderr.isatty():
        print(f"\r{share:4.0%}", end="\n" if share >= 1 else "", file=sys.stderr, flush=True)


def _write(path: Path, page: str) -> None:
    from glassgpt.core.files import write_whole

    write_whole(path, page.encode("utf-8", "backslashreplace"))


def _tell(seen: Look, language: str) -> None:
    """Each token with its probability and the three likeliest others."""
    table = _table(["", say("token", language), say("probability", language), say("bits", language),
                    say("the likeliest others", language)], right=(0, 2, 3))  # fmt: skip
    rows: list[tuple[str, str, str, str, str]] = [("0", _quoted(seen.tokens[0]), "", "", "")]
    for step in seen.steps:
        others = [found for found in step.alternatives if found.id != step.id][:3]
        rows.append((str(step.position), _quoted(step.text), _percent(step.probability), f"{step.entropy:.1f}",
                     _list(others)))  # fmt: skip
    rows.append((str(len(seen.tokens)), say("next", language), "", f"{seen.next.entropy:.1f}",
                 _list(seen.next.alternatives[:3])))  # fmt: skip
    _print(table, rows)
    if seen.loss is not None:
        print(say("loss {loss:.4f} nats per token", language, loss=seen.loss))


def _tell_time(through: ThroughTime, language: str) -> None:
    """A line for each step: the loss of the text, and what would come next."""
    table = _table([say("step", language), say("loss of this text", language), say("held-out loss", language),
                    say("What comes next", language)], right=(0, 1, 2))  # fmt: skip
    rows = [
        (str(moment.step), _loss(moment.seen.loss), _loss(moment.held_out_loss),
         _list(moment.seen.next.alternatives[:3]))
        for moment in through.moments
    ]  # fmt: skip
    _print(table, rows)


def _table(head: list[str], right: tuple[int, ...]) -> Any:
    from rich.table import Table

    table = Table(box=None)
    for i, title in enumerate(head):
        table.add_column(title, justify="right" if i in right else "left", overflow="fold")
    return table


def _print(table: Any, rows: Any) -> None:
    from rich.console import Console
    from rich.markup import escape

    for row in rows:
        table.add_row(*map(escape, row))
    Console().print(table, highlight=False)


def _list(found: Any) -> str:
    return "   ".join(f"{_quoted(one.text)} {_percent(one.probability)}" for one in found)


def _quoted(text: str) -> str:
    from glassgpt.inside.letters import shown

    return shown(text, 40)


def _percent(probability: float) -> str:
    return f"{probability:.1%}" if probability >= 0.001 else f"{probability:.1e}"


def _loss(loss: float | None) -> str:
    return "–" if loss is None else f"{loss:.4f}"
