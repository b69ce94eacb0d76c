"""The one door for the user's own files: each becomes a document with passages, and what could not be read is told.

    for document in read_documents("faq/"): ...

Files come from anywhere. Each kind of file has limits of its own beside those here, and nothing in a file is ever run,
fetched or written to disk.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from glassgpt.assistant.documents_docx import read_docx
from glassgpt.assistant.documents_html import read_html
from glassgpt.assistant.documents_pdf import read_pdf
from glassgpt.assistant.documents_table import read_records, read_table
from glassgpt.assistant.documents_text import read_markdown, read_text
from glassgpt.assistant.outline import MAX_PASSAGES, Reading
from glassgpt.assistant.passage import Document, Note, Passage
from glassgpt.core.errors import FormatError, GlassError, InputError, NotFoundError, nearest
from glassgpt.core.words import Sentence
from glassgpt.data.encoding import show_marks
from glassgpt.data.reading import cannot_open

MAX_BYTES = 64 << 20  # of a file
MAX_FILES = 10_000  # of a folder
KINDS = {
    **dict.fromkeys((".csv", ".tsv", ".psv", ".ssv", ".tab"), "table"),
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), "records"),
    **dict.fromkeys((".md", ".markdown"), "markdown"),
    **dict.fromkeys((".txt", ".text"), "text"),
    **dict.fromkeys((".html", ".htm", ".xhtml"), "html"),
    ".pdf": "pdf",
    ".docx": "docx",
}


@dataclass(frozen=True)
class Documents:
    """The documents of a file or a folder, and what the user should know of files that are none.

    - `documents`: in the order of their names.
    - `notes`: files that were left out or could not be read; each a `Note`.
    """

    documents: list[Document] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[Document]:
        return iter(self.documents)

    def __len__(self) -> int:
        return len(self.documents)

    def __getitem__(self, index: int) -> Document:
        return self.documents[index]


def read_documents(
    path: str | Path, *, columns: Mapping[str, str] | None = None, encoding: str | None = None
) -> Documents:
    """The documents of a file, or of a folder with its folders.

    In a folder, a file that cannot be read is a note; a link that leads out of the folder is not followed.

    Args:
        columns, encoding: as `read_document` takes them, for all files.

    Raises:
        NotFoundError: there is nothing at `path`.
        GlassError: as `read_document`, where `path` is a file or no file of the folder could be read.
        InputError: the folder holds no file of a known kind, or too many.
        FormatError: the folder's files have too many passages together.
    """
    path = Path(path)
    if not _mode(path, stat.S_ISDIR):
        return Documents([read_document(path, columns=columns, encoding=encoding)])
    found = Documents()
    files = _files(path, found.notes)
    passages = 0
    first: GlassError | None = None
    for name, file in files:
        try:
            document = read_document(file, name, columns=columns, encoding=encoding)
        except GlassError as error:
            first = first or error
            found.notes.append(Note(Sentence("{name} was not read: {error}", name=name, error=error.sentence())))
            continue
        passages += len(document.passages)
        if passages > MAX_PASSAGES:
            raise FormatError(
                "{name} has more than {limit} passages",
                hint="Split it into several files, and add those that are asked about.",
                name=shown_name(path.name),
                limit=f"{MAX_PASSAGES:,}",
            )
        found.documents.append(document)
    if not found.documents:
        if first is not None:
            raise first
        raise InputError(
            "the folder {name} holds no file that can be read",
            hint="The kinds are {kinds}.",
            name=shown_name(path.name),
            kinds=" ".join(KINDS),
        )
    return found


def read_document(
    path: str | Path,
    source: str | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    encoding: str | None = None,
) -> Document:
    """One file with its passages.

    Args:
        source: the name it is known by; the file's own unless given, and never one that leads elsewhere.
        columns: {"prompt": a column, "response": a column} of a table, where they are not found by their names.
        encoding: of a text, a table or a page, where what is found is wrong.

    Raises:
        NotFoundError: there is no such file.
        FormatError: it is damaged, encrypted, too large, of a kind that is not read, or made to do harm.
        InputError: it holds nothing to read, or `source` is no name.
        ConfigError: `columns` or `encoding` names what is not there, or a library is missing.
    """
    path = Path(path)
    name = shown_name(path.name) if source is None else checked_name(source)
    kind = KINDS.get(path.suffix.lower())
    if not _mode(path, stat.S_ISREG):
        raise FormatError("{name} is neither a file nor a folder", hint="Give a file.", name=name)
    if kind is None:
        raise FormatError(
            "{name} is of a kind that is not read", hint="The kinds are {kinds}.", name=name, kinds=" ".join(KINDS)
        )
    data = _bytes(path, name)
    reading = Reading(name)
    if kind == "table":
        read_table(path, reading, columns, encoding)
    elif kind == "records":
        read_records(path, reading, columns, encoding)
    elif kind == "markdown":
        read_markdown(path, reading, encoding)
    elif kind == "text":
        read_text(path, reading, encoding)
    elif kind == "html":
        read_html(data, reading, encoding)
    elif kind == "pdf":
        read_pdf(data, reading)
    else:
        read_docx(data, reading)
    return Document(name, hashlib.sha256(data).hexdigest(), reading.passages, reading.notes)


def _mode(path: Path, is_kind: object) -> bool:
    try:
        return bool(is_kind(path.stat().st_mode))  # type: ignore[operator]
    except (FileNotFoundError, NotADirectoryError):
        try:
            siblings = [p.name for p in path.parent.iterdir()]
        except OSError:
            siblings = []
        near = nearest(path.name, siblings)
        raise NotFoundError(
            "there is no file {name}",
            hint="Did you mean {near}?" if near else "Check the name and the folder.",
            name=shown_name(str(path)),
            near=shown_name(near),
        ) from None
    except (OSError, ValueError) as error:  # a locked folder, a name too long, a zero character in it
        raise cannot_open(shown_name(str(path)), error) from None


def _bytes(path: Path, name: str) -> bytes:
    """All of a file, within the limit; read before its text is, so that the hash is never newer than the passages."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise cannot_open(name, error) from None
    if len(data) > MAX_BYTES:
        raise FormatError(
            "{name} is larger than {limit} MB",
            hint="Split it into several files, and add those that are asked about.",
            name=name,
            limit=MAX_BYTES >> 20,
        )
    if not data:
        raise InputError("{name} is empty", hint="Give a file that holds some text.", name=name)
    return data


