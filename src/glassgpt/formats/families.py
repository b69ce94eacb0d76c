"""Hugging Face's words for a model, in ours: `config.json` and weight names, both directions.

Outside this folder nothing knows these names. Each family has a reader and a writer of its settings and one
table of weight names; settings that would change the result and are not supported are refused, never ignored.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from glassgpt.core.errors import FormatError
from glassgpt.model.config import ModelConfig, RopeScaling

Settings = dict[str, Any]

# ours -> theirs, with {} for the layer; the same for all families that follow Llama's names
_LLAMA_NAMES = {
    "embed": "model.embed_tokens",
    "norm": "model.norm",
    "head": "lm_head",
    "blocks.{}.attention_norm": "model.layers.{}.input_layernorm",
    "blocks.{}.attention.q_proj": "model.layers.{}.self_attn.q_proj",
    "blocks.{}.attention.k_proj": "model.layers.{}.self_attn.k_proj",
    "blocks.{}.attention.v_proj": "model.layers.{}.self_attn.v_proj",
    "blocks.{}.attention.out_proj": "model.layers.{}.self_attn.o_proj",
    "blocks.{}.attention.q_norm": "model.layers.{}.self_attn.q_norm",
    "blocks.{}.attention.k_norm": "model.layers.{}.self_attn.k_norm",
    "blocks.{}.mlp_norm": "model.layers.{}.post_attention_layernorm",
    "blocks.{}.mlp.gate": "model.layers.{}.mlp.gate_proj",
    "blocks.{}.mlp.up": "model.layers.{}.mlp.up_proj",
    "blocks.{}.mlp.down": "model.layers.{}.mlp.down_proj",
}
_GEMMA_NAMES = _LLAMA_NAMES | {
    "blocks.{}.attention_post_norm": "model.layers.{}.post_attention_layernorm",
    "blocks.{}.mlp_norm": "model.layers.{}.pre_feedforward_layernorm",
    "blocks.{}.mlp_post_norm": "model.layers.{}.post_feedforward_layernorm",
}
_GPT2_NAMES = {
    "embed": "transformer.wte",
    "positions": "transformer.wpe",
    "norm": "transformer.ln_f",
    "head": "lm_head",
    "blocks.{}.attention_norm": "transformer.h.{}.ln_1",
    "blocks.{}.attention.out_proj": "transformer.h.{}.attn.c_proj",
    "blocks.{}.mlp_norm": "transformer.h.{}.ln_2",
    "blocks.{}.mlp.up": "transformer.h.{}.mlp.c_fc",
    "blocks.{}.mlp.down": "transformer.h.{}.mlp.c_proj",
}  # q, k and v share one tensor there: `huggingface` splits and joins it


def weight_names(family: str) -> dict[str, str]:
    """Our parameter names to the family's, `{}` standing for the layer, without `.weight` and `.bias`."""
    return {"gpt2": _GPT2_NAMES, "gemma3": _GEMMA_NAMES}.get(family, _LLAMA_NAMES)


def read_settings(settings: Settings, source: str) -> ModelConfig:
    """The network that a `config.json` describes.

    Raises:
        FormatError: the model type or one of its settings is not supported.
    """
    kind = settings.get("model_type")
    if not isinstance(kind, str) or kind not in _READERS:
        raise FormatError(
            "{source}: the model type {kind!r} cannot be read; these can: {known}",
            hint="Use a model of one of these families.",
            source=source,
            kind=kind,
            known=", ".join(sorted(_READERS)),
        )
    given = _Given(settings, source)
    given.only("quantization_config", None, None)  # such weights are packed in ways that we do not read
    given.only("partial_rotary_factor", 1.0, 1.0)
    return _READERS[kind](given)


def write_settings(config: ModelConfig) -> Settings:
    """A `config.json` for the network.

    Raises:
        FormatError: the network is of no family that Hugging Face knows.
    """
    common: Settings = {"vocab_size": config.vocab_size, "tie_word_embeddings": config.tie_embeddings}
    if config.family == "gpt2":
        return common | {
            "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_layer": config.n_layer,
            "n_head": config.n_head, "n_embd": config.n_embd, "n_positions": config.context_length,
            "n_inner": config.mlp_dim, "layer_norm_epsilon": config.norm_eps, "activation_function": "gelu_new",
        }  # fmt: skip
    if config.family not in ("llama", "qwen2", "qwen3", "gemma3"):
        raise FormatError(
            "a model of the family {family!r} has no Hugging Face form",
            hint="Save it as a glassgpt checkpoint; gpt2, llama, qwen2, qwen3 and gemma3 can be exported.",
            family=config.family,
        )
    gemma, scaling = config.family == "gemma3", config.rope_scaling
    context = config.context_length
    if scaling is not None and scaling.kind == "dynamic":
        context = scaling.original_context
    rope = {"rope_type": "default", "rope_theta": config.rope_theta} | _write_scaling(scaling)
    architecture = {"llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3", "gemma3": "Gemma3"}[config.family]
    common |= {
        "architectures": [architecture + "ForCausalLM"], "model_type": "gemma3_text" if gemma else config.family,
        "num_hidden_layers": config.n_layer, "num_attention_heads": config.n_head,
        "num_key_value_heads": config.n_kv_head, "hidden_size": config.n_embd, "head_dim": config.head_dim,
        "intermediate_size": config.mlp_dim, "max_position_embeddings": context,
        "rms_norm_eps": config.norm_eps, "rope_parameters": rope,
    }  # fmt: skip
    if not gemma:
        return common | {"hidden_act": "silu"}
    local = {"rope_type": "default", "rope_theta": config.rope_local_theta}
    scale = config.attention_scale
    return common | {
        "hidden_activation": "gelu_pytorch_tanh",
        "rope_parameters": {"full_attention": rope, "sliding_attention": local},
        "sliding_window": config.sliding_window,
        "layer_types": [_layer_type(i in config.sliding_layers) for i in range(config.n_layer)],
        "query_pre_attn_scalar": config.head_dim if scale is None else round(scale**-2),
    }


