"""Writes small GGUF files with the `gguf` library, in llama.cpp's conventions, from transformers models."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import torch
import transformers

TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
_NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}  # fmt: skip
_GEMMA = {
    "post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}  # fmt: skip
_GPT2 = {
    "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down",
    "ln_1": "attn_norm", "ln_2": "ffn_norm", "wte": "token_embd", "wpe": "position_embd", "ln_f": "output_norm",
}  # fmt: skip


def byte_vocabulary(size: int) -> list[str]:
    """A byte-level vocabulary of `size` tokens: control tokens, then as many single characters."""
    return TOKENS + [chr(0x100 + i) for i in range(size - len(TOKENS))]


def write_gguf(path: Path, model: transformers.PreTrainedModel, kind: str = "F32") -> Path:
    """The model as a GGUF file, matrices quantised to `kind`."""
    config = model.config
    arch = {"gemma3_text": "gemma3"}.get(config.model_type, config.model_type)
    writer = gguf.GGUFWriter(path, arch)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_head_count(config.num_attention_heads)
    if arch == "gpt2":
        writer.add_feed_forward_length(config.n_inner or 4 * config.n_embd)
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
    else:
        writer.add_feed_forward_length(config.intermediate_size)
        writer.add_head_count_kv(config.num_key_value_heads)
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        writer.add_key_length(head_dim)
        writer.add_value_length(head_dim)
        rope = config.rope_parameters
        writer.add_rope_freq_base(rope["full_attention"]["rope_theta"] if arch == "gemma3" else rope["rope_theta"])
    if arch == "gemma3":
        writer.add_sliding_window(config.sliding_window)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(byte_vocabulary(config.vocab_size))
    writer.add_token_types([3] * 3 + [1] * (config.vocab_size - 3))
    writer.add_token_merges([f"{chr(0x100)} {chr(0x101)}"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        ours, array = _renamed(name, tensor, arch, config)
        if kind != "F32" and array.ndim == 2:
            quantised = gguf.GGMLQuantizationType[kind]
            writer.add_tensor(ours, gguf.quants.quantize(array, quantised), raw_dtype=quantised)
        else:
            writer.add_tensor(ours, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _renamed(
    name: str, tensor: torch.Tensor, arch: str, config: transformers.PretrainedConfig
) -> tuple[str, np.ndarray]:
    stem, _, kind = name.rpartition(".")
    stem = stem.removeprefix("model.").removeprefix("transformer.")
    parts = stem.split(".")
    if len(parts) > 2:  # layers.N.… or h.N.…
        inner = ".".join(parts[2:])
        table = _GPT2 if arch == "gpt2" else _NAMES | _GEMMA if arch == "gemma3" else _NAMES
        ours = f"blk.{parts[1]}.{table[inner]}"
    else:
        ours = {"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output"}.get(stem) or _GPT2[stem]
    if arch == "gpt2" and tensor.dim() == 2 and len(parts) > 2:
        tensor = tensor.T
    if arch == "gemma3" and "norm" in stem:
        tensor = tensor + 1
    if arch == "llama" and ours.endswith(("attn_q", "attn_k")):
        heads = config.num_attention_heads if ours.endswith("attn_q") else config.num_key_value_heads
        rows = tensor.shape[0]
        tensor = tensor.reshape(heads, 2, rows // heads // 2, -1).swapaxes(1, 2).reshape(tensor.shape)
    return f"{ours}.{kind}", tensor.float().contiguous().numpy()
