"""An assistant: quoted word for word, cited rightly, and honest where it does not know."""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glassgpt.assistant.assistant import Assistant, AssistantChat
from glassgpt.assistant.documents import read_document
from glassgpt.assistant.knowledge import Knowledge, Scale
from glassgpt.assistant.knowledge_files import add_files, list_sources, open_knowledge, remove_files
from glassgpt.assistant.passage import place_text
from glassgpt.assistant.persona import Persona, load_persona, persona_from
from glassgpt.core.errors import ConfigError, InputError, NotFoundError
from glassgpt.engine.language_model import LanguageModel
from glassgpt.model.config import ModelConfig
from glassgpt.model.gpt import GPT
from glassgpt.text.bpe import train_bpe
from glassgpt.text.template import get_template

LOOSE = {0: Scale(words=1.0, known=0.2, known_text=0.2, step=0.1)}
FAQ = """question,answer
How do I return a teapot?,Within 30 days.
Where is my parcel?,See My orders.
怎么退货？,三十天内可以退。
"""


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    torch.manual_seed(0)
    tokenizer = train_bpe(["hello there, how are you today? 你好,今天天气很好。" * 20], 360)
    config = ModelConfig.modern(vocab_size=tokenizer.vocab_size, n_layer=1, n_head=2, n_embd=16, context_length=512)
    network = GPT(config).eval().requires_grad_(False)
    return LanguageModel("small", network, tokenizer, "float32", get_template("chatml"))


@pytest.fixture
def knowledge(tmp_path: Path) -> Iterator[Knowledge]:
    (tmp_path / "faq.csv").write_text(FAQ, encoding="utf-8")
    (tmp_path / "about.txt").write_text("The showroom in Leeds opens at nine on weekdays.\n", encoding="utf-8")
    found = Knowledge(None, None, LOOSE)
    add_files(found, [tmp_path / "faq.csv", tmp_path / "about.txt"])
    yield found
    found.close()


def shop(**more: object) -> Persona:
    base = {
        "name": "Shop", "only_known": True, "unknown": {"en": "I do not know that.", "zh": "我不知道。"},
        "handover": {"when": ["a person", "转人工"], "say": {"en": "Call us.", "zh": "请来电。"}},
    }  # fmt: skip
    return persona_from(base | more, Path())


def talk(model: LanguageModel, persona: Persona, knowledge: Knowledge | None) -> AssistantChat:
    return AssistantChat(Assistant(model, persona, knowledge), max_new_tokens=4, seed=1)


def test_a_row_is_quoted_word_for_word_and_cited(model, knowledge):
    chat = talk(model, shop(), knowledge)
    reply = chat.say("how can I RETURN the teapot")
    assert reply == "Within 30 days." and reply.plan.kind == "quoted" and reply.tokens == reply.read == 0
    (source,) = reply.plan.sources
    assert (source.source, source.place) == ("faq.csv", "row 2")
    assert reply.plan.footer() == "(Quoted from faq.csv, row 2, which answers “How do I return a teapot?”.)"
    chinese = chat.say("退货")
    assert chinese == "三十天内可以退。" and "第 4 行" in chinese.plan.footer()
    assert [m["content"] for m in chat.messages] == ["how can I RETURN the teapot", "Within 30 days.", "退货", chinese]


def test_a_piece_of_a_text_is_quoted_or_where_the_persona_lets_the_model_summarised(model, knowledge):
    quoted = talk(model, shop(), knowledge).say("When does the showroom in Leeds open?")
    assert quoted.plan.kind == "quoted" and quoted == "The showroom in Leeds opens at nine on weekdays."
    summarised = talk(model, shop(summarise=True), knowledge).say("When does the showroom in Leeds open?")
    assert summarised.plan.kind == "summarised" and summarised.tokens > 0
    assert "The showroom in Leeds opens" in summarised.plan.messages[0]["content"]
    assert "about.txt" in summarised.plan.footer() and summarised.plan.sources[0].source == "about.txt"


