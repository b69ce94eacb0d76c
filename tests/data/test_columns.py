"""Which column is what."""

from __future__ import annotations

import pytest

from glassgpt.core.errors import ConfigError
from glassgpt.data.columns import NAMES, fold, recognise, unrecognised


@pytest.mark.parametrize(
    ("names", "roles"),
    [
        (["id", "Text"], {"text": "Text"}),
        (["内容"], {"text": "内容"}),
        ([" Question ", "ANSWER"], {"prompt": " Question ", "response": "ANSWER"}),
        (["ｑｕｅｓｔｉｏｎ", "ａｎｓｗｅｒ"], {"prompt": "ｑｕｅｓｔｉｏｎ", "response": "ａｎｓｗｅｒ"}),
        (["问", "答"], {"prompt": "问", "response": "答"}),
        (["問題", "答案"], {"prompt": "問題", "response": "答案"}),
        (["提问", "回复"], {"prompt": "提问", "response": "回复"}),
        (["用户", "客服"], {"prompt": "用户", "response": "客服"}),
        (["instruction", "input", "output"], {"prompt": "instruction", "response": "output", "input": "input"}),
        (["input", "output"], {"prompt": "input", "response": "output"}),
        (["System Prompt", "prompt", "completion"],
         {"prompt": "prompt", "response": "completion", "system": "System Prompt"}),
        (["messages", "text"], {"messages": "messages"}),
        (["conversations", "chosen", "rejected"],
         {"messages": "conversations", "chosen": "chosen", "rejected": "rejected"}),
        (["prompt", "chosen", "rejected", "answer"],
         {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}),
        (["question", "text"], {"text": "text"}),
        (["a", "b"], {}),
        ([], {}),
    ],
)  # fmt: skip
def test_names_in_both_languages_tell_the_roles(names: list[str], roles: dict[str, str]):
    assert recognise(names) == roles


def test_what_the_user_says_goes_first():
    names = ["Frage", "Antwort", "question", "answer", "text"]
    assert recognise(names, {"prompt": "frage", "response": "Antwort"}) == {"prompt": "Frage", "response": "Antwort"}
    assert recognise(names, {"prompt": "Frage"}) == {"prompt": "Frage", "response": "answer"}
    assert recognise(names, {"text": "Antwort"}) == {"text": "Antwort"}


def test_a_wrong_column_names_the_nearest():
    with pytest.raises(ConfigError) as caught:
        recognise(["Frage", "Antwort"], {"prompt": "Frag", "response": "Antwort"})
    assert "Did you mean Frage?" in caught.value.line()
    assert "'Frage', 'Antwort'" in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        recognise(["Frage"], {"prompt": "xyz"})
    assert "xyz" in str(caught.value)
    with pytest.raises(ConfigError, match="used as bogus"):
        recognise(["Frage"], {"bogus": "Frage"})


def test_the_error_lists_the_columns_and_shows_the_option():
    line = unrecognised("a.csv", ["x", "y"]).line()
    assert "'x', 'y'" in line
    assert "--columns prompt=x,response=y" in line


def test_every_known_name_is_folded_and_has_one_role():
    every = [name for names in NAMES.values() for name in names]
    assert [name for name in every if fold(name) != name] == []
    assert len(set(every)) == len(every)
