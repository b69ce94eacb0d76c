"""A process is known by its number and its begin, and by nothing less."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from glassgpt.core import processes
from glassgpt.core.processes import ask_to_end, begin_of, is_running, this_process


@pytest.fixture
def sleeper():
    child = subprocess.Popen([sys.executable, "-c", "import time; print(1, flush=True); time.sleep(60)"],
                             stdout=subprocess.PIPE)  # fmt: skip
    child.stdout.readline()
    yield child
    child.kill()
    child.wait()


def test_this_process_runs_and_keeps_its_begin():
    assert is_running(this_process()) and this_process() == this_process()
    assert this_process()["pid"] == os.getpid()


def test_one_that_ended_does_not_run_even_while_nobody_has_waited_for_it(sleeper):
    known = {"pid": sleeper.pid, "began": begin_of(sleeper.pid)}
    assert is_running(known) and known["began"] != this_process()["began"]
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)  # it is a zombie now
    assert not is_running(known) and begin_of(sleeper.pid) == ""


def test_only_the_one_that_was_meant_is_asked_to_end(sleeper):
    known = {"pid": sleeper.pid, "began": begin_of(sleeper.pid)}
    assert not ask_to_end(known | {"began": known["began"] + "1"})
    assert sleeper.poll() is None
    assert ask_to_end(known)
    assert sleeper.wait(10) == -15
    assert not ask_to_end(known)


@pytest.mark.parametrize(
    "kept", [None, 7, [], {}, {"pid": "1", "began": "x"}, {"pid": 1, "began": ""}, {"pid": -1, "began": "x"},
             {"pid": 2**70, "began": "x"}, {"pid": True, "began": ""}, {"pid": 99999999, "began": ""}],
)  # fmt: skip
def test_what_a_damaged_file_holds_does_not_run(kept):
    assert not is_running(kept)
    if isinstance(kept, dict):
        assert not ask_to_end(kept)


def test_ps_tells_the_same_as_proc(sleeper):
    begin = processes._begin_by_ps(sleeper.pid)
    if not begin:
        pytest.skip("needs the command ps")
    assert len(begin.split()) == 5 and processes._begin_by_ps(sleeper.pid) == begin
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert processes._begin_by_ps(sleeper.pid) == ""
    assert processes._begin_by_ps(2**22 + 1) == ""
