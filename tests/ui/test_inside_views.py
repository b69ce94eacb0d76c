"""The views of the tab Inside without a browser: what they tell, and what they refuse."""

from __future__ import annotations

import asyncio
import gc
import re
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from page_child import small_network

from glassgpt.assistant.conversation import CHAT_SAMPLING
from glassgpt.assistant.store import Message, Store
from glassgpt.core.errors import ConfigError, FormatError, InputError
from glassgpt.core.runs import TRAIN, Run
from glassgpt.data.examples import make_example
from glassgpt.data.rows import Row
from glassgpt.data.shards import write_shards
from glassgpt.engine.language_model import LanguageModel
from glassgpt.engine.load import load
from glassgpt.inside.ablate import Switches
from glassgpt.inside.opened import Opened
from glassgpt.inside.subject import unpacked_bytes
from glassgpt.server.hub import Entry, Hub
from glassgpt.server.problems import Problem
from glassgpt.ui.inside_origins import origins
from glassgpt.ui.inside_views import VIEWS, about, check_place, switches_of
from glassgpt.ui.insight import Insight, Reply, character_of
from glassgpt.ui.talks import Options, Talks

ROWS = [("Where did the boat go?", "The boat went out to sea before the storm came, and nobody saw it again."),
        ("鱼在哪里？", "鱼儿在很深很深的海里游来游去，小船上的人看不见它们。")]  # fmt: skip


@pytest.fixture(scope="module")
def reply() -> Callable[..., Reply]:
    """A reply with a given text, as if the small network had written it."""
    with torch.no_grad():
        model = small_network(Entry("small", "small"))

    def make(text: str, path: Path | None = None, **extras: Any) -> Reply:
        before = model.template.encode(model.tokenizer, [{"role": "user", "content": "?"}], add_generation_prompt=True)
        own = model.tokenizer.encode_segment(text, after="text")
        message = Message("m", "c", "q", "assistant", text, 0.0, "done", extras)
        opened = Opened(model, [*before.ids, *own])
        model.path = path
        return Reply(message, opened, len(before.ids), opened.steps(len(before.ids)), "small", dict(CHAT_SAMPLING))

    return make


@pytest.fixture(scope="module")
def run(reply, tmp_path_factory) -> Path:
    """The run that taught the rows."""
    model = reply("x").opened.model
    folder = tmp_path_factory.mktemp("runs") / "shop-1"
    run = Run.create(folder, {"kind": "finetune", "settings": {"base": "smollm2"}})
    made = [make_example(Row("shop.csv", n, ("user", "assistant"), list(texts)), model.tokenizer, model.template, 400)
            for n, texts in enumerate(ROWS, 1)]  # fmt: skip
    write_shards(made, run.folder / TRAIN, model.tokenizer)  # type: ignore[arg-type]
    model.save(run.folder / "model")
    return folder


@pytest.mark.parametrize(("text", "row"), [
    ("Well: the boat went out to sea before the storm came, and nobody saw it again. Xyz.", 1),
    ("我想，鱼儿在很深很深的海里游来游去，小船上的人看不见它们。真的。", 2),
])  # fmt: skip
def test_what_was_learned_by_heart_is_shown_with_its_row(reply, run, text, row):
    found = origins(reply(text, run / "model"), 0, {}, "en")
    assert "".join(span["text"] for span in found["spans"]) == text
    (known,) = [span for span in found["spans"] if span["kind"] == "memorised"]
    assert known["text"].strip("。. ") in ROWS[row - 1][1]
    assert found["rows"][0]["place"] == f"shop.csv, row {row}" and "smollm2" in found["said"]


def test_what_stands_in_the_files_is_shown_with_its_passage(reply):
    text = "The shop says: returns are free within thirty days of the delivery. Fine."
    source = {"source": "faq.md", "place": "line 3", "text": "Returns are free. In short, returns are free within "
              "thirty days of the delivery."}  # fmt: skip
    found = origins(reply(text, sources=[source]), 0, {}, "zh")
    kinds = [span["kind"] for span in found["spans"]]
    assert "retrieved" in kinds and "memorised" not in kinds
    assert found["rows"][0]["place"].startswith("faq.md") and "构建" in found["said"]


