"""`run_tool`: a limit of time that is kept, failures that are sentences, and nothing cut without a word."""

from __future__ import annotations

import asyncio
import contextvars
import json
import threading
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glassgpt.assistant import tool_run
from glassgpt.assistant.tool import tool
from glassgpt.assistant.tool_run import MAX_ARGUMENTS, MAX_LEFT_BEHIND, MAX_RESULT, run_tool
from glassgpt.core.errors import InputError


@tool
def add(a: int, b: int = 1) -> int:
    """Adds."""
    return a + b


def test_a_call_gives_its_result_as_text():
    result = run_tool(add, '{"a": 2}')
    assert (result.ok, result.text, result.error, result.running, result.left_out) == (True, "3", None, False, 0)
    assert 0 <= result.seconds < 5


@given(st.text() | st.binary())
def test_arguments_that_do_not_fit_are_told_and_nothing_runs(text):
    result = run_tool(add, text if isinstance(text, str) else text.decode("latin-1"))
    assert not result.ok and result.error is not None and "add" in result.text and "\n" not in result.text


def test_arguments_above_the_limit_are_refused():
    assert "characters" in run_tool(add, " " * MAX_ARGUMENTS + '{"a": 1}').text


@pytest.mark.parametrize(
    ("value", "text"),
    [("上海", "上海"), ([1, "二"], '[1,"二"]'), ({"a": None}, '{"a":null}'), (2.5, "2.5"), (float("nan"), "NaN"),
     (object, '"<class \'object\'>"'), ("\ud800x", "?x")],
)  # fmt: skip
def test_any_value_becomes_text(value, text):
    assert run_tool(tool(name="f")(lambda: value), "").text == text


def test_no_result_is_said_to_be_none():
    assert "no result" in run_tool(tool(name="f")(lambda: None), "{}").text
    assert "没有返回结果" in run_tool(tool(name="f")(lambda: " \n"), "{}", language="zh").text


def test_a_long_result_is_cut_and_says_so():
    result = run_tool(tool(name="f")(lambda: "x" * (MAX_RESULT + 5)), "{}")
    assert result.ok and result.left_out == 5
    assert result.text == "x" * MAX_RESULT + f"\n[{MAX_RESULT} of {MAX_RESULT + 5} characters are shown]"


class RudeError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def broken(kind: str) -> None:
    raise {"value": ValueError("no\nsuch thing"), "exit": SystemExit(3), "interrupt": KeyboardInterrupt(),
           "long": OSError("y" * 5_000), "time": TimeoutError("theirs"), "rude": RudeError(),
           "house": InputError("the sea is full", hint="Go by air.")}[kind]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "words"),
    [("value", "ValueError: no such thing"), ("exit", "SystemExit"), ("interrupt", "KeyboardInterrupt"),
     ("long", "yyy..."), ("time", "TimeoutError: theirs"), ("rude", "Rude"), ("house", "Go by air.")],
)  # fmt: skip
def test_whatever_a_tool_raises_becomes_one_short_line(kind, words):
    result = run_tool(tool(broken), json.dumps({"kind": kind}))
    assert not result.ok and words in result.text and result.error is not None
    assert "Traceback" not in result.text and "\n" not in result.text and len(result.text) < 400


def test_a_failure_speaks_chinese():
    assert "运行失败" in run_tool(tool(broken), '{"kind": "value"}', language="zh").text


def test_a_result_that_refers_to_itself_is_a_failure():
    value: list[Any] = []
    value.append(value)
    assert not run_tool(tool(name="f")(lambda: value), "{}").ok


def test_a_call_that_hangs_is_left_behind_on_time_and_this_is_told():
    stop = threading.Event()
    begin = time.perf_counter()
    result = run_tool(tool(name="hang", timeout_s=0.2)(lambda: stop.wait()), "{}")
    assert time.perf_counter() - begin < 1.5
    stop.set()
    assert not result.ok and result.running and "0.2 s and may still be running" in result.text
    assert "可能仍在运行" in result.error.message("zh")  # type: ignore[union-attr]


def test_a_busy_loop_does_not_keep_the_caller():
    end = time.monotonic() + 1.5

    def spin() -> None:
        while time.monotonic() < end:
            pass

    begin = time.perf_counter()
    assert not run_tool(tool(timeout_s=0.2)(spin), "{}").ok
    assert time.perf_counter() - begin < 1.2
    while tool_run._still_running():
        time.sleep(0.05)


def test_the_caller_can_wait_for_less_but_not_for_more_than_the_tool_allows():
    stop = threading.Event()
    slow = tool(name="slow", timeout_s=0.3)(lambda: stop.wait())
    assert run_tool(slow, "{}", timeout_s=0.05).seconds < 0.25
    assert 0.25 < run_tool(slow, "{}", timeout_s=50).seconds < 2
    stop.set()


def test_async_functions_are_awaited_and_cancelled_at_their_limit():
    seen = []

    async def nap(seconds: float) -> str:
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise
        return "rested"

    napping = tool(timeout_s=0.3)(nap)
    assert run_tool(napping, '{"seconds": 0}').text == "rested"
    result = run_tool(napping, '{"seconds": 60}')
    assert not result.ok and not result.running and seen == ["cancelled"] and "0.3 s" in result.text


def test_so_many_calls_may_be_left_behind_and_no_more():
    stop = threading.Event()
    hang = tool(name="hang", timeout_s=0.02)(lambda: stop.wait())
    try:
        for _ in range(MAX_LEFT_BEHIND - tool_run._still_running()):
            assert run_tool(hang, "{}").running
        refused = run_tool(add, '{"a": 1}')
        assert not refused.ok and "still running" in refused.text and not refused.running
    finally:
        stop.set()
    while tool_run._still_running():
        time.sleep(0.01)
    assert run_tool(add, '{"a": 1}').ok


def test_a_tool_sees_the_context_of_its_caller():
    who = contextvars.ContextVar("who", default="nobody")
    who.set("Ada")
    assert run_tool(tool(name="f")(lambda: who.get()), "{}").text == "Ada"
