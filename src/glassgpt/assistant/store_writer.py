"""The one thread that writes: what is asked for and what streaming replies have grown by goes into one transaction.

Whoever waits is told only after the commit. Where the database is away, everything waits in memory, within limits, and
is tried again; so each piece of work may run twice, the first time in vain or, if only the answer to the commit was
lost, not: work is written so that doing it again changes nothing.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from glassgpt.assistant.store_database import Database
from glassgpt.assistant.store_draft import Draft, Work
from glassgpt.assistant.store_queries import save_reply
from glassgpt.assistant.store_rows import DONE, MAX_TEXT, UNSTORABLE, WRITING, to_json
from glassgpt.core.errors import GlassError, InputError, NotFoundError

INTERVAL = 0.25  # seconds at most from a piece of a reply to its commit, where nothing is in the way
PATIENCE = 60.0  # seconds that work waits for a database that is away
MAX_WAITING = 64 << 20  # characters that wait in memory, all replies and work together
MAX_WORK = 10_000  # pieces of work that wait
MAX_DRAFTS = 1_000  # replies that are written at a time
_BATCH = 500  # pieces of work in one transaction
_TEND = 5.0  # seconds from one heartbeat to the next
_CLOSING = 10.0  # seconds that closing waits for the database
T = TypeVar("T")


class Writer:
    """Writes for one store. Safe to use from several threads.

    Args:
        owner: the store's name in `writers`.
        tend: called now and then in the thread, with whether replies are being written: heartbeats and the like.
    """

    def __init__(
        self, database: Database, owner: str, tend: Callable[[bool], None], interval: float = INTERVAL,
        patience: float = PATIENCE,
    ) -> None:  # fmt: skip
        self.database, self.owner, self.tend = database, owner, tend
        self.interval, self.patience = interval, patience
        self._changed = threading.Condition()
        self._work: deque[Work] = deque()
        self._drafts: dict[str, Draft] = {}
        self._dirty: dict[str, float] = {}  # drafts that have more than the database, and since when
        self._waiting = 0
        self._closing = self._ended = False
        self._wiping = False
        self._not_before = 0.0  # after a failure: when to try again
        self._failure: GlassError | None = None
        self._thread = threading.Thread(target=self._run, name="glassgpt-store", daemon=True)
        self._thread.start()

    def do(self, run: Callable[[Connection], T], size: int = 0) -> T:
        """Runs a piece of work in the next transaction; gives what it gave, once that is committed.

        Raises:
            GlassError: what it raised; or it could not be saved; or too much waits already.
        """
        work = Work(run, size)
        with self._changed:
            self._check_room(size)
            if len(self._work) >= MAX_WORK:
                raise self._crowded()
            self._work.append(work)
            self._waiting += size
            self._changed.notify_all()
        result: T = work.future.result()
        return result

    def open(self, draft: Draft) -> None:
        """From now on the reply is looked after; its message is in the database."""
        with self._changed:
            self._check_room(0)
            self._drafts[draft.id] = draft

    def check_draft(self) -> None:
        """Raises GlassError where no further reply can be begun."""
        with self._changed:
            self._check_room(0)
            if len(self._drafts) >= MAX_DRAFTS:
                raise self._crowded()

    def append(self, draft: Draft, text: str) -> None:
        """More of a reply; returns at once.

        Raises:
            InputError: the reply is too long or has ended.
            GlassError: too much waits already.
        """
        with self._changed:
            if draft.state != WRITING:
                raise InputError("the reply has ended", hint="Begin another one.")
            if draft.length + len(text) > MAX_TEXT:
                raise InputError("a text has {given} characters; {limit} are allowed", given=draft.length + len(text),
                                 limit=MAX_TEXT, hint="Shorten it, or say it in parts.")  # fmt: skip
            self._check_room(len(text))
            clean, count = UNSTORABLE.subn("\ufffd", text)
            draft.replaced += count
            draft.parts.append(clean)
            draft.length += len(clean)
            self._waiting += len(clean)
            if draft.id not in self._dirty:
                self._dirty[draft.id] = time.monotonic()
                self._changed.notify_all()

    def finish(self, draft: Draft, state: str, extras: dict[str, Any]) -> Future[None]:
        """The last state of a reply; the future is done when that is committed."""
        future: Future[None] = Future()
        with self._changed:
            if draft.over:
                future.set_result(None)
                return future
            if draft.state == WRITING:
                merged = draft.extras | extras
                if draft.replaced:
                    merged["replaced_characters"] = draft.replaced
                to_json(merged)
                draft.extras, draft.state = merged, state
            if self._ended:
                raise self._closed()
            draft.waiting.append(future)
            self._dirty[draft.id] = 0.0  # at once
            self._changed.notify_all()
        return future

    def wipe(self) -> None:
        """What was deleted leaves SQLite's log too: now, or as soon as nobody reads what was before."""
        try:
            done = self.database.wipe()
        except GlassError:
            done = False  # it is deleted all the same
        if not done:
            with self._changed:
                self._wiping = True

    def drop(self, ids: Sequence[str]) -> None:
        """Replies whose messages were deleted: they end."""
        with self._changed:
            for draft in [self._drafts[id] for id in ids if id in self._drafts]:
                self._end(draft, NotFoundError("the message was deleted"))

    def close(self, ended: str) -> None:
        """Saves everything, replies that are still written in the state `ended`, and ends the thread.

        Raises:
            GlassError: something could not be saved.
        """
        with self._changed:
            if not self._closing:
                self._closing = True
                for draft in self._drafts.values():
                    if draft.state == WRITING:
                        draft.state = ended
                    self._dirty[draft.id] = 0.0
                self._changed.notify_all()
        if self._thread is not threading.current_thread():
            self._thread.join()
        if self._drafts:
            raise GlassError("{count} replies were not saved ({reason})", count=len(self._drafts),
                             reason=self._failure.sentence() if self._failure else "?",
                             hint="Their texts are lost beyond what was saved before.")  # fmt: skip

    # The thread

    def _run(self) -> None:
        until = float("inf")
        tended = 0.0
        try:
            while True:
                with self._changed:
                    due = self._wait()
                    if self._closing and until == float("inf"):
                        until = time.monotonic() + _CLOSING
                    work = [self._work.popleft() for _ in range(min(_BATCH, len(self._work)))] if due else []
                    dirty = list(self._dirty) if due else []
                    taken = [(self._drafts[id], *self._content(self._drafts[id])) for id in dirty]
                    nothing = not self._work and not self._dirty and not work
                    if self._closing and (nothing or time.monotonic() > until):
                        return
                if work or taken:
                    self._save(work, taken)
                if self._wiping and not self._closing:
                    self._wipe_again()
                if time.monotonic() - tended >= _TEND and not self._failure:
                    tended = time.monotonic()
                    self._tend()
        finally:
            with self._changed:
                self._ended = True
                for left in self._work:
                    left.future.set_exception(self._failure or self._closed())
                for draft in list(self._drafts.values()):
                    for future in draft.waiting:
                        future.set_exception(self._failure or self._closed())
                self._work.clear()

    def _save(self, work: list[Work], drafts: list[tuple[Draft, str, str, int]]) -> None:
        """One transaction. Only after it anyone is told."""
        outcomes: list[tuple[Work, Any, Exception | None]] = []
        gone: dict[Draft, Exception] = {}
        try:
            with self.database.write() as connection:
                for draft, text, state, _ in drafts:
                    _, refused = self._do(
                        connection, partial(save_reply, draft.id, text, state, draft.extras, self.owner)
                    )
                    if refused is not None:
                        gone[draft] = refused
                for item in work:
                    outcomes.append((item, *self._do(connection, item.run)))
        except Exception as error:
            self._failed(work, drafts, error)
            return
        with self._changed:
            self._failure, self._not_before = None, 0.0
            for draft, _, state, length in drafts:
                if draft in gone:
                    self._end(draft, gone[draft])
                    continue
                self._waiting -= length - draft.saved
                draft.saved = length
                if state != WRITING:
                    self._end(draft, None)
                elif draft.length == length and draft.state == WRITING:
                    self._dirty.pop(draft.id, None)
                elif draft.state == WRITING:
                    self._dirty[draft.id] = time.monotonic()
            self._waiting -= sum(item.size for item in work)
        for item, value, refused in outcomes:
            if refused is not None:
                item.future.set_exception(refused)
            else:
                item.future.set_result(value)

    def _do(self, connection: Connection, run: Callable[[Connection], Any]) -> tuple[Any, Exception | None]:
        """What it gave, or why it was refused, which leaves the others as they are."""
        part = connection.begin_nested()
        try:
            value = run(connection)
            part.commit()
            return value, None
        except DBAPIError as error:
            if self.database.trouble(error) != "other":
                raise  # SQLite has rolled the whole transaction back already where its disk is full
            part.rollback()
            return None, self.database.told(error)
        except Exception as refused:
            part.rollback()
            return None, refused

    def _failed(self, work: list[Work], drafts: list[tuple[Draft, str, str, int]], error: Exception) -> None:
        """Nothing was committed. What may still succeed is kept in its order."""
        again = isinstance(error, DBAPIError) and self.database.trouble(error) in ("lost", "busy")
        failure = self.database.told(error)
        now = time.monotonic()
        kept = [item for item in work if again and now - item.since < self.patience]
        with self._changed:
            self._failure = failure
            self._not_before = now + (0.2 if again else 1.0)
            self._work.extendleft(reversed(kept))
            lost = [item for item in work if item not in kept]
            self._waiting -= sum(item.size for item in lost)
            told_now: list[Future[None]] = []
            for draft, *_ in drafts:  # the text stays, and is tried again; who waits is told that it is not saved
                if not again or (self._dirty.get(draft.id) or now) < now - self.patience:
                    told_now += draft.waiting
                    draft.waiting = []
                if draft.waiting and not self._dirty.get(draft.id):
                    self._dirty[draft.id] = now
        for item in lost:
            item.future.set_exception(failure)
        for future in told_now:
            future.set_exception(failure)

    def _content(self, draft: Draft) -> tuple[str, str, int]:
        draft.parts = ["".join(draft.parts)]
        return draft.parts[0], draft.state, draft.length

    def _end(self, draft: Draft, error: Exception | None) -> None:
        if draft.id in self._drafts:
            self._waiting -= draft.length - draft.saved
            draft.saved = draft.length
        self._drafts.pop(draft.id, None)
        self._dirty.pop(draft.id, None)
        draft.over = True
        draft.state = draft.state if draft.state != WRITING else DONE
        for future in draft.waiting:
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)
        draft.waiting = []

    def _due(self) -> float:
        """When there is something to do."""
        if self._closing:
            return max(self._not_before, 0.0)
        due = 0.0 if self._work else float("inf")
        for id, since in self._dirty.items():
            hurried = self._drafts[id].state != WRITING
            due = min(due, 0.0 if hurried else since + self.interval)
        return max(due, self._not_before)

    def _wait(self) -> bool:
        """Until there is something to do, or for a while; gives which of the two."""
        until = time.monotonic() + _TEND
        while (now := time.monotonic()) < min(due := self._due(), until):
            self._changed.wait(min(due, until) - now)
        return now >= due

    def _tend(self) -> None:
        try:
            self.tend(bool(self._drafts))
        except (GlassError, SQLAlchemyError):
            self._not_before = time.monotonic() + 0.2

    def _wipe_again(self) -> None:
        try:
            self._wiping = not self.database.wipe()
        except GlassError:
            return

    def _check_room(self, more: int) -> None:
        if self._closing or self._ended:
            raise self._closed()
        if self._waiting + more > MAX_WAITING:
            raise self._crowded()

    def _crowded(self) -> GlassError:
        return GlassError("too much waits to be saved to {where}", where=self.database.where,
                          hint="See that the database runs, and try again in a moment.")  # fmt: skip

    def _closed(self) -> GlassError:
        return GlassError("the conversations in {where} are closed", where=self.database.where, hint="Open them again.")