def test_what_the_files_do_not_say_is_not_known_and_handed_over(model, knowledge):
    reply = talk(model, shop(), knowledge).say("Do zebras dream of parcels that never came to Jupiter or Mars?")
    assert reply.plan.kind == "unknown" and reply.startswith("I do not know that. Call us.")
    assert "- Where is my parcel?" in reply  # what it could answer instead
    assert not reply.plan.sources and reply.plan.footer() == ""
    chinese = talk(model, shop(), knowledge).say("月亮上有茶吗？")
    assert chinese.startswith("我不知道。 请来电。")


def test_a_persona_that_may_lets_the_model_speak_and_says_that_it_did(model, knowledge):
    chat = talk(model, shop(only_known=False, instructions="Be brief."), knowledge)
    reply = chat.say("Do zebras dream?")
    assert reply.plan.kind == "model" and reply.tokens == 4 and "may be wrong" in reply.plan.footer()
    assert reply.plan.messages[0] == {"role": "system", "content": "Be brief."}
    chat.set_system("Speak of zebras.")
    assert chat.say("And now?").plan.messages[0]["content"] == "Be brief.\n\nSpeak of zebras."  # nothing is dropped


def test_a_message_without_letters_is_answered_in_the_language_before_it(model, knowledge):
    chat = talk(model, shop(), knowledge)
    assert chat.say("????").startswith("I do not know that.")
    chat.say("退货")
    assert chat.say("？？？").startswith("我不知道。")


def test_greetings_are_answered_and_not_searched_for(model, knowledge):
    for message, answer in (("Hello!", "Hello! What can I do for you?"), ("谢谢", "不客气。")):
        assert talk(model, shop(), knowledge).say(message) == answer
    own = shop(greeting="Welcome!", replies=[{"when": ["thanks"], "say": "Any time."}])
    assert talk(model, own, knowledge).say("hi") == "Welcome!"
    assert talk(model, own, knowledge).say("Thanks!") == "Any time."


def test_who_asks_for_a_person_is_handed_over_before_anything_else(model, knowledge):
    for message, answer in (("Where is my parcel? I want a person", "Call us."), ("转人工", "请来电。")):
        reply = talk(model, shop(), knowledge).say(message)
        assert reply == answer and reply.plan.kind == "handover"


def test_what_is_refused_is_refused_even_where_a_row_would_answer(model, knowledge):
    persona = shop(refuse=[{"when": ["teapot"], "say": "Not that."}])
    reply = talk(model, persona, knowledge).say("How do I return a teapot?")
    assert reply == "Not that." and reply.plan.kind == "refused"


def test_a_long_text_goes_to_the_model_where_it_may_speak(model, knowledge):
    long = "how are you today? " * 250
    with pytest.raises(InputError, match="expected 1 to 4000"):
        talk(model, shop(), knowledge).say(long)
    assistant = Assistant(model, shop(only_known=False), knowledge)
    assert assistant.plan([{"role": "user", "content": long}]).kind == "model"


def test_bad_messages_leave_the_conversation_as_it_was(model, knowledge):
    chat = talk(model, shop(), knowledge)
    for message in ("", " ", "x" * 5000):
        with pytest.raises(InputError):
            chat.say(message)
    assert chat.messages == []


WORDS = ["teapot", "parcel", "return", "broken", "gift", "lid", "茶壶", "退货", "发票", "多少钱", "<b>", "&amp;", "£5"]
TEXTS = st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(" ".join)


@settings(max_examples=60, deadline=None)
@given(pairs=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=12), ask=st.randoms(use_true_random=False))
def test_every_quoted_answer_is_in_the_file_word_for_word_and_the_citation_points_at_its_row(
    model, tmp_path_factory, pairs: list[tuple[str, str]], ask: random.Random
):  # fmt: skip
    path = tmp_path_factory.mktemp("faq") / "faq.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("question", "answer"), *pairs])
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))  # the oracle: what Python reads, by line of the table
    knowledge = Knowledge(None, None, {0: Scale(words=1.0, known=0.01, known_text=0.01, step=0.1)})
    document = read_document(path)
    knowledge.add(document.source, document.sha256, document.passages)
    chat = talk(model, shop(), knowledge)
    for _ in range(5):
        question = ask.choice(pairs)[0] if ask.random() < 0.5 else " ".join(ask.choices(WORDS, k=3))
        reply = chat.say(question)
        if reply.plan.kind == "quoted":
            (source,) = reply.plan.sources
            kind, number = source.place.split()
            assert kind == "row" and rows[int(number) - 1][1] == reply


