"""`glassgpt chat`: talk to a model in the terminal."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassgpt.cli.options import (
    add_assistant_options,
    add_draft_option,
    add_model_options,
    add_sampling_options,
    load_assistant,
    load_model,
    note,
    print_json,
    sampling_given,
)  # fmt: skip
from glassgpt.core.errors import GlassError, NotFoundError, nearest
from glassgpt.core.words import say
from glassgpt.formats.catalog import unlearned, unlearned_note

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from glassgpt.assistant.conversation import Chat, Reply
    from glassgpt.assistant.kept import Kept
    from glassgpt.assistant.store import Store
    from glassgpt.engine.language_model import LanguageModel

# What --help shows; `assistant.conversation` has the values that hold, and importing it here would import torch.
DEFAULTS = {"temperature": 0.2, "top_p": 0.9, "max_new_tokens": 512}
COMMANDS = ("/help", "/reset", "/system", "/save", "/good", "/bad", "/right", "/build", "/exit")


def add_parser(verbs: Any, common: argparse.ArgumentParser, language: str) -> None:
    """Describe the verb."""
    parser = verbs.add_parser("chat", parents=[common], help=say("talk to a model", language))
    add_model_options(parser, language, positional=True)
    add_draft_option(parser, language)
    parser.add_argument(
        "--system", metavar="TEXT", help=say("instructions that stand before the conversation", language)
    )
    add_assistant_options(parser, language)
    parser.add_argument("--store", metavar="DB",
                        help=say("keep the conversation in this database: a file, or a URL as SQLAlchemy takes it",
                                 language))  # fmt: skip
    about = say("with --store: go on with this conversation, or with the `last`", language)
    parser.add_argument("--continue", dest="go_on", metavar="ID", help=about)
    parser.add_argument("--message", metavar="TEXT", help=say("say this, print the reply and exit", language))
    add_sampling_options(parser, language, DEFAULTS)
    parser.add_argument("--json", action="store_true", help=say("with --message: print the reply as JSON", language))
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """One message, or a conversation until /exit or the end of the input."""
    if args.json and args.message is None:
        raise GlassError("--json needs --message", hint='Try: glassgpt chat --message "Hello" --json.')
    if args.go_on is not None and args.store is None:
        raise GlassError("--continue needs --store", hint="Name the database that the conversation is in.")
    given = load_assistant(args)
    model, _ = load_model(args)
    from glassgpt.assistant.assistant import Assistant, AssistantChat
    from glassgpt.assistant.conversation import Chat
    from glassgpt.assistant.kept import Kept
    from glassgpt.engine.load import load

    def talk_to(model: LanguageModel) -> Chat:
        settings = {"max_new_tokens": args.max_new_tokens} | sampling_given(args)
        if given is None:
            return Chat(model, args.system, **settings)
        chat = AssistantChat(Assistant(model, *given), **settings)
        chat.set_system(args.system)
        return chat

    if args.message is None:

        def reload(place: Path) -> LanguageModel:
            return load(place, precision=args.precision, device=args.device, template=args.template)

        with _store(args) as store:
            return Conversation(talk_to, model, args.language, reload, _for_build(args), store, args.go_on).run()
    chat = talk_to(model)
    with _store(args) as store:
        speaker: Chat | Kept = chat if store is None else Kept(chat, store, args.go_on)
        for text in speaker.stream(args.message):
            if not args.json:
                print(text, end="", flush=True)
    reply = chat.reply
    assert reply is not None
    if args.json:
        print_json(
            {
                "model": model.name,
                "precision": model.precision,
                "reply": str(reply),
                "finish_reason": reply.finish_reason,
                "tokens": reply.tokens,
                "left_out": list(reply.left_out),
                "kind": reply.plan.kind if reply.plan else "model",
                "sources": [vars(source) for source in reply.plan.sources] if reply.plan else [],
                "calls": [
                    {"tool": call.name, "arguments": call.arguments, "ok": call.result.ok, "result": call.result.text}
                    for call in reply.plan.calls
                ]
                if reply.plan
                else [],
                "conversation": speaker.id if isinstance(speaker, Kept) else None,
                "receipt": model.receipt(reply.completion).to_dict() if reply.completion else None,
            }
        )
        return 0
    print()
    _tell(reply, args.message, model.name, args.language)
    return 0


@contextlib.contextmanager
def _store(args: argparse.Namespace) -> Iterator[Store | None]:
    """The database of --store."""
    if args.store is None:
        yield None
        return
    from glassgpt.assistant.store import Store

    with Store(args.store) as store:
        if store.interrupted:
            note(say("Replies that were never finished, now marked as such: {count}", args.language,
                     count=store.interrupted))  # fmt: skip
        yield store


class Conversation:
    """The loop in the terminal: reads lines, answers them, obeys commands."""

    def __init__(
        self, talk_to: Callable[[LanguageModel], Chat], model: LanguageModel, language: str,
        reload: Callable[[Path], LanguageModel], build_options: list[str],
        store: Store | None = None, go_on: str | None = None,
    ) -> None:  # fmt: skip
        from glassgpt.assistant.kept import Kept

        self.talk_to, self.chat, self.language = talk_to, talk_to(model), language
        self.kept = None if store is None else Kept(self.chat, store, go_on)
        self.reload, self.build_options = reload, build_options
        self.interactive = sys.stdin.isatty()

    def run(self) -> int:
        """Until /exit, Ctrl-D, or the end of piped input."""
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401 - gives input() line editing and history
        self.say(
            "Hello! You are talking to {model}, which runs on this computer alone. /help lists the commands; Ctrl-C "
            "stops a reply.",
            model=self.chat.model.name,
        )
        self.say("/build makes a model of your own from a file of questions and answers (/build alone: from a sample).")
        if greeting := self.chat.greeting(self.language):
            print(f"\n{greeting}\n", flush=True)
        while True:
            try:
                line = input("> " if self.interactive else "").strip()
            except EOFError:
                if self.interactive:
                    print()
                return 0
            except KeyboardInterrupt:
                print()
                self.say("To leave, type /exit.")
                continue
            if line == "/exit":
                return 0
            if not line:
                continue
            try:
                self.obey(line) if line.startswith("/") else self.answer(line)
            except GlassError as error:
                note(error.line(self.language))

    def answer(self, line: str) -> None:
        """Print the reply to one message, and what the user should know about it."""
        # Ctrl-C ends the stream; what was written so far stays in the conversation.
        with contextlib.suppress(KeyboardInterrupt):
            _print_stream(self.kept or self.chat, line)
        print("\n")
        if self.chat.reply is not None:
            _tell(self.chat.reply, line, self.chat.model.name, self.language)

    def obey(self, line: str) -> None:
        """Carry out a command."""
        command, _, rest = line.partition(" ")
        rest = rest.strip()
        if command == "/help":
            self.say("/reset forgets the conversation")
            self.say("/system TEXT sets the instructions (without TEXT: shows them)")
            self.say("/good, /bad and /right ANSWER judge the last reply (with --store)")
            self.say("/save FILE writes the conversation to a JSON file")
            self.say("/build FILE makes a model from your questions and answers (without FILE: a sample)")
            self.say("/exit leaves (or Ctrl-D)")
        elif command == "/reset":
            (self.kept.forget if self.kept else self.chat.reset)()
            self.say("The conversation is forgotten; the instructions stay.")
        elif command == "/system":
            if rest:
                self.chat.set_system(rest)
                self.say("The instructions are set.")
            else:
                print(self.chat.system or say("(the model's own)", self.language))
        elif command == "/save":
            path = save_conversation(self.chat, rest)
            self.say("Saved: {path}", path=path)
        elif command in ("/good", "/bad", "/right"):
            self.judge(command, rest)
        elif command == "/build":
            self.build(rest)
        else:
            near = nearest(command, list(COMMANDS))
            raise NotFoundError(
                "there is no command {name}",
                hint="Did you mean {near}?" if near else "/help lists the commands.",
                name=command,
                near=near,
            )

    def judge(self, command: str, rest: str) -> None:
        """Keep what the user thinks of the last reply."""
        if self.kept is None:
            hint = "Start with --store conversations.db to keep what is said."
            raise GlassError("{command} needs --store", hint=hint, command=command)
        if command == "/right" and not rest:
            raise GlassError("/right needs the right answer", hint="Type it behind /right.")
        self.kept.judge({"/good": 1, "/bad": -1, "/right": 0}[command], rest if command == "/right" else None)
        self.say("Kept; `glassgpt conversations lessons` makes training data of it.")

    def build(self, file: str) -> None:
        """Build a model from a file, or from the sample, as `glassgpt build` does, and go on with that one."""
        from glassgpt.assistant.kept import Kept
        from glassgpt.cli.build import SAMPLE, next_folder_for
        from glassgpt.cli.main import build_parser

        if file:
            file = os.path.expanduser(file)  # noqa: PTH111 - a Path would make hf:... something else on Windows
            file = f"./{file}" if file.startswith("-") else file  # a file's name, never an option
        folder = next_folder_for(file or SAMPLE)
        words = ["build", *([file] if file else []), "--from", self.chat.model.name, "--out", str(folder)]
        try:
            args = build_parser(self.language).parse_args([*words, *self.build_options])
            args.language = self.language
            if args.run(args) == 0:
                self.chat = self.talk_to(self.reload(folder))
                if self.kept is not None:
                    self.kept = Kept(self.chat, self.kept.store)
                self.say("You are talking to your own model now; ask it something that its rows answer.")
        except (SystemExit, KeyboardInterrupt):
            note(say("Nothing was built; the conversation goes on.", self.language))

    def say(self, template: str, **facts: Any) -> None:
        """A sentence of the program's own, in the user's language."""
        print(say(template, self.language, **facts), flush=True)


def _for_build(args: argparse.Namespace) -> list[str]:
    """The options of /build: those of the conversation that matter to a training."""
    given = ["--device", args.device]
    given += ["--set", f"finetune.template={args.template}"] if args.template else []
    return given + (["--threads", str(args.threads)] if args.threads is not None else [])


def save_conversation(chat: Chat, name: str) -> Path:
    """Write the conversation as JSON; an existing file is never overwritten."""
    if not name:
        raise GlassError("/save needs a file name", hint="Try /save chat.json.")
    path = Path(name).expanduser()
    messages = ([{"role": "system", "content": chat.system}] if chat.system else []) + chat.messages
    try:
        with path.open("x", encoding="utf-8") as file:
            json.dump({"model": chat.model.name, "messages": messages}, file, ensure_ascii=False, indent=2)
    except FileExistsError:
        raise GlassError(
            "{path} exists already", hint="Choose another name; nothing is overwritten.", path=path
        ) from None
    except OSError as error:
        raise GlassError(
            "{path} cannot be written ({reason})", hint="Choose another place.", path=path, reason=error.strerror
        ) from None
    return path.resolve()


def _print_stream(chat: Chat | Kept, message: str) -> None:
    stream = chat.stream(message)
    with contextlib.closing(stream):  # type: ignore[type-var]
        for text in stream:
            print(text, end="", flush=True)


def _tell(reply: Reply, message: str, model: str, language: str) -> None:
    """What the user should know beside the text: where it comes from, a message that the model cannot read, left out
    turns, a reply cut off."""
    if reply.plan is not None and reply.plan.footer():
        note(reply.plan.footer())
    if (reply.plan is None or reply.plan.kind in ("model", "summarised")) and unlearned(model, message):
        note(f"({unlearned_note(model).text(language)})")
    if reply.left_out:
        note(say("(The conversation has outgrown the model's context: its first {count} messages were left out, from "
                 "“{first}” on.)", language, count=len(reply.left_out),
                 first=reply.left_out[0]["content"][:40]))  # fmt: skip
    if reply.finish_reason == "length":
        note(say("(The reply was cut off after {count} tokens; --max-new-tokens allows more.)", language,
                 count=reply.tokens))  # fmt: skip
    if reply.finish_reason == "interrupted":
        note(say("(Stopped. What was written stays in the conversation.)", language))
