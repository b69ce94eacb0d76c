"""The compiled step beside torch's network: every family, every precision, and the same bits in any company."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glassgpt.engine import fields
from glassgpt.engine.load import network_tensors
from glassgpt.engine.network import Network
from glassgpt.engine.packing import pack, wide
from glassgpt.engine.quantize import quantize
from glassgpt.engine.runner import Rows, Runner
from glassgpt.formats.stored import expected_shapes
from glassgpt.model.config import ModelConfig, RopeScaling
from glassgpt.model.gpt import GPT

SMALL = dict(vocab_size=101, n_layer=3, n_head=4, n_embd=96, context_length=64, n_kv_head=2, mlp_dim=160)
FAMILIES = {
    "gpt2": ModelConfig.gpt2(**SMALL | {"n_kv_head": 4}),
    "gelu": ModelConfig.gpt2(**SMALL | {"mlp": "gelu", "tie_embeddings": False}),
    "llama": ModelConfig(**SMALL),
    "llama, wide heads": ModelConfig(**SMALL | {"head_dim": 80, "n_kv_head": 1, "tie_embeddings": False}),
    "qwen2": ModelConfig(qkv_bias=True, **SMALL),
    "qwen3": ModelConfig(qk_norm=True, **SMALL),
    "gemma3": ModelConfig(qk_norm=True, post_norms=True, mlp="geglu", embed_scale=3.5, sliding_window=5,
                          sliding_layers=(0, 2), rope_local_theta=100.0, attention_scale=0.3, **SMALL),
    "ours": ModelConfig.modern(**SMALL),
    "ours with n-grams": ModelConfig.modern(ngrams=3, ngram_buckets=50, **SMALL),
    "n-grams with a row each": ModelConfig.modern(ngrams=2, ngram_buckets=102**2, **SMALL),
    "odd sizes": ModelConfig.modern(**SMALL | {"n_embd": 90, "head_dim": 22, "mlp_dim": 50, "vocab_size": 37}),
    "layer norm, odd": ModelConfig.gpt2(**SMALL | {"n_embd": 90, "head_dim": 22, "n_kv_head": 4, "mlp_dim": 50}),
    "sinusoidal": ModelConfig(positions="sinusoidal", **SMALL),
    "no positions": ModelConfig(positions="none", **SMALL),
    "linear": ModelConfig(rope_scaling=RopeScaling("linear", 2.0), **SMALL),
    "llama3": ModelConfig(rope_scaling=RopeScaling("llama3", 4.0, 16), **SMALL),
    "yarn": ModelConfig(rope_scaling=RopeScaling("yarn", 4.0, 16), **SMALL),
    "dynamic": ModelConfig(rope_scaling=RopeScaling("dynamic", 4.0, 64), **SMALL),
}  # fmt: skip


def random_network(config: ModelConfig, seed: int = 0) -> GPT:
    """Weights large enough for every part to matter, norms and biases too."""
    torch.manual_seed(seed)
    network = GPT(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.15 + (1 if parameter.dim() == 1 else 0))
    return network.eval()


def packed(network: GPT, precision: str, **runner) -> Runner:
    return Runner(
        Network(network.config, pack(network.config, network_tensors(network), precision, "it"), precision),
        **{"threads": 2, "pages": 24} | runner,
    )


def ids_of(config: ModelConfig, count: int, seed: int = 1) -> list[int]:
    return np.random.default_rng(seed).integers(0, config.vocab_size, count).tolist()


def scores(runner: Runner, ids: list[int], chunks: list[int], pages: list[int]) -> np.ndarray:
    """Those of every position, [T, V], computed in pieces of so many positions."""
    found, at = [], 0
    for count in chunks:
        piece = ids[at : at + count]
        found.append(runner.run([Rows(piece, at, pages, len(piece), ids[:at])]).copy())
        at += count
    assert at == len(ids)
    return np.concatenate(found)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_parameters_are_those_of_torchs_network(name: str):
    network = GPT.empty(FAMILIES[name])
    assert expected_shapes(FAMILIES[name]) == {n: tuple(p.shape) for n, p in network.named_parameters()}


@pytest.mark.parametrize("name", FAMILIES)
def test_in_float32_the_scores_are_those_of_torchs_network(name: str):
    network = random_network(FAMILIES[name])
    ids = ids_of(network.config, 40)
    with torch.inference_mode():
        expected = network(torch.tensor([ids]))[0].numpy()
    runner = packed(network, "float32")
    got = scores(runner, ids, [40], [7, 2, 11])
    np.testing.assert_allclose(got, expected, rtol=2e-4, atol=2e-4 * np.abs(expected).max())
    assert (got.argmax(1) == expected.argmax(1)).all()


@pytest.mark.parametrize("precision", ["bfloat16", "int8", "int4"])
@pytest.mark.parametrize("name", ["gpt2", "gemma3", "ours with n-grams", "odd sizes"])
def test_in_fewer_bits_the_scores_are_those_of_torchs_network_with_the_rounded_weights(name: str, precision: str):
    """What is left is the rounding of activations, which is none in bfloat16."""
    network = random_network(FAMILIES[name])
    ids = ids_of(network.config, 40)
    got = scores(packed(network, precision, cache_bits=32), ids, [40], [7, 2, 11])
    bits = {"bfloat16": 16, "int8": 8, "int4": 4}[precision]
    with torch.no_grad():
        for key, weight in network.named_parameters():
            ends = key in ("embed.weight", "head.weight")
            if weight.dim() == 2 and not key.startswith(("positions", "ngrams")):
                values = weight.numpy()
                values = np.pad(values, ((0, 0), (0, -values.shape[1] % 32)), mode="edge")
                rounded = wide(values, 16) if bits == 16 else quantize(values, 8 if ends else bits)
                weight.copy_(torch.from_numpy(rounded.dequantize()[:, : weight.shape[1]]))
        expected = network(torch.tensor([ids]))[0].numpy()
    off = np.sqrt(np.mean((got - expected) ** 2)) / np.std(expected)
    assert off < (1e-4 if bits == 16 else 0.2)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8", "int4"])
@pytest.mark.parametrize("name", ["gemma3", "ours with n-grams", "layer norm, odd"])
@settings(deadline=None, max_examples=12)
@given(data=st.data())
def test_a_position_has_the_same_bits_in_any_company(name: str, precision: str, data: st.DataObject):
    """Alone or among others, in one piece or many, on one thread or three, in whichever pages."""
    network, cache_bits = random_network(FAMILIES[name]), data.draw(st.sampled_from([32, 16, 8]))
    ids, others = ids_of(network.config, 50), ids_of(network.config, 33, seed=2)
    alone = scores(packed(network, precision, threads=1, cache_bits=cache_bits), ids, [1] * 50, [0, 1, 2, 3])
    runner = packed(network, precision, threads=data.draw(st.sampled_from([1, 2, 3])), cache_bits=cache_bits)
    order = data.draw(st.permutations(range(24)))
    mine, theirs = order[:4], order[4:8]
    at = other = 0
    while at < 50:
        count = data.draw(st.integers(1, 50 - at))
        work = [Rows(ids[at : at + count], at, mine, count, ids[:at])]
        beside = min(data.draw(st.integers(0, 5)), 33 - other)
        if beside:
            work.insert(
                data.draw(st.integers(0, 1)), Rows(others[other : other + beside], other, theirs, 0, others[:other])
            )
        assert np.array_equal(runner.run(work), alone[at : at + count])
        at, other = at + count, other + beside


def test_a_dynamic_rotation_grows_as_when_every_token_is_decoded_alone():
    config = dataclasses.replace(FAMILIES["dynamic"], rope_scaling=RopeScaling("dynamic", 4.0, 16))
    network, ids = random_network(config), ids_of(config, 40)
    from glassgpt.engine.kv_cache import KVCache

    cache, expected = KVCache(config), []
    with torch.inference_mode():
        for token in ids:
            expected.append(network(torch.tensor([[token]]), cache=cache)[0, 0].numpy())
    got = scores(packed(network, "float32"), ids, [13, 27], [0, 1, 2])
    np.testing.assert_allclose(got, np.stack(expected), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("precision", ["float32", "int8", "int4"])
def test_the_mass_of_scores_is_the_one_of_torch(precision: str):
    network = random_network(FAMILIES["odd sizes"])
    for threads in (1, 3):
        runner = packed(network, precision, threads=threads)
        got = torch.from_numpy(runner.run([Rows(ids_of(network.config, 20), 0, [0, 1], 9)]).copy())
        np.testing.assert_allclose(runner.masses(9), torch.logsumexp(got.double(), -1), rtol=1e-6)


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_tokens_that_the_step_looks_up_are_those_of_the_plain_twin(precision: str):
    runner = packed(random_network(FAMILIES["gemma3"]), precision)
    assert runner.network.embed_record
    ids = ids_of(runner.network.config, 20)
    runner.program[fields.N_LAYERS] = 0
    runner.run([Rows(ids, 0, [0, 1], 0)])
    expected = runner.network.inputs(np.array(ids), np.arange(20), [])
    np.testing.assert_allclose(runner.x[:20], expected, rtol=1e-6)


def test_a_smaller_cache_costs_little():
    network = random_network(FAMILIES["llama"])
    ids = ids_of(network.config, 60)
    exact = scores(packed(network, "float32", cache_bits=32), ids, [60], [0, 1, 2, 3])
    for bits, most in ((16, 1e-3), (8, 0.03)):
        got = scores(packed(network, "float32", cache_bits=bits), ids, [60], [0, 1, 2, 3])
        assert 0 < np.sqrt(np.mean((got - exact) ** 2)) / exact.std() < most


def test_infinite_activations_end_as_no_number_and_not_as_a_reply():
    network = random_network(FAMILIES["llama"])
    with torch.no_grad():
        network.blocks[1].mlp.up.weight.mul_(1e25)
        network.blocks[1].mlp.gate.weight.mul_(1e25)
    for precision in ("float32", "bfloat16"):
        got = packed(network, precision).run([Rows([1, 2, 3], 0, [0], 1)])
        assert not np.isfinite(got).all()
