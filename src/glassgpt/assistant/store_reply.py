"""A reply that is being written: what whoever writes it holds in the hand."""

from __future__ import annotations

from concurrent.futures import Future, TimeoutError
from types import TracebackType
from typing import Any

from glassgpt.assistant.store_draft import Draft
from glassgpt.assistant.store_rows import DONE, FAILED, INTERRUPTED, Message
from glassgpt.assistant.store_writer import Writer
from glassgpt.core.errors import GlassError, InputError


class ReplyInProgress:
    """A reply that is being written. As a context it is finished at its end, or failed with the error that left it."""

    def __init__(self, writer: Writer, message: Message) -> None:
        self._writer, self.message = writer, message
        self._draft = Draft(message.id, dict(message.extras))
        self._end: Future[None] | None = None
        writer.open(self._draft)

    @property
    def id(self) -> str:
        """Of its message."""
        return self.message.id

    @property
    def saved(self) -> int:
        """How many characters are committed."""
        return self._draft.saved

    def append(self, text: str) -> None:
        """More text; returns at once.

        Characters that no database takes become U+FFFD; their count goes into the extras ("replaced_characters").

        Raises:
            InputError: the reply is longer than MAX_TEXT, or has ended.
            GlassError: the database is away and too much waits already.
        """
        self._writer.append(self._draft, text)

    def finish(self, extras: dict[str, Any] | None = None, *, wait: bool = True, timeout: float | None = None) -> None:
        """The reply is whole. With `wait` this returns when it is committed; see `wait`."""
        self._finish(DONE, extras or {}, wait, timeout)

    def interrupt(self, extras: dict[str, Any] | None = None, *, wait: bool = True) -> None:
        """The user stopped it; what was written stays."""
        self._finish(INTERRUPTED, extras or {}, wait, None)

    def fail(self, why: str, *, wait: bool = True) -> None:
        """It cannot be finished; what was written stays, and why (extras["failure"])."""
        self._finish(FAILED, {"failure": why[:1000]}, wait, None)

    def wait(self, timeout: float | None = None) -> None:
        """Until the end that was said is committed.

        Raises:
            GlassError: it is not saved yet (the text is kept in memory and tried again), or the message was deleted.
        """
        if self._end is None:
            raise InputError("the reply has not ended", hint="Finish it first.")
        if self._end.done() and self._end.exception() is not None:
            self._end = self._writer.finish(self._draft, self._draft.state, {})
        try:
            self._end.result(timeout)
        except TimeoutError:
            raise GlassError("the reply is not saved yet", hint="Wait longer, or see that the database runs.") from None

    def _finish(self, state: str, extras: dict[str, Any], wait: bool, timeout: float | None) -> None:
        self._end = self._writer.finish(self._draft, state, extras)
        if wait:
            self.wait(timeout)

    def __enter__(self) -> ReplyInProgress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._end is not None:
            return
        if error is None:
            self.finish()
        elif isinstance(error, Exception):
            self.fail(str(error) or type(error).__name__, wait=False)
        else:  # Ctrl-C, or a stream that was closed
            self.interrupt(wait=False)
