"""The suffix array of a run's training data on disk: made once in bounded memory, taken whole or not at all, mapped.

    data/origins/index.json   what it was made from, and the hash of each file
    data/origins/text.npy     the tokens plus 1, with a 0 after each document and some at the end
    data/origins/order.npy    where they begin, sorted; part after part

`build` needs some 40 bytes for each token of a part (`PART`), under 400 MB, however many tokens there are; a text
that says the same token over and over needs twice that. On disk there are 6 bytes a token, or 8 where
ids have four bytes.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassgpt.core.errors import FormatError
from glassgpt.core.files import new_folder, refusing_disk, sha256
from glassgpt.core.words import Sentence
from glassgpt.data.shards import MANIFEST, Shards
from glassgpt.inside.suffix_array import PAD, REACH, SuffixArray, sort_suffixes
from glassgpt.text.tokenizer import Tokenizer

FOLDER = "data/origins"
PART = 1 << 23  # tokens sorted at once: fewer parts answer sooner, smaller ones need less memory
_ABOUT, _TEXT, _ORDER = "index.json", "text.npy", "order.npy"
_VERSION = 1
_WRITTEN_AT_ONCE = 1 << 22

Progress = Callable[[int, int], None]  # tokens done, tokens in all


@dataclass(frozen=True)
class About:
    """What stands in index.json. `shards` is the SHA-256 of the shards' manifest, which has those of their files;
    `bytes` what all tokens say, in bytes; `seal` is a hash of all else."""

    shards: str
    part: int
    reach: int
    symbols: int
    bytes: int
    files: dict[str, str]
    version: int = _VERSION
    seal: str = ""

    def sealed(self) -> str:
        """What `seal` must be."""
        rest = {name: value for name, value in asdict(self).items() if name != "seal"}
        return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Index:
    """An index that is open. `begins` says at which symbol each document begins."""

    about: About
    array: SuffixArray
    begins: NDArray[np.int64]


def open_index(
    run: Path,
    shards: Shards,
    tokenizer: Tokenizer,
    *,
    part: int = PART,
    tell: Callable[[Sentence], None] = lambda sentence: None,
    progress: Progress = lambda done, all: None,
) -> Index:
    """The index of a run; where there is none that fits, it is made.

    Args:
        run: the run's folder.
        part: how many tokens are sorted at once when it is made.
        tell: called with what is being done and why, when it is made.

    Raises:
        GlassError: the disk refused it.
        FormatError: the shards are damaged.
    """
    folder = run / FOLDER
    try:
        return read_index(folder, shards)  # before the lock: whoever may only read the folder can still ask
    except FormatError as error:
        problem = error.sentence() if (folder / _ABOUT).exists() else None
    with _alone(run, tell):
        with suppress(FormatError):
            return read_index(folder, shards)  # another process made it meanwhile
        if problem is not None:
            tell(problem)
        tell(Sentence("indexing {count:,} tokens of training data, once", count=len(shards)))
        build_index(folder, shards, tokenizer, part=part, progress=progress)
        return read_index(folder, shards)


def read_index(folder: Path, shards: Shards) -> Index:
    """An index that is whole and was made from these shards. Every byte of it is read, which also brings it into the
    system's cache: the first question is answered as quickly as later ones.

    Raises:
        FormatError: it is missing, damaged, or was made from other shards.
    """
    try:
        given = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
        about = About(**given)
        if about.seal != about.sealed():
            raise ValueError(_ABOUT)
        if about.version != _VERSION or about.shards != sha256(shards.folder / MANIFEST):
            raise FormatError("the index {folder} was made from other data", folder=folder)
        for name in (_TEXT, _ORDER):
            if sha256(folder / name) != about.files[name]:
                raise ValueError(name)
        text = np.load(folder / _TEXT, mmap_mode="r", allow_pickle=False)
        order = np.load(folder / _ORDER, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise FormatError("the index {folder} is damaged ({reason})", folder=folder, reason=str(error)) from None
    begins = np.asarray(shards.starts, np.int64)
    return Index(about, SuffixArray(text, order, about.part, about.reach), begins + np.arange(len(begins)))


def build_index(
    folder: Path,
    shards: Shards,
    tokenizer: Tokenizer,
    *,
    part: int = PART,
    reach: int = REACH,
    progress: Progress = lambda done, all: None,
) -> None:
    """Make the index of some shards anew; it appears when it is whole. What a process that was killed left of one is
    removed, as is an older one. Raises what `open_index` does."""
    shards.verify()
    with refusing_disk(folder):
        for left in folder.parent.glob(f".{folder.name}.*"):
            shutil.rmtree(left)
        if folder.exists():
            shutil.rmtree(folder)
    lengths = np.array([len(tokenizer.token_bytes(i)) for i in range(tokenizer.vocab_size)], np.int64)
    symbols = len(shards) + shards.documents
    with new_folder(folder) as temporary:
        said = 0
        with _npy(
            temporary / _TEXT, np.dtype("<u2" if tokenizer.vocab_size < 1 << 16 else "<u4"), symbols + PAD
        ) as put:
            for ids in _symbols(shards):
                said += int(lengths[ids[ids > 0] - 1].sum())
                put(ids)
            put(np.zeros(PAD, np.int64))
        with _npy(temporary / _ORDER, np.dtype("<u4" if symbols < 1 << 32 else "<u8"), symbols) as put:
            for at in range(0, symbols, part):
                window = _read(temporary / _TEXT, at, min(at + part + reach, symbols))
                put(at + sort_suffixes(window, min(part, symbols - at), reach).astype(np.int64))
                progress(min(at + part, symbols), symbols)
        files = {name: sha256(temporary / name) for name in (_TEXT, _ORDER)}
        about = About(sha256(shards.folder / MANIFEST), part, reach, symbols, said, files)
        about = replace(about, seal=about.sealed())
        (temporary / _ABOUT).write_text(json.dumps(asdict(about), indent=1) + "\n", encoding="utf-8")


def _symbols(shards: Shards) -> Iterator[NDArray[np.int64]]:
    """All tokens plus 1 with a 0 after each document, some millions at a time."""
    starts = np.asarray(shards.starts, np.int64)
    for begin in range(0, len(shards), _WRITTEN_AT_ONCE):
        end = min(begin + _WRITTEN_AT_ONCE, len(shards))
        ids = shards.tokens(begin, end) + 1
        # After which of these tokens documents end; documents without tokens end where others do.
        first, last = np.searchsorted(starts[1:], [begin, end], side="right")
        if begin == 0:
            first = 0
        yield np.insert(ids, starts[1:][first:last] - begin, 0)


@contextmanager
def _npy(path: Path, dtype: np.dtype[Any], count: int) -> Iterator[Callable[[NDArray[np.int64]], None]]:
    """A .npy file of `count` numbers that is written piece by piece. A mapped file would not do: on a full disk writing
    to one ends the process."""
    with path.open("wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (count,)}
        np.lib.format.write_array_header_1_0(file, header)

        def put(values: NDArray[np.int64]) -> None:
            file.write(values.astype(dtype).tobytes())

        yield put


def _read(path: Path, begin: int, end: int) -> NDArray[np.unsignedinteger]:
    """A piece of a .npy file, read and not mapped: what is mapped counts as memory of the process."""
    mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    offset = path.stat().st_size - mapped.nbytes
    return np.fromfile(path, mapped.dtype, end - begin, offset=offset + begin * mapped.itemsize)


@contextmanager
def _alone(run: Path, tell: Callable[[Sentence], None]) -> Iterator[None]:
    """One process at a time makes the index of a run; the others wait, and say so."""
    from filelock import FileLock, Timeout

    path = run / f"{FOLDER}.lock"
    with refusing_disk(path):
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            tell(Sentence("another process is indexing this run; waiting for it"))
            lock.acquire()
    try:
        yield
    finally:
        lock.release()
