"""A persona: who the assistant is, what it says by itself, what it refuses, when it hands over, and what it may use.

    name = "Wrenlow"
    only_known = true                       # never a word that is not from the files
    greeting = { en = "Hello!", zh = "您好！" }

    [handover]
    when = ["talk to a person", "转人工"]
    say = { en = "Write to help@example.org.", zh = "请写信到 help@example.org。" }

Written by hand in TOML; those that come with the package are in `personas/`. A text is one string for both languages,
or one for each.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from glassgpt.assistant.terms import fold
from glassgpt.core.config import read_toml, settings_from
from glassgpt.core.errors import ConfigError, NotFoundError, nearest
from glassgpt.core.words import LANGUAGES, say

PACKAGED = ("customer-service", "virtual-assistant")
MOST_PHRASES, LONGEST = 1_000, 20_000  # phrases of one list; characters of a text
_CHINESE = re.compile("[\u3400-\u9fff\U00020000-\U0003ffff]")
_PARTS = re.compile(r"[\w\u3400-\u9fff]+")


class Words(dict[str, str]):
    """A text in each language."""

    def text(self, language: str) -> str:
        """The text in `language`, or in the one there is; "" where there is none."""
        return self.get(language) or next(iter(self.values()), "")


@dataclass(frozen=True)
class Saying:
    """`say` is answered to a message that has one of the phrases `when`."""

    when: tuple[str, ...] = ()
    say: Words = field(default_factory=Words)


# What every persona answers, unless it has words of its own: a search would find something for "hello" too.
_SMALL_TALK = (
    Saying(("hello", "hi", "hey", "hello there", "hi there", "good morning", "good afternoon", "good evening", "你好",
            "您好", "嗨", "在吗", "你好在吗", "有人吗", "早上好", "下午好", "晚上好"),
           Words(en="Hello! What can I do for you?", zh="您好！请问有什么可以帮您？")),
    Saying(("thanks", "thank you", "thank you very much", "many thanks", "ok thanks", "great thanks", "谢谢", "多谢",
            "谢谢你", "谢谢您", "好的谢谢", "非常感谢"), Words(en="You are welcome.", zh="不客气。")),
    Saying(("bye", "goodbye", "bye bye", "see you", "再见", "拜拜"), Words(en="Goodbye!", zh="再见！")),
)  # fmt: skip


@dataclass(frozen=True)
class Orders:
    """A CSV of orders that is looked up: its path, and the column of order numbers."""

    file: str
    column: str


@dataclass(frozen=True)
class McpServer:
    """A program that offers tools over MCP, and which of them may be used (all, unless named)."""

    command: str
    args: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    allow: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Persona:
    """Who the assistant is.

    - `language`: of what it says by itself; "auto": the question's.
    - `tone`, `instructions`: told to the model where it writes.
    - `only_known`: it answers from its files and tools, or says that it does not know; the model never answers alone.
    - `summarise`: a model may put pieces of texts into its own words; rows of questions and answers are quoted always.
    - `unknown`: what it says where it does not know; `handover`: what it adds, and says to who asks for a person.
    - `replies`: to a message that is one of the phrases, such as a greeting.
    - `refuse`: to a message that has one of the phrases in it.
    - `tools`: the functions of the package that it may call; `orders`, `mcp`: others.
    - `knowledge`: its files.
    - `folder`: where its paths begin.
    """

    name: str
    language: Literal["auto", "en", "zh"] = "auto"
    tone: Words = field(default_factory=Words)
    instructions: Words = field(default_factory=Words)
    greeting: Words = field(default_factory=Words)
    unknown: Words = field(default_factory=Words)
    only_known: bool = False
    summarise: bool = False
    handover: Saying = field(default_factory=Saying)
    replies: tuple[Saying, ...] = ()
    refuse: tuple[Saying, ...] = ()
    tools: tuple[str, ...] = ()
    orders: Orders | None = None
    mcp: dict[str, McpServer] = field(default_factory=dict)
    knowledge: tuple[str, ...] = ()
    folder: Path = Path()

    def language_of(self, message: str) -> str:
        """The language that a message is answered in."""
        return self.language if self.language != "auto" else "zh" if _CHINESE.search(message) else "en"

    def system(self, language: str) -> str:
        """What the model is told to be."""
        told = [self.instructions.text(language) or say("You are {name}, a helpful assistant.", language,
                                                        name=self.name)]  # fmt: skip
        if self.tone.text(language):
            told.append(self.tone.text(language))
        return " ".join(told)

    def reply_to(self, message: str) -> Saying | None:
        """What is said to a message that is one of the phrases of `replies`, or a greeting, thanks, or goodbye."""
        said = _squeezed(message)
        greeting = Saying(_SMALL_TALK[0].when, self.greeting or _SMALL_TALK[0].say)
        every = (*self.replies, greeting, *_SMALL_TALK[1:])
        return next((s for s in every if said and said in {_squeezed(phrase) for phrase in s.when}), None)

    def refuses(self, message: str) -> Saying | None:
        """What is said to a message that it does not answer."""
        return next((s for s in self.refuse if has_phrase(message, s.when)), None)

    def hands_over(self, message: str) -> bool:
        """Whether a message asks for a person."""
        return has_phrase(message, self.handover.when)


def has_phrase(message: str, phrases: tuple[str, ...]) -> bool:
    """Whether one of the phrases stands in a message: whole words, whatever the case; Chinese in either script."""
    spaced = f" {' '.join(_PARTS.findall(fold(message)))} "
    for phrase in phrases:
        wanted = " ".join(_PARTS.findall(fold(phrase)))
        if wanted and (wanted in spaced if _CHINESE.search(wanted) else f" {wanted} " in spaced):
            return True
    return False


def _squeezed(message: str) -> str:
    return "".join(_PARTS.findall(fold(message)))


def load_persona(name: str | Path) -> Persona:
    """A persona of the package by its name, or from a TOML file.

    Raises:
        NotFoundError: there is neither.
        FormatError: the file is not TOML.
        ConfigError: an unknown setting (with the nearest), a missing one, or a wrong value; with the file.
    """
    path = Path(name)
    if str(name) in PACKAGED:
        with_package = files("glassgpt") / "personas" / f"{name}.toml"
        return persona_from(read_toml(Path(str(with_package))), Path())
    if not path.is_file():
        near = nearest(str(name), list(PACKAGED))
        raise NotFoundError(
            "there is no persona {name}",
            hint="Did you mean {near}?" if near else "Give a TOML file, or one of {known}.",
            name=name,
            near=near,
            known=", ".join(PACKAGED),
        )
    return persona_from(read_toml(path), path.parent)


def persona_from(values: Mapping[str, Any], folder: Path) -> Persona:
    """A persona from the values of its file; raises ConfigError as `load_persona` does."""
    given = dict(values)
    if "folder" in given:
        raise ConfigError("unknown setting {key!r}", hint="Leave it out.", key="folder")
    for key in ("tone", "instructions", "greeting", "unknown"):
        if key in given:
            given[key] = _words(key, given[key])
    for key in ("replies", "refuse"):
        if key in given:
            tables = given[key]
            if not isinstance(tables, list) or len(tables) > MOST_PHRASES:
                raise ConfigError("{key} is {value!r}; expected [[{key}]] tables", key=key, value=str(tables)[:80])
            given[key] = tuple(_saying(f"{key}[{at}]", table) for at, table in enumerate(tables))
    if "handover" in given:
        given["handover"] = _saying("handover", given["handover"])
    if "orders" in given:
        given["orders"] = settings_from(Orders, _table("orders", given["orders"]), "orders.")
    if "mcp" in given:
        if not isinstance(given["mcp"], dict):
            raise ConfigError("{key} is {value!r}; expected [{key}.NAME] tables", key="mcp",
                              value=str(given["mcp"])[:80])  # fmt: skip
        given["mcp"] = {name: settings_from(McpServer, _table(f"mcp.{name}", server), f"mcp.{name}.")
                        for name, server in given["mcp"].items()}  # fmt: skip
    ready = {key: value for key, value in given.items() if key in _READY}
    plain = settings_from(Persona, {key: value for key, value in given.items() if key not in _READY})
    if not plain.name.strip():
        raise ConfigError("{key} is empty", hint="Write at least one character.", key="name")
    return Persona(**({f.name: getattr(plain, f.name) for f in fields(Persona)} | ready | {"folder": folder}))


_READY = (
    "tone",
    "instructions",
    "greeting",
    "unknown",
    "replies",
    "refuse",
    "handover",
    "orders",
    "mcp",
)  # are converted here


def _table(key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError("{key} is {value!r}; expected a table", key=key, value=str(value)[:80])
    return value


def _words(key: str, value: Any) -> Words:
    texts = dict.fromkeys(LANGUAGES, value) if isinstance(value, str) else value
    if not isinstance(texts, dict) or not texts or not set(texts) <= set(LANGUAGES) or not all(
        isinstance(text, str) and len(text) <= LONGEST for text in texts.values()
    ):  # fmt: skip
        raise ConfigError('{key} is {value!r}; expected "text", or {{en = "text", zh = "text"}}', key=key,
                          value=str(value)[:80])  # fmt: skip
    return Words(texts)


def _saying(key: str, value: Any) -> Saying:
    table = dict(_table(key, value))
    said = _words(f"{key}.say", table.pop("say")) if "say" in table else Words()
    when = table.pop("when", [])
    if (
        not isinstance(when, list)
        or len(when) > MOST_PHRASES
        or not all(isinstance(phrase, str) and phrase.strip() for phrase in when)
    ):
        raise ConfigError('{key} is {value!r}; expected ["phrase", "phrase"]', key=f"{key}.when",
                          value=str(when)[:80])  # fmt: skip
    if table:
        raise ConfigError("unknown setting {key!r}", hint="Known are {known}.", key=f"{key}.{next(iter(table))}",
                          known="when, say")  # fmt: skip
    return Saying(tuple(when), said)
