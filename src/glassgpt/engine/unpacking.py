"""The way back from `packing`: the weights that the compiled step computes with, as the tensors of `model.gpt`.

Those of 4 and 8 bits come back as the numbers that they stand for, not as those that they were made from: who looks
into a model sees the one that answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from glassgpt.engine.packing import Index, Layout, Part, Parts
from glassgpt.engine.quantize import LANES, TILES, Floats, aligned, empty
from glassgpt.model.config import ModelConfig

_SPLIT = {"qkv": ["attention.q_proj", "attention.k_proj", "attention.v_proj"], "out": ["attention.out_proj"],
          "up": ["mlp.up"], "down": ["mlp.down"]}  # fmt: skip
Named = list[tuple[str, Floats]]


def unpack(config: ModelConfig, parts: Parts, threads: int = 1) -> Iterator[tuple[str, Floats]]:
    """Pairs of a name in `model.gpt` and its numbers in float32, each in memory of its own that begins on 64 bytes.
    `parts` are those that `packing.pack` gave for `config`."""
    unpacker = _Unpacker(config)
    with ThreadPoolExecutor(threads) as pool:
        for made in pool.map(lambda item: unpacker.tensors(*item), parts.items()):
            yield from made


class _Unpacker:
    def __init__(self, config: ModelConfig) -> None:
        layout = Layout(config)
        stream, gated = layout.stream, config.mlp in ("swiglu", "geglu")
        self.config = config
        self.rows = {"qkv": layout.qkv(), "out": stream, "up": layout.up(gated), "down": stream}
        self.columns = {"qkv": stream, "out": layout.heads(config.n_head), "up": stream, "down": layout.hidden}
        self.names = _SPLIT | ({"up": ["mlp.gate", "mlp.up"]} if gated else {})
        head, kv = config.n_head * config.head_dim, config.n_kv_head * config.head_dim
        self.heights = {"qkv": [head, kv, kv], "out": [config.n_embd],
                        "up": [config.mlp_dim] * len(self.names["up"]), "down": [config.n_embd]}  # fmt: skip

    def tensors(self, name: str, part: Part) -> Named:
        """What one part holds, by the names in `model.gpt`."""
        config = self.config
        block, _, kind = name.removesuffix(".bias").rpartition(".")
        if kind in self.rows and block.startswith("blocks."):
            wholes = _in_place(part, self.rows[kind], self.columns[kind], self.heights[kind])
            last = "bias" if name.endswith(".bias") else "weight"
            return [(f"{block}.{own}.{last}", whole) for own, whole in zip(self.names[kind], wholes, strict=True)]
        if name in ("embed", "head"):
            stream = np.arange(config.n_embd)
            return [(f"{name}.weight", _in_place(part, np.arange(part.shape[0]), stream, [part.shape[0]])[0])]
        assert isinstance(part, np.ndarray)
        if name in ("positions.weight", "ngrams.weight"):
            return [(name, aligned(part[:, : config.n_embd]))]
        size = config.head_dim if ".attention." in name else config.n_embd  # a norm
        return [(name, aligned(part[:size]))]


def _in_place(part: Part, rows: Index, columns: Index, heights: list[int]) -> list[Floats]:
    """The rows where they were before packing, cut into pieces of these heights; without rows and columns that only
    fill up. A few rows at a time, so that what lies between stays in the processor's cache."""
    real = columns >= 0
    width = () if len(part.shape) == 1 else (int(real.sum()),)
    wholes = [empty((height, *width), np.float32) for height in heights]
    starts = np.cumsum([0, *heights])
    # Where neighbours stay neighbours and lie in one piece, they are copied at once.
    piece = np.searchsorted(starts, rows, side="right")
    breaks = np.flatnonzero((np.diff(rows) != 1) | (np.diff(piece) != 0)) + 1
    step = TILES * LANES
    ends = np.union1d(breaks, np.arange(0, len(rows) + step, step).clip(max=len(rows)))
    chunk, begin = np.empty(0, np.float32), 0
    for first, last in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        if first % step == 0:
            chunk, begin = _chunk(part, first, real), first
        if rows[first] >= 0:
            number = int(piece[first]) - 1
            at = int(rows[first] - starts[number])
            wholes[number][at : at + last - first] = chunk[first - begin : last - begin]
    return wholes


def _chunk(part: Part, first: int, real: np.ndarray) -> Floats:
    if isinstance(part, np.ndarray):
        return part[first : first + TILES * LANES]
    rows = part.tile_rows(first // LANES, first // LANES + TILES)[:, : len(real)]
    return rows if real.all() else rows[:, real]