def test_files_are_added_once_and_followed_and_what_is_gone_from_disk_is_forgotten(tmp_path, monkeypatch):
    monkeypatch.setenv("GLASSGPT_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "faq"
    folder.mkdir()
    (folder / "a.csv").write_text(FAQ, encoding="utf-8")
    (folder / "b.txt").write_text("Gift cards run from 10 to 200 pounds.", encoding="utf-8")
    knowledge, found = open_knowledge([folder], None)
    assert [(one.source, one.unchanged) for one in found.added] == [("a.csv", False), ("b.txt", False)]
    knowledge.close()
    (folder / "b.txt").unlink()
    (folder / "a.csv").write_text(FAQ + "Is there a zebra?,No.\n", encoding="utf-8")
    knowledge, found = open_knowledge([folder], None)
    assert [(one.source, one.unchanged) for one in found.added] == [("a.csv", False)]
    assert [source.name for source in knowledge.sources()] == ["a.csv"] and knowledge.search("zebra")
    knowledge.close()
    assert open_knowledge([folder], None)[1].added[0].unchanged


def test_an_index_is_opened_as_it_is_and_stands_alone(tmp_path):
    (tmp_path / "faq.csv").write_text(FAQ, encoding="utf-8")
    add_files(Knowledge(tmp_path / "k.db"), [tmp_path / "faq.csv"])
    assert open_knowledge([tmp_path / "k.db"], None)[0].search("parcel")[0].passage.answer == "See My orders."
    with pytest.raises(ConfigError, match="more beside it"):
        open_knowledge([tmp_path / "k.db", tmp_path / "faq.csv"], None)
    with pytest.raises(NotFoundError):
        open_knowledge([tmp_path / "none.db"], None)
    with pytest.raises(NotFoundError):
        open_knowledge([tmp_path / "none.csv"], None)
    with pytest.raises(NotFoundError, match="none"):
        remove_files(tmp_path / "k.db", ["faq.csv", "none"])
    assert [source.name for source in list_sources(tmp_path / "k.db")] == ["faq.csv"]  # all of them or none
    remove_files(tmp_path / "k.db", ["faq.csv"])
    assert list_sources(tmp_path / "k.db") == []


def test_two_files_of_one_name_are_refused_before_either_is_added(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "faq.csv").write_text(FAQ, encoding="utf-8")
    knowledge = Knowledge()
    with pytest.raises(InputError, match=r"two files are called faq\.csv"):
        add_files(knowledge, [tmp_path / "a" / "faq.csv", tmp_path / "b" / "faq.csv"])
    assert knowledge.sources() == []


def test_dirt_that_customers_would_see_is_told_when_a_file_is_added(tmp_path):
    (tmp_path / "faq.csv").write_text("question,answer\nPrice?,It&nbsp;is <b>5</b>\nTea?,Yes\n", encoding="utf-8")
    (one,) = add_files(Knowledge(), [tmp_path / "faq.csv"]).added
    assert any("mark-up" in note and "1 " in note for note in one.notes)


def test_places_are_told_in_both_languages():
    assert place_text("row 17", "zh") == "第 17 行" and place_text("row 17", "en") == "row 17"
    assert place_text("section A > B", "zh") == "“A > B”一节"
    assert place_text("anything", "zh") == "anything"


def test_the_persona_of_the_package_answers_from_the_sample(model, knowledge):
    chat = talk(model, load_persona("customer-service"), knowledge)
    assert chat.greeting("zh") == "您好！请问有什么可以帮您？" and chat.say("hi").plan.kind == "reply"
    assert chat.say("Where is my parcel?").plan.kind == "quoted"
