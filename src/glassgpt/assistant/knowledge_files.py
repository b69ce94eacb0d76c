"""Files into the knowledge: a file or a folder as it is on disk, or an index that was made before."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from glassgpt.assistant.documents import read_documents
from glassgpt.assistant.encoders import Encoders
from glassgpt.assistant.index import Index, Source
from glassgpt.assistant.knowledge import Added, Knowledge, check_known
from glassgpt.assistant.passage import Note, Passage
from glassgpt.core.errors import ConfigError, InputError, NotFoundError
from glassgpt.core.words import Sentence
from glassgpt.data.mojibake import repair_mojibake
from glassgpt.data.repair import strip_html
from glassgpt.formats.catalog import cache_folder

INDEX = ".db"  # the ending of an index
DEFAULT_INDEX = "knowledge.db"


@dataclass
class AddedFiles:
    """What became of files: of each, and what could not be read."""

    added: list[Added] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def add_files(knowledge: Knowledge, paths: Sequence[str | Path], *, columns: Mapping[str, str] | None = None,
              encoding: str | None = None,
              progress: Callable[[int, int], None] = lambda done, all: None) -> AddedFiles:  # fmt: skip
    """Add files and folders, each under its name; one that is there unchanged is not read by the encoders again.

    All are read before the first is added: where one is wrong, nothing has happened.

    Raises:
        GlassError: as `documents.read_documents`.
        InputError: two of them have one name.
    """
    found, documents = AddedFiles(), []
    for path in paths:
        some = read_documents(path, columns=columns, encoding=encoding)
        found.notes += some.notes
        documents += some.documents
    names: set[str] = set()
    for document in documents:
        if document.source in names:
            raise InputError(
                "two files are called {name}",
                hint="Rename one, or give the folder that holds both.",
                name=document.source,
            )
        names.add(document.source)
    for document in documents:
        notes = [*document.notes, *_dirt(document.passages)]
        found.added.append(knowledge.add(document.source, document.sha256, document.passages, notes, progress))
    return found


def _dirt(passages: Sequence[Passage]) -> list[Note]:
    """What a customer would see of mark-up and wrong decoding, since answers are quoted as they stand."""
    count = sum(strip_html(p.text) != p.text or repair_mojibake(p.text) != p.text for p in passages)
    if not count:
        return []
    return [Note(Sentence("passages with mark-up or wrongly decoded characters, quoted as they stand: {count} "
                          "(`glassgpt clean` mends them)", count=count))]  # fmt: skip


def open_index(path: Path, encoders: Encoders | None, *, make: bool = False) -> Knowledge:
    """An index; raises NotFoundError where there is none and none may be made."""
    if not make and not path.is_file():
        raise NotFoundError("there is no index {path}", hint="Make it with `glassgpt knowledge add FILE`.", path=path)
    return Knowledge(path, encoders)


def list_sources(path: Path) -> list[Source]:
    """The files of an index; raises NotFoundError where there is none."""
    return _unread(path).sources()


def remove_files(path: Path, names: Sequence[str]) -> None:
    """Forget files of an index: all of them or none. Raises NotFoundError where there is no index, or no such file."""
    index = _unread(path)
    known = [source.name for source in index.sources()]
    for name in names:
        check_known(name, known)
    for name in names:
        index.drop(name)


def _unread(path: Path) -> Index:
    if not path.is_file():
        raise NotFoundError("there is no index {path}", hint="Make it with `glassgpt knowledge add FILE`.", path=path)
    return Index(path, load=False)


def open_knowledge(
    paths: Sequence[str | Path], encoders: Encoders | None,
    progress: Callable[[int, int], None] = lambda done, all: None,
) -> tuple[Knowledge, AddedFiles]:  # fmt: skip
    """What an assistant is given: one index, or files and folders. Those are indexed in the cache, once.

    Raises:
        ConfigError: an index among files.
        NotFoundError: there is no such file.
        GlassError: as `add_files`.
    """
    indexes = [path for path in paths if Path(path).suffix == INDEX]
    if indexes and len(paths) > 1:
        raise ConfigError("{path} is an index, and there is more beside it",
                          hint="Give one index, or files; `glassgpt knowledge add` adds files to an index.",
                          path=indexes[0])  # fmt: skip
    if indexes:
        return open_index(Path(indexes[0]), encoders), AddedFiles()
    for path in paths:
        if not Path(path).exists():
            raise NotFoundError("there is no file {name}", hint="Check the name and the folder.", name=path)
    places = "\0".join(sorted(str(Path(path).resolve()) for path in paths))
    name = f"{Path(paths[0]).name}-{hashlib.sha256(places.encode()).hexdigest()[:12]}{INDEX}"
    knowledge = Knowledge(cache_folder() / "knowledge" / name, encoders)
    found = add_files(knowledge, paths, progress=progress)
    present = {one.source for one in found.added}
    for source in knowledge.sources():  # what is no longer on disk is no longer known
        if source.name not in present:
            knowledge.remove(source.name)
    return knowledge, found
