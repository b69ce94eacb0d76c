"""A GGUF file in our words: the network that its metadata describes, and its tensors as stored. No torch here."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from glassgpt.core.errors import FormatError
from glassgpt.formats.gguf import GGUF, TensorInfo
from glassgpt.formats.gguf_blocks import Bytes, Floats, dequantize
from glassgpt.model.config import ModelConfig, RopeScaling
from glassgpt.model.frequencies import rotary_frequencies

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

ARCHITECTURES = ("gemma3", "gpt2", "llama", "qwen2", "qwen3")

_TOP = {
    "token_embd": "embed",
    "position_embd": "positions",
    "output_norm": "norm",
    "output": "head",
}
_IN_BLOCK = {
    "attn_norm": "attention_norm",
    "attn_q": "attention.q_proj",
    "attn_k": "attention.k_proj",
    "attn_v": "attention.v_proj",
    "attn_output": "attention.out_proj",
    "attn_q_norm": "attention.q_norm",
    "attn_k_norm": "attention.k_norm",
    "post_attention_norm": "attention_post_norm",
    "ffn_norm": "mlp_norm",
    "ffn_gate": "mlp.gate",
    "ffn_up": "mlp.up",
    "ffn_down": "mlp.down",
    "post_ffw_norm": "mlp_post_norm",
}


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in our order of rows, as its file stores it; nothing is read before it is asked for.

    Attributes:
        shape: (rows, columns) of a matrix, (numbers,) of a vector.
    """

    shape: tuple[int, ...]
    _file: GGUF
    _info: TensorInfo
    _start: int = 0  # the first of the tensor's rows in the file that is ours
    _head_dim: int = 0  # where the file keeps each head's rows in pairs: how many a head has

    @property
    def kind(self) -> str:
        """What its blocks are: "F32", "F16", "Q4_1", "Q6_K"..."""
        return self._info.kind.name

    def blocks(self) -> Bytes:
        """The raw blocks, [rows, bytes of a row]; of a vector each number is a row. A view of the file where the rows
        lie there in our order, and else a copy."""
        info, raw = self._info, self._file.raw(self._info)
        if len(info.shape) == 1 and info.kind.values > 1:
            return raw.reshape(1, -1)  # a vector in blocks, which `stored_tensors` never divides
        raw = raw.reshape(info.shape[0], -1)[self._start : self._start + self.shape[0]]
        return _halves_from_pairs(raw, self._head_dim) if self._head_dim else raw

    def float32(self, pool: ThreadPoolExecutor | None = None) -> Floats:
        """The numbers in `shape`, in memory that begins on 64 bytes; `pool` spreads a large tensor over threads."""
        return dequantize(self.blocks().reshape(-1, self._info.kind.bytes), self._info.kind, pool).reshape(self.shape)


