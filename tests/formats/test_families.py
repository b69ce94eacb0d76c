"""Every family against transformers on small random networks, import and export.

The oracle is the family's own implementation in transformers; the bound is 1e-4 on float32 logits.
"""

from __future__ import annotations

import json

import pytest
import torch
import transformers

from glassgpt.core.errors import FormatError, NotFoundError
from glassgpt.formats.huggingface import huggingface_network, save_huggingface
from glassgpt.model.config import ModelConfig
from glassgpt.model.gpt import GPT

BOUND = 1e-4
SMALL = dict(
    vocab_size=97, hidden_size=48, intermediate_size=80, num_hidden_layers=3, num_attention_heads=6,
    num_key_value_heads=2, max_position_embeddings=64, rms_norm_eps=1e-5,
    pad_token_id=0, bos_token_id=1, eos_token_id=2,
)  # fmt: skip
ROPE = {
    "linear": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0},
    "dynamic": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0},
    "llama3": {
        "rope_type": "llama3", "factor": 8.0, "rope_theta": 500000.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 32,
    },
    "yarn": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 10000.0, "original_max_position_embeddings": 16},
}  # fmt: skip
GEMMA_ROPE = {
    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
}
GEMMA_LAYERS = ["sliding_attention", "full_attention", "sliding_attention"]
CASES = {
    "gpt2": lambda: transformers.GPT2Config(vocab_size=97, n_embd=48, n_layer=3, n_head=6, n_positions=64),
    "gpt2 with a wide mlp": lambda: transformers.GPT2Config(vocab_size=97, n_embd=48, n_layer=2, n_head=3, n_inner=100),
    "llama": lambda: transformers.LlamaConfig(**SMALL),
    "llama, tied (SmolLM2)": lambda: transformers.LlamaConfig(**SMALL, tie_word_embeddings=True),
    "llama, one key head": lambda: transformers.LlamaConfig(**SMALL | {"num_key_value_heads": 1}),
    "llama, wide heads": lambda: transformers.LlamaConfig(**SMALL, head_dim=16),
    **{
        f"llama, {kind}": lambda rope=rope: transformers.LlamaConfig(**SMALL, rope_parameters=rope)
        for kind, rope in ROPE.items()
    },
    "qwen2": lambda: transformers.Qwen2Config(**SMALL),
    "qwen3": lambda: transformers.Qwen3Config(**SMALL, head_dim=16),
    "gemma3": lambda: transformers.Gemma3TextConfig(
        **SMALL, head_dim=16, sliding_window=5, layer_types=GEMMA_LAYERS, query_pre_attn_scalar=16
    ),
    "gemma3, scaled": lambda: transformers.Gemma3TextConfig(
        **SMALL, head_dim=16, sliding_window=7, layer_types=GEMMA_LAYERS, query_pre_attn_scalar=24,
        rope_parameters=GEMMA_ROPE,
    ),
}  # fmt: skip


def random_reference(case: str) -> transformers.PreTrainedModel:
    """A transformers model with weights large enough for mistakes to show."""
    torch.manual_seed(0)
    config = CASES[case]()
    config._attn_implementation = "eager"
    model = transformers.AutoModelForCausalLM.from_config(config).float().eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(torch.randn_like(p) * (0.3 if "norm" in name or "ln_" in name else 0.12) + ("norm" in name) * 1.0)
    return model


def ids(length: int = 40, batch: int = 2) -> torch.Tensor:
    return torch.randint(3, 97, (batch, length), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("case", CASES)
def test_import_gives_the_logits_that_transformers_gives(case, tmp_path):
    reference = random_reference(case)
    reference.save_pretrained(tmp_path)
    ours = huggingface_network(tmp_path, torch.float32)
    with torch.no_grad():
        expected, given = reference(ids()).logits, ours(ids())
    assert expected.abs().max() > 0.5, "the network must say something, or nothing is compared"
    assert (expected - given).abs().max() <= BOUND


@pytest.mark.parametrize("case", CASES)
def test_export_gives_a_folder_that_transformers_reads_the_same(case, tmp_path):
    random_reference(case).save_pretrained(tmp_path / "theirs")
    ours = huggingface_network(tmp_path / "theirs", torch.float32)
    save_huggingface(ours, tmp_path / "ours")
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours", attn_implementation="eager").eval()
    with torch.no_grad():
        assert (again(ids()).logits - ours(ids())).abs().max() <= BOUND
    assert huggingface_network(tmp_path / "ours", torch.float32).config == ours.config


def test_sequences_longer_than_the_trained_context_agree_with_dynamic_scaling(tmp_path):
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**SMALL | {"max_position_embeddings": 32}, rope_parameters=ROPE["dynamic"])
    reference = transformers.AutoModelForCausalLM.from_config(config).eval()
    reference.save_pretrained(tmp_path)
    ours = huggingface_network(tmp_path, torch.float32)
    with torch.no_grad():
        assert (reference(ids(60)).logits - ours(ids(60))).abs().max() <= BOUND


