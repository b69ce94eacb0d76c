"""The way back from `packing`: the weights that the compiled step computes with, as the tensors of `model.gpt`.

Those of 4 and 8 bits come back as the numbers that they stand for, not as those that they were made from: who looks
into a model sees the one that answers.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from glassgpt.engine.packing import Index, Layout, Part, Parts
from glassgpt.engine.quantize import Floats
from glassgpt.model.config import ModelConfig

_SPLIT = {"qkv": ["attention.q_proj", "attention.k_proj", "attention.v_proj"], "out": ["attention.out_proj"],
          "up": ["mlp.up"], "down": ["mlp.down"]}  # fmt: skip


def unpack(config: ModelConfig, parts: Parts) -> Iterator[tuple[str, Floats]]:
    """Pairs of a name in `model.gpt` and its numbers in float32, one after the other: all at once would double the
    memory. `parts` are those that `packing.pack` gave for `config`."""
    layout = Layout(config)
    stream, gated = layout.stream, config.mlp in ("swiglu", "geglu")
    rows = {"qkv": layout.qkv(), "out": stream, "up": layout.up(gated), "down": stream}
    columns = {"qkv": stream, "out": layout.heads(config.n_head), "up": stream, "down": layout.hidden}
    names = _SPLIT | ({"up": ["mlp.gate", "mlp.up"]} if gated else {})
    head, kv = config.n_head * config.head_dim, config.n_kv_head * config.head_dim
    heights = {"qkv": [head, kv, kv], "out": [config.n_embd], "up": [config.mlp_dim] * len(names["up"]),
               "down": [config.n_embd]}  # fmt: skip
    for name, part in parts.items():
        block, _, kind = name.removesuffix(".bias").rpartition(".")
        if kind in rows and block.startswith("blocks."):
            whole = _numbers(part)
            if whole.ndim == 2:
                whole = whole[:, : len(columns[kind])][:, columns[kind] >= 0]
            whole = _in_place(whole, rows[kind])
            ends = np.cumsum(heights[kind])[:-1]
            for one, piece in zip(names[kind], np.split(whole, ends), strict=True):
                yield f"{block}.{one}.{'bias' if whole.ndim == 1 else 'weight'}", np.ascontiguousarray(piece)
        elif name in ("embed", "head"):
            yield f"{name}.weight", np.ascontiguousarray(_numbers(part)[:, : config.n_embd])
        elif name in ("positions.weight", "ngrams.weight"):
            yield name, np.ascontiguousarray(_numbers(part)[:, : config.n_embd])
        else:  # a norm
            size = config.head_dim if ".attention." in name else config.n_embd
            yield name, np.array(_numbers(part)[:size])


def _numbers(part: Part) -> Floats:
    return part if isinstance(part, np.ndarray) else part.dequantize()


def _in_place(whole: Floats, rows: Index) -> Floats:
    """The rows where they were before packing, without those that only fill up."""
    real = np.flatnonzero(rows >= 0)
    out = np.empty((len(real), *whole.shape[1:]), np.float32)
    out[rows[real]] = whole[real]
    return out
