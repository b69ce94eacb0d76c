"""Token shards: a training set on disk as plain arrays that are mapped into memory, never read whole.

    manifest.json          counts, hashes, the tokenizer's fingerprint, the sources
    tokens-00000.npy ...   the ids of all documents, one after the other, cut every `shard_tokens`
    mask-00000.npy ...     1 where a token is learned; absent when all are
    starts.npy             where each document begins, and the end of the last
    sources.npy, rows.npy  of each document its source (a place in the manifest's list) and its row

So any token can be traced back to the file and row that it came from.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from glassgpt.core.errors import FormatError, InputError
from glassgpt.core.files import new_folder, sha256
from glassgpt.core.words import Sentence
from glassgpt.text.tokenizer import Tokenizer

MANIFEST = "manifest.json"
SHARD_TOKENS = 1 << 26
_VERSION = 1


class Document(Protocol):
    """What is written: `data.examples.Example`, or anything like it."""

    @property
    def ids(self) -> list[int]: ...
    @property
    def loss_mask(self) -> list[bool]: ...
    @property
    def source(self) -> str: ...
    @property
    def number(self) -> int: ...


@dataclass(frozen=True)
class Manifest:
    """What stands in manifest.json. `sources` gives the documents of each source; `files` the SHA-256 of each file."""

    tokens: int
    trained: int
    documents: int
    dtype: str
    masked: bool
    shard_tokens: int
    tokenizer: str
    sources: dict[str, int]
    files: dict[str, str]
    version: int = _VERSION


@dataclass(frozen=True)
class Origin:
    """Where a token came from: its source, the row in it, and how many tokens of that document stand before it."""

    source: str
    row: int
    offset: int


@dataclass
class _Writer:
    """Gathers tokens and writes a shard whenever enough are there."""

    folder: Path
    dtype: np.dtype[Any]
    shard_tokens: int
    written: int = 0
    masked: bool = False
    ids: list[np.ndarray] = field(default_factory=list)
    mask: list[np.ndarray] = field(default_factory=list)
    held: int = 0

    def add(self, ids: np.ndarray, mask: np.ndarray) -> None:
        self.ids.append(ids)
        self.mask.append(mask)
        self.held += len(ids)
        while self.held >= self.shard_tokens:
            self.flush(self.shard_tokens)

    def flush(self, count: int) -> None:
        ids, mask = np.concatenate(self.ids), np.concatenate(self.mask)
        np.save(self.folder / f"tokens-{self.written:05d}.npy", ids[:count])
        np.save(self.folder / f"mask-{self.written:05d}.npy", mask[:count])
        self.masked |= not mask[:count].all()
        self.ids, self.mask, self.held = [ids[count:]], [mask[count:]], len(ids) - count
        self.written += 1


def write_shards(
    documents: Iterable[Document],
    folder: Path,
    tokenizer: Tokenizer,
    *,
    shard_tokens: int = SHARD_TOKENS,
    progress: Callable[[int], None] = lambda documents: None,
) -> Manifest:
    """Write documents to a new folder, which appears when it is whole.

    Raises:
        InputError: there is no document, or an id is not in the vocabulary.
        GlassError: the disk refused.
    """
    dtype = np.dtype("<u2" if tokenizer.vocab_size <= 1 << 16 else "<u4")
    starts, sources, rows, names = [0], [], [], Counter[str]()
    places: dict[str, int] = {}
    trained = 0
    with new_folder(folder) as temporary:
        writer = _Writer(temporary, dtype, shard_tokens)
        for document in documents:
            ids = np.asarray(document.ids, dtype=np.int64)
            if len(ids) and not 0 <= ids.min() <= ids.max() < tokenizer.vocab_size:
                raise InputError(
                    "{source}, row {row}: an id is not in the vocabulary of {size}",
                    source=document.source,
                    row=document.number,
                    size=tokenizer.vocab_size,
                )
            mask = np.asarray(document.loss_mask, dtype=np.uint8)
            writer.add(ids.astype(dtype), mask)
            trained += int(mask[1:].sum())
            starts.append(starts[-1] + len(ids))
            names[document.source] += 1
            sources.append(places.setdefault(document.source, len(places)))
            rows.append(document.number)
            progress(len(rows))
        if not rows or not starts[-1]:
            raise InputError("there are no tokens to write", hint="Give at least one text.")
        if writer.held:
            writer.flush(writer.held)
        if not writer.masked:
            for path in temporary.glob("mask-*.npy"):
                path.unlink()
        np.save(temporary / "starts.npy", np.asarray(starts, dtype="<u8"))
        np.save(temporary / "sources.npy", np.asarray(sources, dtype="<u4"))
        np.save(temporary / "rows.npy", np.asarray(rows, dtype="<u8"))
        manifest = Manifest(
            tokens=starts[-1], trained=trained, documents=len(rows), dtype=dtype.name, masked=writer.masked,
            shard_tokens=shard_tokens, tokenizer=tokenizer.fingerprint(), sources=dict(names),
            files={path.name: sha256(path) for path in sorted(temporary.glob("*.npy"))},
        )  # fmt: skip
        text = json.dumps(asdict(manifest), indent=1, ensure_ascii=False)
        (temporary / MANIFEST).write_text(text + "\n", encoding="utf-8")
    return manifest


class Shards:
    """A folder of shards, open for reading. `len` is its tokens."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest = folder, manifest
        count = -(-manifest.tokens // manifest.shard_tokens)
        self._tokens = [self._array(f"tokens-{i:05d}.npy", manifest.dtype) for i in range(count)]
        self._mask = [self._array(f"mask-{i:05d}.npy", "uint8") for i in range(count)] if manifest.masked else None
        self.starts = self._array("starts.npy", "uint64")
        self._sources, self._rows = self._array("sources.npy", "uint32"), self._array("rows.npy", "uint64")
        self._names = list(manifest.sources)
        sizes = [sum(map(len, self._tokens)), len(self.starts) - 1, len(self._sources), len(self._rows)]
        if sizes != [manifest.tokens, *[manifest.documents] * 3] or int(self.starts[-1]) != manifest.tokens:
            raise self._damaged(MANIFEST, f"{sizes}")

    def __len__(self) -> int:
        return self.manifest.tokens

    @property
    def documents(self) -> int:
        """How many documents there are."""
        return self.manifest.documents

    def tokens(self, start: int, stop: int) -> np.ndarray:
        """The ids from `start` up to `stop`, as int64."""
        return self._slice(self._tokens, start, stop).astype(np.int64)

    def mask(self, start: int, stop: int) -> np.ndarray:
        """Which tokens from `start` up to `stop` are learned."""
        if self._mask is None:
            return np.ones(stop - start, dtype=bool)
        return self._slice(self._mask, start, stop).astype(bool)

    def span(self, document: int) -> tuple[int, int]:
        """Where a document begins and ends."""
        return int(self.starts[document]), int(self.starts[document + 1])

    def document_of(self, position: int) -> int:
        """The document that the token at `position` belongs to."""
        return int(np.searchsorted(self.starts, np.uint64(position), side="right")) - 1

    def origin(self, position: int) -> Origin:
        """Where the token at `position` came from."""
        document = self.document_of(position)
        source = self._names[int(self._sources[document])]
        return Origin(source, int(self._rows[document]), position - int(self.starts[document]))

    def verify(self) -> None:
        """Hash every file; raises FormatError naming the first that is not the one that was written."""
        for name, wanted in self.manifest.files.items():
            if sha256(self.folder / name) != wanted:
                raise self._damaged(name, Sentence("its content is not what was written"))

    def _slice(self, parts: list[np.ndarray], start: int, stop: int) -> np.ndarray:
        size = self.manifest.shard_tokens
        if start == stop:  # maybe behind the last token, where no part is
            return parts[0][:0]
        first, last = start // size, (stop - 1) // size
        pieces = [parts[i][max(start - i * size, 0) : min(stop - i * size, size)] for i in range(first, last + 1)]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def _array(self, name: str, dtype: str) -> np.ndarray:
        try:
            array = np.load(self.folder / name, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise self._damaged(name, str(error)) from None
        if array.ndim != 1 or array.dtype != np.dtype(dtype):
            raise self._damaged(name, f"{array.dtype}{list(array.shape)}")
        return array

    def _damaged(self, name: str, reason: str | Sentence) -> FormatError:
        return FormatError(
            "{path} is damaged ({reason})", hint="Make the shards anew.", path=self.folder / name, reason=reason
        )


def open_shards(folder: Path, tokenizer: Tokenizer | None = None) -> Shards:
    """Open a folder that `write_shards` made.

    Raises:
        FormatError: a file is missing, cut off or of another kind, or the shards were made with another tokenizer.
    """
    path = folder / MANIFEST
    try:
        manifest = Manifest(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise FormatError(
            "{path} is damaged ({reason})", hint="Make the shards anew.", path=path, reason=str(error)
        ) from None
    if manifest.version != _VERSION:
        raise FormatError(
            "{path} has version {version}; this glassgpt reads version {known}",
            hint="Update glassgpt.",
            path=path,
            version=manifest.version,
            known=_VERSION,
        )
    if tokenizer is not None and tokenizer.fingerprint() != manifest.tokenizer:
        raise FormatError(
            "{folder}: the shards were made with another tokenizer", hint="Make the shards anew.", folder=folder
        )
    return Shards(folder, manifest)
