"""Replies that outlive a window, with the real engine: what is told, what is kept, and what is free again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from glassgpt.assistant.store import Store
from glassgpt.core.errors import InputError, NotFoundError
from glassgpt.engine.load import load
from glassgpt.server.hub import Hub
from glassgpt.ui.markdown import blocks_of
from glassgpt.ui.talks import Change, Options, Talks
from glassgpt.ui.views import banners_of

pytestmark = pytest.mark.slow
GREEDY = Options("m", sampling={"temperature": 0.0}, max_new_tokens=200)


@pytest.fixture(scope="module")
def model(smollm2_path: Path) -> Any:
    return load(smollm2_path)


def with_talks(model: Any, folder: Path, work: Callable[[Talks, list[Change]], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        with Store(folder / "c.db") as store:
            talks, heard = Talks(Hub(["m"], lambda entry: model), store), list[Change]()
            talks.listen(heard.append)
            await work(talks, heard)
            await talks.close()

    asyncio.run(main())


async def ended(talks: Talks, conversation: str) -> None:
    for _ in range(3000):
        if conversation not in talks.writing:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the reply does not end")


def test_what_is_told_piece_by_piece_is_what_is_kept(model: Any, tmp_path: Path):
    async def work(talks: Talks, heard: list[Change]) -> None:
        id = await talks.say(None, "Write three short sentences about rain.", GREEDY)
        await ended(talks, id)
        question, reply = talks.store.path(id)
        assert (question.text, reply.state) == ("Write three short sentences about rain.", "done")
        assert [heard[0].kind, heard[-1].kind] == ["began", "ended"]
        shown: list[str] = []
        for change in heard[1:-1]:
            shown[change.first :] = change.blocks
        assert shown == blocks_of(reply.text) and len(heard) > 3
        assert reply.extras["tokens"] > 5 and reply.extras["model"] == "m"

    with_talks(model, tmp_path, work)


def test_stopping_frees_the_models_place_and_keeps_what_was_written(model: Any, tmp_path: Path):
    async def work(talks: Talks, heard: list[Change]) -> None:
        id = await talks.say(None, "Tell me a very long story.", Options("m", max_new_tokens=2000))
        while not any(change.kind == "wrote" for change in heard):
            await asyncio.sleep(0.01)
        assert model.loop.counters().running == 1
        talks.stop(id)
        await ended(talks, id)
        for _ in range(100):
            if not model.loop.counters().running:
                break
            await asyncio.sleep(0.01)
        assert model.loop.counters().running == 0 and model.loop.counters().waiting == 0
        reply = talks.store.path(id)[-1]
        assert reply.state == "interrupted" and reply.text and reply.extras["finish_reason"] == "interrupted"

    with_talks(model, tmp_path, work)


def test_a_reply_written_again_with_a_seed_is_the_same_and_a_branch(model: Any, tmp_path: Path):
    async def work(talks: Talks, heard: list[Change]) -> None:
        id = await talks.say(None, "Name a colour.", GREEDY)
        await ended(talks, id)
        first = talks.store.path(id)[-1]
        await talks.again(first.id, GREEDY)
        await ended(talks, id)
        second = talks.store.path(id)[-1]
        assert second.id != first.id and second.text == first.text
        assert talks.store.siblings(second.id) == [first.id, second.id]

    with_talks(model, tmp_path, work)


def test_one_reply_is_written_in_a_conversation_at_a_time(model: Any, tmp_path: Path):
    async def work(talks: Talks, heard: list[Change]) -> None:
        id = await talks.say(None, "Tell me a long story.", Options("m", max_new_tokens=300))
        with pytest.raises(InputError, match="a reply is being written"):
            await talks.say(id, "And now?", GREEDY)
        with pytest.raises(InputError, match="the message is empty"):
            await talks.say(None, "  ", GREEDY)
        await talks.delete(id)
        with pytest.raises(NotFoundError):
            talks.store.path(id)
        assert id not in talks.writing

    with_talks(model, tmp_path, work)


def test_a_chinese_question_to_a_model_that_knows_english_alone_is_marked(model: Any, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(model, "name", "smollm2")
    told = {"Who are you?": [], "你是谁？": ["smollm2 只学过英文"]}

    async def work(talks: Talks, heard: list[Change]) -> None:
        for question, banners in told.items():
            id = await talks.say(None, question, Options("m", sampling={"seed": 1}, max_new_tokens=4))
            await ended(talks, id)
            shown = [line for line in banners_of(talks.store.path(id)[-1], "zh") if "smollm2" in line]
            assert [line[: len(start)] for line, start in zip(shown, banners, strict=True)] == banners

    with_talks(model, tmp_path, work)