def test_a_words_place_is_found_among_tokens_whatever_writing_it_is(reply):
    one = reply("小船出海，the sea was calm，鱼儿游。")
    tokens = one.opened.tokens
    for word in ("海", "calm", "鱼"):
        place = one.place_of(character_of(one.message.text, word, 0))
        around = "".join(tokens[place - 2 : place + 3])
        assert one.start <= place < len(tokens) and (word in around or word[0] in around or "<" in around)
    assert one.place_of(0) == one.start and one.place_of(10_000) == len(tokens) - 1
    assert character_of("a b a b a", "a", 2) == 8 and character_of("a", "zz", 0) == 0
    assert character_of("a b a", "a", 99) == 4


@pytest.mark.parametrize(("text", "shown", "word", "number"), [
    ("```python\nx\n```\npython is python", "python x python is python", "python", 1),
    ("[sea](https://sea.org) is sea", "sea is sea", "sea", 1),
    ("1. has 1 boat\n2. and 1", "has 1 boat and 1", "1", 0),
    ("**海**，海边，海里", "海，海边，海里", "海", 2),
    ("a\\_b &amp; a", "a_b & a", "a", 1),
])  # fmt: skip
def test_the_word_that_is_shown_is_found_in_what_was_written(text, shown, word, number):
    at = [m.start() for m in re.finditer(word, shown)][number]
    before, after = (re.sub(r"\W|_", "", part) for part in (shown[:at], shown[at + len(word) :]))
    found = character_of(text, word, number, before, after)
    after = re.sub(r"\(.*?\)|amp;|\W|_", "", text[found + len(word) :])
    assert text[found:].startswith(word) and after.endswith(re.sub(r"\W|_", "", shown[at + len(word) :])[-4:])
    assert len(text) - found < len(shown) - at + 8, "not an earlier one"


def test_every_view_says_its_sentence_in_both_languages(reply):
    one = reply("The sea was calm.")
    given = {"layer": 1, "head": 2, "off": ["h1.2", "m0"]}
    for name, view in VIEWS.items():
        english, chinese = (view(one, one.start + 2, given, language) for language in ("en", "zh"))
        assert english["place"] == one.start + 2
        assert any("\u4e00" <= c <= "\u9fff" for c in chinese["said"]), name
        assert not re.search(r"[\u4e00-\u9fff]", re.sub("“.*?”", "", english["said"])), name
    assert about(one, one.start, "en")["chances"] == [s.probability for s in one.steps]


def test_the_view_of_layers_tells_how_to_train_a_tuned_lens_and_names_what_is_wrong_with_one(reply, tmp_path):
    one = reply("The sea was calm.", tmp_path)
    one.opened.model.save(tmp_path)
    found = VIEWS["layers"](one, one.start, {"tuned": True}, "en")
    assert not found["tuned"] and not found["tunable"] and "glassgpt look small --tune" in found["hint"]
    (tmp_path / "tuned.lens").write_bytes(b"nothing")
    one = reply("The sea was calm.", tmp_path)
    assert VIEWS["layers"](one, one.start, {}, "en")["tunable"]
    with pytest.raises(FormatError, match="no tuned lens"):
        VIEWS["layers"](one, one.start, {"tuned": True}, "en")


@pytest.mark.parametrize("name", ["x1", "h1", "m1.2", "a", "h1.2.3", "h-1.0", "h١.٢", "", 7])
def test_names_of_no_part_are_refused(name):
    with pytest.raises(InputError, match="names no part"):
        switches_of([name])


def test_names_of_parts_are_switches():
    assert switches_of(["h1.2", "m0", "a2"]) == Switches(((1, 2),), (2,), (0,))
    assert not switches_of("nonsense") and not switches_of(None)


def test_what_the_page_cannot_mean_is_refused(reply):
    one = reply("The sea")
    for place in (-1, one.start - 1, len(one.opened.ids), "x", None, float("inf"), True):
        with pytest.raises(ConfigError, match="place"):
            check_place(one, place)
    with pytest.raises(ConfigError):
        VIEWS["attention"](one, one.start, {"layer": 99, "head": 0}, "en")
    with pytest.raises(ConfigError):
        VIEWS["choices"](one, one.start, {"temperature": -5}, "en")


