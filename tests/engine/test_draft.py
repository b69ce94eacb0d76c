"""A smaller model's guesses: never a different reply, fewer steps where they are right, none where they do not pay."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_engine import TEXT, random_requests

import glassgpt
from glassgpt.core.errors import ConfigError
from glassgpt.engine.draft import WORTH, Costs, DraftModel, Text, best_length
from glassgpt.engine.engine import Engine, EngineSettings
from glassgpt.engine.load import network_tensors
from glassgpt.engine.network import Network
from glassgpt.engine.packing import pack
from glassgpt.engine.request import Request
from glassgpt.engine.runner import Rows, Runner
from glassgpt.engine.sampling import SamplingSettings
from glassgpt.engine.speculate import MOST, PATIENCE
from glassgpt.model.config import ModelConfig
from glassgpt.model.gpt import GPT
from glassgpt.text.bpe import train_bpe

ALONE = EngineSettings(speculate=False)


@pytest.fixture(scope="module")
def tokenizer():
    return train_bpe([TEXT * 20], 340)


def made(tokenizer, seed: int, width: int = 64, ngrams: int = 1, context: int = 160, more: int = 0) -> Network:
    torch.manual_seed(seed)
    config = ModelConfig.modern(
        vocab_size=tokenizer.vocab_size + more, n_layer=2, n_head=2, n_embd=width, context_length=context,
        ngrams=ngrams, ngram_buckets=50,
    )  # fmt: skip
    network = GPT(config)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(torch.randn_like(p) * 0.2)
    return Network(config, pack(config, network_tensors(network), "int8", "it"), "int8")


@pytest.fixture(scope="module")
def larger(tokenizer) -> Network:
    return made(tokenizer, 0)


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Guesses are made whatever was measured: on such small networks none would ever pay."""
    monkeypatch.setattr(Text, "wanted", lambda text, costs: 3)
    monkeypatch.setattr(Costs, "due", False)
    yield


def answers(engine: Engine, requests: list[Request]) -> list[list[tuple[int | None, str, object]]]:
    return [[(p.token, p.text, p.finish_reason) for p in stream] for stream in engine.start(requests)]


