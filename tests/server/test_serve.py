"""`glassgpt serve` as a process: what it prints, whom it lets in, how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="signals of Unix")]
SERVE = [sys.executable, "-m", "glassgpt", "serve"]
ENV = {k: v for k, v in os.environ.items() if k != "GLASSGPT_API_KEY"} | {"PYTHONUNBUFFERED": "1"}


class Served:
    """The verb, running."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process, self.log = process, log
        assert process.stdout
        self.said = json.loads(process.stdout.readline())
        self.url, self.token = self.said["url"], self.said["token"]

    def client(self, **more: Any) -> openai.OpenAI:
        return openai.OpenAI(base_url=self.url, api_key=self.token or "x" * 20, max_retries=0, timeout=60, **more)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


def start(folder: Path, *more: str, env: dict[str, str] | None = None) -> Iterator[Served]:
    log = folder / "log"
    with log.open("w") as errors:
        words = [*SERVE, "--port", "0", "--json", "--data", str(folder / "data"), *more]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=errors,
                                   text=True, env=ENV | (env or {}))  # fmt: skip
    try:
        served = Served(process, log)
        for _ in range(100):
            try:
                httpx.get(served.url.removesuffix("/v1") + "/health", trust_env=False)
                break
            except httpx.TransportError:
                time.sleep(0.1)
        yield served
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def served(smollm2_path: Path, tmp_path: Path) -> Iterator[Served]:
    yield from start(tmp_path, "--model", "smollm2")


def test_a_random_key_is_made_and_told_once(served: Served):
    assert len(served.token) >= 32 and served.said["models"] == ["smollm2"]
    answer = served.client().chat.completions.create(
        model="smollm2", messages=[{"role": "user", "content": "a secret question"}], max_tokens=4
    )
    assert answer.choices[0].message.content is not None
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=served.url, api_key="x" * 30, max_retries=0).models.list()
    served.process.terminate()
    assert served.process.wait(30) == 0
    text = served.log.read_text()
    assert served.token not in text and "secret question" not in text
    told = next(line for line in served.lines() if line.get("path") == "/v1/chat/completions")
    assert told["status"] == 200 and told["model"] == "smollm2" and told["completion_tokens"] == 4
    assert told["request_id"] and told["ms"] > 0


def test_sigterm_lets_a_reply_be_finished(served: Served):
    asked: dict[str, Any] = dict(model="smollm2", messages=[{"role": "user", "content": "Tell me a story."}], seed=1,
                                 max_tokens=80)  # fmt: skip
    whole = served.client().chat.completions.create(**asked).choices[0].message.content
    stream = served.client().chat.completions.create(**asked, stream=True)
    text = next(stream).choices[0].delta.content or ""
    served.process.send_signal(signal.SIGTERM)
    text += "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert text == whole
    assert served.process.wait(30) == 0


def test_it_attacks_itself(served: Served):
    words = [*SERVE, "--self-test", served.url, "--api-key", served.token]
    done = subprocess.run(words, capture_output=True, text=True, timeout=200, env=ENV)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAILED" not in done.stdout and done.stdout.count("held") >= 18


def test_messages_are_logged_where_that_is_wanted(smollm2_path: Path, tmp_path: Path):
    for served in start(tmp_path, "--model", "smollm2", "--log-messages", "--api-key", "0123456789abcdef"):
        assert served.token is None
        served.token = "0123456789abcdef"
        served.client().chat.completions.create(model="smollm2", max_tokens=2,
                                                messages=[{"role": "user", "content": "你好，秘密"}])  # fmt: skip
        served.process.terminate()
        served.process.wait(30)
        assert "你好，秘密" in served.log.read_text() and "0123456789abcdef" not in served.log.read_text()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--host", "0.0.0.0"], "can be reached from other computers, and there is no key"),
        (["--api-key", "short"], "expected at least 16"), (["--port", "99999"], "port is 99999"),
        (["--keys", "none.toml"], "there is no file none.toml"), (["--memory", "-1"], "--memory is -1"),
        (["--keys", "x", "--api-key", "0123456789abcdef"], "--api-key and --keys are both given"),
        (["--self-test", "http://127.0.0.1:9", "--api-key", "k"], "nothing answers"),
        (["--host", "203.0.113.7", "--api-key", "0123456789abcdef"], "cannot listen on 203.0.113.7"),
    ],
)  # fmt: skip
def test_what_cannot_be_served_is_said_in_one_line(words: list[str], told: str):
    done = subprocess.run([*SERVE, *words], capture_output=True, text=True, timeout=60, env=ENV | {"LANG": "C"})
    assert done.returncode != 0 and told in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and "0123456789abcdef" not in done.stderr


def test_a_first_model_for_which_there_is_no_room_is_said_before_anything_is_served(smollm2_path: Path):
    words = [*SERVE, "--model", "smollm2", "--no-page", "--memory", "0.1", "--port", "0"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, env=ENV)
    assert done.returncode == 1 and done.stdout == ""
    assert "smollm2 takes" in done.stderr and "--memory" in done.stderr and "Traceback" not in done.stderr


def test_a_model_that_is_not_there_is_an_error_before_anything_is_served(tmp_path: Path):
    done = subprocess.run([*SERVE, "--model", "no-such-model"], capture_output=True, text=True, timeout=60, env=ENV)
    assert done.returncode != 0 and "no-such-model" in done.stderr and "Traceback" not in done.stderr


def test_the_page_is_opened_with_the_key_that_was_told(served: Served):
    base = served.url.removesuffix("/v1")
    assert served.said["page"] == f"{base}/?token={served.token}"
    with httpx.Client(base_url=base, trust_env=False, timeout=60) as browser:
        assert browser.get("/").status_code == 401
        assert browser.get(served.said["page"], follow_redirects=True).status_code == 200
        assert "glassgpt" in browser.get("/en").text
    assert served.token not in served.log.read_text()


def test_without_the_page_the_api_alone_is_there(smollm2_path: Path, tmp_path: Path):
    for served in start(tmp_path, "--no-page"):
        base = served.url.removesuffix("/v1")
        key = {"Authorization": f"Bearer {served.token}"}
        assert served.said["page"] is None
        assert httpx.get(base + "/", headers=key, trust_env=False).status_code == 404
        assert not (tmp_path / "data").exists()
        assert served.client().models.list().data[0].id == "smollm2"


def test_without_a_terminal_and_a_display_it_shows_that_it_works_and_ends(smollm2_path: Path, tmp_path: Path):
    env = {name: value for name, value in ENV.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    words = [*SERVE, "--open", "--port", "0", "--data", str(tmp_path)]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, env=env)
    assert done.returncode == 0, done.stderr
    assert "The page: http://127.0.0.1:" in done.stdout and "It works." in done.stderr


def test_a_first_model_that_cannot_be_loaded_ends_the_server_with_its_reason(tmp_path: Path):
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF and nothing more")
    words = [*SERVE, "--model", str(broken), "--port", "0", "--data", str(tmp_path / "data")]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, env=ENV)
    assert done.returncode == 1
    told = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(told) == 1 and "broken.gguf" in told[0]
