"""The engine: answers many requests at once, each as if it were alone (continuous batching).

One thread, started with the first request, plans a step, has it computed, and chooses tokens; whoever asked gets pieces
through a queue. What the requests are is the scheduler's business, how they are computed the runner's.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from queue import SimpleQueue
from time import perf_counter
from typing import Any

from glassgpt.core.errors import GlassError
from glassgpt.core.threads import thread_budget
from glassgpt.engine import fields
from glassgpt.engine.draft import BRIEF, DraftModel
from glassgpt.engine.network import Network
from glassgpt.engine.pages import PagePool, pages_for
from glassgpt.engine.pages import Sequence as Line
from glassgpt.engine.quantize import Floats
from glassgpt.engine.reply import Deliver, Reply
from glassgpt.engine.request import Piece, Request
from glassgpt.engine.runner import SPINS, Rows, Runner
from glassgpt.engine.scheduler import Counters, Scheduler, Work
from glassgpt.text.tokenizer import Tokenizer

_numbers = count()


@dataclass(frozen=True)
class EngineSettings:
    """How much an engine takes on.

    - `threads`: to compute with; 0: the whole budget.
    - `max_running`: requests that are answered at once.
    - `max_waiting`: requests that may wait beyond those.
    - `rows_per_step`: the most tokens read in a step, which bounds how long a prompt holds up the others.
    - `cache_bytes`: memory for keys and values; at least one whole context is held.
    - `cache_bits`: 32, 16 or 8 for each of their numbers; 0: 32 with float32, else 16.
    - `speculate`: guess tokens from what stands in the text already; the reply is the same with and without.
    """

    threads: int = 0
    max_running: int = 16
    max_waiting: int = 256
    rows_per_step: int = 256
    cache_bytes: int = 1 << 30
    cache_bits: int = 0
    speculate: bool = True


class Engine:
    """Answers requests with one network. Safe to use from several threads."""

    def __init__(
        self,
        network: Network,
        tokenizer: Tokenizer,
        settings: EngineSettings | None = None,
        draft: Network | None = None,
    ) -> None:
        """`draft`: a smaller network with the same tokenizer, which guesses; replies are the same with and without.

        Raises:
            ConfigError: settings are out of range, or the draft has another vocabulary.
        """
        self.network, self.tokenizer, self.settings = network, tokenizer, settings or EngineSettings()
        config, given = network.config, self.settings
        bits = given.cache_bits or (32 if network.precision == "float32" else 16)
        page = config.n_layer * config.n_kv_head * fields.page_bytes(bits, network.shape.head)
        whole = pages_for(config.context_length)
        pages = max(whole, min(given.max_running * whole, given.cache_bytes // page))
        threads = given.threads or thread_budget()
        self.runner = Runner(network, threads=threads, pages=pages, rows=given.rows_per_step, cache_bits=bits,
                             patience=BRIEF if draft else SPINS)  # fmt: skip
        self.cache_nbytes = pages * page
        self.scheduler = Scheduler(PagePool(pages), given.max_running, given.max_waiting, given.rows_per_step)
        self._state = _State()
        if draft is not None:
            self._state.draft = DraftModel(draft, network, threads=threads, most=given.max_running)
        self._end = weakref.finalize(self, _close, self._state, self.runner)

    def submit(self, requests: Sequence[Request], deliver: Sequence[Deliver]) -> list[Line]:
        """Hand in requests, all or none; each one's pieces are delivered by the engine's thread, the last with a finish
        reason, or an exception as the last.

        Raises:
            QueueFull: too many are waiting already.
            InputError: a request does not fit.
            ConfigError: an output format is not possible.
        """
        lines, streams = [], []
        for request, give in zip(requests, deliver, strict=True):
            # A salt of its own: no page that others computed is taken, since every row is wanted.
            salt = f"pooled {next(_numbers)}" if request.pooled else ""
            line = Line("", request.prompt, len(request.prompt) + request.limit, salt)
            lines.append(line)
            streams.append(
                Reply(request, line, self.tokenizer, give, self._constraint(request), self.settings.speculate)
            )
        with self._state.lock:
            if self._state.closed:
                raise GlassError("the engine is closed", hint="Load the model again.")
            self.scheduler.add(*lines)
            self._state.streams.update(zip(lines, streams, strict=True))
            if not self._state.started:
                self._state.started = True
                thread = threading.Thread(
                    target=_serve, args=(self._state, self.scheduler, self.runner), name="glassgpt-engine", daemon=True
                )
                thread.start()
            self._state.changed.notify()
        return lines

    def cancel(self, line: Line) -> None:
        """End a request that nobody waits for any more; its place is free at once."""
        with self._state.lock:
            self.scheduler.cancel(line)
            self._state.streams.pop(line, None)

    def start(self, requests: Sequence[Request]) -> list[Iterator[Piece]]:
        """Hand in requests; gives the stream of each. A stream that is closed, or dropped, is cancelled."""
        queues: list[SimpleQueue[Piece | Exception]] = [SimpleQueue() for _ in requests]
        lines = self.submit(requests, [queue.put for queue in queues])
        return [Stream(self, line, queue) for line, queue in zip(lines, queues, strict=True)]

    async def stream(self, request: Request) -> AsyncIterator[Piece]:
        """As `start`, for one request, for asyncio."""
        import asyncio

        loop, queue = asyncio.get_running_loop(), asyncio.Queue[Piece | Exception]()

        def deliver(item: Piece | Exception) -> None:
            loop.call_soon_threadsafe(queue.put_nowait, item)

        (line,) = self.submit([request], [deliver])
        try:
            while True:
                piece = await queue.get()
                if isinstance(piece, Exception):
                    raise piece
                yield piece
                if piece.finish_reason:
                    return
        finally:
            self.cancel(line)

    def counters(self) -> Counters:
        """How things stand."""
        with self._state.lock:
            return self.scheduler.counters()

    def close(self) -> None:
        """End the engine's threads. Requests that are not answered yet get an exception."""
        self._end()

    def _constraint(self, request: Request) -> Any:
        if request.format is None:
            return None
        from glassgpt.engine.constrain import Grammars

        ends = frozenset(request.ends)
        with self._state.preparing:  # not the lock: this takes long, and others go on meanwhile
            if ends not in self._state.grammars:
                self._state.grammars[ends] = Grammars(self.tokenizer, self.network.config.vocab_size, ends)
        return self._state.grammars[ends].constraint(request.format)