class _Given:
    """A `config.json`: each value is asked for with its kind, so that a damaged file gives a clear message."""

    def __init__(self, settings: Settings, source: str) -> None:
        self.settings, self.source = settings, source

    def integer(self, key: str, default: int | None = None) -> int:
        value = self.settings.get(key)
        value = default if value is None else value
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.wrong(key, value, "a whole number")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        value = self.settings.get(key)
        value = default if value is None else value
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self.wrong(key, value, "a number")
        return float(value)

    def only(self, key: str, default: Any, *allowed: Any) -> Any:
        """A setting of which we know some values: any other would change the result."""
        value = self.settings.get(key, default)
        if not any(type(value) is type(a) and value == a for a in allowed):
            raise self.wrong(key, value, " / ".join(repr(a) for a in allowed))
        return value

    def wrong(self, key: str, value: Any, expected: str) -> FormatError:
        return FormatError(
            "{source}: the setting {key} is {value}; supported: {expected}",
            hint="Use another version of this model, or correct config.json.",
            source=self.source,
            key=key,
            value=repr(value)[:80],
            expected=expected,
        )


def _gpt2(given: _Given) -> ModelConfig:
    for key in ("scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn", "add_cross_attention"):
        given.only(key, False, False)
    given.only("scale_attn_weights", True, True)
    activation = given.only("activation_function", "gelu_new", "gelu_new", "gelu_pytorch_tanh", "gelu")
    width = given.integer("n_embd", 768)
    return ModelConfig.gpt2(
        vocab_size=given.integer("vocab_size", 50257),
        n_layer=given.integer("n_layer", 12),
        n_head=given.integer("n_head", 12),
        n_embd=width,
        mlp_dim=given.integer("n_inner", 4 * width),
        context_length=given.integer("n_positions", 1024),
        norm_eps=given.number("layer_norm_epsilon", 1e-5),
        mlp="gelu" if activation == "gelu" else "gelu_tanh",
        tie_embeddings=given.only("tie_word_embeddings", True, True, False),
    )


