"""What the compiled step computes with, taken back: the weights that were packed, or what their bits stand for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from glassgpt.engine.packing import pack
from glassgpt.engine.unpacking import unpack
from glassgpt.formats.stored import Numbers
from glassgpt.model.config import ModelConfig
from glassgpt.model.gpt import GPT

SIZES: dict[str, Any] = dict(vocab_size=101, n_layer=2, n_head=3, n_embd=36, head_dim=20, mlp_dim=50, context_length=24)
CONFIGS = {
    "learned positions, biases": dict(qkv_bias=True, out_bias=True, mlp_bias=True, positions="learned"),
    "gated, grouped heads, a head of its own": dict(n_kv_head=1, mlp="swiglu", norm="rmsnorm", positions="rotary",
                                                    tie_embeddings=False),
    "norms everywhere": dict(n_kv_head=3, mlp="geglu", norm="rmsnorm", positions="rotary", qk_norm=True,
                             post_norms=True),
    "n-grams": dict(ngrams=3, ngram_buckets=64, mlp="relu2", norm="rmsnorm", positions="rotary"),
    "whole groups": dict(n_embd=64, n_head=2, head_dim=32, mlp_dim=96, mlp="swiglu", norm="rmsnorm"),
}  # fmt: skip


def network(config: ModelConfig) -> GPT:
    torch.manual_seed(0)
    made = GPT(config)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return made


def packed(made: GPT, precision: str) -> dict[str, np.ndarray]:
    tensors = {name: Numbers(value.detach().numpy()) for name, value in made.named_parameters()}
    return dict(unpack(made.config, pack(made.config, tensors, precision, "tiny")))


@pytest.mark.parametrize("case", CONFIGS)
def test_wide_weights_come_back_bit_for_bit(case):
    made = network(ModelConfig(**SIZES | CONFIGS[case]))
    back = packed(made, "float32")
    assert sorted(back) == sorted(name for name, _ in made.named_parameters())
    for name, value in made.named_parameters():
        assert np.array_equal(back[name], value.detach().numpy()), name


@pytest.mark.parametrize("precision", ["bfloat16", "int8", "int4"])
@pytest.mark.parametrize("case", CONFIGS)
def test_weights_of_fewer_bits_come_back_within_one_step_of_them(case, precision):
    made = network(ModelConfig(**SIZES | CONFIGS[case]))
    back = packed(made, precision)
    step = {"bfloat16": 2.0**-8 * 5, "int8": 9 / 255, "int4": 9 / 15}[precision]  # normal numbers span less than 9
    for name, value in made.named_parameters():
        assert back[name].shape == value.shape
        assert np.abs(back[name] - value.detach().numpy()).max() <= step, name
    matrix = "blocks.1.mlp.down.weight"
    assert not np.array_equal(back[matrix], made.get_parameter(matrix).detach().numpy()), "they were rounded"
