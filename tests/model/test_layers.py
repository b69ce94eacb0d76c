"""Norms and MLPs against torch and transformers."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import Gemma3TextConfig, GPT2Config, LlamaConfig
from transformers.activations import ACT2FN
from transformers.models.gemma3.modeling_gemma3 import Gemma3MLP
from transformers.models.gpt2.modeling_gpt2 import GPT2MLP
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm

from glassgpt.core.errors import ConfigError
from glassgpt.model.layers import MLP, GatedMLP, LayerNorm, RMSNorm, activate, make_mlp, make_norm


@pytest.fixture
def x() -> torch.Tensor:
    torch.manual_seed(0)
    return 3 * torch.randn(2, 5, 12) + 1


@pytest.mark.parametrize("eps", [1e-6, 1e-2])
def test_rms_norm_equals_llamas_and_torchs(x, eps):
    ours, theirs = RMSNorm(12, eps), LlamaRMSNorm(12, eps)
    nn.init.normal_(ours.weight)
    theirs.load_state_dict(ours.state_dict())
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-6)
    torch.testing.assert_close(ours(x), nn.functional.rms_norm(x, (12,), ours.weight, eps), rtol=0, atol=1e-6)


def test_rms_norm_counts_in_float32_and_gives_back_its_inputs_type(x):
    big = (x * 1e3).to(torch.float16)  # whose squares overflow float16
    out = RMSNorm(12)(big)
    assert out.dtype == torch.float16
    torch.testing.assert_close(out.float(), RMSNorm(12)(big.float()), rtol=0, atol=2e-3)


@pytest.mark.parametrize("eps", [1e-5, 1e-2])
def test_layer_norm_equals_torchs(x, eps):
    ours, theirs = LayerNorm(12, eps), nn.LayerNorm(12, eps)
    nn.init.normal_(ours.weight), nn.init.normal_(ours.bias)
    theirs.load_state_dict(ours.state_dict())
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("gelu", "gelu"),
        ("gelu_tanh", "gelu_new"),
        ("geglu", "gelu_pytorch_tanh"),
        ("relu", "relu"),
        ("relu2", "relu2"),
        ("swiglu", "silu"),
    ],
)
def test_activations_equal_those_of_transformers(x, kind, name):
    torch.testing.assert_close(activate(x, kind), ACT2FN[name](x), rtol=0, atol=1e-5)


def test_the_gelu_mlp_equals_gpt2s(x):
    ours, theirs = MLP(12, 20, "gelu_tanh"), GPT2MLP(20, GPT2Config(n_embd=12)).eval()
    for part, copy in ((ours.up, theirs.c_fc), (ours.down, theirs.c_proj)):
        nn.init.normal_(part.bias)
        copy.load_state_dict({"weight": part.weight.T, "bias": part.bias})  # GPT-2 stores [in, out]
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "theirs"),
    [
        ("swiglu", LlamaMLP(LlamaConfig(hidden_size=12, intermediate_size=20, num_attention_heads=2))),
        ("geglu", Gemma3MLP(Gemma3TextConfig(hidden_size=12, intermediate_size=20, num_attention_heads=2))),
    ],
)
def test_gated_mlps_equal_llamas_and_gemmas(x, kind, theirs):
    ours = GatedMLP(12, 20, kind)
    for part, name in ((ours.gate, "gate_proj"), (ours.up, "up_proj"), (ours.down, "down_proj")):
        getattr(theirs, name).load_state_dict(part.state_dict())
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-5)


def test_squared_relu_computed_by_hand():
    mlp = MLP(1, 2, "relu2", bias=False)
    with torch.no_grad():
        mlp.up.weight.copy_(torch.tensor([[3.0], [-1.0]]))
        mlp.down.weight.copy_(torch.tensor([[1.0, 10.0]]))
        assert mlp(torch.tensor([[2.0], [-2.0]])).tolist() == [[36.0], [40.0]]


def test_names_choose_the_part_and_unknown_names_are_refused():
    assert isinstance(make_norm("rmsnorm", 4, 1e-6), RMSNorm)
    assert isinstance(make_norm("layernorm", 4, 1e-6), LayerNorm)
    assert isinstance(make_mlp("geglu", 4, 8, False), GatedMLP)
    assert isinstance(make_mlp("relu2", 4, 8, True), MLP)
    assert make_mlp("gelu", 4, 8, False).up.bias is None
    with pytest.raises(ConfigError, match="norm is 'batchnorm'; expected layernorm or rmsnorm"):
        make_norm("batchnorm", 4, 1e-6)
    with pytest.raises(ConfigError, match="mlp is 'tanh'"):
        activate(torch.zeros(1), "tanh")
