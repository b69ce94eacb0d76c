"""What several verbs share: the options for a model, for sampling and for data, and loading a model."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from typing import TYPE_CHECKING, Any

from glassgpt.core.errors import ConfigError
from glassgpt.core.words import say

if TYPE_CHECKING:
    from glassgpt.assistant.knowledge import Knowledge
    from glassgpt.assistant.persona import Persona
    from glassgpt.assistant.tool import Tool
    from glassgpt.engine.language_model import LanguageModel

DEFAULT_MODEL = "smollm2"
# What --help shows; `engine` has the values that hold, and importing it here would import torch.
LIBRARY_DEFAULTS = {
    "temperature": 0.8,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "max_new_tokens": 256,
}
SAMPLING = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed")


def add_model_options(parser: argparse.ArgumentParser, language: str, *, positional: bool = False) -> None:
    """--model, --precision, --device, --template, --threads; with `positional` the model may also come first."""
    words = "a name from `glassgpt models`, a run, a folder, a .gguf file or a hub id (default: {name})"
    if positional:
        parser.add_argument("place", nargs="?", metavar="MODEL", help=say(words, language, name=DEFAULT_MODEL))
    parser.add_argument("--model", metavar="M", help=say(words, language, name=DEFAULT_MODEL))
    parser.add_argument(
        "--precision", default="auto", metavar="P",
        help=say("what weights are kept in: float32, bfloat16, int8 or int4 (default: 4 bits where the file has 4, "
                 "else 8)", language),
    )  # fmt: skip
    parser.add_argument("--device", default="cpu", metavar="D", help=say("cpu (default), cuda, mps or auto", language))
    parser.add_argument(
        "--template", metavar="T", help=say("the chat template's name, if it is not recognised", language)
    )
    parser.add_argument(
        "--threads", type=int, metavar="N", help=say("threads to compute with (default: all cores)", language)
    )


def add_draft_option(parser: argparse.ArgumentParser, language: str) -> None:
    """--draft, for the verbs that write text."""
    parser.add_argument(
        "--draft", metavar="M",
        help=say("a smaller model with the same tokenizer, which guesses ahead; replies stay the same", language),
    )  # fmt: skip


def add_assistant_options(parser: argparse.ArgumentParser, language: str) -> None:
    """--persona and --knowledge, for the verbs that talk."""
    parser.add_argument(
        "--persona", metavar="P",
        help=say("an assistant: a TOML file, customer-service or virtual-assistant", language),
    )  # fmt: skip
    parser.add_argument(
        "--knowledge", action="append", default=[], metavar="FILE",
        help=say("what it answers from: a file, a folder, or an index of `glassgpt knowledge`; give it again for more",
                 language),
    )  # fmt: skip


def load_assistant(
    args: argparse.Namespace,
) -> tuple[Persona, Knowledge | None, tuple[Tool[..., Any], ...]] | None:
    """The persona, the knowledge and the tools that the options name; None where they name nothing."""
    if args.persona is None and not args.knowledge:
        return None
    from glassgpt.assistant.persona import load_persona
    from glassgpt.assistant.persona_tools import persona_tools

    persona = load_persona(args.persona or "customer-service")
    files = [str(persona.folder / file) for file in persona.knowledge] + args.knowledge
    usable = persona_tools(persona)
    for problem in usable.problems:
        note(problem.line(args.language))
    if not files:
        return persona, None, usable.tools
    from glassgpt.assistant.encoders import load_encoders
    from glassgpt.assistant.knowledge_files import open_knowledge
    from glassgpt.cli.knowledge import progress, tell, told

    knowledge, found = open_knowledge(files, load_encoders(), progress())
    for one in found.added:
        if not one.unchanged:
            note(told(one, args.language))
            tell(one.notes, args.language)
    tell(found.notes, args.language)
    return persona, knowledge, usable.tools


def add_sampling_options(parser: argparse.ArgumentParser, language: str, defaults: dict[str, Any]) -> None:
    """The sampling settings; what is not given stays None, and the library's default holds."""
    shown = LIBRARY_DEFAULTS | defaults
    words = {
        "temperature": "0 takes the likeliest token; higher is more varied (default: {value})",
        "top_k": "only the K likeliest tokens; 0 for all (default: {value})",
        "top_p": "only the likeliest tokens that reach this probability (default: {value})",
        "min_p": "only tokens at least this share as likely as the likeliest (default: {value})",
        "repetition_penalty": "divide the scores of tokens already seen (default: {value})",
    }
    for name, text in words.items():
        kind = int if name == "top_k" else float
        flag = "--" + name.replace("_", "-")
        parser.add_argument(flag, type=kind, metavar="X", help=say(text, language, value=shown[name]))
    parser.add_argument("--seed", type=int, metavar="N", help=say("the same seed gives the same text", language))
    parser.add_argument(
        "--max-new-tokens", type=int, metavar="N", help=say("the most tokens to write (default: {value})", language,
                                                            value=shown["max_new_tokens"])
    )  # fmt: skip


