"""GGUF files: metadata, tokenizer lists and tensors, read with every number distrusted.

A GGUF file is a header, key/value pairs, a table of tensors and their data, each tensor quantised in blocks.
The parsing is ours, because a file comes from outside: every count is checked against the bytes that are
there before anything is read or allocated. What the blocks mean stands in `gguf_blocks`.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from glassgpt.core.errors import FormatError, NotFoundError
from glassgpt.core.words import Sentence
from glassgpt.formats.gguf_blocks import KINDS, Bytes, Floats, Kind, dequantize
from glassgpt.text.tokenizer import TokenizerLists

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_MAX_KEYS, _MAX_TENSORS, _MAX_NAME, _MAX_STRING = 10_000, 100_000, 1_024, 1 << 24


@dataclass(frozen=True)
class TensorInfo:
    """One tensor in the file. `shape` is outermost first (rows, columns), as numpy and torch write it."""

    name: str
    shape: tuple[int, ...]
    kind: Kind
    start: int  # bytes from the beginning of the file
    size: int  # bytes


class GGUF:
    """An open GGUF file. Use `read_gguf` to make one; `with` closes it."""

    def __init__(self, path: Path, data: mmap.mmap, metadata: dict[str, Any], tensors: dict[str, TensorInfo]) -> None:
        self.path, self.metadata, self.tensors = path, metadata, tensors
        self._data = data

    def __enter__(self) -> GGUF:
        return self

    def __exit__(self, *exc: object) -> None:
        with contextlib.suppress(BufferError):  # somebody still holds a view: the file closes with the last of them
            self._data.close()

    def get(self, key: str, kind: type | tuple[type, ...], default: Any = None) -> Any:
        """A metadata value, checked for its kind; `default` where the key is absent.

        Raises:
            FormatError: the value is of another kind.
        """
        value = self.metadata.get(key, default)
        wrong = not isinstance(value, kind) or (isinstance(value, bool) and kind in (int, float, (int, float)))
        if key in self.metadata and wrong:
            raise FormatError(
                "{file}: {key} is {value}; expected another kind of value",
                hint="The file is damaged or made by an unknown tool; fetch it again.",
                file=self.path.name,
                key=key,
                value=repr(value)[:60],
            )
        return value

    def require(self, key: str, kind: type | tuple[type, ...]) -> Any:
        """As `get`, for a key that must be there."""
        if key not in self.metadata:
            raise FormatError(
                "{file}: the key {key} is missing",
                hint="The file is damaged or not a language model; fetch it again.",
                file=self.path.name,
                key=key,
            )
        return self.get(key, kind)

    def tokenizer_lists(self) -> TokenizerLists:
        """The plain lists from which `text` builds the tokenizer."""
        prefix = "tokenizer.ggml."
        if self.metadata.get(prefix + "model") is None:
            raise FormatError(
                "{file} carries no tokenizer",
                hint="Use a GGUF file of a whole language model, not of an adapter or a part.",
                file=self.path.name,
            )
        model = self.require(prefix + "model", str)
        return TokenizerLists(
            model=model,
            pre=self.get(prefix + "pre", str, "default"),
            tokens=self.require(prefix + "tokens", list),
            scores=self.get(prefix + "scores", list),
            types=self.get(prefix + "token_type", list),
            merges=self.get(prefix + "merges", list),
            bos_id=self.get(prefix + "bos_token_id", int),
            eos_id=self.get(prefix + "eos_token_id", int),
            unk_id=self.get(prefix + "unknown_token_id", int),
            pad_id=self.get(prefix + "padding_token_id", int),
            # llama.cpp's defaults where a file is silent: SentencePiece models start with BOS and a space.
            add_bos=self.get(prefix + "add_bos_token", bool, model == "llama"),
            add_space_prefix=self.get(prefix + "add_space_prefix", bool, model == "llama"),
        )

    def raw(self, info: TensorInfo) -> Bytes:
        """The tensor's bytes as they lie in the file, [size] uint8: a view, nothing is read yet."""
        return np.frombuffer(self._data, dtype=np.uint8, count=info.size, offset=info.start)

    def dequantize(self, info: TensorInfo, pool: ThreadPoolExecutor | None = None) -> Floats:
        """The tensor as float32 in its shape; `pool` spreads the chunks of a large one over threads."""
        return dequantize(self.raw(info).reshape(-1, info.kind.bytes), info.kind, pool).reshape(info.shape)