class Stream(Iterator[Piece]):
    """The pieces of one request, for a thread that waits for them."""

    def __init__(self, engine: Engine, line: Line, queue: SimpleQueue[Piece | Exception]) -> None:
        self._engine, self._line, self._queue, self._over = engine, line, queue, False

    def __next__(self) -> Piece:
        if self._over:
            raise StopIteration
        piece = self._queue.get()
        if isinstance(piece, Exception):
            self._over = True
            raise piece
        self._over = piece.finish_reason is not None
        return piece

    def close(self) -> None:
        """Cancels what is left of it."""
        if not self._over:
            self._over = True
            self._engine.cancel(self._line)

    def __del__(self) -> None:
        # Whoever collects garbage may be the engine's own thread, in the middle of a plan: it is told, and acts later.
        if not self._over:
            self._engine._state.dropped.append(self._line)


@dataclass
class _State:
    """What the engine's thread shares with those who ask; all but the grammars under `lock`."""

    lock: Any = field(default_factory=threading.RLock)
    preparing: Any = field(default_factory=threading.Lock)
    changed: threading.Condition = field(init=False)
    streams: dict[Line, Reply] = field(default_factory=dict)
    grammars: dict[frozenset[int], Any] = field(default_factory=dict)
    draft: DraftModel | None = None  # of the engine's thread alone
    dropped: deque[Line] = field(default_factory=deque)  # requests whose streams nobody holds any more
    started: bool = False
    closed: bool = False

    def __post_init__(self) -> None:
        self.changed = threading.Condition(self.lock)

    def release(self, runner: Runner) -> None:
        """End the threads that compute; not while a step runs."""
        runner.close()
        if self.draft is not None:
            self.draft.close()


def _serve(state: _State, scheduler: Scheduler, runner: Runner) -> None:
    """The engine's thread. It holds no reference to the engine, so that one that nobody uses any more can go."""
    try:
        _loop(state, scheduler, runner)
    except Exception as error:  # a mistake of ours: nobody may wait for ever
        with state.lock:
            state.closed = True
            for line in list(state.streams):
                stream = state.streams.pop(line)
                with contextlib.suppress(Exception):
                    stream.deliver(error)
        state.release(runner)
        raise