def test_what_would_take_too_much_memory_is_refused_with_what_to_do(reply, monkeypatch):
    one = reply("The sea was calm, and the boat went out.")
    talks: Any = SimpleNamespace(chat=lambda model, options: SimpleNamespace(
        fitted=lambda said: SimpleNamespace(ids=one.opened.ids[: one.start]), sampling={}))  # fmt: skip
    store: Any = SimpleNamespace(path=lambda conversation, message: [])
    insight = Insight(Hub(["small"], small_network), store, talks)
    options: Any = None
    assert insight._read(one.message, one.opened.model, "small", options).opened.ids == one.opened.ids
    monkeypatch.setattr("glassgpt.ui.insight.MOST_TOKENS", len(one.opened.ids) - 1)
    with pytest.raises(InputError, match="can be looked into"):
        insight._read(one.message, one.opened.model, "small", options)


@pytest.mark.parametrize("kind", ["quoted", "refused", "handover", "unknown", "tool", "reply"])
def test_replies_that_no_model_wrote_have_no_inside(reply, kind):
    one = reply("Returns are free.", kind=kind)
    insight = Insight(Hub(["small"], small_network), None, None)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="word for word"):
        insight.laid_out(one.message, one.opened.model, None)  # type: ignore[arg-type]


class Lookings:
    """Replies that a hub's small network wrote, in a store."""

    def __init__(self, folder: Path, writer: str = "small") -> None:
        self.hub = Hub(["small", "other"], self.load)
        self.store = Store(folder / "conversations.db")
        self.insight = Insight(self.hub, self.store, Talks(self.hub, self.store))
        conversation = self.store.create("sea").id
        self.store.add(conversation, "user", "And the sea?")
        reply = self.store.begin_reply(conversation, extras={"model": writer})
        reply.append("The sea was calm.")
        reply.finish({"model": writer})
        self.message = reply.id

    def load(self, entry: Entry) -> LanguageModel:
        with torch.no_grad():
            return small_network(entry)

    async def ask(self, work: Callable[[Reply], Any], wanted: Callable[[], bool] = lambda: True, torch: bool = True,
                  **sampling: Any) -> Any:  # fmt: skip
        return await self.insight.ask(self.message, lambda name: Options(name, sampling=sampling), work, wanted, torch)

    def close(self) -> None:
        self.hub.close()
        self.store.close()


@pytest.fixture
def lookings(tmp_path) -> Iterator[Lookings]:
    found = Lookings(tmp_path)
    yield found
    found.close()


def test_a_model_that_is_unloaded_is_not_held_by_what_was_looked_into(lookings):
    """Else the server's limit of memory would hold for nothing, and the next look load it a second time beside it."""

    async def looks() -> None:
        first = await lookings.ask(lambda reply: weakref.ref(reply.opened.model))
        assert first() is lookings.hub.entries["small"].model
        lookings.hub._unload(lookings.hub.entries["small"])
        gc.collect()
        assert first() is None
        again = await lookings.ask(lambda reply: reply.opened.model)
        assert again is lookings.hub.entries["small"].model

    asyncio.run(looks())


def test_what_nobody_wants_any_more_is_not_begun_and_what_goes_on_is_told(lookings):
    async def looks() -> None:
        begun: list[str] = []
        assert await lookings.ask(lambda reply: begun.append("first"), lambda: False) is None and not begun
        wanted = [True]

        def work(reply: Reply) -> str:
            assert reply.going()
            wanted.clear()
            assert not reply.going()
            return "too late"

        assert await lookings.ask(work, lambda: bool(wanted)) is None
        assert await lookings.ask(lambda reply: "in time") == "in time"

    asyncio.run(looks())


def test_a_reply_at_a_chosen_precision_is_opened_after_a_restart(tmp_path):
    """The hub knows such a name only once someone has chosen it."""
    lookings = Lookings(tmp_path, "small@int8")
    try:
        assert asyncio.run(lookings.ask(lambda reply: reply.model_name)) == "small@int8"
        assert lookings.hub.entries["small@int8"].precision == "int8"
    finally:
        lookings.close()
    for number, writer in enumerate(("gone", "gone@int8", "small@int9", "")):
        lookings = Lookings(tmp_path / str(number), writer)
        with pytest.raises(InputError, match="not here any more"):
            asyncio.run(lookings.ask(lambda reply: reply))
        lookings.close()


