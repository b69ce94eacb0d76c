"""A training on the terminal: one live line, and what happened above it."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

from glassgpt.cli.options import note
from glassgpt.core.errors import GlassError
from glassgpt.core.words import say

if TYPE_CHECKING:
    from glassgpt.core.runs import Run
    from glassgpt.training.loop import Event

QUIET_EVERY = 10.0  # seconds between lines where there is no terminal


class Watch:
    """Shows a training's events on stderr, and keeps TensorBoard files. Used as a context manager around it."""

    def __init__(self, run: Run, language: str, *, tensorboard: bool = True) -> None:
        from rich.console import Console
        from rich.live import Live

        self.language, self.began = language, time.monotonic()
        self.console = Console(stderr=True)
        self.live = Live(console=self.console, refresh_per_second=4, transient=True) if sys.stderr.isatty() else None
        self.last, self.first_step, self.smooth = 0.0, -1, 0.0
        self.board: Any = None
        if tensorboard:
            from glassgpt.training.record import TensorBoard

            self.board = TensorBoard(run)

    def __enter__(self) -> Watch:
        if self.live:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self.live.stop()
        if self.board:
            self.board.close()
            self._tell_fault()

    def __call__(self, event: Event) -> None:
        """One event of the loop."""
        if self.board:
            self.board(event)
            self._tell_fault()
        if event.kind == "step":
            self._step(event)
        elif event.kind == "evaluation":
            best = say(" (the best so far)", self.language) if event.values["best"] else ""
            self._say(
                say("step {step} of {steps}: held-out loss {loss:.4f}", self.language, step=event.progress.step,
                    steps=event.steps, loss=event.values["val_loss"]) + best
            )  # fmt: skip
            for text in event.values["samples"]:
                self._say("    " + " ".join(text.split())[:300])
        elif event.kind == "fault":
            error: GlassError = event.values["error"]
            reason = error.message(self.language)
            self._say(say("a damaged checkpoint is passed over: {reason}", self.language, reason=reason))

    def _step(self, event: Event) -> None:
        progress = event.progress
        if self.first_step < 0:
            self.first_step, self.began, self.tokens = progress.step, time.monotonic(), progress.tokens
        loss = event.values["loss"]
        self.smooth = loss if not self.smooth else 0.9 * self.smooth + 0.1 * loss
        done, seconds = progress.step - self.first_step, time.monotonic() - self.began
        if not done or not seconds:
            return
        left = seconds / done * (event.steps - progress.step)
        line = say(
            "step {step} of {steps}   loss {loss:.3f}   {speed:,.0f} tokens/s   {left} left", self.language,
            step=progress.step, steps=event.steps, loss=self.smooth, speed=(progress.tokens - self.tokens) / seconds,
            left=clock(left),
        )  # fmt: skip
        if self.live:
            self.live.update(line)
        elif time.monotonic() - self.last > QUIET_EVERY:
            self.last = time.monotonic()
            note(line)

    def _tell_fault(self) -> None:
        """Say that TensorBoard's files are given up, where they are, and forget them: it is said once."""
        if fault := self.board.fault:
            reason = fault.strerror or str(fault)
            self._say(say("TensorBoard files are no longer written: {reason}", self.language, reason=reason))
            self.board = None

    def _say(self, text: str) -> None:
        if self.live:
            self.console.print(text, markup=False, highlight=False)
        else:
            note(text)


def clock(seconds: float) -> str:
    """A span of time as 1:02:03 or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
