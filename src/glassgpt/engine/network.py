"""The network as the compiled step sees it: packed weights, tables of positions, and the records that tell of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassgpt.engine import fields
from glassgpt.engine.packing import Parts, Shape
from glassgpt.engine.quantize import Floats, aligned
from glassgpt.model.config import ModelConfig
from glassgpt.model.frequencies import dynamic_frequencies, rotary_frequencies

_SPREAD = np.int64(0x1E3779B97F4A7C15)  # as in `model.ngrams`
_TABLE_STEP = 1024  # positions by which a table of angles is filled


class Network:
    """A network in one precision, without torch.

    Attributes:
        config: what it is.
        precision: "float32", "bfloat16", "int8" or "int4".
        shape: its padded sizes.
        layers: the records of its layers, int64.
    """

    def __init__(self, config: ModelConfig, parts: Parts, precision: str) -> None:
        """From the parts that `packing.pack` gives."""
        self.config, self.precision, self.shape, self.parts = config, precision, Shape.of(config), parts
        self._records: list[Any] = []  # what other records tell the addresses of
        embed: Any = parts["embed"]
        self.embed = embed
        self.vocabulary = 0 if config.encoder else config.vocab_size  # how many scores a row may have
        self.top = self._empty_matrix() if config.encoder else self._matrix("head" if "head" in parts else "embed")
        # Where tokens bring nothing but their own vectors, the step itself looks them up.
        alone = config.ngrams < 2 and config.positions in ("rotary", "none") and self.embed.bits <= 8
        self.embed_record = self._matrix("embed") if alone and config.n_embd == self.shape.width else 0
        self.norm, self.norm_bias = self._vector("norm.weight"), self._vector("norm.bias")
        self.places: Any = parts.get("positions.weight")
        if config.positions == "sinusoidal":
            self.places = _sinusoids(config.context_length, config.n_embd, self.shape.width)
        self.ngrams: Any = parts.get("ngrams.weight")
        self.angles = {False: None, True: None} if config.positions != "rotary" else {
            False: Angles(config, config.rope_theta, config.rope_scaling is not None),
            True: Angles(config, config.rope_local_theta, False) if config.rope_local_theta else None,
        }  # fmt: skip
        self.layers = self._hold(np.zeros((config.n_layer, fields.LAYER_FIELDS), np.int64))
        for number in range(config.n_layer):
            self._fill_layer(number)
        self.numbers = self._hold(np.zeros(fields.NUMBER_FIELDS, np.float32))
        self.numbers[fields.EPS] = config.norm_eps
        self.numbers[fields.SCALE] = config.attention_scale or 1 / math.sqrt(config.head_dim)
        self.numbers[fields.CAP] = config.logit_softcap or 0
        self.numbers[fields.EMBED_SCALE] = config.embed_scale

    @property
    def nbytes(self) -> int:
        """What decoding a token reads of the weights."""
        unread = self.embed.nbytes if "head" in self.parts else 0
        return sum(part.nbytes for part in self.parts.values() if not isinstance(part, np.ndarray)) - unread

    def describe(self, program: NDArray[np.int64]) -> None:
        """Fills what a model is into the record of a program."""
        config, shape = self.config, self.shape
        values = {
            fields.N_LAYERS: config.n_layer, fields.WIDTH: config.n_embd, fields.PADDED: shape.width,
            fields.HEADS: config.n_head, fields.KV_HEADS: config.n_kv_head, fields.HEAD: config.head_dim,
            fields.HEAD_PADDED: shape.head, fields.MLP: shape.mlp, fields.GATED: config.mlp in ("swiglu", "geglu"),
            fields.BEND: fields.ACTIVATIONS[config.mlp], fields.NUMBERS: self.numbers.ctypes.data,
            fields.LAYERS: self.layers.ctypes.data, fields.NORM: self.norm, fields.NORM_BIAS: self.norm_bias,
            fields.TOP: self.top, fields.EMBED: self.embed_record, fields.VOCABULARY: self.vocabulary,
            fields.IN_PLACE: config.encoder,
        }  # fmt: skip
        for field, value in values.items():
            program[field] = value

    def inputs(self, ids: NDArray[np.int64], positions: NDArray[np.int64], before: Sequence[Sequence[int]]) -> Floats:
        """What the first layer gets, [N, padded width]: the tokens' vectors, with those of n-grams and positions. The
        plain twin of what the step does itself where there is an `embed_record`.

        `before`: for each row the tokens before it, the nearest last, as many as n-grams look back (fewer at the
        beginning); unused by networks without n-grams."""
        config = self.config
        x = self.embed.rows(ids)[:, : self.shape.width]
        if x.shape[1] < self.shape.width:
            x = np.pad(x, ((0, 0), (0, self.shape.width - x.shape[1])))
        x[:, config.n_embd :] = 0
        if config.embed_scale != 1:
            x *= np.float32(config.embed_scale)
        if self.ngrams is not None:
            x += self.ngrams[self._ngram_rows(ids, before)].sum(axis=1)
        if self.places is not None:
            x += self.places[positions]
        return x

    def prepare(self, length: int) -> None:
        """Makes sure that the tables reach `length` positions."""
        for angles in self.angles.values():
            if angles is not None:
                angles.reach(length)

    def _ngram_rows(self, ids: NDArray[np.int64], before: Sequence[Sequence[int]]) -> NDArray[np.int64]:
        """As `model.ngrams.NgramEmbedding.rows`, [N, longest - 1]."""
        config = self.config
        code, found, base = ids + 1, [], config.vocab_size + 1
        with np.errstate(over="ignore"):  # hashing wants it to wrap around
            for back in range(1, config.ngrams):
                earlier = np.array([row[-back] + 1 if len(row) >= back else 0 for row in before], np.int64)
                code = code * base + earlier
                row = code
                if base ** (back + 1) > config.ngram_buckets:
                    mixed = code * _SPREAD
                    row = (mixed ^ (mixed >> 29)) % config.ngram_buckets
                found.append(row + (back - 1) * config.ngram_buckets)
        return np.stack(found, axis=1)

    def _fill_layer(self, number: int) -> None:
        config, block, layer = self.config, f"blocks.{number}", self.layers[number]
        sliding = number in config.sliding_layers
        angles = self.angles[True] if sliding and self.angles[True] is not None else self.angles[False]
        vectors = {
            fields.ATTENTION_NORM: "attention_norm.weight", fields.ATTENTION_NORM_BIAS: "attention_norm.bias",
            fields.Q_NORM: "attention.q_norm.weight", fields.K_NORM: "attention.k_norm.weight",
            fields.ATTENTION_POST_NORM: "attention_post_norm.weight", fields.MLP_NORM: "mlp_norm.weight",
            fields.MLP_NORM_BIAS: "mlp_norm.bias", fields.MLP_POST_NORM: "mlp_post_norm.weight",
        }  # fmt: skip
        for field, name in vectors.items():
            layer[field] = self._vector(f"{block}.{name}")
        for field, name in ((fields.QKV_MATRIX, "qkv"), (fields.OUT_MATRIX, "out"), (fields.UP_MATRIX, "up"),
                            (fields.DOWN_MATRIX, "down")):  # fmt: skip
            layer[field] = self._matrix(f"{block}.{name}")
        layer[fields.WINDOW] = config.sliding_window or 0 if sliding else 0
        if angles is not None:
            layer[fields.COSINES], layer[fields.SINES] = angles.cosines.ctypes.data, angles.sines.ctypes.data

    def _hold(self, array: NDArray[Any]) -> NDArray[Any]:
        array = aligned(array)
        self._records.append(array)
        return array

    def _vector(self, name: str) -> int:
        """Its address; 0 where there is none."""
        vector: Any = self.parts.get(name)
        return 0 if vector is None else vector.ctypes.data

    def _matrix(self, name: str) -> int:
        """The address of its record."""
        record, matrix = self._hold(np.zeros(fields.MATRIX_FIELDS, np.int64)), self.parts[name]
        assert not isinstance(matrix, np.ndarray)
        record[fields.BITS], record[fields.VALUES] = matrix.bits, matrix.values.ctypes.data
        record[fields.SCALES] = 0 if matrix.scales is None else matrix.scales.ctypes.data
        record[fields.TILES] = matrix.values.shape[0]
        record[fields.MATRIX_WIDTH], record[fields.BIAS] = matrix.shape[1], self._vector(name + ".bias")
        return record.ctypes.data

    def _empty_matrix(self) -> int:
        """The address of the record of a matrix without rows."""
        record = self._hold(np.zeros(fields.MATRIX_FIELDS, np.int64))
        record[fields.BITS] = 32
        return record.ctypes.data


class Angles:
    """Cosines and sines of rotary positions, [context, D / 2] each, filled as far as they are needed."""

    def __init__(self, config: ModelConfig, theta: float, scaled: bool) -> None:
        self.theta, self.scaling = theta, config.rope_scaling if scaled else None
        self.head, self.length = config.head_dim, 0
        self.cosines = np.empty((config.context_length, config.head_dim // 2), np.float32)
        self.sines = np.empty_like(self.cosines)
        self.frequencies, self.factor = rotary_frequencies(config.head_dim, theta, self.scaling)

    def reach(self, length: int) -> None:
        """Fills the tables up to `length` positions or more."""
        while self.length < min(length, len(self.cosines)):
            end = min(len(self.cosines), self.length + _TABLE_STEP)
            positions = np.arange(self.length, end, dtype=np.float32)[:, None]
            frequencies = self.frequencies
            if self.scaling is not None and self.scaling.kind == "dynamic":
                # As when every token is decoded alone: the base grows with the length up to this position.
                frequencies = np.stack(
                    [dynamic_frequencies(self.head, self.theta, self.scaling, p + 1) for p in range(self.length, end)]
                )
            angle = positions * frequencies
            self.cosines[self.length : end] = np.cos(angle) * np.float32(self.factor)
            self.sines[self.length : end] = np.sin(angle) * np.float32(self.factor)
            self.length = end


def _sinusoids(count: int, width: int, padded: int) -> Floats:
    """As `model.positions.sinusoidal_table`, padded."""
    rate = np.exp(np.arange(0, width, 2) * (-math.log(10000.0) / width))
    table = np.zeros((count, padded), np.float32)
    table[:, 0:width:2] = np.sin(np.arange(count)[:, None] * rate)
    table[:, 1:width:2] = np.cos(np.arange(count)[:, None] * rate[: width // 2])
    return table
