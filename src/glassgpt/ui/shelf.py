"""The files that the page's assistants answer from. Nothing is loaded for it before it is needed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from glassgpt.assistant.index import Source
from glassgpt.assistant.knowledge import Hit, Knowledge
from glassgpt.assistant.knowledge_files import AddedFiles, add_files, list_sources, remove_files

ENCODERS = ("e5-small", "minilm")  # of the catalog: those of `load_encoders`


class Shelf:
    """A `Knowledge` in one file, which is opened, and its encoders loaded, when it is first asked. Safe to use from
    several threads; every method may wait for the disk.

    Args:
        path: the index.
        open_it: gives the knowledge of a path. `fetching`, which it is given, is called with what is being fetched,
            bytes so far and bytes in all.
        beside: files that the server was given when it started (`--knowledge`). They are searched too, and are not
            changed from here: what they hold is what lies on the disk.
    """

    def __init__(self, path: Path, open_it: Callable[[Path, Callable[[str, int, int], None]], Knowledge] | None = None,
                 beside: Knowledge | None = None) -> None:  # fmt: skip
        self.path, self.beside = path, beside
        self.fetching: tuple[str, int, int] | None = None
        self._open = open_it or open_with_encoders
        self._knowledge: Knowledge | None = None
        self._lock = threading.Lock()

    @property
    def ready(self) -> bool:
        """Whether a question is answered without loading anything."""
        return self._knowledge is not None

    def get(self) -> Knowledge:
        """The knowledge itself. Raises FetchError where an encoder cannot be brought here; the next call tries
        again."""
        with self._lock:
            if self._knowledge is None:
                try:
                    self._knowledge = self._open(self.path, self._note)
                finally:
                    self.fetching = None
            return self._knowledge

    def search(self, question: str, limit: int = 3) -> list[Hit]:
        """As `Knowledge.search`; where no file was added nothing is loaded."""
        found = self.beside.search(question, limit) if self.beside is not None else []
        if self._knowledge is not None or self.sources():
            found += self.get().search(question, limit)
        return sorted(found, key=lambda hit: -hit.score)[: max(1, limit)]

    def sources(self) -> list[Source]:
        """The files that were added here, in the order in which they were added."""
        if self._knowledge is not None:
            return self._knowledge.sources()
        return list_sources(self.path) if self.path.is_file() else []

    def add(self, paths: list[Path], progress: Callable[[int, int], None]) -> AddedFiles:
        """Add files; raises what `add_files` and `get` raise."""
        return add_files(self.get(), paths, progress=progress)

    def remove(self, name: str) -> None:
        """Forget a file; raises NotFoundError."""
        if self._knowledge is not None:
            self._knowledge.remove(name)
        else:
            remove_files(self.path, [name])

    def close(self) -> None:
        """Lets the index go."""
        for knowledge in (self._knowledge, self.beside):
            if knowledge is not None:
                knowledge.close()

    def _note(self, what: str, done: int, total: int) -> None:
        self.fetching = (what, done, total)


def open_with_encoders(path: Path, fetching: Callable[[str, int, int], None]) -> Knowledge:
    """An index with the encoders of the catalog, which are fetched where they are not here."""
    from glassgpt.assistant.encoders import load_encoders
    from glassgpt.formats.fetch import pull

    for name in ENCODERS:
        pull(name, progress=fetching)
    path.parent.mkdir(parents=True, exist_ok=True)
    return Knowledge(path, load_encoders())