def read_gguf(path: str | Path) -> GGUF:
    """Open and check a GGUF file (versions 2 and 3, little endian).

    Raises:
        NotFoundError: there is no such file.
        FormatError: it is not GGUF, is damaged or cut off, or holds a type that cannot be read.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size < 24:
                raise _damaged(path, "it is shorter than a header")
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (FileNotFoundError, IsADirectoryError):
        raise NotFoundError("there is no file {path}", hint="Check the path.", path=path) from None
    try:
        return _Parser(path, data).parse()
    except BaseException:
        data.close()
        raise


class _Parser:
    """Walks the header once, front to back."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self.path, self.data, self.at = path, data, 0

    def parse(self) -> GGUF:
        magic, version = self.take(4), self.number("I")
        if magic != b"GGUF":
            raise FormatError(
                "{file} is not a GGUF file: it starts with {magic}",
                hint="Give a .gguf file, a folder with safetensors, or a name from `glassgpt models`.",
                file=self.path.name,
                magic=repr(magic),
            )
        if version not in (2, 3):
            raise FormatError(
                "{file} has GGUF version {version}; versions 2 and 3 (little endian) can be read",
                hint="Convert it again with a current tool.",
                file=self.path.name,
                version=version,
            )
        tensor_count, key_count = self.number("Q"), self.number("Q")
        self.limit(tensor_count, _MAX_TENSORS, Sentence("tensors"))
        self.limit(key_count, _MAX_KEYS, Sentence("keys"))
        metadata: dict[str, Any] = {}
        for _ in range(key_count):
            key = self.string(_MAX_NAME)
            if key in metadata:
                raise _damaged(self.path, "the key {key!r} stands twice", key=key)
            metadata[key] = self.value(self.number("I"))
        return GGUF(self.path, self.data, metadata, self.tensor_table(tensor_count, metadata))

    def tensor_table(self, count: int, metadata: dict[str, Any]) -> dict[str, TensorInfo]:
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 1 <= alignment <= 1 << 20:
            raise _damaged(self.path, "its alignment is {alignment!r}", alignment=alignment)
        entries = []
        for _ in range(count):
            name, n_dims = self.string(_MAX_NAME), self.number("I")
            self.limit(n_dims, 4, Sentence("dimensions"))
            shape = tuple(self.number("Q") for _ in range(n_dims))[::-1]
            entries.append((name, shape, self.number("I"), self.number("Q")))
        data_start = -(-self.at // alignment) * alignment
        table: dict[str, TensorInfo] = {}
        for name, shape, kind_id, offset in entries:
            info = self.tensor(name, shape, kind_id, data_start + offset)
            if name in table:
                raise _damaged(self.path, "the tensor {name!r} stands twice", name=name)
            if offset % alignment:
                raise _damaged(self.path, "the tensor {name!r} is not aligned", name=name)
            table[name] = info
        return table

    def tensor(self, name: str, shape: tuple[int, ...], kind_id: int, start: int) -> TensorInfo:
        kind = KINDS.get(kind_id)
        if kind is None:
            raise FormatError(
                "{file}: tensor {name!r} has the unknown type {kind}",
                hint="Use a file quantised to a standard type such as Q8_0 or Q4_K_M.",
                file=self.path.name,
                name=name,
                kind=kind_id,
            )
        values = 1
        for size in shape:
            values *= size
        if values == 0 or not shape or shape[-1] % kind.values:
            raise _damaged(self.path, "the tensor {name!r} has the shape {shape}", name=name, shape=shape)
        size = values // kind.values * kind.bytes
        if start + size > len(self.data):
            raise FormatError(
                "{file} is cut off: tensor {name!r} needs bytes up to {end}, the file has {size}",
                hint="The download did not finish; fetch the file again.",
                file=self.path.name,
                name=name,
                end=start + size,
                size=len(self.data),
            )
        return TensorInfo(name, shape, kind, start, size)

    def take(self, count: int) -> bytes:
        if count > len(self.data) - self.at:
            raise _damaged(self.path, "it ends inside its header, at byte {size}", size=len(self.data))
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, code: str) -> Any:
        return struct.unpack("<" + code, self.take(struct.calcsize(code)))[0]

    def string(self, longest: int = _MAX_STRING) -> str:
        length = self.number("Q")
        self.limit(length, longest, Sentence("bytes in a string"))
        try:
            return self.take(length).decode("utf-8")
        except UnicodeDecodeError:
            raise _damaged(self.path, "a string in its header is not UTF-8") from None

    def value(self, kind: int) -> Any:
        if kind in _SCALARS:
            return self.number(_SCALARS[kind])
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY:
            raise _damaged(self.path, "a value has the unknown kind {kind}", kind=kind)
        item, count = self.number("I"), self.number("Q")
        if item in _SCALARS:
            self.limit(count, len(self.data), Sentence("items in a list"))
            return list(struct.unpack(f"<{count}{_SCALARS[item]}", self.take(count * struct.calcsize(_SCALARS[item]))))
        if item != _STRING:  # lists of lists are allowed by the format and used by nobody
            raise _damaged(self.path, "a list has items of the unknown kind {kind}", kind=item)
        self.limit(count, (len(self.data) - self.at) // 8, Sentence("strings in a list"))
        return self.strings(count)

    def strings(self, count: int) -> list[str]:
        """As `string`, without a call per item: a vocabulary has a quarter of a million."""
        data, at, end, unpack = self.data, self.at, len(self.data), struct.Struct("<Q").unpack_from
        found = []
        try:
            for _ in range(count):
                length = unpack(data, at)[0]
                stop = at + 8 + length
                if length > _MAX_STRING or stop > end:
                    raise _damaged(self.path, "a string of {length} bytes does not fit", length=length)
                found.append(data[at + 8 : stop].decode("utf-8"))
                at = stop
        except (struct.error, UnicodeDecodeError):
            raise _damaged(self.path, "a list of strings in its header cannot be read") from None
        self.at = at
        return found

    def limit(self, given: int, most: int, what: Sentence) -> None:
        if given > most:
            raise _damaged(
                self.path, "it claims {given} {what}, at most {most} are possible", given=given, what=what, most=most
            )


def _damaged(path: Path, what: str, /, **facts: Any) -> FormatError:
    return FormatError(
        "{file} is damaged or not GGUF: {what}",
        hint="Fetch the file again, and check its hash.",
        file=path.name,
        what=Sentence(what, **facts),
    )