def test_weights_spread_over_several_files_are_read_by_their_index(tmp_path):
    reference = random_reference("llama")
    reference.save_pretrained(tmp_path, max_shard_size="40KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    with torch.no_grad():
        assert (huggingface_network(tmp_path, torch.float32)(ids()) - reference(ids()).logits).abs().max() <= BOUND


def test_the_first_gpt2_files_without_a_prefix_are_read(tmp_path):
    from safetensors.torch import load_file, save_file

    reference = random_reference("gpt2")
    reference.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    old = {name.removeprefix("transformer."): t for name, t in tensors.items()}
    old["h.0.attn.bias"] = torch.tril(torch.ones(64, 64)).view(1, 1, 64, 64)
    save_file(old, tmp_path / "model.safetensors")
    with torch.no_grad():
        assert (huggingface_network(tmp_path, torch.float32)(ids()) - reference(ids()).logits).abs().max() <= BOUND


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model_type": "mamba"}, "mamba"),
        ({"model_type": ["llama"]}, "llama"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "quantization_config"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"tie_word_embeddings": 1}, "tie_word_embeddings"),
        ({"hidden_act": "relu"}, "hidden_act"),
        ({"attention_bias": True}, "attention_bias"),
        ({"num_hidden_layers": "three"}, "num_hidden_layers"),
        ({"rope_parameters": {"rope_type": "longrope", "factor": 2.0}}, "rope_type"),
    ],
)
def test_a_setting_that_would_change_the_result_is_refused_by_name(change, named, tmp_path):
    random_reference("llama").save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(FormatError, match=named):
        huggingface_network(tmp_path, torch.float32)


def test_a_weight_of_the_wrong_shape_is_named_with_both_shapes(tmp_path):
    from safetensors.torch import load_file, save_file

    random_reference("llama").save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"] = torch.zeros(7, 48)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(FormatError, match=r"blocks\.1\.mlp\.up\.weight.*\[7, 48\].*\[80, 48\]"):
        huggingface_network(tmp_path, torch.float32)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_numbers_are_refused(value, tmp_path):
    from safetensors.torch import load_file, save_file

    random_reference("qwen3").save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["model.norm.weight"][5] = value
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(FormatError, match=r"norm\.weight holds NaN or infinite"):
        huggingface_network(tmp_path, torch.float32)


def test_a_cut_off_safetensors_file_is_named(tmp_path):
    random_reference("llama").save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(FormatError, match="damaged or cut off"):
        huggingface_network(tmp_path, torch.float32)


def test_pickled_weights_are_not_opened_and_the_hint_says_why(tmp_path):
    random_reference("llama").save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(NotFoundError) as caught:
        huggingface_network(tmp_path, torch.float32)
    assert "safetensors" in caught.value.hint()


def test_an_index_cannot_reach_outside_its_folder(tmp_path):
    random_reference("llama").save_pretrained(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../secret.safetensors"}}))
    with pytest.raises(FormatError, match="outside"):
        huggingface_network(tmp_path, torch.float32)


def test_our_own_recipe_has_no_hugging_face_form_and_says_so(tmp_path):
    network = GPT(ModelConfig.modern(vocab_size=16, n_layer=1, n_head=2, n_embd=8, context_length=8))
    with pytest.raises(FormatError, match="no Hugging Face form"):
        save_huggingface(network, tmp_path / "out")
    assert not (tmp_path / "out").exists()
