"""The packed file in which multilingual-e5-small comes (Wang et al. 2024, arXiv:2402.05672): an encoder in 4 bits.

The file begins with the letters E5S1: sizes, the pieces of the tokenizer with their scores, what single characters
become before they are looked up, and the tensors, of which a directory tells names and places. Matrices are blocks of
GGUF's Q4_0, vectors float32. No torch here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glassgpt.core.errors import FormatError, GlassError
from glassgpt.formats.gguf_blocks import KINDS, dequantize
from glassgpt.formats.stored import Numbers, Stored
from glassgpt.model.config import ModelConfig

_MAGIC = b"E5S1"
_Q4_0 = KINDS[2]
_MOST_PIECES, _MOST_LAYERS, _MOST_TENSORS = 1 << 20, 96, 4096
_MATRICES = {"q": "attention.q_proj", "k": "attention.k_proj", "v": "attention.v_proj", "ao": "attention.out_proj",
             "fi": "mlp.up", "fo": "mlp.down"}  # fmt: skip


@dataclass(frozen=True)
class Pieces:
    """A unigram tokenizer as plain lists.

    - `pieces`, `scores`: the entries, in the order of their ids, and their log-probabilities.
    - `begin`, `end`, `unknown`: ids.
    - `changes`: what single characters become, by their numbers.
    """

    pieces: list[str]
    scores: list[float]
    begin: int
    end: int
    unknown: int
    changes: dict[int, str]


@dataclass(frozen=True)
class EncoderFile:
    """What is in the file; `tensors` bear the names of `model.encoder`."""

    config: ModelConfig
    pieces: Pieces
    tensors: dict[str, Stored]


@dataclass(frozen=True)
class _Blocks:
    """A matrix in blocks of Q4_0."""

    shape: tuple[int, int]
    raw: NDArray[np.uint8]
    kind: str = "Q4_0"

    def blocks(self) -> NDArray[np.uint8]:
        return self.raw.reshape(self.shape[0], -1)

    def float32(self, pool: object = None) -> NDArray[np.float32]:
        return dequantize(self.raw.reshape(-1, _Q4_0.bytes), _Q4_0).reshape(self.shape)


def is_e5(path: Path) -> bool:
    """Whether a file begins like one of these."""
    try:
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def read_e5(path: Path) -> EncoderFile:
    """Reads the file; its tensors are views of it.

    Raises:
        FormatError: it is another kind of file, or damaged.
    """
    try:
        data = np.memmap(path, np.uint8, "r")
        return _read(memoryview(data), path.name)  # type: ignore[arg-type]
    except GlassError:
        raise
    except (OSError, ValueError, KeyError, struct.error, UnicodeDecodeError, OverflowError) as error:
        raise FormatError(
            "{file} is not a packed encoder, or damaged ({reason})",
            hint="Fetch it again with `glassgpt models pull e5-small`.",
            file=path.name,
            reason=str(error)[:100] or type(error).__name__,
        ) from None


def _read(data: memoryview, name: str) -> EncoderFile:
    cursor = _Cursor(data)
    if cursor.bytes(4) != _MAGIC:
        raise ValueError("it does not begin with E5S1")
    cursor.numbers("I")  # the version
    width, layers, heads, mlp, vocabulary, context, types = cursor.numbers("7i")
    eps, group = cursor.numbers("fi")
    if group != 32 or not 0 < layers <= _MOST_LAYERS:
        raise ValueError(f"groups of {group} and {layers} layers")
    config = ModelConfig(
        vocab_size=vocabulary, n_layer=layers, n_head=heads, n_embd=width, mlp_dim=mlp, context_length=context,
        positions="learned", norm="layernorm", norm_eps=float(eps), mlp="gelu", qkv_bias=True, out_bias=True,
        mlp_bias=True, encoder=True, family="e5",
    )  # fmt: skip
    pieces = _pieces(cursor, vocabulary)
    found = dict(_directory(cursor, data))
    sizes = {"q": (width, width), "k": (width, width), "v": (width, width), "ao": (width, width), "fi": (mlp, width),
             "fo": (width, mlp)}  # fmt: skip
    tensors: dict[str, Stored] = {"embed.weight": _matrix(found["emb.word"], (vocabulary, width))}
    places = _vector(found["emb.pos"], context * width).reshape(context, width)
    # Of the types of text that BERT has, all texts have the first.
    tensors["positions.weight"] = Numbers(places + _vector(found["emb.type"], types * width)[:width])

    def norm(ours: str, theirs: str) -> None:
        tensors[f"{ours}.weight"] = Numbers(_vector(found[f"{theirs}.w"], width))
        tensors[f"{ours}.bias"] = Numbers(_vector(found[f"{theirs}.b"], width))

    norm("blocks.0.attention_norm", "emb.ln")
    for number in range(layers):
        block = f"blocks.{number}"
        for short, ours in _MATRICES.items():
            tensors[f"{block}.{ours}.weight"] = _matrix(found[f"l{number}.{short}.w"], sizes[short])
            tensors[f"{block}.{ours}.bias"] = Numbers(_vector(found[f"l{number}.{short}.b"], sizes[short][0]))
        norm(f"{block}.mlp_norm", f"l{number}.aln")
        # A norm stands at the beginning of what follows it, as in `model.encoder`.
        norm(f"blocks.{number + 1}.attention_norm" if number + 1 < layers else "norm", f"l{number}.oln")
    return EncoderFile(config, pieces, tensors)


def _pieces(cursor: _Cursor, vocabulary: int) -> Pieces:
    count, begin, end, _, unknown = cursor.numbers("5i")
    (size,) = cursor.numbers("Q")
    if not 0 < count <= min(vocabulary, _MOST_PIECES) or not all(0 <= id < count for id in (begin, end, unknown)):
        raise ValueError(f"{count} pieces of {vocabulary}")
    offsets = np.frombuffer(cursor.bytes(4 * (count + 1)), "<u4").tolist()
    scores = np.frombuffer(cursor.bytes(4 * count), "<f4").tolist()
    letters = cursor.bytes(size)
    if offsets[-1] != size or any(a > b for a, b in pairwise(offsets)):
        raise ValueError("pieces out of order")
    words = [letters[a:b].decode() for a, b in pairwise(offsets)]
    changed, length = cursor.numbers("iI")
    changes, within = dict[int, str](), _Cursor(memoryview(cursor.bytes(length)))
    for _ in range(changed):
        (character,) = within.numbers("I")
        (letters_count,) = within.numbers("B")
        changes[character] = "".join(map(chr, within.numbers(f"{letters_count}I")))
    return Pieces(words, scores, begin, end, unknown, changes)


def _directory(cursor: _Cursor, data: memoryview) -> Iterator[tuple[str, memoryview]]:
    (count,) = cursor.numbers("i")
    if not 0 < count <= _MOST_TENSORS:
        raise ValueError(f"{count} tensors")
    for _ in range(count):
        (length,) = cursor.numbers("H")
        name = bytes(cursor.bytes(length)).decode()
        cursor.numbers("BI")  # a kind and a count, which the names imply
        start, size = cursor.numbers("QQ")
        if start + size > len(data):
            raise ValueError(f"{name} ends behind the file")
        yield name, data[start : start + size]


def _matrix(data: memoryview, shape: tuple[int, int]) -> _Blocks:
    expected = shape[0] * shape[1] // _Q4_0.values * _Q4_0.bytes
    if len(data) != expected:
        raise ValueError(f"a matrix has {len(data)} bytes instead of {expected}")
    return _Blocks(shape, np.frombuffer(data, np.uint8))


def _vector(data: memoryview, count: int) -> NDArray[np.float32]:
    if len(data) != 4 * count:
        raise ValueError(f"a vector has {len(data)} bytes instead of {4 * count}")
    return np.frombuffer(data, "<f4").astype(np.float32)


class _Cursor:
    def __init__(self, data: memoryview) -> None:
        self.data, self.at = data, 0

    def bytes(self, count: int) -> bytes:
        if count < 0 or self.at + count > len(self.data):
            raise ValueError("it ends too early")
        self.at += count
        return bytes(self.data[self.at - count : self.at])

    def numbers(self, kinds: str) -> tuple[int, ...]:
        form = struct.Struct("<" + kinds)
        return form.unpack(self.bytes(form.size))