def _llama_like(given: _Given, family: str, **more: Any) -> ModelConfig:
    heads, width = given.integer("num_attention_heads"), given.integer("hidden_size")
    theta, scaling = _read_rope(given, given.settings.get("rope_parameters"))
    return ModelConfig(
        **dict(
            vocab_size=given.integer("vocab_size"),
            n_layer=given.integer("num_hidden_layers"),
            n_head=heads,
            n_kv_head=given.integer("num_key_value_heads", heads),
            n_embd=width,
            head_dim=given.integer("head_dim", width // max(heads, 1)),
            mlp_dim=given.integer("intermediate_size"),
            context_length=_context(given, scaling),
            norm_eps=given.number("rms_norm_eps", 1e-6),
            rope_theta=theta,
            rope_scaling=scaling,
            tie_embeddings=given.only("tie_word_embeddings", False, True, False),
            family=family,
        )
        | more
    )


def _llama(given: _Given) -> ModelConfig:
    given.only("hidden_act", "silu", "silu")
    given.only("attention_bias", False, False)
    given.only("mlp_bias", False, False)
    return _llama_like(given, "llama")


def _qwen(family: str, **more: Any) -> Callable[[_Given], ModelConfig]:
    def read(given: _Given) -> ModelConfig:
        given.only("hidden_act", "silu", "silu")
        given.only("use_sliding_window", False, False)
        given.only("attention_bias", False, False)
        return _llama_like(given, family, **more)

    return read


def _gemma3(given: _Given) -> ModelConfig:
    given.only("hidden_activation", "gelu_pytorch_tanh", "gelu_pytorch_tanh")
    given.only("attention_bias", False, False)
    for key in ("final_logit_softcapping", "attn_logit_softcapping"):
        given.only(key, None, None)
    given.only("use_bidirectional_attention", False, False, None)
    layers, width = given.integer("num_hidden_layers"), given.integer("hidden_size")
    head_dim = given.integer("head_dim", 256)
    types = given.settings.get("layer_types")
    if types is None:
        every = given.integer("sliding_window_pattern", 6)
        types = [_layer_type(bool((i + 1) % every)) for i in range(layers)]
    if len(types) != layers or not set(types) <= {"sliding_attention", "full_attention"}:
        raise given.wrong("layer_types", types, "sliding_attention / full_attention")
    rope = given.settings.get("rope_parameters")
    if isinstance(rope, dict) and "full_attention" in rope:
        theta, scaling = _read_rope(given, rope["full_attention"], 1_000_000.0)
        local, local_scaling = _read_rope(given, rope.get("sliding_attention"))
        if local_scaling is not None:
            raise given.wrong("rope_parameters.sliding_attention", rope["sliding_attention"], "default")
    else:
        theta, scaling = _read_rope(given, rope, 1_000_000.0)
        local = given.number("rope_local_base_freq", 10000.0)
    scalar = given.number("query_pre_attn_scalar", 256)
    return _llama_like(
        given,
        "gemma3",
        head_dim=head_dim,
        tie_embeddings=given.only("tie_word_embeddings", True, True, False),
        qk_norm=True,
        post_norms=True,
        mlp="geglu",
        embed_scale=math.sqrt(width),
        rope_theta=theta,
        rope_scaling=scaling,
        rope_local_theta=local,
        sliding_window=given.integer("sliding_window", 4096),
        sliding_layers=tuple(i for i, kind in enumerate(types) if kind == "sliding_attention"),
        attention_scale=None if scalar == head_dim else 1 / math.sqrt(scalar),
    )


_READERS: dict[str, Callable[[_Given], ModelConfig]] = {
    "gpt2": _gpt2,
    "llama": _llama,
    "qwen2": _qwen("qwen2", qkv_bias=True),
    "qwen3": _qwen("qwen3", qk_norm=True),
    "gemma3_text": _gemma3,
}


def _layer_type(sliding: bool) -> str:
    return "sliding_attention" if sliding else "full_attention"


def _read_rope(given: _Given, rope: Any, default_theta: float = 10000.0) -> tuple[float, RopeScaling | None]:
    """Rotary base and scaling, from the new form (`rope_parameters`) or the old (`rope_theta`, `rope_scaling`)."""
    if rope is None or (isinstance(rope, dict) and "full_attention" in rope):
        rope = dict(given.settings.get("rope_scaling") or {}) | {
            "rope_theta": given.number("rope_theta", default_theta)
        }
    if not isinstance(rope, dict):
        raise given.wrong("rope_parameters", rope, "{...}")
    inner = _Given(rope, given.source)
    theta = inner.number("rope_theta", default_theta)
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return theta, None
    if kind not in ("linear", "dynamic", "llama3", "yarn"):
        raise given.wrong("rope_type", kind, "default / linear / dynamic / llama3 / yarn")
    if kind == "yarn" and (rope.get("mscale") or rope.get("mscale_all_dim") or rope.get("truncate") is False):
        raise given.wrong("rope_parameters", rope, "yarn without mscale")
    trained = given.integer("max_position_embeddings")
    # Dynamic scaling starts where the trained context ends; the other kinds say what they stretched.
    original = {"linear": 0, "dynamic": trained}.get(kind)
    if original is None:
        original = inner.integer("original_max_position_embeddings", trained)
    factor = rope.get("attention_factor")
    return theta, RopeScaling(
        kind,
        inner.number("factor"),
        original,
        inner.number("low_freq_factor", 1.0),
        inner.number("high_freq_factor", 4.0),
        inner.number("beta_fast", 32.0),
        inner.number("beta_slow", 1.0),
        None if factor is None else inner.number("attention_factor"),
    )


def _context(given: _Given, scaling: RopeScaling | None) -> int:
    """The longest sequence: with dynamic scaling, `factor` times the trained context."""
    trained = given.integer("max_position_embeddings")
    return int(trained * scaling.factor) if scaling is not None and scaling.kind == "dynamic" else trained


def _write_scaling(scaling: RopeScaling | None) -> Settings:
    if scaling is None:
        return {}
    out: Settings = {"rope_type": scaling.kind, "factor": scaling.factor}
    if scaling.kind in ("llama3", "yarn"):
        out["original_max_position_embeddings"] = scaling.original_context
    if scaling.kind == "llama3":
        out |= {"low_freq_factor": scaling.low_freq_factor, "high_freq_factor": scaling.high_freq_factor}
    if scaling.kind == "yarn":
        out |= {"beta_fast": scaling.beta_fast, "beta_slow": scaling.beta_slow}
        if scaling.attention_factor is not None:
            out["attention_factor"] = scaling.attention_factor
    return out
