"""Tensors as a file or a network holds them, checked against the settings. No torch here.

What `weights.build` checks of a network in torch is checked here of one that is packed for the engine.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from glassgpt.core.errors import FormatError
from glassgpt.model.config import ModelConfig


class Stored(Protocol):
    """One tensor.

    `shape` is (rows, columns), or (numbers,); `kind` says what its blocks are, in the words of GGUF ("F32", "Q4_1").
    """

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def kind(self) -> str: ...

    def blocks(self) -> NDArray[np.uint8]:
        """The bytes as they are stored, [rows, bytes of a row]."""
        ...

    def float32(self, pool: Any = None) -> NDArray[np.float32]:
        """The numbers in `shape`."""
        ...


class Numbers:
    """A tensor that is numbers already."""

    kind = "F32"

    def __init__(self, values: NDArray[Any]) -> None:
        self.values = values

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, columns), or (numbers,)."""
        return self.values.shape

    def blocks(self) -> NDArray[np.uint8]:
        """The bytes of the numbers."""
        return self.float32().reshape(self.shape[0], -1).view(np.uint8)

    def float32(self, pool: Any = None) -> NDArray[np.float32]:
        """The numbers."""
        return np.ascontiguousarray(self.values, np.float32)


def expected_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """The names and shapes of a network's parameters, as `model.gpt.GPT` has them."""
    width, head = config.n_embd, config.head_dim
    layer_norm = config.norm == "layernorm"
    shapes: dict[str, tuple[int, ...]] = {"embed.weight": (config.vocab_size, width)}

    def norm(name: str, size: int, bias: bool) -> None:
        shapes[f"{name}.weight"] = (size,)
        if bias:
            shapes[f"{name}.bias"] = (size,)

    def linear(name: str, rows: int, columns: int, bias: bool) -> None:
        shapes[f"{name}.weight"] = (rows, columns)
        if bias:
            shapes[f"{name}.bias"] = (rows,)

    if config.ngrams > 1:
        shapes["ngrams.weight"] = ((config.ngrams - 1) * config.ngram_buckets, width)
    if config.positions == "learned":
        shapes["positions.weight"] = (config.context_length, width)
    for number in range(config.n_layer):
        block = f"blocks.{number}"
        norm(f"{block}.attention_norm", width, layer_norm)
        linear(f"{block}.attention.q_proj", config.n_head * head, width, config.qkv_bias)
        linear(f"{block}.attention.k_proj", config.n_kv_head * head, width, config.qkv_bias)
        linear(f"{block}.attention.v_proj", config.n_kv_head * head, width, config.qkv_bias)
        linear(f"{block}.attention.out_proj", width, config.n_head * head, config.out_bias)
        if config.qk_norm:
            norm(f"{block}.attention.q_norm", head, False)
            norm(f"{block}.attention.k_norm", head, False)
        norm(f"{block}.mlp_norm", width, layer_norm)
        if config.mlp in ("swiglu", "geglu"):
            linear(f"{block}.mlp.gate", config.mlp_dim, width, config.mlp_bias)
        linear(f"{block}.mlp.up", config.mlp_dim, width, config.mlp_bias)
        linear(f"{block}.mlp.down", width, config.mlp_dim, config.mlp_bias)
        if config.post_norms:
            norm(f"{block}.attention_post_norm", width, layer_norm)
            norm(f"{block}.mlp_post_norm", width, layer_norm)
    norm("norm", width, layer_norm)
    if not config.tie_embeddings:
        linear("head", config.vocab_size, width, False)
    return shapes


def collect(config: ModelConfig, tensors: Iterable[tuple[str, Stored]], source: str) -> dict[str, Stored]:
    """The tensors by name, none missing, unknown, doubled, or of another shape.

    Raises:
        FormatError: one is.
    """
    expected, found = expected_shapes(config), dict[str, Stored]()
    for name, tensor in tensors:
        if name not in expected or name in found:
            raise FormatError(
                "{source}: unexpected tensor {name}",
                hint="The weights belong to another kind of model than its settings say.",
                source=source,
                name=name,
            )
        check_shape(source, name, tuple(tensor.shape), expected[name])
        found[name] = tensor
    missing = sorted(set(expected) - set(found))
    if missing:
        raise FormatError(
            "{source}: {count} tensors are missing, the first is {name}",
            hint="The file is incomplete; fetch it again.",
            source=source,
            count=len(missing),
            name=missing[0],
        )
    return found


def check_shape(source: str, name: str, given: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Raise FormatError unless a tensor has the shape that the settings call for."""
    if given != expected:
        raise FormatError(
            "{source}: tensor {name} has shape {given}; the settings call for {expected}",
            hint="The weights and the settings are not of the same model.",
            source=source,
            name=name,
            given=list(given),
            expected=list(expected),
        )


def check_numbers(source: str, name: str, numbers: NDArray[Any]) -> None:
    """Raise FormatError if one is NaN or infinite."""
    # One sum instead of one look at each number: NaN and infinity survive addition.
    with np.errstate(over="ignore", invalid="ignore"):
        whole = np.isfinite(numbers.sum())
    # The sum may be infinite where no number is.
    if not whole and not np.isfinite(numbers).all():
        raise FormatError(
            "{source}: tensor {name} holds NaN or infinite numbers",
            hint="The file is damaged or the training run diverged; use another copy or checkpoint.",
            source=source,
            name=name,
        )