def test_choices_begin_with_the_settings_that_replies_have(lookings):
    found = asyncio.run(lookings.ask(lambda reply: VIEWS["choices"](reply, reply.start, {}, "en"), temperature=1.5))
    usual = asyncio.run(lookings.ask(lambda reply: VIEWS["choices"](reply, reply.start, {"top_p": 0.3}, "en")))
    assert (found["temperature"], found["top_p"]) == (1.5, CHAT_SAMPLING["top_p"])
    assert usual["top_p"] == 0.3


def test_a_reply_that_fills_the_context_can_be_answered_again(reply):
    one = reply("the sea ")
    context = one.opened.model.context_length
    one.opened = Opened(one.opened.model, (one.opened.ids * context)[:context])
    found = VIEWS["switches"](one, context - 1, {"off": ["h0.0"]}, "en")
    assert found["place"] == context - 1


def test_what_has_nothing_to_read_from_has_a_pattern_still(reply):
    one = reply("The sea")
    one.opened, one.start = Opened(one.opened.model, one.opened.ids[:2]), 1
    found = VIEWS["attention"](one, 1, {"layer": -1, "head": -1}, "en")
    assert (found["layer"], found["head"]) == (0, 0) and found["readers"] == []


def test_what_looking_inside_takes_counts_towards_the_servers_memory(tmp_path):
    """Weights of few bits are unpacked to 32; without room for that, it is refused and nothing is counted."""
    with torch.no_grad():
        small_network(Entry("small", "small")).save(tmp_path / "model")
    lookings = Lookings(tmp_path)
    lookings.hub.load = lambda entry: load(str(tmp_path / "model"), precision="int8")

    async def looks() -> None:
        assert await lookings.ask(lambda reply: reply.opened.ids, torch=False)
        entry = lookings.hub.entries["small"]
        packed, need = entry.size, unpacked_bytes(entry.model)
        lookings.hub.memory = packed + need - 1
        with pytest.raises(Problem, match="may take"):
            await lookings.ask(lambda reply: reply)
        assert entry.size == packed and unpacked_bytes(entry.model) == need
        lookings.hub.memory = packed + need
        assert await asyncio.gather(*(lookings.ask(lambda reply: reply.start) for _ in range(3)))
        assert entry.size == packed + need and unpacked_bytes(entry.model) == 0

    try:
        asyncio.run(looks())
    finally:
        lookings.close()


@pytest.mark.slow
def test_a_reply_is_opened_and_its_choices_are_seen_without_torch(smollm2_path, tmp_path):
    """To import it takes seconds, for which the first click would wait."""
    script = f"""
import asyncio, sys
from pathlib import Path
from glassgpt.assistant.store import Store
from glassgpt.engine.load import load
from glassgpt.server.hub import Hub
from glassgpt.ui.inside_views import VIEWS, WITHOUT_TORCH, about
from glassgpt.ui.insight import Insight
from glassgpt.ui.talks import Options, Talks

hub = Hub(["small"], lambda entry: load({str(smollm2_path)!r}))
store = Store(Path({str(tmp_path / "conversations.db")!r}))
insight = Insight(hub, store, Talks(hub, store))
conversation = store.create("sea").id
store.add(conversation, "user", "And the sea?")
reply = store.begin_reply(conversation, extras={{"model": "small"}})
reply.append("The sea was calm.")
reply.finish({{"model": "small"}})

async def look():
    def work(reply):
        views = [VIEWS[view](reply, reply.start, {{}}, "en") for view in WITHOUT_TORCH]
        return about(reply, reply.start, "en")["chances"], views
    chances, views = await insight.ask(reply.id, Options, work, torch=False)
    print(len(chances), len(views), "torch" in sys.modules)

asyncio.run(look())
hub.close()
store.close()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    tokens, views, imported = done.stdout.split()
    assert int(tokens) > 3 and views == "2" and imported == "False"
