"""MCP servers as programs of their own: good ones, and such that hang, end, or answer nonsense."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from glassgpt.assistant.mcp_client import McpServers, accept_by, server_settings
from glassgpt.assistant.tool import MAX_DESCRIPTION
from glassgpt.assistant.tool_run import MAX_RESULT, ToolResult, run_tool
from glassgpt.core.errors import ConfigError, InputError

PROGRAM = Path(__file__).parent / "mcp_servers.py"


def server(kind: str, *args: str, **env: str) -> dict[str, Any]:
    return {"command": sys.executable, "args": [str(PROGRAM), kind, *args],
            "env": {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))} | env}  # fmt: skip


def ask(servers: McpServers, name: str, /, **arguments: Any) -> ToolResult:
    return run_tool({one.name: one for one in servers.tools}[name], json.dumps(arguments))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1][:3] if Path("/proc").is_dir() else True


@pytest.fixture(scope="module")
def package() -> None:
    pytest.importorskip("mcp", reason="needs the package mcp (the extra mcp)")


@pytest.fixture(scope="module")
def good(package):
    with McpServers({"shop": server("official", COLOUR="green")}, timeout_s=8) as servers:
        assert servers.problems == []
        yield servers


def test_the_tools_of_a_server_are_listed_with_their_schemas(good):
    tools = {one.name: one for one in good.tools}
    assert set(tools) == {"add", "who", "setting", "refuse", "nap", "die", "picture", "long"}
    assert tools["add"].description == "Adds two numbers."
    assert tools["add"].parameters["required"] == ["a", "b"]


def test_a_call_gives_the_servers_answer(good):
    assert ask(good, "add", a=2, b=3).text == "5"
    assert ask(good, "setting", name="COLOUR").text == "green"


def test_arguments_are_checked_before_they_are_sent(good):
    result = ask(good, "add", a="two", b=3)
    assert not result.ok and "do not fit: a" in result.text


def test_what_a_server_refuses_is_a_failure_in_its_words(good):
    result = ask(good, "refuse", why="out of tea")
    assert not result.ok and "out of tea" in result.text and "Traceback" not in result.text
    assert ask(good, "add", a=1, b=1).ok, "the server goes on"


def test_what_is_no_text_is_named_and_long_texts_are_cut_and_told(good):
    assert ask(good, "picture").text == "see:\n[image, which is no text, is left out]"
    assert ask(good, "long", count=MAX_RESULT + 7).left_out == 7


def test_a_server_sees_nothing_of_our_environment_but_what_it_is_given(good, monkeypatch):
    monkeypatch.setenv("SECRET_OF_OURS", "x")
    with McpServers({"shop": server("official")}) as servers:
        assert ask(servers, "setting", name="SECRET_OF_OURS").text == "not set"


def test_several_threads_ask_at_once(good):
    found: list[str] = []
    threads = [threading.Thread(target=lambda n=n: found.append(ask(good, "add", a=n, b=0).text)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [str(n) for n in range(8)]


@pytest.mark.slow
def test_a_server_that_ends_costs_one_call_and_is_started_again(package):
    with McpServers({"shop": server("official")}, timeout_s=15) as servers:
        first = ask(servers, "who").text
        ended = ask(servers, "die")
        assert not ended.ok and "has ended" in ended.text and "the last words" in ended.text
        second = ask(servers, "who").text
        assert second != first and ask(servers, "add", a=1, b=2).text == "3"
        ask(servers, "die")
        assert ask(servers, "who").ok, "it had answered in between"


@pytest.mark.slow
def test_a_server_that_ends_again_before_it_answers_stays_down(package):
    with McpServers({"shop": server("official")}, timeout_s=15) as servers:
        ask(servers, "die")
        ask(servers, "die")
        begin = time.perf_counter()
        result = ask(servers, "add", a=1, b=2)
        assert not result.ok and "failed twice" in result.text and time.perf_counter() - begin < 1


def test_a_server_that_cannot_be_started_again_stays_down(package, tmp_path):
    with McpServers({"shop": server("once", str(tmp_path / "mark"))}, timeout_s=15) as servers:
        ask(servers, "die")
        assert "has ended" in ask(servers, "who").text
        assert "failed twice" in ask(servers, "who").text


@pytest.mark.slow
def test_a_server_that_hangs_is_left_on_time_and_started_again(package):
    with McpServers({"shop": server("official")}, timeout_s=6) as servers:
        first = int(ask(servers, "who").text)
        result = ask(servers, "nap", seconds=120)
        assert not result.ok and "6 s" in result.text and result.seconds < 7.5
        assert int(ask(servers, "who").text) != first
    deadline = time.monotonic() + 10
    while alive(first) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive(first), "nothing of it is left"


@pytest.mark.parametrize("kind", ["garbage", "shapeless"])
def test_nonsense_is_a_failure_without_a_traceback(package, kind, caplog, capfd):
    with McpServers({"odd": server(kind)}, timeout_s=1.5) as servers:
        result = ask(servers, "good", x=1)
        assert not result.ok and "odd" in result.text and "\n" not in result.text
        assert result.seconds < 3
    assert "Traceback" not in capfd.readouterr().err


def test_schemas_that_text_cannot_be_held_to_are_left_out_by_name(package):
    with McpServers({"odd": server("schemas")}) as servers:
        tools = {one.name: one for one in servers.tools}
        assert set(tools) == {"good", "dots_and_more"}
        assert len(tools["good"].description) == MAX_DESCRIPTION
        told = " ".join(map(str, servers.problems))
        assert len(servers.problems) == 4 and all(word in told for word in ("uniqueItems", "elephant", "nnn", "3000"))
        assert all(problem.message("zh") != str(problem) for problem in servers.problems)
        assert ask(servers, "good", x=4).text == '{"x": 4}'


@pytest.mark.slow
def test_servers_that_do_not_start_are_told_and_the_others_work(package, tmp_path):
    begin = time.perf_counter()
    config = {"none": {"command": "/no/such/program"}, "mute": server("mute", str(tmp_path / "pid")),
              "crash": server("crash"), "endless": server("endless"), "shop": server("official")}  # fmt: skip
    with McpServers(config, start_s=8) as servers:
        assert time.perf_counter() - begin < 12
        told = {str(problem.facts["server"]): problem.line() for problem in servers.problems}
        assert "could not be started" in told["none"] and "did not start in 8 s" in told["mute"]
        assert "no configuration found" in told["crash"] and "pages" in told["endless"]
        assert ask(servers, "add", a=1, b=1).text == "2"
    assert not alive(int((tmp_path / "pid").read_text())), "though it ignores what it is told"


def test_tools_of_one_name_get_their_servers_before_it(package):
    config = {"a": server("plain"), "b": server("plain"), "c": server("official")}
    with McpServers(config, taken=["add"]) as servers:
        names = [one.name for one in servers.tools]
        assert {"a_good", "b_good", "c_add", "who"} < set(names) and "good" not in names and "add" not in names
        assert ask(servers, "b_good", x=3).text == '{"x": 3}'


def test_after_the_end_nothing_is_left_and_calls_fail(package):
    servers = McpServers({"shop": server("official")})
    pid = int(ask(servers, "who").text)
    servers.close()
    servers.close()
    assert not alive(pid)
    result = ask(servers, "who")
    assert not result.ok and "closed" in result.text
    assert not [thread for thread in threading.enumerate() if thread.name == "mcp" and thread is servers._thread]


@pytest.mark.slow
def test_a_program_that_forgets_to_close_leaves_no_server(package, tmp_path):
    code = (
        "import sys, json; sys.path.insert(0, sys.argv[1]); from test_mcp import *\n"
        "servers = McpServers({'shop': server('official')}); print(ask(servers, 'who').text)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(PROGRAM.parent)], capture_output=True, text=True, timeout=60,
                          env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))})  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not alive(int(done.stdout))


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ([], "servers"), ({"a b": {"command": "x"}}, "a b"), ({"a": "x"}, "mcp.a"), ({"a": {}}, "mcp.a.command"),
        ({"a": {"command": ""}}, "command"), ({"a": {"command": "x", "args": "y"}}, "mcp.a.args"),
        ({"a": {"command": "x", "args": [1]}}, "args"), ({"a": {"command": "x", "env": {"K": 1}}}, "mcp.a.env"),
        ({"a": {"command": "x", "url": "http://example.org"}}, "url"), ({"a": {"comand": "x"}}, "comand"),
        ({str(i): {"command": "x"} for i in range(17)}, "16"), ({"a": {"command": "x\0"}}, "command"),
    ],
)  # fmt: skip
def test_a_configuration_that_cannot_be_used_is_named(config, word):
    with pytest.raises(ConfigError, match=word) as caught:
        server_settings(config)
    assert caught.value.message("zh") != str(caught.value)


def test_secrets_in_the_environment_are_not_shown():
    with pytest.raises(ConfigError) as caught:
        server_settings({"a": {"command": "x", "env": {"KEY": ["s3cret"]}}})
    assert "s3cret" not in caught.value.line()
    assert "s3cret" not in repr(server_settings({"a": {"command": "x", "env": {"KEY": "s3cret"}}}))


def test_without_the_package_the_hint_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "mcp", None)
    with pytest.raises(ConfigError, match="not installed") as caught:
        McpServers({})
    assert "pip install 'glassgpt[mcp]'" in caught.value.hint()


def test_arguments_that_are_no_json_or_too_deep_are_refused():
    accept = accept_by("f", {"type": "object", "properties": {"x": {"type": "integer"}}})
    assert accept('{"x": 1}') == {"x": 1}
    for text in ("{", "[]", '{"x": "1"}', '{"a":' * 100_000):
        with pytest.raises(InputError):
            accept(text)
    for schema in ({"type": "array"}, {}, {"type": "object", "properties": {"x": {"minimum": "1"}}}):
        with pytest.raises(ConfigError):
            accept_by("f", schema)


def test_the_library_logs_nothing_to_the_screen_by_itself(package):
    McpServers({}).close()
    assert any(isinstance(handler, logging.NullHandler) for handler in logging.getLogger("mcp").handlers)
