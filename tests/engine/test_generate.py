"""Generation with a small random network, by the reference loop and by the engine: limits, stops, streams, seeds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import glassgpt
from glassgpt.core.errors import ConfigError, FormatError, InputError
from glassgpt.engine.engine import Engine
from glassgpt.engine.generate import decode_one, prefill
from glassgpt.engine.kv_cache import KVCache
from glassgpt.engine.language_model import LanguageModel, Timings
from glassgpt.engine.load import network_tensors
from glassgpt.engine.network import Network
from glassgpt.engine.packing import pack
from glassgpt.engine.request import StopStrings, plan_length
from glassgpt.model.config import ModelConfig
from glassgpt.model.gpt import GPT
from glassgpt.text.bpe import train_bpe

TEXT = "the cat sat on the mat and the dog ran after it. 你好,世界!天气很好。 "


@pytest.fixture(scope="module", params=["torch", "engine"])
def model(request) -> LanguageModel:
    torch.manual_seed(0)
    tokenizer = train_bpe([TEXT * 20], 330)
    network = GPT(
        ModelConfig.modern(vocab_size=tokenizer.vocab_size, n_layer=2, n_head=2, n_embd=32, context_length=64)
    )
    with torch.no_grad():
        for p in network.parameters():
            p.add_(torch.randn_like(p) * 0.2)
    network = network.eval().requires_grad_(False)
    packed = Network(network.config, pack(network.config, network_tensors(network), "float32", "it"), "float32")
    engine = (lambda: Engine(packed, tokenizer)) if request.param == "engine" else None
    return LanguageModel("small", network, tokenizer, "float32", engine=engine)


def test_generation_with_the_cache_is_generation_without_it(model):
    ids = model.encode("the cat sat")
    tokens = model.generate(ids, max_new_tokens=40, temperature=0)[0].tokens
    plain = list(ids)
    for _ in range(len(tokens)):
        plain.append(int(model.network(torch.tensor([plain]))[0, -1].argmax()))
    assert tokens == plain[len(ids) :]


def test_a_long_prompt_is_read_in_pieces_with_the_same_result(monkeypatch, model):
    ids = model.encode("the cat sat on the mat and the dog")
    whole = prefill(model.network, ids, KVCache(model.network.config))
    monkeypatch.setattr("glassgpt.engine.generate.PREFILL_CHUNK", 3)
    assert np.allclose(prefill(model.network, ids, KVCache(model.network.config)), whole, atol=1e-5)


def test_one_more_token_gives_the_scores_of_the_longer_prompt(model):
    cache = KVCache(model.network.config)
    prefill(model.network, [5, 6, 7], cache)
    expected = model.network(torch.tensor([[5, 6, 7, 8]]))[0, -1].numpy()
    assert np.allclose(decode_one(model.network, 8, cache), expected, atol=1e-5)


def test_the_text_does_not_echo_the_prompt_and_the_stream_says_the_same(model):
    for prompt in ("the cat", "你好"):
        completion = model.generate(prompt, max_new_tokens=20, seed=5)[0]
        assert completion.text == model.tokenizer.decode(completion.tokens)
        assert "".join(model.stream(prompt, max_new_tokens=20, seed=5)) == completion.text
        assert len(completion.tokens) == len(completion.logprobs) <= 20


def test_several_completions_differ_from_each_other_and_the_first_is_the_one_alone(model):
    three = model.generate("the", max_new_tokens=12, num_return_sequences=3, seed=1)
    assert len({tuple(c.tokens) for c in three}) == 3
    assert [c.index for c in three] == [0, 1, 2]
    assert model.generate("the", max_new_tokens=12, seed=1)[0] == three[0]


def test_the_seed_that_was_drawn_repeats_the_completion(model):
    first = model.generate("the", max_new_tokens=12)[0]
    assert model.generate("the", max_new_tokens=12, seed=first.seed)[0] == first


def test_log_probabilities_are_the_models_own_whatever_the_sampling(model):
    ids = model.encode("the cat")
    completion = model.generate(ids, max_new_tokens=8, temperature=2.0, top_k=5, seed=3)[0]
    scores = torch.log_softmax(model.network(torch.tensor([ids + completion.tokens])).double(), -1)[0]
    expected = [float(scores[len(ids) - 1 + i, token]) for i, token in enumerate(completion.tokens)]
    assert completion.logprobs == pytest.approx(expected, abs=1e-4)


def test_an_end_token_ends_the_text_and_is_not_shown(model):
    greedy = model.generate("the cat", max_new_tokens=10, temperature=0)[0].tokens
    original = model.tokenizer.eos_id
    model.tokenizer.eos_id = greedy[4]
    try:
        ended = model.generate("the cat", max_new_tokens=10, temperature=0)[0]
    finally:
        model.tokenizer.eos_id = original
    cut = greedy.index(greedy[4])
    assert ended.finish_reason == "stop"
    assert ended.tokens == greedy[: cut + 1]
    assert ended.text == model.tokenizer.decode(greedy[:cut])


def test_a_stop_string_ends_the_text_before_it(model):
    text = model.generate("the", max_new_tokens=30, seed=2)[0].text
    stop = text[6:9]
    cut = model.generate("the", max_new_tokens=30, seed=2, stop=stop)[0]
    assert (cut.text, cut.finish_reason) == (text[: text.index(stop)], "stop")
    assert "".join(model.stream("the", max_new_tokens=30, seed=2, stop=[stop, "zzz"])) == cut.text


@settings(deadline=None)
@given(
    text=st.text("abc你", max_size=30),
    stops=st.lists(st.text("abc你", min_size=1, max_size=4), max_size=3),
    data=st.data(),
)
def test_stop_strings_cut_at_the_earliest_place_however_the_text_arrives(text, stops, data):
    watch, shown, rest = StopStrings(stops), "", text
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        shown += watch.push(rest[:size])
        rest = rest[size:]
        assert text.startswith(shown)
    shown += watch.finish()
    # By definition: the text is watched as it grows, and ends before the first stop string to be complete.
    ends = [n for n in range(len(text) + 1) if any(stop in text[:n] for stop in stops)]
    if not ends:
        assert shown == text and not watch.found
    else:
        assert watch.found
        assert shown in {text[: text.index(stop)] for stop in stops if stop in text}
        assert not any(stop in shown for stop in stops)


def test_limits_count_what_they_say(model):
    ids = model.encode("the cat sat")
    assert len(model.generate(ids, max_new_tokens=7, temperature=0)[0].tokens) == 7
    assert len(model.generate(ids, max_length=len(ids) + 7, temperature=0)[0].tokens) == 7
    full = model.generate(ids, temperature=0)[0]  # no limit given: what fits
    assert len(full.tokens) == 64 - len(ids)
    assert full.finish_reason == "length"


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"max_new_tokens": 0}, ConfigError, "max_new_tokens is 0; expected a whole number of at least 1"),
        ({"max_new_tokens": 2.5}, ConfigError, "max_new_tokens is 2.5"),
        ({"max_new_tokens": 5, "max_length": 9}, ConfigError, "both given"),
        ({"max_length": 2}, ConfigError, "max_length is 2, and the prompt alone has"),
        ({"max_new_tokens": 64}, InputError, "64 more are asked for; the model's context is 64"),
        ({"temperature": -1}, ConfigError, "temperature is -1"),
        ({"num_return_sequences": 0}, ConfigError, "num_return_sequences is 0"),
        ({"num_return_sequences": 2, "temperature": 0}, ConfigError, "all of them are the same"),
        ({"stop": ""}, ConfigError, "stop string is empty"),
        ({"temprature": 1}, ConfigError, "unknown setting 'temprature'"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_before_anything_is_computed(model, settings, error, words):
    with pytest.raises(error, match=words):
        model.generate("the cat sat", **settings)
    if "num_return_sequences" not in settings:
        with pytest.raises(error, match=words):
            model.stream_pieces("the cat sat", **settings)


def test_an_empty_prompt_and_foreign_ids_are_refused(model):
    with pytest.raises(InputError, match="the prompt is empty"):
        model.generate("")
    with pytest.raises(InputError, match="token id 99999"):
        model.generate([1, 99999])


def test_a_prompt_that_does_not_fit_is_refused_with_the_counts_and_never_cut(model):
    with pytest.raises(InputError, match="the prompt has 64 tokens; the model's context is 64"):
        model.generate([1] * 64)
    assert len(model.generate([1] * 63, temperature=0)[0].tokens) == 1
    assert plan_length(10, 64, None, None, 20) == 20


def test_nan_scores_are_a_named_error_and_not_a_token(model):
    broken = GPT(model.network.config).eval()
    broken.load_state_dict(model.network.state_dict())
    with torch.no_grad():
        broken.norm.weight.fill_(float("nan"))
    with pytest.raises(FormatError, match="NaN"):
        LanguageModel("broken", broken, model.tokenizer, "float32").generate("the")


def test_timings_say_what_was_read_and_written(model):
    timings = Timings()
    model.generate("the cat", max_new_tokens=9, num_return_sequences=2, timings=timings, seed=0)
    assert timings.prefill_tokens == len(model.encode("the cat"))
    assert timings.decode_tokens == 2 * 8
    assert timings.prefill_s > 0 and timings.decode_s > 0


def test_bfloat16_gives_scores_near_those_of_float32(model):
    rough = GPT(model.network.config)
    rough.load_state_dict(model.network.state_dict())
    rough = rough.to(torch.bfloat16).eval()
    near = LanguageModel("rough", rough, model.tokenizer, "bfloat16")
    a = prefill(model.network, [1, 2, 3], KVCache(model.config))
    b = prefill(rough, [1, 2, 3], KVCache(near.config, dtype=torch.bfloat16))
    assert np.abs(a - b).max() < 0.1 * np.abs(a).max()


def test_perplexity_is_the_mean_over_every_window(model):
    text = TEXT * 4
    result = glassgpt.perplexity(model, text, window=16)
    ids, total, count = model.tokenizer.encode(text), 0.0, 0
    for start in range(0, len(ids), 16):
        piece = ids[start : start + 16]
        scores = torch.log_softmax(model.network(torch.tensor([piece])).double(), -1)[0]
        for i in range(1, len(piece)):
            total, count = total - float(scores[i - 1, piece[i]]), count + 1
    assert result.tokens == count
    assert result.loss == pytest.approx(total / count, rel=1e-5)
    assert result.bits_per_byte == pytest.approx(total / np.log(2) / len(text.encode()), rel=1e-5)
