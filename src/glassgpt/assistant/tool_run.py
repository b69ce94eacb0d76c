"""Running a tool: checked arguments, a limit of time and of length, and a failure that is a sentence.

Python cannot end a thread from outside. A call that runs out of time is left behind: its result is thrown away, the
caller has its answer on time and is told that the function may still be running. So many can be left behind at once,
and no more, lest a tool that always hangs fills the machine.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import threading
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from glassgpt.assistant.tool import Tool, wrong_arguments
from glassgpt.core.errors import GlassError
from glassgpt.core.words import Sentence, say

MAX_ARGUMENTS = 100_000  # characters
MAX_RESULT = 8_000  # characters: what a small model's context can hold beside a conversation
MAX_LEFT_BEHIND = 8
MAX_REASON = 200  # characters of an exception's own words
_GRACE = 0.1  # s in which a coroutine that was cancelled at its limit may end

_log = logging.getLogger("glassgpt.assistant")
_left_behind: list[threading.Thread] = []
_lock = threading.Lock()


@dataclass(frozen=True)
class ToolResult:
    """What a call gave.

    Attributes:
        ok: whether the function ran to its end.
        text: for the model: the result, or what went wrong in one or two sentences.
        seconds: how long it took.
        error: what went wrong, for the user in either language.
        running: the call was left behind, and the function may still be at work.
        left_out: how many characters of a long result are not in `text`, which says so at its end.
    """

    ok: bool
    text: str
    seconds: float
    error: GlassError | None = None
    running: bool = False
    left_out: int = 0


def run_tool(
    tool: Tool[..., Any], arguments: str, *, timeout_s: float | None = None, max_text: int = MAX_RESULT,
    language: str = "en",
) -> ToolResult:  # fmt: skip
    """Calls a tool with arguments that a model wrote. Never raises for what the model or the tool did wrong.

    Args:
        tool: what to call.
        arguments: a JSON object; "" stands for an empty one.
        timeout_s: seconds the caller will wait; the tool's own limit unless given, and never more than that.
        max_text: characters of the result that are kept.
        language: of the sentences in `text`, "en" or "zh".
    """
    limit = tool.timeout_s if timeout_s is None else min(timeout_s, tool.timeout_s)
    begin = perf_counter()
    call = _Call(tool, arguments, limit)
    if len(arguments) > MAX_ARGUMENTS:
        call.error = wrong_arguments(tool.name, f"{len(arguments):,} > {MAX_ARGUMENTS:,} characters")
    elif (count := _still_running()) >= MAX_LEFT_BEHIND:
        call.error = GlassError(
            "{name} was not called: {count} earlier calls that ran out of time are still running",
            hint="Restart the program, and give the tools that hang a time limit of their own.",
            name=tool.name,
            count=count,
        )
    else:
        call.run()
    seconds = perf_counter() - begin
    if call.error is not None:
        return ToolResult(False, call.error.line(language), seconds, call.error, call.running)
    text, left_out = call.text, max(0, len(call.text) - max_text)
    if left_out:
        told = say("[{shown} of {count} characters are shown]", language, shown=max_text, count=len(text))
        text = f"{text[:max_text]}\n{told}"
    elif not text.strip():
        text = say("The tool ran and gave no result.", language)
    return ToolResult(True, text, seconds, left_out=left_out)


def _still_running() -> int:
    with _lock:
        _left_behind[:] = [thread for thread in _left_behind if thread.is_alive()]
        return len(_left_behind)


class _Call:
    """One call in a thread of its own."""

    def __init__(self, tool: Tool[..., Any], arguments: str, limit: float) -> None:
        self.tool, self.arguments, self.limit = tool, arguments, limit
        self.text = ""
        self.error: GlassError | None = None
        self.running = False
        self._found: tuple[str, GlassError | None] | None = None

    def run(self) -> None:
        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(self._work,), name=f"tool {self.tool.name}", daemon=True)
        try:
            thread.start()
            thread.join(self.limit)
            if thread.is_alive() and inspect.iscoroutinefunction(self.tool.function):
                thread.join(_GRACE)
        finally:
            self.running = thread.is_alive()
            if self.running:
                with _lock:
                    _left_behind.append(thread)
        if self._found is None:
            self.error = _too_slow(self.tool.name, self.limit, self.running)
        else:
            self.text, self.error = self._found

    def _work(self) -> None:
        """In the thread; whatever is raised becomes a sentence."""
        try:
            arguments = self.tool.accept(self.arguments or "{}")
            value = self.tool.function(**arguments)
            if inspect.isawaitable(value):
                value = asyncio.run(_awaited(value, self.limit))
            self._found = _as_text(value), None
        except TimeoutError as error:
            own = bool(error.args) or not inspect.iscoroutinefunction(self.tool.function)  # the function's own affair
            self._found = "", _failed(self.tool.name, error) if own else _too_slow(self.tool.name, self.limit, False)
        except GlassError as error:
            self._found = "", error
        except BaseException as error:  # SystemExit too: a tool does not end the program
            self._found = "", _failed(self.tool.name, error)


async def _awaited(value: Any, limit: float) -> Any:
    return await asyncio.wait_for(value, limit)


def _as_text(value: Any) -> str:
    """A result for a model: a text as it is, anything else as JSON; half of a surrogate pair becomes "?"."""
    if value is None:
        return ""
    if not isinstance(value, str):
        from pydantic_core import to_json

        value = to_json(value, fallback=str, inf_nan_mode="constants").decode()
    return value.encode("utf-8", "replace").decode()


def _too_slow(name: str, limit: float, running: bool) -> GlassError:
    return GlassError(
        "{name} gave no answer in {limit:g} s{still}",
        hint="Try once more later, or do without it.",
        name=name,
        limit=limit,
        still=Sentence(" and may still be running") if running else "",
    )


def _failed(name: str, error: BaseException) -> GlassError:
    """What an exception says, in one line and without a traceback, which goes to the log where it is asked for."""
    _log.debug("tool %s failed", name, exc_info=error)
    try:
        words = " ".join(str(error).split())
    except Exception:  # its own __str__ is broken
        words = ""
    if len(words) > MAX_REASON:
        words = words[: MAX_REASON - 3] + "..."
    kind = type(error).__name__
    return GlassError(
        "{name} failed ({why})",
        hint="Check what it was asked for, or do without it.",
        name=name,
        why=f"{kind}: {words}" if words else kind,
    )