def _loop(state: _State, scheduler: Scheduler, runner: Runner) -> None:
    while True:
        with state.lock:
            while scheduler.idle and not state.closed:
                state.changed.wait()
            if state.closed:
                state.release(runner)  # here, where no step runs
                return
            while state.dropped:
                line = state.dropped.popleft()
                scheduler.cancel(line)
                state.streams.pop(line, None)
            work = scheduler.plan()
        begin = perf_counter()
        try:
            scores = runner.run([_rows(piece, runner) for piece in work])
        except Exception as error:  # all of them are lost, and told; the next request finds the engine ready
            with state.lock:
                for piece in work:
                    _fail(state, scheduler, piece.sequence, error)
            continue
        if state.draft is not None and all(piece.count == piece.outputs for piece in work):
            state.draft.costs_of(len(work)).note_step(perf_counter() - begin, len(work), len(scores) - len(work))
        _pool(state, work, runner)
        at, masses = 0, runner.masses(len(scores))
        replies = []
        try:
            for piece in work:
                end = at + piece.outputs
                replies.append(_take(state, scheduler, piece, scores[at:end], masses[at:end]))
                at = end
        finally:  # not before: whoever is woken would hold up those whose turn comes later
            _hand_out(state, scheduler, filter(None, replies))
        if state.draft is not None:
            _ask_draft(state, scheduler, state.draft)


def _take(state: _State, scheduler: Scheduler, work: Work, scores: Floats, masses: list[float]) -> Reply | None:
    """Lets one request choose from its scores; gives it where it has something to deliver."""
    line = work.sequence
    with state.lock:
        stream = state.streams.get(line)
    accepted: list[int] = []
    error = None
    if stream is not None and work.outputs:
        try:
            accepted = stream.take(scores, masses, line.draft)
            if state.draft is not None and stream.drafted:
                state.draft.learn(line.number, len(accepted) - 1, len(line.draft))
                stream.drafted = False
        except Exception as problem:
            error = problem
    with state.lock:
        if error is not None:
            _fail(state, scheduler, line, error)
        scheduler.advance(work, accepted if error is None else [])
        if stream is None or stream.writer.finish:
            scheduler.finish(line)  # after its pages are published: the next turn of a chat finds them
            state.streams.pop(line, None)
        elif accepted and line.state == "running":
            line.draft = stream.guess()
    return stream


def _hand_out(state: _State, scheduler: Scheduler, replies: Iterable[Reply]) -> None:
    for reply in replies:
        try:
            reply.hand_out()
        except Exception as error:  # whoever asked cannot be told any more
            with state.lock:
                _fail(state, scheduler, reply.line, error)


def _pool(state: _State, work: list[Work], runner: Runner) -> None:
    """Adds up what the last layer gave, for those requests that ask for it."""
    first = 0
    for piece in work:
        stream = state.streams.get(piece.sequence)
        if stream is not None and stream.pool is not None:
            stream.pool.add(runner.x[first : first + piece.count, : runner.network.config.n_embd])
        first += piece.count


def _ask_draft(state: _State, scheduler: Scheduler, draft: DraftModel) -> None:
    """Lets the smaller model guess for those texts of which nothing else is guessed."""
    with state.lock:
        draft.keep({line.number for line in scheduler.running})
        lines = {
            line.number: line for line in scheduler.running
            if not line.draft and len(line.tokens) - line.cached == 1 and line in state.streams
        }  # fmt: skip
    found = draft.guess({number: line.tokens for number, line in lines.items()})
    with state.lock:
        for number, guesses in found.items():
            stream = state.streams.get(lines[number])
            if stream is not None:
                lines[number].draft, stream.drafted = guesses, True


def _fail(state: _State, scheduler: Scheduler, line: Line, error: Exception) -> None:
    scheduler.finish(line)
    stream = state.streams.pop(line, None)
    if stream is not None:
        with contextlib.suppress(Exception):  # whoever asked may be gone
            stream.hand_out()
            stream.deliver(error)


def _rows(work: Work, runner: Runner) -> Rows:
    line, back = work.sequence, runner.network.config.ngrams - 1
    before = line.tokens[max(0, work.start - back) : work.start] if back else ()
    return Rows(work.ids(), work.start, line.pages, work.outputs, before)


def _close(state: _State, runner: Runner) -> None:
    with state.lock:
        if not state.started:
            state.release(runner)
        state.closed = True
        for line in list(state.streams):
            stream = state.streams.pop(line)
            with contextlib.suppress(Exception):
                stream.deliver(GlassError("the engine was closed while it wrote", hint="Ask again with a new one."))
        state.changed.notify_all()
