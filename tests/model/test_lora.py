"""LoRA: begins as the model it corrects, learns only the correction, and merges into an ordinary network."""

from __future__ import annotations

import pytest
import torch

from glassgpt.core.errors import ConfigError, FormatError
from glassgpt.model.config import ModelConfig
from glassgpt.model.gpt import GPT
from glassgpt.model.lora import LoRALinear, adapter_state, add_lora, load_adapter, merge_lora

SIZES = dict(vocab_size=61, n_layer=2, n_head=4, n_kv_head=2, n_embd=32, context_length=48)
CONFIGS = {"modern": ModelConfig.modern(**SIZES), "llama": ModelConfig(**SIZES), "biases": ModelConfig.gpt2(**SIZES)}
each = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
IDS = torch.randint(0, 61, (2, 16), generator=torch.Generator().manual_seed(0))


def network(config: ModelConfig) -> GPT:
    torch.manual_seed(3)
    return GPT(config)


def trained(config: ModelConfig) -> GPT:
    model = add_lora(network(config), rank=4, alpha=8.0)
    with torch.no_grad():
        for p in adapter_state(model).values():
            p.normal_(std=0.2)
    return model


@each
def test_it_begins_as_the_model_and_trains_only_the_correction(config):
    plain, model = network(config), add_lora(network(config), rank=4)
    with torch.no_grad():
        assert torch.equal(model(IDS), plain(IDS))
    model(IDS).sum().backward()
    matrices = sum(m.weight.numel() for m in plain.blocks.modules() if isinstance(m, torch.nn.Linear))
    learned = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert all(p.grad is None for p in model.parameters() if not p.requires_grad)
    assert 0 < learned < matrices


@each
def test_merged_it_is_an_ordinary_network_with_the_same_scores(config):
    model = trained(config)
    before = model(IDS)
    merged = merge_lora(model)
    assert set(merged.state_dict()) == set(network(config).state_dict())
    torch.testing.assert_close(merged(IDS), before, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(before, network(config)(IDS), atol=1e-2)


def test_the_scores_are_those_of_the_formula():
    model = trained(CONFIGS["modern"])
    layer, x = model.blocks[0].mlp.up, torch.randn(5, 32)
    by_hand = x @ (layer.base.weight + (8.0 / 4) * layer.b @ layer.a).T
    torch.testing.assert_close(layer(x), by_hand, atol=1e-5, rtol=1e-4)


def test_a_saved_adapter_gives_the_same_model_and_a_foreign_one_is_refused():
    model = trained(CONFIGS["llama"])
    state = {name: p.clone() for name, p in adapter_state(model).items()}
    other = add_lora(network(CONFIGS["llama"]), rank=4, alpha=8.0)
    load_adapter(other, state, "x")
    assert torch.equal(other(IDS), model(IDS))
    with pytest.raises(FormatError, match="does not fit"):
        load_adapter(add_lora(network(CONFIGS["llama"]), rank=8), state, "x")


@pytest.mark.parametrize("change", [{"rank": 0}, {"alpha": 0.0}, {"dropout": 1.0}, {"targets": ("head",)}])
def test_sizes_out_of_range_are_refused(change):
    with pytest.raises(ConfigError):
        add_lora(network(CONFIGS["modern"]), **change)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("needs_x", [False, True])
def test_the_fused_layer_and_its_gradients_are_those_of_the_plain_one(bias, needs_x):
    torch.manual_seed(0)
    layer = LoRALinear(torch.nn.Linear(12, 7, bias=bias).double(), rank=3, alpha=5.0).double().train()
    torch.nn.init.normal_(layer.b)
    x = torch.randn(2, 4, 12, dtype=torch.float64, requires_grad=needs_x)
    upstream = torch.randn(2, 4, 7, dtype=torch.float64)
    inputs = [*([x] if needs_x else []), layer.a, layer.b]
    plain = layer.base(x) + (x @ layer.a.T) @ layer.b.T * layer.scale
    ours = layer(x)
    assert type(ours.grad_fn).__name__ == "LowRankBackward"
    torch.testing.assert_close(ours, plain)
    pairs = (torch.autograd.grad(out, inputs, upstream) for out in (ours, plain))
    for a, b in zip(*pairs, strict=True):
        torch.testing.assert_close(a, b)