def steps_of(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Gets the rows of each step that the larger network runs."""
    seen: list[int] = []
    run = engine.runner.run

    def counted(work: list[Rows]):
        seen.append(sum(len(rows.ids) for rows in work))
        return run(work)

    monkeypatch.setattr(engine.runner, "run", counted)
    return seen


@pytest.mark.parametrize("draft", ["itself", "another", "with n-grams", "with a short context"])
def test_replies_are_the_same_with_and_without(draft: str, larger: Network, tokenizer, always):
    networks = {
        "itself": lambda: larger,
        "another": lambda: made(tokenizer, 1, width=32),
        "with n-grams": lambda: made(tokenizer, 2, ngrams=3),
        "with a short context": lambda: made(tokenizer, 3, context=40),
    }
    requests = random_requests(tokenizer, 24, seed=3)
    plain, helped = Engine(larger, tokenizer, ALONE), Engine(larger, tokenizer, ALONE, networks[draft]())
    expected = [answers(plain, [request])[0] for request in requests]
    assert [answers(helped, [request])[0] for request in requests] == expected
    for at in range(0, len(requests), 12):
        assert answers(helped, requests[at : at + 12]) == expected[at : at + 12]
    plain.close()
    helped.close()


def test_a_draft_that_is_always_right_saves_three_steps_of_four(larger: Network, tokenizer, always, monkeypatch):
    engine = Engine(larger, tokenizer, ALONE, larger)
    steps = steps_of(engine, monkeypatch)
    greedy = SamplingSettings(temperature=0.0, seed=0)
    (reply,) = answers(engine, [Request(tokenizer.encode("the cat sat"), 81, greedy)])
    assert len([token for token, _, _ in reply if token is not None]) == 81
    assert len(steps) == 1 + 80 // 4 and set(steps[1:]) == {4}
    engine.close()


def test_what_is_guessed_is_what_the_draft_would_write(larger: Network, tokenizer, monkeypatch):
    """Held to reading the whole text anew; texts grow by right guesses, by wrong ones, and by more than was guessed."""
    monkeypatch.setattr(Text, "wanted", lambda text, costs: 4)
    monkeypatch.setattr(Costs, "due", False)
    draft, alone = DraftModel(larger, larger, threads=1, most=3), Runner(larger, threads=1, pages=10)

    def likeliest(tokens: list[int]) -> list[int]:
        tokens, found = list(tokens), []
        for _ in range(4):
            scores = alone.run([Rows(tokens, 0, range(10), 1)])
            found.append(int(scores[0].argmax()))
            tokens.append(found[-1])
        return found

    texts = {number: tokenizer.encode(TEXT)[: 5 + 7 * number] for number in range(3)}
    for turn in range(12):
        found = draft.guess(texts)
        assert found == {number: likeliest(tokens) for number, tokens in texts.items()}
        for number in texts:
            kept = (turn + number) % 5
            texts[number] = [*texts[number], *found[number][:kept], (turn * 31 + number) % 250]
        if turn % 4 == 3:  # one ends, and another comes in its place
            gone, new = min(texts), max(texts) + 1
            texts = {number: tokens for number, tokens in texts.items() if number != gone} | {new: [1, 2, 3 + turn]}
            draft.keep(set(texts))
    draft.keep(set())
    assert sorted(draft._free) == list(range(draft.runner.pages))
    draft.close()
    alone.close()


def test_a_long_text_is_read_in_pieces_and_one_too_long_is_left_alone(tokenizer, monkeypatch):
    monkeypatch.setattr(Text, "wanted", lambda text, costs: 2)
    monkeypatch.setattr(Costs, "due", False)
    network = made(tokenizer, 5, context=600)
    draft = DraftModel(network, network, threads=1, most=2)
    found = [draft.guess({1: [7] * 590, 2: [5] * 20}) for _ in range(3)]
    assert [sorted(f) for f in found] == [[], [2], [1, 2]] or [sorted(f) for f in found] == [[], [], [1, 2]]
    assert draft.guess({1: [7] * 599}) != {} and draft.guess({1: [7] * 600}) == {}
    draft.close()


def test_another_vocabulary_is_refused(larger: Network, tokenizer):
    with pytest.raises(ConfigError, match=r"the draft model has .* tokens, the model"):
        Engine(larger, tokenizer, ALONE, made(tokenizer, 1, more=1))


@given(st.floats(0, 1), st.floats(0, 3), st.floats(0, 3))
def test_the_length_is_the_best_one_by_trying_all(rate: float, guess: float, row: float):
    def speed(count: int) -> float:
        """Tokens for each step's time, by adding up what may happen: so many come true and then one does not."""
        tokens = sum((k + 1) * rate**k * (1 - rate) for k in range(count)) + (count + 1) * rate**count
        return tokens / (1 + count * (guess + row))

    best = best_length(rate, guess, row)
    assert speed(best) >= max(map(speed, range(MOST + 1))) - 1e-9 or max(map(speed, range(MOST + 1))) < WORTH + 1e-9


def test_bad_luck_rests_longer_each_time_and_good_luck_begins_anew():
    costs = Costs(plain=0.010, guess=0.004, row=0.001)
    text = Text(rate=0.9)
    asked = []
    for _ in range(700):
        count = text.wanted(costs)
        asked.append(count)
        text.learn(0, count)
    tried = [step for step, count in enumerate(asked) if count]
    gaps = [b - a for a, b in pairwise(tried) if b - a > 1]
    assert gaps[:4] == [PATIENCE + 1, 2 * PATIENCE + 1, 4 * PATIENCE + 1, 8 * PATIENCE + 1] and max(gaps) <= 129
    while not costs.best(text.rate):
        count = text.wanted(costs)
        text.learn(count, count)
    assert any(text.wanted(costs) for _ in range(129)) and text.rest == PATIENCE


def test_costs_are_what_the_steps_took():
    costs = Costs()
    assert costs.due
    costs.note_step(0.020, texts=4, guesses=0)
    costs.note_step(0.032, texts=4, guesses=12)  # three rows more for each
    costs.note_guess(0.003)
    assert (costs.plain, costs.guess) == (0.020, 0.003) and costs.row == pytest.approx(0.004) and not costs.due
    for _ in range(40):
        costs.note_step(0.032, texts=4, guesses=12)
    assert costs.due  # now and then a step without guesses shows whether they still pay


def test_load_takes_a_draft_and_refuses_one_with_another_tokenizer(larger: Network, tokenizer, tmp_path):
    from glassgpt.engine.language_model import LanguageModel

    def saved(name: str, words, seed: int) -> str:
        torch.manual_seed(seed)
        config = ModelConfig.modern(vocab_size=words.vocab_size, n_layer=1, n_head=2, n_embd=32, context_length=64)
        LanguageModel(name, GPT(config), words, "float32").save(tmp_path / name)
        return str(tmp_path / name)

    big, small = saved("big", tokenizer, 0), saved("small", tokenizer, 1)
    settings = dict(max_new_tokens=30, temperature=0.7, seed=3)
    expected = glassgpt.load(big).generate("the cat", **settings)[0].tokens
    assert glassgpt.load(big, draft=small).generate("the cat", **settings)[0].tokens == expected
    other = saved("other", train_bpe(["something else entirely " * 30], 280), 2)
    with pytest.raises(ConfigError, match="has another tokenizer than"):
        glassgpt.load(big, draft=other)
    with pytest.raises(ConfigError, match="for the engine alone"):
        glassgpt.load(big, draft=small, in_torch=True)
