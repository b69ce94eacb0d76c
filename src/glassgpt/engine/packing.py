"""A network's weights laid out for the compiled step, in the precision that was asked for.

Query, key and value are one matrix, and so are gate and up, 32 rows of the one before 32 of the other. Heads and widths
are padded with zeros to whole groups of 32. Blocks of 4 and 8 bits that a file holds are taken as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassgpt.engine.quantize import (
    GROUP,
    LANES,
    Floats,
    QuantizedMatrix,
    aligned,
    from_blocks,
    quantize,
)  # fmt: skip
from glassgpt.formats.stored import Stored, check_numbers
from glassgpt.model.config import ModelConfig

BITS = {"float32": 32, "bfloat16": 16, "int8": 8, "int4": 4}
_SAME_BITS = {4: {"Q4_0", "Q4_1"}, 8: {"Q8_0"}}
_FINER = ("Q5_0", "Q5_1", "Q5_K", "Q6_K", "Q8_0", "Q8_K")  # what a file with mostly 4 bits keeps more bits for
Index = NDArray[np.int64]  # which row comes where; -1: zeros


@dataclass(frozen=True)
class WideMatrix:
    """A matrix [out, in] in float32 or bfloat16: `values` [tiles, in, 16], float32 or the upper halves of float32."""

    bits: int
    shape: tuple[int, int]
    values: NDArray[Any]
    scales: None = None

    @property
    def nbytes(self) -> int:
        """What a product reads."""
        return self.values.nbytes

    def rows(self, ids: Index) -> Floats:
        """Some of its rows, [N, in]."""
        return _widen(self.values[ids // LANES, :, ids % LANES])

    def dequantize(self) -> Floats:
        """The matrix [out, in] that it stands for."""
        return self.tile_rows(0, len(self.values))[: self.shape[0]]

    def tile_rows(self, first: int, last: int) -> Floats:
        """The rows [N, in] of the tiles from `first` up to `last`, what fills up the last one included."""
        return _widen(self.values[first:last]).transpose(0, 2, 1).reshape(-1, self.shape[1])


Matrix = QuantizedMatrix | WideMatrix
Part = Matrix | Floats
Parts = dict[str, Part]


def wide(matrix: Floats, bits: int) -> WideMatrix:
    """A matrix [out, in] in 32 or 16 bits; to bfloat16 halves are rounded to the even one."""
    out, width = matrix.shape
    values: NDArray[Any] = np.ascontiguousarray(matrix, np.float32)
    if bits == 16:
        raw = values.view(np.uint32)
        rounded = ((raw + (0x7FFF + ((raw >> 16) & 1))) >> 16).astype(np.uint16)
        values = np.where(np.isnan(values), np.uint16(0x7FC0), rounded)
    values = np.pad(values, ((0, -out % LANES), (0, width % 2))).reshape(-1, LANES, width + width % 2)
    return WideMatrix(bits, (out, width + width % 2), aligned(values.transpose(0, 2, 1)))


def _widen(values: NDArray[Any]) -> Floats:
    if values.dtype == np.float32:
        return values
    return (values.astype(np.uint32) << 16).view(np.float32)


def padded(width: int) -> int:
    """The next whole group."""
    return -(-width // GROUP) * GROUP


@dataclass(frozen=True)
class Shape:
    """The sizes of the compiled network: those of the config, padded to whole groups of 32."""

    width: int
    head: int
    mlp: int

    @classmethod
    def of(cls, config: ModelConfig) -> Shape:
        return cls(padded(config.n_embd), padded(config.head_dim), padded(config.mlp_dim))


class Layout:
    """Where each row and column of the packed matrices comes from, and goes back to (`unpacking`)."""

    def __init__(self, config: ModelConfig) -> None:
        self.config, self.shape = config, Shape.of(config)
        self.stream = _filled(config.n_embd, self.shape.width)  # the residual stream
        self.hidden = _filled(config.mlp_dim, self.shape.mlp)  # the MLP's inside

    def heads(self, heads: int) -> Index:
        """Heads one after the other, each padded."""
        one = _filled(self.config.head_dim, self.shape.head)
        return np.where(one < 0, -1, one + self.config.head_dim * np.arange(heads)[:, None]).reshape(-1)

    def qkv(self) -> Index:
        """Queries, keys and values below each other."""
        index, start = [], 0
        for heads in (self.config.n_head, self.config.n_kv_head, self.config.n_kv_head):
            own = self.heads(heads)
            index.append(np.where(own < 0, -1, own + start))
            start += heads * self.config.head_dim
        return np.concatenate(index)

    def up(self, gated: bool) -> Index:
        """What widens: up, with 32 rows of the gate before 32 of it where there is a gate."""
        one = self.hidden.reshape(-1, 1, GROUP)
        if not gated:
            return one.reshape(-1)
        return np.concatenate((one, np.where(one < 0, -1, one + self.config.mlp_dim)), axis=1).reshape(-1)


def pack(config: ModelConfig, tensors: Mapping[str, Stored], precision: str, source: str, threads: int = 1) -> Parts:
    """The parts of a network by name: "embed", "head" (where it is one of its own), "blocks.0.qkv", "blocks.0.out",
    "blocks.0.up", "blocks.0.down", each with ".bias" where it has one, and the names of `model.gpt` for all others.

    Args:
        tensors: the network's, by their names in `model.gpt`, all there and of the right shape (`stored.collect`).
        precision: a name in `BITS`.
        source: what the user knows the model as, for messages.

    Raises:
        FormatError: a weight is no number, or infinite.
    """
    packer = _Packer(config, tensors, precision, source)
    jobs = [packer.ends, *(partial(packer.block, f"blocks.{number}") for number in range(config.n_layer))]
    with ThreadPoolExecutor(threads) as pool:
        return {name: part for parts in pool.map(lambda job: job(), jobs) for name, part in parts}


class _Packer:
    def __init__(self, config: ModelConfig, tensors: Mapping[str, Stored], precision: str, source: str) -> None:
        self.config, self.tensors, self.source = config, tensors, source
        self.bits, self.shape, self.layout = BITS[precision], Shape.of(config), Layout(config)
        kinds = {tensor.kind for tensor in tensors.values()}
        self.four_bit_file = any(kind.startswith(("Q4_", "IQ4_")) for kind in kinds)

    def ends(self) -> list[tuple[str, Part]]:
        """What is not in a block."""
        parts: list[tuple[str, Part]] = [("embed", self._end("embed"))]
        if "head.weight" in self.tensors:
            parts.append(("head", self._end("head")))
        parts += [(name, self._table(name)) for name in ("positions.weight", "ngrams.weight") if name in self.tensors]
        return parts + self._vectors("norm", {"": self.shape.width})

    def block(self, block: str) -> list[tuple[str, Part]]:
        """One block's parts."""
        parts: list[tuple[str, Part]] = []
        for name, make in (("qkv", self._qkv), ("out", self._out), ("up", self._up), ("down", self._down)):
            matrix, bias = make(block)
            parts.append((f"{block}.{name}", matrix))
            if bias is not None:
                parts.append((f"{block}.{name}.bias", bias))
        width, head = self.shape.width, self.shape.head
        norms = {"attention_norm": width, "mlp_norm": width, "attention_post_norm": width, "mlp_post_norm": width,
                 "attention.q_norm": head, "attention.k_norm": head}  # fmt: skip
        return parts + self._vectors(block + ".", norms)

    def _vectors(self, prefix: str, sizes: dict[str, int]) -> list[tuple[str, Part]]:
        """The weights and biases of norms, filled up with zeros."""
        names = {f"{prefix}{name}.{kind}": size for name, size in sizes.items() for kind in ("weight", "bias")}
        return [(name, aligned(np.pad(self._numbers(name).ravel(), (0, size))[:size].astype(np.float32)))
                for name, size in names.items() if name in self.tensors]  # fmt: skip

    def _qkv(self, block: str) -> tuple[Matrix, Floats | None]:
        """Queries, keys and values as one matrix with one bias, each head padded."""
        names, at = [f"{block}.attention.{letter}_proj" for letter in "qkv"], self.layout.qkv()
        return self._matrix(names, at), self._bias(names, at)

    def _out(self, block: str) -> tuple[Matrix, Floats | None]:
        """The projection from the heads into the residual stream."""
        names, at = [f"{block}.attention.out_proj"], self.layout.stream
        return self._matrix(names, at, columns=self.layout.heads(self.config.n_head)), self._bias(names, at)

    def _up(self, block: str) -> tuple[Matrix, Floats | None]:
        """What widens, the gate with it."""
        gated = f"{block}.mlp.gate.weight" in self.tensors
        names = [f"{block}.mlp.gate", f"{block}.mlp.up"] if gated else [f"{block}.mlp.up"]
        at = self.layout.up(gated)
        return self._matrix(names, at), self._bias(names, at)

    def _down(self, block: str) -> tuple[Matrix, Floats | None]:
        """What narrows again."""
        names, at = [f"{block}.mlp.down"], self.layout.stream
        return self._matrix(names, at, columns=self.layout.hidden), self._bias(names, at)

    def _table(self, name: str) -> Floats:
        """A table of vectors, [rows, padded width]."""
        values = self._numbers(name)
        return aligned(np.pad(values, ((0, 0), (0, self.shape.width - values.shape[1]))))

    def _end(self, name: str) -> Matrix:
        rows = np.arange(self.config.vocab_size)
        # Four bits cost the embeddings and the head more than the blocks, unless the file has them so.
        bits = self.bits
        if bits == 4 and not self._is(name, ("Q4_0", "Q4_1")):
            bits = 8
        return self._matrix([name], rows, bits=bits)

    def _matrix(self, names: list[str], rows: Index, columns: Index | None = None, bits: int = 0) -> Matrix:
        stored, bits = [self.tensors[name + ".weight"] for name in names], bits or self._bits(names)
        width = stored[0].shape[1]
        columns = _filled(width, padded(width)) if columns is None else columns
        kinds = {part.kind for part in stored}
        if kinds <= _SAME_BITS.get(bits, set()) and len(kinds) == 1 and np.array_equal(columns, np.arange(width)):
            return from_blocks(_arranged(np.concatenate([part.blocks() for part in stored]), rows), *kinds)
        whole = np.concatenate([self._numbers(name + ".weight") for name in names])
        whole = _arranged(whole, rows)
        if not np.array_equal(columns, np.arange(width)):
            # Filled up with a neighbour, which leaves the range of its group what it was: its input is zero.
            whole = whole[:, np.maximum.accumulate(columns)]
            if bits >= 16:
                whole[:, columns < 0] = 0
        return wide(whole, bits) if bits >= 16 else quantize(whole, bits)

    def _numbers(self, name: str) -> Floats:
        numbers = self.tensors[name].float32()
        check_numbers(self.source, name, numbers)
        return numbers

    def _bits(self, names: list[str]) -> int:
        if self.bits == 4 and self.four_bit_file and any(self._is(name, _FINER) for name in names):
            return 8
        return self.bits

    def _is(self, name: str, kinds: tuple[str, ...]) -> bool:
        return self.tensors[name + ".weight"].kind in kinds

    def _bias(self, names: list[str], rows: Index) -> Floats | None:
        if names[0] + ".bias" not in self.tensors:
            return None
        whole = np.concatenate([self._numbers(name + ".bias").ravel() for name in names])
        return aligned(_arranged(whole, rows))


def _filled(count: int, wanted: int) -> Index:
    """0, 1, ... up to `count`, then -1."""
    numbers = np.arange(wanted)
    return np.where(numbers < count, numbers, -1)


def _arranged(whole: NDArray[Any], rows: Index) -> NDArray[Any]:
    if len(rows) == len(whole) and np.array_equal(rows, np.arange(len(rows))):
        return whole
    out = whole[rows]
    out[rows < 0] = 0
    return out
