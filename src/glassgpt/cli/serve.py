"""`glassgpt serve`: the page, and answers for the clients of OpenAI's and Anthropic's APIs."""

from __future__ import annotations

import argparse
import ipaddress
import json
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassgpt.cli.options import DEFAULT_MODEL, add_assistant_options, load_assistant, note, print_json
from glassgpt.core.errors import ConfigError
from glassgpt.core.words import say

if TYPE_CHECKING:
    from collections.abc import Callable

    from glassgpt.assistant.knowledge import Searches
    from glassgpt.assistant.persona import Persona
    from glassgpt.engine.language_model import LanguageModel
    from glassgpt.server.hub import Entry, Hub
    from glassgpt.server.keys import Key

PORT = 8000
KEY_VARIABLE = "GLASSGPT_API_KEY"
OWN = "key of this run"  # the name of the random one


def add_parser(verbs: Any, common: argparse.ArgumentParser, language: str) -> None:
    """Describe the verb."""
    about = say("open the page, and answer any client of the OpenAI and Anthropic APIs", language)
    parser = verbs.add_parser("serve", parents=[common], help=about)
    parser.add_argument(
        "--model", action="append", metavar="M",
        help=say("a name from `glassgpt models`, a run, a folder, a .gguf file or a hub id; give it again for more "
                 "models (default: {name})", language, name=DEFAULT_MODEL),
    )  # fmt: skip
    add_assistant_options(parser, language)
    about = say("the address to listen on (default: {value})", language, value="127.0.0.1")
    parser.add_argument("--host", default="127.0.0.1", metavar="H", help=about)
    parser.add_argument("--port", type=int, default=PORT, metavar="P",
                        help=say("the port; 0 takes a free one (default: {value})", language, value=PORT))  # fmt: skip
    parser.add_argument("--api-key", metavar="K",
                        help=say("the key that clients must bring (or {name} in the environment); without one, this "
                                 "computer gets a random one", language, name=KEY_VARIABLE))  # fmt: skip
    parser.add_argument("--keys", metavar="FILE",
                        help=say("a TOML file of keys, with the models and the rate of each", language))  # fmt: skip
    parser.add_argument("--precision", default="auto", metavar="P",
                        help=say("what weights are kept in: float32, bfloat16, int8 or int4 (default: 4 bits where "
                                 "the file has 4, else 8)", language))  # fmt: skip
    parser.add_argument("--threads", type=int, metavar="N",
                        help=say("threads to compute with (default: all cores)", language))  # fmt: skip
    parser.add_argument("--memory", type=float, default=0.0, metavar="GB",
                        help=say("what all loaded models may take together (default: no limit)", language))  # fmt: skip
    parser.add_argument("--allow-host", action="append", default=[], metavar="NAME",
                        help=say("another name that the server is reached by", language))  # fmt: skip
    about = say("a page that may ask from a browser, such as https://example.org", language)
    parser.add_argument("--allow-origin", action="append", default=[], metavar="ORIGIN", help=about)
    parser.add_argument("--log-messages", action="store_true",
                        help=say("write what is said into the log", language))  # fmt: skip
    parser.add_argument("--open", action="store_true", help=say("open the page in the browser", language))
    parser.add_argument("--no-page", action="store_true", help=say("serve the APIs alone", language))
    parser.add_argument("--data", metavar="FOLDER",
                        help=say("where the page keeps conversations and files (default: the user's data folder)",
                                 language))  # fmt: skip
    parser.add_argument("--runs", default="runs", metavar="FOLDER",
                        help=say("where the page keeps what it builds (default: {value})", language,
                                 value="runs"))  # fmt: skip
    parser.add_argument("--self-test", metavar="URL",
                        help=say("try the known attacks against the server that runs there, and tell what held",
                                 language))  # fmt: skip
    parser.add_argument("--json", action="store_true", help=say("print the result as JSON", language))
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or Ctrl-C."""
    if args.self_test is not None:
        return _self_test(args)
    from glassgpt.core.threads import use_threads
    from glassgpt.server.app import ServerSettings, make_app
    from glassgpt.server.hub import Hub
    from glassgpt.server.keys import Keys
    from glassgpt.server.wire import listen, log_to_stderr
    from glassgpt.server.wire import run as serve
    from glassgpt.ui.widget import add_widget

    _check(args)
    if args.threads is not None:
        use_threads(args.threads)
    found, token = _keys(args)
    keys, models = Keys(found), args.model or [DEFAULT_MODEL]
    for model in models:
        _check_there(model, fetch=args.no_page)  # each is there, or that is said now and not to a client
    given = load_assistant(args)
    socket = listen(args.host, args.port)
    host, port = socket.getsockname()[:2]
    hub = Hub(models, _loader(args), int(args.memory * 1e9))
    names = ["127.0.0.1", "localhost", "::1", *([] if _any(args.host) else [args.host]), *args.allow_host]
    settings = ServerSettings(names, args.allow_origin, log_messages=args.log_messages)
    shown = f"http://{'localhost' if _any(host) else f'[{host}]' if ':' in host else host}:{port}"
    if args.no_page:
        if given is not None:
            add_assistant(hub, args, *given)
        hub.load_first()
        app, opening = make_app(hub, keys, settings, adds=[add_widget]), None
    else:
        from glassgpt.cli.opening import Opening, with_page

        opening = Opening(hub, shown, token, args.language, opens=args.open)
        app = with_page(args, hub, keys, settings, given, opening.failed)
    _tell(args, hub, shown, token)
    log_to_stderr()
    if opening is None:
        serve(app, socket)
    else:
        serve(app, socket, opening.started)
        opening.end()
    return 0


def _check(args: argparse.Namespace) -> None:
    if not 0 <= args.port <= 65535:
        raise ConfigError("port is {value}; expected a whole number from {low} to {high}", value=args.port, low=0,
                          high=65535)  # fmt: skip
    if args.memory < 0:
        raise ConfigError("--memory is {value}; expected a number of gigabytes", value=args.memory)
    if args.open and args.no_page:
        raise ConfigError("--open and --no-page are both given", hint="Leave out one of the two.")


def _check_there(model: str, fetch: bool) -> None:
    """Raises NotFoundError where there is no such model; one of the catalog may come later, unless `fetch`."""
    from glassgpt.formats.catalog import CATALOG
    from glassgpt.formats.place import find_model

    if fetch or model not in CATALOG:
        find_model(model, pull_missing=True)


def _loader(args: argparse.Namespace) -> Callable[[Entry], LanguageModel]:
    """What loads a model for the server, and fetches one of the catalog before."""

    def load_one(entry: Entry) -> LanguageModel:
        from glassgpt.engine.load import load
        from glassgpt.formats.catalog import CATALOG
        from glassgpt.formats.fetch import pull

        def fetching(what: str, done: int, total: int) -> None:
            entry.fetching = (what, done, total)

        if entry.source in CATALOG:
            pull(entry.source, progress=fetching)
        return load(entry.source, precision=entry.precision or args.precision)

    return load_one


def add_assistant(hub: Hub, args: argparse.Namespace, persona: Persona, knowledge: Searches | None, tools: Any) -> None:
    """The assistant that the options name, under the name of its file."""
    from glassgpt.assistant.assistant import Assistant

    name = Path(args.persona or "customer-service").stem
    hub.add_assistant(name, lambda model: Assistant(model, persona, knowledge, tools))


def _tell(args: argparse.Namespace, hub: Hub, shown: str, token: str | None) -> None:
    """Where the server is, on stdout."""
    page = None if args.no_page else f"{shown}/?token={token}" if token else f"{shown}/"
    if args.json:
        # On one line and at once, for a program that waits for it.
        told = {"url": f"{shown}/v1", "token": token, "models": hub.listed(), "page": page}
        print(json.dumps(told), flush=True)
        return
    print(
        say("Serving {models} at {url}", args.language, models=", ".join(hub.listed()), url=f"{shown}/v1"), flush=True
    )
    if token:
        print(say("The key of this run, told only here: {token}", args.language, token=token), flush=True)
    if page:
        print(say("The page: {url}", args.language, url=page), flush=True)


def _keys(args: argparse.Namespace) -> tuple[list[Key], str | None]:
    """The keys, and the random one if it was made."""
    from glassgpt.server.keys import key_of, read_keys

    given = args.api_key if args.api_key is not None else os.environ.get(KEY_VARIABLE)
    if given is not None and args.keys is not None:
        raise ConfigError("--api-key and --keys are both given", hint="Put all keys into the file.")
    if args.keys is not None:
        return read_keys(args.keys), None
    if given is not None:
        return [key_of(given)], None
    if not _loopback(args.host):
        raise ConfigError(
            "{host} can be reached from other computers, and there is no key",
            hint="Give one with --api-key or --keys, or listen on 127.0.0.1.",
            host=args.host,
        )
    token = secrets.token_urlsafe(24)
    return [key_of(token, OWN)], token


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _any(host: str) -> bool:
    return host in ("0.0.0.0", "::")


def _self_test(args: argparse.Namespace) -> int:
    from glassgpt.server.self_test import attack

    key = args.api_key if args.api_key is not None else os.environ.get(KEY_VARIABLE, "")
    results = attack(args.self_test, key)
    held = sum(result.held for result in results)
    if args.json:
        print_json([{"attack": r.name, "held": r.held, "seen": r.seen} for r in results])
    else:
        for result in results:
            mark = say("held" if result.held else "FAILED", args.language)
            print(f"{mark:8} {say(result.name, args.language)}: {result.seen}")
    note(say("{held} of {count} held", args.language, held=held, count=len(results)))
    return 0 if held == len(results) else 1
