"""`glassgpt`: reads the command line, calls a verb, and turns errors into one line.

Exit codes: 0 success, 1 a named error (one line on stderr, no traceback unless `--debug`), 2 wrong usage,
130 stopped with Ctrl-C. Verbs import what they need when they run, so that `--help` is instant.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from typing import TextIO

from glassgpt import __version__
from glassgpt.cli import (
    bench,
    build,
    chat,
    clean,
    conversations,
    doctor,
    evaluate,
    finetune,
    generate,
    knowledge,
    look,
    models,
    origins,
    pretrain,
    serve,
    tokenizer,
    verify,
)
from glassgpt.core.errors import GlassError
from glassgpt.core.words import LANGUAGES, choose_language, say

VERBS = (
    chat,
    generate,
    serve,
    knowledge,
    models,
    build,
    clean,
    conversations,
    doctor,
    tokenizer,
    pretrain,
    finetune,
    verify,
    evaluate,
    look,
    origins,
    bench,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        make_printable(stream)
    language = wanted_language(argv)
    args = build_parser(language).parse_args(argv)
    args.language = language
    try:
        return args.run(args)
    except GlassError as error:
        if args.debug:
            traceback.print_exc()
        print(error_line(error, language), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader (`| head`) has seen enough
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 - so that the exit flush has somewhere to go
        return 0


def build_parser(language: str) -> argparse.ArgumentParser:
    """The whole command line, with help in `language`."""
    parser = argparse.ArgumentParser(
        prog="glassgpt",
        description=say("A whole ChatGPT in Python with glass walls, on the computer you already have.", language),
        epilog=say(
            "Environment: GLASSGPT_CACHE is the folder for models, GLASSGPT_LANG the language (en or zh); pip's own "
            "settings and HF_ENDPOINT choose where models are fetched from.",
            language,
        ),
    )
    parser.add_argument("--version", action="version", version=f"glassgpt {__version__}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--lang", choices=LANGUAGES, help=say("language of messages", language))
    common.add_argument("--debug", action="store_true", help=say("show the traceback of an error", language))
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb in VERBS:
        verb.add_parser(verbs, common, language)
    return parser


def wanted_language(argv: Sequence[str]) -> str:
    """The language of `--lang`, read before parsing because help and usage need it; else the environment's."""
    for at, word in enumerate(argv):
        value = word.partition("=")[2] if word.startswith("--lang=") else ""
        if word == "--lang" and at + 1 < len(argv):
            value = argv[at + 1]
        if value in LANGUAGES:
            return value
    return choose_language()


def error_line(error: GlassError, language: str) -> str:
    """An error and what to do about it, on one line, marked as an error."""
    return ("错误：" if language == "zh" else "error: ") + error.line(language)


def make_printable(stream: TextIO) -> None:
    """On a console that is not UTF-8, show what it lacks as escapes instead of failing."""
    encoding = (getattr(stream, "encoding", None) or "").lower().replace("-", "")
    if encoding != "utf8" and hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")
