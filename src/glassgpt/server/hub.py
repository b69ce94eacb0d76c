"""The models that a server offers, within a limit of memory: the first is loaded at once, each other when it is first
asked for."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from glassgpt.assistant.assistant import Assistant
from glassgpt.core.errors import ConfigError, nearest
from glassgpt.engine.engine import Engine
from glassgpt.engine.language_model import LanguageModel
from glassgpt.server.ask import Ask, Turn, prepare
from glassgpt.server.problems import Problem

Load = Callable[["Entry"], LanguageModel]


@dataclass
class Entry:
    """One model of the server.

    Attributes:
        name: what clients call it.
        source: what `load` is given; of an assistant, the name of its model.
        assistant: makes an assistant of a model, where that is what answers.
        users: requests that are being answered by it.
        size: bytes of its weights and its cache, once it is loaded.
        precision: what its weights are kept in, where that is not the server's choice.
        fetching: what is being fetched for it, bytes so far and bytes in all.
        listed: whether clients of the API are told of it; not of what only the page offers.
    """

    name: str
    source: str
    created: int = field(default_factory=lambda: int(time.time()))
    model: LanguageModel | None = None
    users: int = 0
    size: int = 0
    used_at: float = 0.0
    loading: asyncio.Task[None] | None = None
    assistant: Callable[[LanguageModel], Assistant] | None = None
    precision: str | None = None
    fetching: tuple[str, int, int] | None = None
    listed: bool = True


class Hub:
    """Models by their names. One event loop uses it.

    Args:
        sources: what each model is loaded from; its name is the last part of that.
        load: gives the model of an entry; runs in a thread.
        memory: bytes that all loaded models may take together; 0: no limit. The one that was used longest ago and
            answers nobody leaves for a new one.
    """

    def __init__(self, sources: Sequence[str], load: Load, memory: int = 0) -> None:
        self.entries: dict[str, Entry] = {}
        for source in sources:
            name = source.rstrip("/\\").replace("\\", "/").split("/")[-1]
            if name in self.entries:
                name = source
            self.entries[name] = Entry(name, source)
        self.load, self.memory = load, memory
        self.unloading: list[Callable[[LanguageModel], None]] = []  # told of each model that leaves
        self._turn = asyncio.Lock()  # one model is loaded at a time
        self._turnstile = asyncio.Lock()

    def add_assistant(self, name: str, make: Callable[[LanguageModel], Assistant], model: str | None = None,
                      listed: bool = True) -> None:  # fmt: skip
        """Offer an assistant under a name of its own; its model is the first one unless named.

        Raises:
            ConfigError: a model has that name.
        """
        if name in self.entries:
            raise ConfigError(
                "a model is called {name} already", hint="Give the persona's file another name.", name=name
            )
        self.entries[name] = Entry(name, model or next(iter(self.entries)), assistant=make, listed=listed)

    def add_model(self, source: str, name: str | None = None) -> str:
        """Offer one more model; gives its name, which is that of its folder unless given."""
        name = name or source.rstrip("/\\").replace("\\", "/").split("/")[-1]
        if name not in self.entries or self.entries[name].source != source:
            while name in self.entries:
                name += "'"
            self.entries[name] = Entry(name, source, listed=False)
        return name

    def at_precision(self, name: str, precision: str | None) -> str:
        """The name under which the same model or assistant answers with its weights in that precision; None: the
        server's choice."""
        entry = self.entry(name)
        if precision is None or entry.precision is not None:
            return name
        wanted = f"{name}@{precision}"
        if wanted not in self.entries:
            source = self.at_precision(entry.source, precision) if entry.assistant else entry.source
            self.entries[wanted] = Entry(wanted, source, assistant=entry.assistant, precision=precision, listed=False)
        return wanted

    def listed(self) -> list[str]:
        """The names that clients are told."""
        return [entry.name for entry in self.entries.values() if entry.listed]

    def entry(self, name: str) -> Entry:
        """The model of that name; raises Problem (404) where there is none."""
        if name not in self.entries:
            near = nearest(name, self.listed()) or next(iter(self.entries))
            raise Problem(404, f"there is no model {name[:80]!r} here; did you mean {near!r}? `/v1/models` lists them",
                          param="model", code="model_not_found")  # fmt: skip
        return self.entries[name]

    def load_first(self) -> None:
        """Loads the first model now, before anyone asks.

        Raises:
            ConfigError: it takes more than all the memory.
            GlassError: it cannot be loaded.
        """
        entry = next(iter(self.entries.values()))
        entry.model, entry.size = self._loaded(entry)
        if 0 < self.memory < entry.size:
            self._unload(entry)
            raise ConfigError(
                "{model} takes {size} GB; all models may take {limit} GB together",
                hint="Give more with --memory, or choose a smaller model or precision.",
                model=entry.name,
                size=f"{entry.size / 1e9:.2f}",
                limit=f"{self.memory / 1e9:.2f}",
            )

    @asynccontextmanager
    async def use(self, name: str) -> AsyncIterator[LanguageModel]:
        """The model of that name, which stays loaded meanwhile.

        Raises:
            Problem: there is none (404), or no room for it as long as others answer (503).
            GlassError: it cannot be loaded.
        """
        entry = self.entry(name)
        if entry.assistant is not None:
            async with self.use(entry.source) as model:
                yield model
            return
        entry.users += 1
        try:
            if entry.model is None:
                if entry.loading is None:
                    entry.loading = asyncio.create_task(self._bring(entry))
                # Whoever asked may go away: others wait for the model too, and it is not loaded for nothing.
                await asyncio.shield(entry.loading)
                async with self._turnstile:  # all who waited go on one by one, and others have a turn between them
                    await asyncio.sleep(0)
            assert entry.model is not None
            yield entry.model
        finally:
            entry.users -= 1
            entry.used_at = time.monotonic()

    def grow(self, model: LanguageModel, more: int) -> None:
        """A model that is in use takes so many bytes more from now on, for which others leave. Raises Problem (503)
        where there is no room."""
        entry = next(entry for entry in self.entries.values() if entry.model is model)
        entry.size += more
        try:
            self._make_room(entry)
        except Problem:
            entry.size -= more
            raise

    def begin(self, failed: Callable[[Exception], None], loaded: Callable[[], None]) -> None:
        """Brings the first model while clients are served already. `loaded` is called when it is there, `failed` where
        it cannot be loaded."""
        entry = next(iter(self.entries.values()))

        async def bring() -> None:
            try:
                async with self.use(entry.name):
                    loaded()
            except Exception as error:
                failed(error)

        self._bringing = asyncio.create_task(bring())

    def close(self) -> None:
        """Ends all engines."""
        for entry in self.entries.values():
            self._unload(entry)

    def engines(self) -> dict[str, Engine]:
        """Those that run, by the names of their models."""
        return {e.name: e.model.loop for e in self.entries.values() if e.model is not None}  # type: ignore[misc]

    async def _bring(self, entry: Entry) -> None:
        """Loads a model, after others have made room for it."""
        try:
            async with self._turn:
                self._make_room(entry)
                # Loading makes many objects that stay. To look through them meanwhile would hold up everyone, 90 ms.
                gc.disable()
                try:
                    entry.model, entry.size = await asyncio.to_thread(self._loaded, entry)
                finally:
                    gc.freeze()
                    gc.enable()
                try:
                    self._make_room(entry)  # now that its size is known
                except Problem:
                    self._unload(entry)
                    raise
        finally:
            entry.loading = None

    def _loaded(self, entry: Entry) -> tuple[LanguageModel, int]:
        try:
            model = self.load(entry)
        finally:
            entry.fetching = None
        answer_once(model)
        return model, size_of(model)

    def _make_room(self, entry: Entry) -> None:
        """Lets models go that answer nobody, the one that was used longest ago first, until `entry` has room. What a
        model takes is not known before it is loaded for the first time.

        Raises:
            Problem: it is larger than all the memory, or others answer (503).
        """
        if not self.memory:
            return
        if entry.size > self.memory:
            raise Problem(503, f"{entry.name!r} takes {entry.size / 1e9:.2f} GB; all models may take "
                          f"{self.memory / 1e9:.2f} GB together (--memory)", code="model_not_loaded")  # fmt: skip
        others = [e for e in self.entries.values() if e.model is not None and e is not entry]
        taken = sum(e.size for e in others) + entry.size
        for other in sorted((e for e in others if not e.users), key=lambda e: e.used_at):
            if taken <= self.memory:
                return
            taken -= other.size
            self._unload(other)
        if taken > self.memory:
            raise Problem(503, f"there is no room for {entry.name!r} while other models answer",
                          code="model_not_loaded", headers={"Retry-After": "5"})  # fmt: skip

    def _unload(self, entry: Entry) -> None:
        if entry.model is not None:
            for told in self.unloading:
                told(entry.model)
            loop: Any = entry.model.loop
            if isinstance(loop, Engine):
                loop.close()
            entry.model = None
            gc.unfreeze()  # it may be among what the server does not look through (wire.run)


def answer_once(model: LanguageModel) -> None:
    """What is made or imported for a first answer is there afterwards, and holds up the event loop no more."""
    engine = model.loop
    if isinstance(engine, Engine):
        model.tokenizer.warm_up()
        prepared = prepare(model, Ask(turns=(Turn("user", "a"),), most=1))
        for stream in engine.start(prepared.requests):
            for _ in stream:
                pass


def size_of(model: LanguageModel) -> int:
    """Bytes of a model's weights and of its cache of keys and values."""
    engine = model.loop
    if not isinstance(engine, Engine):
        return 0
    weights = sum(part.nbytes for part in engine.network.parts.values())
    return weights + engine.cache_nbytes
