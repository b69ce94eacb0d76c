"""`glassgpt serve`: answer the clients of OpenAI's and Anthropic's APIs."""

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
    from glassgpt.server.keys import Key

PORT = 8000
KEY_VARIABLE = "GLASSGPT_API_KEY"


def add_parser(verbs: Any, common: argparse.ArgumentParser, language: str) -> None:
    """Describe the verb."""
    parser = verbs.add_parser("serve", parents=[common],
                              help=say("answer any client of the OpenAI and Anthropic APIs", language))  # fmt: skip
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
    parser.add_argument("--self-test", metavar="URL",
                        help=say("try the known attacks against the server that runs there, and tell what held",
                                 language))  # fmt: skip
    parser.add_argument("--json", action="store_true", help=say("print the result as JSON", language))
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or Ctrl-C."""
    if args.self_test is not None:
        return _self_test(args)
    from glassgpt.assistant.assistant import Assistant
    from glassgpt.core.threads import use_threads
    from glassgpt.engine.language_model import LanguageModel
    from glassgpt.engine.load import load
    from glassgpt.formats.place import find_model
    from glassgpt.server.app import ServerSettings, make_app
    from glassgpt.server.hub import Hub
    from glassgpt.server.keys import Keys
    from glassgpt.server.wire import listen, log_to_stderr
    from glassgpt.server.wire import run as serve

    if not 0 <= args.port <= 65535:
        raise ConfigError("port is {value}; expected a whole number from {low} to {high}", value=args.port, low=0,
                          high=65535)  # fmt: skip
    if args.memory < 0:
        raise ConfigError("--memory is {value}; expected a number of gigabytes", value=args.memory)
    if args.threads is not None:
        use_threads(args.threads)
    keys, token = _keys(args)
    models = args.model or [DEFAULT_MODEL]
    for model in models:
        find_model(model, pull_missing=True)  # each is there, or that is said now and not to a client
    given = load_assistant(args)
    socket = listen(args.host, args.port)
    host, port = socket.getsockname()[:2]

    def load_one(name: str) -> LanguageModel:
        return load(name, precision=args.precision)

    hub = Hub(models, load_one, int(args.memory * 1e9))
    hub.load_first()
    if given is not None:
        persona, knowledge, tools = given
        name = Path(args.persona or "customer-service").stem
        hub.add_assistant(name, lambda model: Assistant(model, persona, knowledge, tools))
    names = ["127.0.0.1", "localhost", "::1", *([] if _any(args.host) else [args.host]), *args.allow_host]
    app = make_app(hub, Keys(keys), ServerSettings(names, args.allow_origin, log_messages=args.log_messages))
    shown = f"http://{'localhost' if _any(host) else f'[{host}]' if ':' in host else host}:{port}"
    if args.json:
        # On one line and at once, for a program that waits for it.
        print(json.dumps({"url": f"{shown}/v1", "token": token, "models": list(hub.entries)}), flush=True)
    else:
        print(say("Serving {models} at {url}", args.language, models=", ".join(hub.entries), url=f"{shown}/v1"),
              flush=True)  # fmt: skip
        if token:
            print(say("The key of this run, told only here: {token}", args.language, token=token), flush=True)
    log_to_stderr()
    serve(app, socket)
    return 0


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
    return [key_of(token)], token


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
