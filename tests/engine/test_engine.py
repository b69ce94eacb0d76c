"""The engine: every reply is the one computed alone, whatever else is asked, guessed, remembered or cancelled."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from glassgpt.core.errors import FormatError, GlassError, InputError
from glassgpt.engine.constrain import OutputFormat
from glassgpt.engine.engine import Engine, EngineSettings
from glassgpt.engine.language_model import LanguageModel
from glassgpt.engine.load import network_tensors
from glassgpt.engine.network import Network
from glassgpt.engine.packing import pack
from glassgpt.engine.request import Piece, Request
from glassgpt.engine.sampling import SamplingSettings
from glassgpt.engine.scheduler import QueueFull
from glassgpt.model.config import ModelConfig
from glassgpt.model.gpt import GPT
from glassgpt.text.bpe import train_bpe

TEXT = 'the cat sat on the mat and the dog ran after it. {"name": "Li", "n": [1, 2, 30]} 你好,世界!天气很好。 yes no '


@pytest.fixture(scope="module")
def tokenizer():
    return train_bpe([TEXT * 20], 340)


@pytest.fixture(scope="module")
def network(tokenizer) -> GPT:
    torch.manual_seed(0)
    config = ModelConfig.modern(
        vocab_size=tokenizer.vocab_size, n_layer=2, n_head=4, n_kv_head=2, n_embd=64, context_length=160, ngrams=2,
        ngram_buckets=50,
    )  # fmt: skip
    network = GPT(config)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(torch.randn_like(p) * 0.2)
    return network.eval()


@pytest.fixture(scope="module")
def packed(network) -> Network:
    return Network(network.config, pack(network.config, network_tensors(network), "int8", "it"), "int8")


def random_requests(tokenizer, count: int, seed: int = 0) -> list[Request]:
    """Of all kinds, with beginnings that some of them share."""
    chance, shared = np.random.default_rng(seed), tokenizer.encode(TEXT)
    formats = [
        None, None, None, None,
        OutputFormat(choices=("yes", "no", "the cat")),
        OutputFormat(regex="(the|cat|dog)( (the|cat|dog)){2,4}"),
        OutputFormat(json_schema={"type": "object", "properties": {"n": {"type": "integer", "maximum": 99},
                     "ok": {"type": "boolean"}}, "required": ["n", "ok"], "additionalProperties": False}),
    ]  # fmt: skip
    requests = []
    for index in range(count):
        start = shared[: int(chance.integers(1, len(shared)))] if chance.random() < 0.5 else []
        prompt = start + chance.integers(0, 250, int(chance.integers(1, 30))).tolist()
        room = 160 - len(prompt)
        limit = int(chance.integers(1, min(room, 60) + 1)) if chance.random() < 0.9 else room
        settings = SamplingSettings(
            temperature=float(chance.choice([0.0, 0.7, 1.5])), top_k=int(chance.choice([0, 5])),
            top_p=float(chance.choice([1.0, 0.9])), repetition_penalty=float(chance.choice([1.0, 1.2])),
            seed=int(chance.integers(0, 1 << 40)),
        )  # fmt: skip
        stops = ("the", "。") if chance.random() < 0.2 else ()
        format = formats[int(chance.integers(0, len(formats)))]
        ends = frozenset((tokenizer.eos_id,)) if format or chance.random() < 0.7 else frozenset()
        requests.append(Request(prompt, limit, settings, index % 3, ends, stops, format))
    return requests


def alone(packed, tokenizer, request: Request) -> list[Piece]:
    engine = Engine(packed, tokenizer, EngineSettings(threads=1, speculate=False))
    try:
        return list(engine.start([request])[0])
    finally:
        engine.close()


def in_company(engine: Engine, requests: list[Request], at_once: int = 16, cancel: float = 0.0, seed: int = 0):
    """Asks from several threads, so many requests at once; some streams are closed early. Gives pieces by request."""
    found: dict[int, list[Piece]] = {}
    waiting, lock, chance = list(enumerate(requests)), threading.Lock(), np.random.default_rng(seed)

    def ask() -> None:
        while True:
            with lock:
                if not waiting:
                    return
                number, request = waiting.pop(0)
                patience = int(chance.integers(1, 20)) if chance.random() < cancel else None
            stream, pieces = engine.start([request])[0], []
            for piece in stream:
                pieces.append(piece)
                if len(pieces) == patience:
                    stream.close()
                    break
            found[number] = pieces

    threads = [threading.Thread(target=ask) for _ in range(at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=300)
        assert not thread.is_alive(), "a request hangs"
    return found


def test_every_reply_is_the_one_computed_alone(packed, tokenizer):
    requests = random_requests(tokenizer, 40)
    expected = [alone(packed, tokenizer, request) for request in requests]
    engine = Engine(packed, tokenizer, EngineSettings(threads=2, rows_per_step=48))
    for _ in range(2):  # the second time the beginnings are remembered
        found = in_company(engine, requests, cancel=0.2)
        for number, pieces in found.items():
            assert pieces == expected[number][: len(pieces)]
        assert sum(len(pieces) == len(expected[number]) for number, pieces in found.items()) > 25
    assert engine.counters().prefix_hits > 0
    assert engine.scheduler.idle
    engine.close()


def test_replies_match_their_formats(packed, tokenizer):
    import json

    for request in random_requests(tokenizer, 60, seed=5):
        if request.format is None or request.stops:
            continue
        pieces = alone(packed, tokenizer, request)
        text = "".join(piece.text for piece in pieces)
        if pieces[-1].finish_reason == "length":
            continue
        if request.format.choices:
            assert text in request.format.choices
        elif request.format.regex:
            assert re.fullmatch(request.format.regex, text)
        else:
            value = json.loads(text)
            assert isinstance(value["n"], int) and isinstance(value["ok"], bool)


@pytest.mark.full
def test_five_hundred_requests_sixteen_at_a_time_are_answered_as_if_alone_and_no_memory_grows(packed, tokenizer):
    import psutil

    requests = random_requests(tokenizer, 500, seed=7)
    expected = [alone(packed, tokenizer, request) for request in requests]
    engine = Engine(packed, tokenizer, EngineSettings(threads=2, rows_per_step=64, cache_bytes=1 << 22))
    in_company(engine, requests[:100])
    before = psutil.Process().memory_info().rss
    for seed in range(3):
        found = in_company(engine, requests, cancel=0.15, seed=seed)
        for number, pieces in found.items():
            assert pieces == expected[number][: len(pieces)]
    assert psutil.Process().memory_info().rss - before < 32 << 20
    engine.close()


def test_guessing_changes_no_token_and_comes_true_where_the_text_repeats(packed, tokenizer):
    prompt = tokenizer.encode("the cat sat. the cat sat. the cat sat. the cat")
    request = Request(prompt, 60, SamplingSettings(temperature=0.0, seed=0))
    expected = alone(packed, tokenizer, request)
    engine = Engine(packed, tokenizer, EngineSettings(threads=1))
    assert list(engine.start([request])[0]) == expected
    engine.close()


def test_the_next_turn_finds_the_history_computed(packed, tokenizer):
    engine = Engine(packed, tokenizer)
    prompt = tokenizer.encode(TEXT)[:60]
    reply = [p.token for p in engine.start([Request(prompt, 30, SamplingSettings(seed=1))])[0] if p.token is not None]
    hits = engine.counters().prefix_hits
    turn = prompt + reply + tokenizer.encode("yes")
    list(engine.start([Request(turn, 5, SamplingSettings(seed=1))])[0])
    assert engine.counters().prefix_hits - hits >= len(prompt + reply) - 2 * 16
    engine.close()


@pytest.mark.parametrize(("prompt", "limit"), [(159, 1), (158, 2), (1, 159)])
def test_a_reply_may_fill_the_context_to_the_last_token(packed, tokenizer, network, prompt, limit):
    model = LanguageModel("m", network, tokenizer, "int8", engine=lambda: Engine(packed, tokenizer))
    tokens = model.generate([5] * prompt, max_new_tokens=limit, temperature=0)[0].tokens
    assert len(tokens) == limit or tokens[-1] == tokenizer.eos_id


def test_what_does_not_fit_the_context_is_named(packed, tokenizer, network):
    model = LanguageModel("m", network, tokenizer, "int8", engine=lambda: Engine(packed, tokenizer))
    with pytest.raises(InputError, match="the prompt has 160 tokens; the model's context is 160"):
        model.generate([5] * 160)
    with pytest.raises(InputError, match="2 more are asked for"):
        model.generate([5] * 159, max_new_tokens=2)


def test_a_full_queue_is_told_at_once_and_nobody_loses_a_place(packed, tokenizer):
    engine = Engine(packed, tokenizer, EngineSettings(max_running=1, max_waiting=1, rows_per_step=16))
    request = Request([1, 2, 3], 150, SamplingSettings(seed=0))
    streams = engine.start([request, request])
    with pytest.raises(QueueFull, match="no room"):
        engine.start([request])
    first, second = (list(stream) for stream in streams)
    assert first == second
    engine.close()


def test_a_closed_stream_frees_its_place_at_once(packed, tokenizer):
    engine = Engine(packed, tokenizer, EngineSettings(max_running=1, max_waiting=0, rows_per_step=16))
    long = Request([1, 2, 3], 150, SamplingSettings(seed=0))
    for _ in range(5):
        stream = engine.start([long])[0]
        next(stream)
        stream.close()
        assert engine.counters().running == 0
    dropped = engine.start([long])[0]
    del dropped
    gc.collect()
    _wait_for(lambda: engine.counters().running == 0)
    engine.close()


def test_asyncio_gets_the_same_pieces_and_a_cancelled_task_frees_its_place(packed, tokenizer):
    engine = Engine(packed, tokenizer)
    request = Request([1, 2, 3], 40, SamplingSettings(seed=0))
    expected = alone(packed, tokenizer, request)

    async def one() -> list[Piece]:
        return [piece async for piece in engine.stream(request)]

    async def all_of_them() -> None:
        assert await asyncio.gather(*(one() for _ in range(5))) == [expected] * 5
        task = asyncio.create_task(one())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert engine.counters().running == 0

    asyncio.run(all_of_them())
    engine.close()


def test_a_model_that_computes_no_numbers_says_so_and_others_go_on(network, tokenizer):
    broken = GPT(network.config)
    broken.load_state_dict(network.state_dict())
    with torch.no_grad():
        broken.blocks[1].mlp.up.weight.mul_(1e30)
    parts = pack(network.config, network_tensors(broken), "float32", "it")
    engine = Engine(Network(network.config, parts, "float32"), tokenizer)
    for _ in range(2):
        with pytest.raises(FormatError, match="NaN"):
            list(engine.start([Request([1, 2, 3], 5, SamplingSettings(seed=0))])[0])
    engine.close()


def test_whoever_cannot_be_told_stops_nobody_else(packed, tokenizer):
    engine = Engine(packed, tokenizer)

    def gone(item) -> None:
        raise RuntimeError("nobody listens")

    engine.submit([Request([1, 2, 3], 20, SamplingSettings(seed=0))], [gone])
    request = Request([1, 2, 3], 20, SamplingSettings(seed=0))
    assert list(engine.start([request])[0]) == alone(packed, tokenizer, request)
    _wait_for(lambda: engine.counters().running == 0)
    engine.close()


def test_a_mistake_in_the_engine_is_told_and_nobody_waits_for_ever(packed, tokenizer, monkeypatch):
    engine = Engine(packed, tokenizer)
    monkeypatch.setattr(engine.scheduler, "plan", lambda: 1 / 0)
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    with pytest.raises(ZeroDivisionError):
        list(engine.start([Request([1, 2, 3], 20, SamplingSettings(seed=0))])[0])
    with pytest.raises(GlassError, match="closed"):
        engine.start([Request([1], 5, SamplingSettings(seed=0))])


def test_a_closed_engine_answers_with_an_error_and_its_threads_end(packed, tokenizer):
    before = threading.active_count()
    engine = Engine(packed, tokenizer, EngineSettings(threads=3))
    stream = engine.start([Request([1, 2, 3], 150, SamplingSettings(seed=0))])[0]
    next(stream)
    engine.close()
    with pytest.raises(GlassError, match="closed"):
        list(stream)
    with pytest.raises(GlassError, match="closed"):
        engine.start([Request([1], 5, SamplingSettings(seed=0))])
    _wait_for(lambda: threading.active_count() <= before)


def test_a_model_that_nobody_holds_gives_its_threads_back(packed, tokenizer):
    before = threading.active_count()
    engine = Engine(packed, tokenizer, EngineSettings(threads=3))
    list(engine.start([Request([1, 2, 3], 5, SamplingSettings(seed=0))])[0])
    assert threading.active_count() > before
    del engine
    gc.collect()
    _wait_for(lambda: threading.active_count() <= before)


def test_an_idle_engine_takes_no_time(packed, tokenizer):
    engine = Engine(packed, tokenizer, EngineSettings(threads=2))
    list(engine.start([Request([1, 2, 3], 5, SamplingSettings(seed=0))])[0])
    time.sleep(0.3)
    begin = os.times()
    time.sleep(0.5)
    end = os.times()
    assert end.user + end.system - begin.user - begin.system < 0.1
    engine.close()


def test_more_bits_of_chance_than_one_seed(packed, tokenizer):
    request = Request([1, 2, 3], 30, SamplingSettings(seed=3, temperature=1.5))
    texts = {tuple(p.token for p in alone(packed, tokenizer, replace(request, index=i))) for i in range(4)}
    assert len(texts) == 4


def _wait_for(true, seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)
