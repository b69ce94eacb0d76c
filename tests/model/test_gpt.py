"""The network's own promises: causality, padding, and a cache that changes nothing."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glassgpt.core.errors import ConfigError, InputError
from glassgpt.engine.kv_cache import KVCache
from glassgpt.model.config import ModelConfig, RopeScaling
from glassgpt.model.gpt import GPT

SIZES = dict(vocab_size=61, n_layer=3, n_head=4, n_kv_head=2, n_embd=32, context_length=48)
CONFIGS = {
    "gpt2": ModelConfig.gpt2(**SIZES | {"n_kv_head": 0}),
    "modern": ModelConfig.modern(**SIZES),
    "sinusoidal": ModelConfig(**SIZES, positions="sinusoidal", norm="layernorm", mlp="gelu"),
    "no positions": ModelConfig(**SIZES, positions="none", mlp="geglu"),
    "windows": ModelConfig(**SIZES, sliding_window=5, sliding_layers=(0, 2), rope_local_theta=500.0, post_norms=True),
    "yarn": ModelConfig(**SIZES, rope_scaling=RopeScaling("yarn", 4.0, 12), tie_embeddings=False),
}


def network(name: str) -> GPT:
    torch.manual_seed(0)
    model = GPT(CONFIGS[name]).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.15)
    return model.requires_grad_(False)


NETWORKS = {name: network(name) for name in CONFIGS}
each_network = pytest.mark.parametrize("name", CONFIGS)
tokens = st.lists(st.integers(0, 60), min_size=2, max_size=24)


@each_network
@settings(max_examples=15, deadline=None)
@given(ids=tokens, data=st.data())
def test_changing_a_later_token_never_changes_an_earlier_score(name, ids, data):
    place = data.draw(st.integers(1, len(ids) - 1))
    other = ids[:place] + data.draw(st.lists(st.integers(0, 60), min_size=len(ids) - place, max_size=len(ids) - place))
    before = NETWORKS[name](torch.tensor([ids]))[0, :place]
    after = NETWORKS[name](torch.tensor([other]))[0, :place]
    assert torch.equal(before, after)


@each_network
def test_changing_an_earlier_token_does_change_later_scores(name):
    ids = torch.arange(20)[None]
    other = ids.clone()
    other[0, 17] = 50
    assert not torch.allclose(NETWORKS[name](ids)[0, 18], NETWORKS[name](other)[0, 18], atol=1e-3)


@each_network
@settings(max_examples=15, deadline=None)
@given(ids=tokens, left=st.integers(0, 6), right=st.integers(0, 6), filler=st.integers(0, 60))
def test_padding_on_either_side_never_changes_a_real_score(name, ids, left, right, filler):
    padded = torch.tensor([[filler] * left + ids + [filler] * right])
    keep = torch.tensor([[False] * left + [True] * len(ids) + [False] * right])
    alone = NETWORKS[name](torch.tensor([ids]))[0]
    within = NETWORKS[name](padded, keep)[0, left : left + len(ids)]
    assert torch.allclose(alone, within, atol=2e-5)
    assert torch.isfinite(NETWORKS[name](padded, keep)).all()


@each_network
@settings(max_examples=15, deadline=None)
@given(ids=tokens, data=st.data())
def test_reading_in_pieces_through_the_cache_gives_the_same_scores(name, ids, data):
    model, cuts = NETWORKS[name], sorted(data.draw(st.sets(st.integers(1, len(ids) - 1), max_size=4)))
    cache = KVCache(model.config)
    parts = [model(torch.tensor([ids[a:b]]), cache=cache) for a, b in zip([0, *cuts], [*cuts, len(ids)], strict=True)]
    assert torch.allclose(torch.cat(parts, dim=1), model(torch.tensor([ids])), atol=2e-5)
    assert cache.length == len(ids)


def test_a_truncated_cache_goes_on_from_where_it_was_cut():
    model, cache = NETWORKS["modern"], KVCache(CONFIGS["modern"])
    model(torch.tensor([[1, 2, 3, 4, 5]]), cache=cache)
    cache.truncate(2)
    again = model(torch.tensor([[9, 8]]), cache=cache)
    assert torch.allclose(again, model(torch.tensor([[1, 2, 9, 8]]))[:, 2:], atol=2e-5)


def test_the_cache_grows_past_its_first_storage():
    config = ModelConfig.modern(**SIZES | {"context_length": 700})
    model, cache = GPT(config).eval(), KVCache(config)
    ids = torch.randint(0, 61, (1, 600))
    with torch.no_grad():
        parts = [model(piece, cache=cache) for piece in ids.split(100, dim=1)]
        assert torch.allclose(torch.cat(parts, 1), model(ids), atol=2e-5)


@each_network
def test_a_sequence_longer_than_the_context_is_refused_with_the_counts(name):
    with pytest.raises(InputError, match=r"49 tokens do not fit.*48"):
        NETWORKS[name](torch.zeros(1, 49, dtype=torch.long))
    cache = KVCache(CONFIGS[name])
    NETWORKS[name](torch.zeros(1, 48, dtype=torch.long), cache=cache)
    with pytest.raises(InputError, match="49 tokens do not fit"):
        NETWORKS[name](torch.zeros(1, 1, dtype=torch.long), cache=cache)


def test_a_window_really_hides_what_lies_outside_it():
    config = ModelConfig(**SIZES | {"n_layer": 1}, sliding_window=4, sliding_layers=(0,))
    model = GPT(config).eval()
    ids = torch.arange(12)[None]
    other = ids.clone()
    other[0, 5] = 40
    with torch.no_grad():
        changed = (model(ids) - model(other)).abs().amax(-1)[0] > 1e-7
    assert changed.tolist() == [False] * 5 + [True] * 4 + [False] * 3


def test_tied_weights_are_counted_once_and_the_first_loss_is_that_of_chance():
    torch.manual_seed(0)
    model = GPT(CONFIGS["gpt2"])
    config = CONFIGS["gpt2"]
    blocks = 12 * config.n_embd**2 + 13 * config.n_embd
    assert model.count_parameters() == 61 * 32 + 48 * 32 + 3 * blocks + 2 * 32
    ids = torch.randint(0, 61, (8, 32))
    loss = torch.nn.functional.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
    assert abs(loss.item() - math.log(61)) < 0.2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"n_head": 5}, "not a multiple"),
        ({"n_kv_head": 3}, "n_kv_head"),
        ({"vocab_size": 0}, "vocab_size is 0"),
        ({"mlp": "swish"}, "expected one of"),
        ({"dropout": 1.0}, "dropout"),
        ({"sliding_layers": (0,)}, "sliding_window"),
        ({"sliding_window": 4, "sliding_layers": (3,)}, "layer 3"),
        ({"n_headd": 4}, "n_headd"),
        ({"context_length": 2.5}, "context_length"),
    ],
)
def test_a_config_that_cannot_be_is_refused(change, words):
    with pytest.raises(ConfigError, match=words):
        ModelConfig.from_dict(SIZES | change)


def test_an_unknown_setting_names_the_nearest_known_one():
    with pytest.raises(ConfigError) as caught:
        ModelConfig.from_dict(SIZES | {"n_heads": 4})
    assert "'n_head'" in caught.value.hint()


@each_network
def test_a_config_survives_being_written_as_plain_values(name):
    assert ModelConfig.from_dict(CONFIGS[name].to_dict()) == CONFIGS[name]


@each_network
def test_documents_packed_into_one_sequence_are_read_as_if_alone(name):
    model, lengths = NETWORKS[name], [7, 1, 12, 4]
    torch.manual_seed(1)
    documents = [torch.randint(0, 61, (n,)) for n in lengths]
    segments = torch.cat([torch.full((n,), 5 - i) for i, n in enumerate(lengths)])[None]
    packed = model(torch.cat(documents)[None], segments=segments)[0]
    for alone, together in zip(documents, packed.split(lengths), strict=True):
        torch.testing.assert_close(together, model(alone[None])[0], atol=2e-5, rtol=1e-4)


@each_network
def test_a_packed_sequence_is_cut_where_it_is_alone_and_masked_beside_another(name):
    torch.manual_seed(3)
    ids = torch.randint(0, 61, (2, 24))
    segments = torch.tensor([[0] * 9 + [1] * 1 + [2] * 14, [7] * 20 + [-1] * 4])
    masked = NETWORKS[name](ids, segments=segments)
    for row in range(2):
        alone = NETWORKS[name](ids[row : row + 1], segments=segments[row : row + 1])
        torch.testing.assert_close(alone[0], masked[row], atol=2e-5, rtol=1e-4)


@each_network
def test_the_fused_causal_path_equals_the_mask_it_stands_for(name):
    ids = torch.randint(0, 61, (3, 20))
    masked = NETWORKS[name](ids, keep=torch.ones_like(ids, dtype=torch.bool))
    torch.testing.assert_close(NETWORKS[name](ids), masked, atol=2e-5, rtol=1e-4)
