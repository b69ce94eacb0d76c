"""One `ModelConfig` that says what a decoder-only network looks like, whatever its family.

Families are built by `formats` (from a Hugging Face `config.json` or GGUF metadata) or by the two class
methods here; the network in `gpt.py` reads nothing but this.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from glassgpt.core.errors import ConfigError, nearest

Norm = Literal["layernorm", "rmsnorm"]
Mlp = Literal["gelu", "gelu_tanh", "relu2", "swiglu", "geglu"]
Positions = Literal["learned", "sinusoidal", "rotary", "none"]
RopeKind = Literal["linear", "dynamic", "llama3", "yarn"]

# Far above every known model; settings come from files, and an absurd one must not cost memory or time.
_LIMITS = {
    "vocab_size": 1 << 24,
    "n_layer": 10_000,
    "n_head": 1 << 16,
    "n_kv_head": 1 << 16,
    "n_embd": 1 << 20,
    "head_dim": 1 << 16,
    "mlp_dim": 1 << 24,
    "context_length": 1 << 31,
    "ngrams": 8,
    "ngram_buckets": 1 << 24,
}
_LONGEST_TABLE = 1 << 20


@dataclass(frozen=True)
class RopeScaling:
    """How rotary frequencies are stretched beyond the context a model was trained on.

    - `linear`: every frequency divided by `factor` (Chen et al. 2023, arXiv:2306.15595).
    - `dynamic`: the base grows once a sequence is longer than `original_context` (NTK-aware scaling).
    - `llama3`: low frequencies divided, high ones kept, a ramp between (Llama 3.1).
    - `yarn`: the same idea with a ramp over dimensions and warmer attention (Peng et al. 2023, arXiv:2309.00071).
    """

    kind: RopeKind
    factor: float
    original_context: int = 0
    low_freq_factor: float = 1.0  # llama3
    high_freq_factor: float = 4.0  # llama3
    beta_fast: float = 32.0  # yarn
    beta_slow: float = 1.0  # yarn
    attention_factor: float | None = None  # yarn; None: 0.1 ln(factor) + 1

    def __post_init__(self) -> None:
        _one_of("rope_scaling.kind", self.kind, RopeKind)
        if not self.factor >= 1.0:
            raise ConfigError("rope_scaling.factor is {value}; expected 1 or more", value=self.factor)
        if self.kind != "linear" and self.original_context < 1:
            raise ConfigError(
                "rope_scaling.original_context is {value}; {kind} scaling needs the context the model was trained on",
                value=self.original_context,
                kind=self.kind,
            )


@dataclass(frozen=True)
class ModelConfig:
    """The shape and the choices of a decoder-only Transformer.

    Sizes: `vocab_size` V, `n_embd` C, `n_head` H, `n_kv_head` K (H: multi-head, 1: multi-query, between:
    grouped-query), `head_dim` D (0: C / H), `mlp_dim` the hidden width of the MLP (0: 4 C),
    `context_length` the longest sequence in tokens.

    Raises:
        ConfigError: a value is out of range or two values contradict each other.
    """

    vocab_size: int
    n_layer: int
    n_head: int
    n_embd: int
    context_length: int
    n_kv_head: int = 0  # 0: as many as n_head
    head_dim: int = 0  # 0: n_embd / n_head
    mlp_dim: int = 0  # 0: 4 n_embd
    positions: Positions = "rotary"
    rope_theta: float = 10000.0
    rope_scaling: RopeScaling | None = None
    rope_local_theta: float | None = None  # the base on sliding-window layers, where it differs (Gemma 3)
    sliding_window: int | None = None  # a position sees itself and the window - 1 before it
    sliding_layers: tuple[int, ...] = ()  # which layers have the window; the others see everything
    norm: Norm = "rmsnorm"
    norm_eps: float = 1e-6
    post_norms: bool = False  # a second norm after attention and after the MLP (Gemma 3)
    mlp: Mlp = "swiglu"
    qkv_bias: bool = False
    out_bias: bool = False  # attention's output projection
    mlp_bias: bool = False
    qk_norm: bool = False  # RMSNorm over each head's query and key (Qwen 3, Gemma 3)
    attention_scale: float | None = None  # None: 1 / sqrt(head_dim)
    embed_scale: float = 1.0  # Gemma multiplies embeddings by sqrt(n_embd)
    tie_embeddings: bool = True
    logit_softcap: float | None = None  # cap * tanh(logits / cap)
    dropout: float = 0.0
    encoder: bool = False  # as BERT: positions see the whole text, norms change the stream (`encoder.py`)
    ngrams: int = 1  # up to which length input n-grams have vectors of their own; 1: none
    ngram_buckets: int = 8192  # rows for each length
    family: str = "glassgpt"  # for people and exporters; the network never reads it

    def __post_init__(self) -> None:
        for name, literal in (("positions", Positions), ("norm", Norm), ("mlp", Mlp)):
            _one_of(name, getattr(self, name), literal)
        for name, most in _LIMITS.items():
            value, least = getattr(self, name), 0 if name in ("n_kv_head", "head_dim", "mlp_dim") else 1
            if not _is_int(value) or not least <= value <= most:
                raise ConfigError(
                    "{name} is {value}; expected a whole number from {least} to {most}",
                    name=name,
                    value=value,
                    least=least,
                    most=most,
                )
        for name in ("rope_theta", "rope_local_theta", "norm_eps", "embed_scale", "attention_scale", "logit_softcap"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ConfigError("{name} is {value}; expected a number above 0", name=name, value=value)
        if self.positions == "sinusoidal" and self.context_length > _LONGEST_TABLE:
            raise ConfigError(
                "context_length is {value}; a table of sinusoidal positions holds at most {most}",
                value=self.context_length,
                most=_LONGEST_TABLE,
            )
        if not self.n_kv_head:
            object.__setattr__(self, "n_kv_head", self.n_head)
        if not self.head_dim:
            if self.n_embd % self.n_head:
                raise ConfigError(
                    "n_embd {width} is not a multiple of n_head {heads}",
                    hint="Choose a width that the heads divide, or set head_dim.",
                    width=self.n_embd,
                    heads=self.n_head,
                )
            object.__setattr__(self, "head_dim", self.n_embd // self.n_head)
        if not self.mlp_dim:
            object.__setattr__(self, "mlp_dim", 4 * self.n_embd)
        if self.n_head % self.n_kv_head:
            raise ConfigError(
                "n_head {heads} is not a multiple of n_kv_head {kv_heads}",
                hint="Each key/value head serves the same number of query heads.",
                heads=self.n_head,
                kv_heads=self.n_kv_head,
            )
        if self.positions == "rotary" and self.head_dim % 2:
            raise ConfigError(
                "head_dim is {value}; rotary positions turn pairs and need an even number",
                value=self.head_dim,
            )
        if not 0.0 <= self.dropout < 1.0:
            raise ConfigError(
                "dropout is {value}; expected a number from 0 up to, not including, 1", value=self.dropout
            )
        if self.sliding_layers and not (self.sliding_window and self.sliding_window > 0):
            raise ConfigError(
                "sliding_window is {value}; sliding_layers need a window of at least 1", value=self.sliding_window
            )
        if any(not 0 <= layer < self.n_layer for layer in self.sliding_layers):
            raise ConfigError(
                "sliding_layers name layer {layer}; the layers are 0 to {last}",
                layer=max(self.sliding_layers),
                last=self.n_layer - 1,
            )

    @classmethod
    def gpt2(cls, **changes: Any) -> ModelConfig:
        """GPT-2 small (Radford et al. 2019); `changes` replaces fields."""
        return cls.from_dict(
            {
                "vocab_size": 50257, "n_layer": 12, "n_head": 12, "n_embd": 768, "context_length": 1024,
                "positions": "learned", "norm": "layernorm", "norm_eps": 1e-5, "mlp": "gelu_tanh",
                "qkv_bias": True, "out_bias": True, "mlp_bias": True, "family": "gpt2",
            }
            | changes
        )  # fmt: skip

    @classmethod
    def modern(cls, **changes: Any) -> ModelConfig:
        """Our recipe for training from scratch; `changes` must give the sizes.

        Rotary positions, RMSNorm, query/key norm, squared ReLU (So et al. 2021, arXiv:2109.08668), no biases,
        tied embeddings, softly capped logits.
        """
        return cls.from_dict({"mlp": "relu2", "qk_norm": True, "logit_softcap": 15.0} | changes)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelConfig:
        """A config from plain values (as in JSON or TOML).

        Raises:
            ConfigError: a key is unknown (the nearest known one is named) or missing.
        """
        known = {f.name: f for f in fields(cls)}
        for key in values:
            if key not in known:
                raise ConfigError(
                    "unknown model setting {key!r}",
                    hint="Did you mean {near!r}?" if nearest(key, list(known)) else "",
                    key=key,
                    near=nearest(key, list(known)),
                )
        values = dict(values)
        if isinstance(values.get("rope_scaling"), dict):
            scaling = values["rope_scaling"]
            unknown = sorted(set(scaling) - {f.name for f in fields(RopeScaling)})
            if unknown or not {"kind", "factor"} <= set(scaling):
                raise ConfigError(
                    "rope_scaling lacks kind or factor, or holds unknown settings: {unknown}", unknown=unknown
                )
            values["rope_scaling"] = RopeScaling(**scaling)
        if "sliding_layers" in values:
            values["sliding_layers"] = tuple(values["sliding_layers"])
        try:
            return cls(**values)
        except TypeError as error:
            raise ConfigError("the model settings do not fit: {reason}", reason=str(error)) from None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; `from_dict` reads them back."""
        return asdict(self) | {"sliding_layers": list(self.sliding_layers)}


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _one_of(name: str, value: Any, literal: Any) -> None:
    choices = get_args(literal)
    if value not in choices:
        raise ConfigError(
            "{name} is {value!r}; expected one of {choices}",
            name=name,
            value=value,
            choices=", ".join(choices),
        )
