"""Personas: those of the package, what a file may say, and what is refused in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from glassgpt.assistant.persona import PACKAGED, has_phrase, load_persona
from glassgpt.core.errors import ConfigError, FormatError, GlassError, NotFoundError


def written(folder: Path, text: str) -> Path:
    path = folder / "shop.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", PACKAGED)
def test_each_persona_of_the_package_speaks_both_languages(name: str):
    persona = load_persona(name)
    texts = [persona.greeting, persona.unknown, persona.handover.say]
    texts += [saying.say for saying in (*persona.replies, *persona.refuse)]
    for text in texts:
        assert set(text) == {"en", "zh"} and all(text.values())
    assert any(phrase.isascii() for phrase in persona.handover.when)
    assert any(not phrase.isascii() for phrase in persona.handover.when)


def test_a_file_says_all_there_is_to_say(tmp_path: Path):
    persona = load_persona(
        written(
            tmp_path,
            """
        name = "Wrenlow"
        language = "zh"
        tone = "Friendly."
        greeting = { en = "Hello!", zh = "您好！" }
        only_known = true
        knowledge = ["faq.csv"]
        tools = ["calculator"]
        orders = { file = "orders.csv", column = "order" }
        [handover]
        when = ["a person"]
        say = "Write to us."
        [[refuse]]
        when = ["medical advice"]
        say.en = "I am no doctor."
        [mcp.stock]
        command = "python"
        args = ["stock.py"]
    """,
        )
    )
    assert (persona.name, persona.language, persona.only_known) == ("Wrenlow", "zh", True)
    assert persona.greeting.text("zh") == "您好！" and persona.tone.text("zh") == persona.tone.text("en") == "Friendly."
    assert persona.orders and persona.orders.column == "order" and persona.mcp["stock"].args == ("stock.py",)
    assert persona.folder == tmp_path and persona.language_of("Hello") == "zh"
    refusal = persona.refuses("I need medical ADVICE, please")
    assert refusal is not None and refusal.say.text("zh") == "I am no doctor."  # there is no other
    assert persona.refuses("medical help") is None


@pytest.mark.parametrize(("message", "phrase", "found"), [
    ("I want to talk to a person!", "talk to a person", True), ("TALK TO A PERSON", "talk to a person", True),
    ("talk to a personal trainer", "talk to a person", False), ("請幫我轉人工", "转人工", True),
    ("转，人工", "转人工", False), ("", "x", False), ("anything", "!?", False),
])  # fmt: skip
def test_phrases_are_whole_words_in_any_case_and_either_script(message: str, phrase: str, found: bool):
    assert has_phrase(message, (phrase,)) is found


def test_small_talk_is_a_whole_message_and_not_a_part_of_one():
    persona = load_persona("customer-service")
    assert persona.reply_to("Hello!!") and persona.reply_to("謝謝")
    assert persona.reply_to("Hello, where is my parcel?") is None and persona.reply_to("?!") is None


@pytest.mark.parametrize(("text", "problem"), [
    ('nam = "x"', "[Dd]id you mean"), ("", "name"),
    ('name = ""', "name is empty"), ("name = 3", "name is .3"),
    ('name = "x"\nlanguage = "fr"', "language is"), ('name = "x"\ngreeting = { de = "Hallo" }', "greeting is"),
    ('name = "x"\ngreeting = 4', "greeting is"), ('name = "x"\nreplies = "hi"', "replies is"),
    ('name = "x"\n[[refuse]]\nwhen = ["a", 3]', r"refuse\[0\]\.when"), ('name = "x"\n[[refuse]]\nwenn = ["a"]', "wenn"),
    ('name = "x"\nfolder = "/"', "folder"), ('name = "x"\n[mcp]\nstock = 3', r"mcp\.stock"),
    ('name = "x"\n[mcp.stock]\nargs = ["a"]', "command"), ('name = "x"\nmcp = 3', "mcp is"),
    ('name = "x"\n[handover]\nwhen = [""]', "handover"), ("not toml at all", "TOML"),
])  # fmt: skip
def test_what_is_wrong_in_a_file_is_told_with_its_place(tmp_path: Path, text: str, problem: str):
    with pytest.raises((ConfigError, FormatError)) as error:
        load_persona(written(tmp_path, text))
    assert re.search(problem, f"{error.value.line('en')}")
    assert error.value.line("zh") != error.value.line("en")


def test_a_name_that_is_none_is_told_with_the_nearest():
    with pytest.raises(NotFoundError, match="customer-servis") as error:
        load_persona("customer-servis")
    assert "customer-service" in error.value.hint()
    with pytest.raises(GlassError):
        load_persona("/etc")
