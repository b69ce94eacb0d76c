"""Stored tensors against the settings: each of a network's is asked for by name and shape, and its numbers are."""

from __future__ import annotations

import re

import numpy as np
import pytest

from glassgpt.core.errors import FormatError
from glassgpt.formats.stored import Numbers, Stored, check_numbers, check_shape, collect, expected_shapes
from glassgpt.model.config import ModelConfig

SMALL = dict(vocab_size=13, n_layer=2, n_head=2, n_embd=8, context_length=16, mlp_dim=12)
CONFIGS = {
    "gpt2": ModelConfig.gpt2(**SMALL),
    "llama, a head of its own": ModelConfig(**SMALL | {"tie_embeddings": False}),
    "qwen2": ModelConfig(qkv_bias=True, **SMALL),
    "gemma3": ModelConfig(qk_norm=True, post_norms=True, mlp="geglu", **SMALL),
    "ours with n-grams": ModelConfig.modern(ngrams=3, ngram_buckets=20, **SMALL),
}
LLAMA = CONFIGS["llama, a head of its own"]


def tensors_of(config: ModelConfig) -> dict[str, Stored]:
    return {name: Numbers(np.ones(shape, np.float32)) for name, shape in expected_shapes(config).items()}


@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_whole_is_given_by_name_in_whatever_order_it_came(name: str):
    tensors = tensors_of(CONFIGS[name])
    assert collect(CONFIGS[name], tensors.items(), "it") == tensors
    assert collect(CONFIGS[name], reversed(tensors.items()), "it") == tensors


@pytest.mark.parametrize("name", CONFIGS)
def test_each_tensor_that_is_missing_is_named(name: str):
    tensors = tensors_of(CONFIGS[name])
    for gone in tensors:
        rest = {key: tensor for key, tensor in tensors.items() if key != gone}
        with pytest.raises(FormatError, match=re.escape(f"it: 1 tensors are missing, the first is {gone}")):
            collect(CONFIGS[name], rest.items(), "it")


def test_of_many_that_are_missing_the_first_is_named_with_their_number():
    with pytest.raises(FormatError) as caught:
        collect(LLAMA, [], "some.gguf")
    facts = caught.value.facts
    assert (facts["source"], facts["count"]) == ("some.gguf", len(expected_shapes(LLAMA)))
    assert facts["name"] == min(expected_shapes(LLAMA))
    assert caught.value.hint() and facts["name"] in caught.value.message("zh")


@pytest.mark.parametrize("name", CONFIGS)
def test_each_tensor_that_comes_twice_is_named(name: str):
    tensors = tensors_of(CONFIGS[name])
    for twice in tensors:
        with pytest.raises(FormatError, match=re.escape(f"it: unexpected tensor {twice}")):
            collect(CONFIGS[name], [*tensors.items(), (twice, tensors[twice])], "it")


@pytest.mark.parametrize(
    "unknown",
    [
        "",
        "blocks.2.mlp.up.weight",
        "blocks.-1.mlp.up.weight",
        "blocks.0.mlp.up.bias",
        "Norm.weight",
        "positions.weight",
    ],
)
def test_a_tensor_that_the_settings_do_not_know_is_named(unknown: str):
    with pytest.raises(FormatError, match="unexpected tensor") as caught:
        collect(LLAMA, [*tensors_of(LLAMA).items(), (unknown, Numbers(np.ones(8, np.float32)))], "it")
    assert caught.value.facts["name"] == unknown and caught.value.hint()


def test_a_head_of_its_own_is_unexpected_where_it_is_the_embedding():
    tied = CONFIGS["qwen2"]
    head = Numbers(np.ones((13, 8), np.float32))
    with pytest.raises(FormatError, match=r"unexpected tensor head\.weight"):
        collect(tied, [*tensors_of(tied).items(), ("head.weight", head)], "it")


@pytest.mark.parametrize("name", CONFIGS)
def test_each_tensor_of_another_shape_is_named_with_both_shapes(name: str):
    tensors = tensors_of(CONFIGS[name])
    for odd, tensor in tensors.items():
        shape = tensor.shape
        wrong = {shape[::-1], (*shape, 1), (1, *shape), (shape[0] + 1, *shape[1:]), (0, *shape[1:]), (), shape[:-1],
                 (int(np.prod(shape)),)} - {shape}  # fmt: skip
        for given in wrong:
            replaced = tensors | {odd: Numbers(np.ones(given, np.float32))}
            with pytest.raises(FormatError) as caught:
                collect(CONFIGS[name], replaced.items(), "it")
            facts = caught.value.facts
            assert (facts["name"], facts["given"], facts["expected"]) == (odd, list(given), list(shape))


def test_a_shape_is_said_as_a_list_in_both_languages():
    check_shape("it", "x", (2, 3), (2, 3))
    with pytest.raises(FormatError) as caught:
        check_shape("it", "x", (3, 2), (2, 3))
    assert "[3, 2]" in caught.value.message() and "[2, 3]" in caught.value.message("zh")


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 499, 999])
def test_one_number_that_is_none_is_found_wherever_it_stands(kind: type, bad: float, place: int):
    numbers = np.random.default_rng(0).standard_normal(1000).astype(kind)
    check_numbers("it", "x", numbers)
    numbers[place] = bad
    for seen in (numbers, numbers.reshape(20, 50), numbers.reshape(20, 50).T, numbers[::-1]):
        with pytest.raises(FormatError, match="it: tensor x holds NaN or infinite numbers") as caught:
            check_numbers("it", "x", seen)
        assert caught.value.hint()


def test_infinities_of_both_signs_do_not_cancel():
    with pytest.raises(FormatError):
        check_numbers("it", "x", np.array([np.inf, 1, -np.inf], np.float32))


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_numbers_whose_sum_is_too_large_are_numbers_all_the_same(kind: type):
    largest = np.finfo(kind).max
    check_numbers("it", "x", np.full(1000, largest, kind))
    check_numbers("it", "x", np.full((10, 100), -largest, kind))
    check_numbers("it", "x", np.array([largest, largest, -largest, -largest], kind))


def test_no_numbers_at_all_are_well():
    check_numbers("it", "x", np.zeros((0, 4), np.float32))


def test_numbers_are_given_as_their_own_bytes():
    values = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
    for given in (values, values.astype(np.float64).astype(np.float32), np.asfortranarray(values)):
        stored = Numbers(given)
        assert stored.shape == (4, 6) and stored.kind == "F32" and stored.blocks().shape == (4, 24)
        assert np.array_equal(stored.float32(), values) and stored.float32().flags.c_contiguous
        assert stored.blocks().tobytes() == values.tobytes()