def shown_name(name: str) -> str:
    """A file's name as text: bytes in it that are none, and control characters, are written out."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in show_marks(name))


def checked_name(name: str) -> str:
    """A name from outside, such as of a file that was sent; raises InputError for one that leads elsewhere."""
    parts = name.replace("\\", "/").split("/")
    if not name.strip() or len(name) > 500 or name != shown_name(name) or parts[0] == "" or ":" in parts[0] or (
        {"..", "."} & set(parts)
    ):  # fmt: skip
        raise InputError(
            "{name} is no name for a file", hint="Give its name, with folders or without, but no path to elsewhere.",
            name=repr(name[:80]),
        )  # fmt: skip
    return name


def _files(folder: Path, notes: list[str]) -> list[tuple[str, Path]]:
    """The files of a folder that are read, by their names; the others are told in `notes`."""
    home = folder.resolve()
    files: list[tuple[str, Path]] = []
    counts: dict[str, int] = {}
    hidden = away = odd = 0
    locked: list[OSError] = []
    for where, folders, names in os.walk(folder, onerror=locked.append):
        here = Path(where)
        away += sum(1 for f in folders if (here / f).is_symlink() and not f.startswith("."))
        hidden += sum(1 for f in (*folders, *names) if f.startswith("."))
        folders[:] = sorted(f for f in folders if not f.startswith(".") and not (here / f).is_symlink())
        for name in names:
            path = here / name
            if name.startswith("."):
                continue
            if path.is_symlink() and not path.resolve().is_relative_to(home):
                away += 1
            elif not path.is_file():
                odd += 1
            elif path.suffix.lower() not in KINDS:
                suffix = shown_name(path.suffix.lower())[:20]
                counts[suffix] = counts.get(suffix, 0) + 1
            else:
                files.append((shown_name(path.relative_to(folder).as_posix()), path))
        if len(files) > MAX_FILES:
            raise InputError(
                "the folder {name} holds more than {limit} files",
                hint="Add the folders in it one by one.",
                name=shown_name(folder.name),
                limit=f"{MAX_FILES:,}",
            )
    if counts:
        kinds = ", ".join(f"{suffix or '-'} {count}" for suffix, count in sorted(counts.items())[:20])
        notes.append(Note(Sentence("files of kinds that are not read: {count} ({kinds})", count=sum(counts.values()),
                                   kinds=kinds)))  # fmt: skip
    if away:
        notes.append(Note(Sentence("links to folders or out of the folder, not followed: {count}", count=away)))
    if hidden:
        notes.append(Note(Sentence("names that begin with a full stop, left out: {count}", count=hidden)))
    if odd:
        notes.append(Note(Sentence("no files, or links to nothing, left out: {count}", count=odd)))
    for error in locked:
        notes.append(Note(Sentence("{name} was not read: {error}", name=shown_name(Path(error.filename).name),
                                   error=error.strerror or "")))  # fmt: skip
    return sorted(files)


__all__ = ["KINDS", "MAX_BYTES", "Document", "Documents", "Passage", "read_document", "read_documents"]