def gguf_config(file: GGUF) -> ModelConfig:
    """The network that the file's metadata describes.

    Raises:
        FormatError: the architecture is not one of ours, or a value is missing or impossible.
    """
    family = file.require("general.architecture", str)
    if family not in ARCHITECTURES:
        raise FormatError(
            "{file} holds the architecture {family!r}; these can be read: {known}",
            hint="Use a model of one of these families.",
            file=file.path.name,
            family=family,
            known=", ".join(ARCHITECTURES),
        )
    key = family + "."
    number = (int, float)
    heads = file.require(key + "attention.head_count", int)
    width = file.require(key + "embedding_length", int)
    layers = file.require(key + "block_count", int)
    if "token_embd.weight" not in file.tensors or not 0 < layers <= len(file.tensors) or heads < 1:
        raise FormatError(
            "{file}: {layers} layers and {heads} heads do not fit its {tensors} tensors",
            hint="The file is damaged; fetch it again.",
            file=file.path.name,
            layers=layers,
            heads=heads,
            tensors=len(file.tensors),
        )
    common = dict(
        vocab_size=file.tensors["token_embd.weight"].shape[0],
        n_layer=layers,
        n_head=heads,
        n_kv_head=file.get(key + "attention.head_count_kv", int, heads),
        n_embd=width,
        head_dim=file.get(key + "attention.key_length", int, width // heads),
        mlp_dim=file.require(key + "feed_forward_length", int),
        context_length=file.require(key + "context_length", int),
        tie_embeddings="output.weight" not in file.tensors,
        family=family,
    )
    if family == "gpt2":
        eps = file.get(key + "attention.layer_norm_epsilon", number, 1e-5)
        return ModelConfig.gpt2(**common | {"norm_eps": eps})
    common |= dict(
        norm_eps=file.require(key + "attention.layer_norm_rms_epsilon", number),
        rope_theta=float(file.get(key + "rope.freq_base", number, 10000.0)),
        rope_scaling=_rope_scaling(file, key, common["head_dim"]),
    )
    turned = file.get(key + "rope.dimension_count", int, common["head_dim"])
    if turned != common["head_dim"]:
        raise FormatError(
            "{file} turns {turned} of the {head} numbers in a head; only whole heads can be read",
            hint="Use a model of one of the usual families.",
            file=file.path.name,
            turned=turned,
            head=common["head_dim"],
        )
    if family == "llama":
        return ModelConfig(**common)
    if family == "qwen2":
        return ModelConfig(qkv_bias=True, **common)
    if family == "qwen3":
        return ModelConfig(qk_norm=True, **common)
    window = file.require(key + "attention.sliding_window", int)
    every = file.get(key + "attention.sliding_window_pattern", int, 6)
    # The 27 B model alone scales by its width per head instead of the head's own width.
    scale = 1 / math.sqrt(width / heads) if layers == 62 else None
    return ModelConfig(
        qk_norm=True,
        post_norms=True,
        mlp="geglu",
        embed_scale=math.sqrt(width),
        sliding_window=window,
        sliding_layers=tuple(i for i in range(layers) if (i + 1) % every),
        rope_local_theta=float(file.get(key + "rope.freq_base_swa", number, 10000.0)),
        attention_scale=scale,
        **common,
    )


def stored_tensors(file: GGUF, config: ModelConfig) -> Iterator[tuple[str, StoredTensor]]:
    """Every tensor of the file under our name for it ("blocks.0.attention.q_proj.weight"). Whether all are there and of
    the right shape is not looked at; what is built from them does.

    Raises:
        FormatError: a tensor is none of this family's, or cannot be divided as it should.
    """
    for name, info in file.tensors.items():
        if name == "rope_freqs.weight":
            continue  # read by `_rope_scaling`
        match = re.fullmatch(r"(?:blk\.(\d+)\.)?(\w+)\.(weight|bias)", name)
        block, part, kind = match.groups() if match else (None, "", "")
        pieces = {(_IN_BLOCK if block is not None else _TOP).get(part): info.shape[0]}
        if block is not None and part == "attn_qkv":
            width, kv_width = config.n_head * config.head_dim, config.n_kv_head * config.head_dim
            pieces = {"attention.q_proj": width, "attention.k_proj": kv_width, "attention.v_proj": kv_width}
        elif None in pieces:
            raise FormatError(
                "{file}: tensor {name} is not part of a {family} model as we know it",
                hint="Use another conversion of this model.",
                file=file.path.name,
                name=name,
                family=config.family,
            )
        if sum(pieces.values()) != info.shape[0]:
            raise FormatError(
                "{file}: tensor {name} has {rows} rows; expected {expected}",
                file=file.path.name,
                name=name,
                rows=info.shape[0],
                expected=sum(pieces.values()),
            )
        in_pairs = config.family == "llama" and part in ("attn_q", "attn_k") and info.shape[0] % config.head_dim == 0
        if (in_pairs or len(pieces) > 1) and len(info.shape) == 1 and info.kind.values > 1:
            raise FormatError(
                "{file}: tensor {name} has blocks of {kind} where single numbers are needed",
                hint="Use another conversion of this model.",
                file=file.path.name,
                name=name,
                kind=info.kind.name,
            )
        start = 0
        for ours, rows in pieces.items():
            full = f"blocks.{block}.{ours}.{kind}" if block is not None else f"{ours}.{kind}"
            shape = (rows, *info.shape[1:])
            yield full, StoredTensor(shape, file, info, start, config.head_dim if in_pairs else 0)
            start += rows


def _halves_from_pairs(rows: Bytes, head_dim: int) -> Bytes:
    """GGUF's Llama rotates neighbours (0, 1), (2, 3), …; we rotate (0, D/2), (1, D/2 + 1), …: reorder the rows."""
    pairs = rows.reshape(-1, head_dim // 2, 2, rows.shape[1])  # [heads, D/2, 2, bytes]
    return pairs.swapaxes(1, 2).reshape(rows.shape)


def _rope_scaling(file: GGUF, key: str, head_dim: int) -> RopeScaling | None:
    """Rotary scaling from metadata, or from Llama 3's table of divisors."""
    if "rope_freqs.weight" in file.tensors:
        given = file.dequantize(file.tensors["rope_freqs.weight"]).ravel()
        scaling = RopeScaling("llama3", factor=max(1.0, float(given.max())), original_context=8192)
        theta = float(file.get(key + "rope.freq_base", (int, float), 10000.0))
        if 2 * len(given) == head_dim and np.allclose(_divisors(head_dim, theta, scaling), given, rtol=1e-3):
            return scaling
        raise FormatError(
            "{file} stretches its rotary positions by a table that is not Llama 3's",
            hint="Use the model's Hugging Face folder instead.",
            file=file.path.name,
        )
    kind = file.get(key + "rope.scaling.type", str, "none")
    if kind == "none":
        return None
    factor = float(file.get(key + "rope.scaling.factor", (int, float), 1.0))
    original = file.get(key + "rope.scaling.original_context_length", int, 0)
    if kind not in ("linear", "yarn"):
        raise FormatError(
            "{file} uses the rotary scaling {kind!r}; linear and yarn can be read from GGUF",
            hint="Use the model's Hugging Face folder instead.",
            file=file.path.name,
            kind=kind,
        )
    return RopeScaling("linear" if kind == "linear" else "yarn", factor, original)


@np.errstate(all="ignore")
def _divisors(head_dim: int, theta: float, scaling: RopeScaling) -> Floats:
    return rotary_frequencies(head_dim, theta, None)[0] / rotary_frequencies(head_dim, theta, scaling)[0]