def sampling_given(args: argparse.Namespace) -> dict[str, Any]:
    """The sampling settings that the user gave."""
    return {name: getattr(args, name) for name in SAMPLING if getattr(args, name) is not None}


def add_data_options(parser: argparse.ArgumentParser, language: str) -> None:
    """--columns and --encoding, for whatever reads a file."""
    parser.add_argument(
        "--columns", metavar="ROLE=COLUMN,...",
        help=say("which column is what, such as prompt=Frage,response=Antwort (found by name unless given)", language),
    )  # fmt: skip
    parser.add_argument(
        "--encoding", metavar="E", help=say("the encoding of text files (found unless given)", language)
    )


def columns_given(args: argparse.Namespace) -> dict[str, str] | None:
    """The columns named with --columns, which may also be a JSON object, as names with commas in them need; raises
    ConfigError."""
    if args.columns is None:
        return None
    if args.columns.startswith("{"):
        with contextlib.suppress(ValueError, RecursionError):
            named = json.loads(args.columns)
            if all(isinstance(column, str) for column in named.values()):
                return named
    pairs = [part.partition("=") for part in args.columns.replace("，", ",").split(",")]
    for role, equals, column in pairs:
        if not equals or not role.strip() or not column.strip():
            raise ConfigError(
                "--columns {given} is not of the form ROLE=COLUMN,ROLE=COLUMN",
                hint="Write it as --columns prompt=...,response=... with the names of your columns.",
                given=args.columns,
            )
    return {role.strip(): column.strip() for role, _, column in pairs}


def chosen_model(args: argparse.Namespace) -> str:
    """The model that the options name; raises ConfigError when they name two."""
    first = getattr(args, "place", None)
    if first is not None and args.model is not None and first != args.model:
        raise ConfigError("two models are named: {first} and {second}", hint="Name one of them.", first=first,
                          second=args.model)  # fmt: skip
    return next((name for name in (first, args.model) if name is not None), DEFAULT_MODEL)


def load_model(args: argparse.Namespace, *, in_torch: bool = False) -> tuple[LanguageModel, float]:
    """Load the model that the options name; with the seconds it took, imports not counted."""
    from glassgpt.core.threads import use_threads
    from glassgpt.engine.load import load

    name = chosen_model(args)
    if args.threads is not None:
        use_threads(args.threads)
    begin = time.perf_counter()
    model = load(name, precision=args.precision, device=args.device, template=args.template,
                 in_torch=in_torch, draft=getattr(args, "draft", None))  # fmt: skip
    return model, time.perf_counter() - begin


def print_json(value: Any) -> None:
    """One JSON value on stdout; escapes instead of characters where the console is not UTF-8."""
    encoding = (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "")
    print(json.dumps(value, ensure_ascii=encoding != "utf8", indent=2))


def note(text: str) -> None:
    """A remark for the user beside the output: on stderr, so that stdout stays clean."""
    print(text, file=sys.stderr, flush=True)
