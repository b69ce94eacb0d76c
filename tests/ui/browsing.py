"""What tests of the page do with a browser, and the server that they open."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Page

from glassgpt.assistant.store import Store

KEY = "a-key-for-the-tests"  # of page_child.py


@dataclass
class Site:
    """A server in a process of its own."""

    folder: Path
    kind: str = ""  # of page_child.py: "slow", "network"
    port: int = 0
    url: str = ""
    process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Starts it, at the port that it had before."""
        log = (self.folder / "server.log").open("a")
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).parent / "page_child.py"), str(self.folder), str(self.port),
             *([self.kind] if self.kind else [])],
            stdout=subprocess.PIPE, stderr=log, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        self.port = int(self.url.rsplit(":", 1)[1])
        for _ in range(200):
            try:
                if httpx.get(f"{self.url}/health", trust_env=False).status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.05)
        raise AssertionError("the server did not come up: " + (self.folder / "server.log").read_text()[-2000:])

    def stop(self) -> None:
        """Ends it."""
        assert self.process is not None
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


@dataclass
class Watched:
    """What a window did that no window should: it is looked at when the test is over."""

    errors: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    allowed: re.Pattern[str] | None = None  # errors that a test expects

    def watch(self, page: Page, url: str) -> None:
        def heard(message: Any) -> None:
            if message.type in ("error", "warning"):
                self.errors.append(message.text)

        page.on("console", heard)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("dialog", lambda dialog: (self.errors.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: self.foreign.append(request.url)
                if not request.url.startswith((url, "data:", "blob:")) else None)  # fmt: skip
        page.on("websocket", lambda socket: self.foreign.append(socket.url)
                if not socket.url.startswith(url.replace("http", "ws")) else None)  # fmt: skip

    def check(self) -> None:
        errors = [e for e in self.errors if self.allowed is None or not self.allowed.search(e)]
        assert errors == []
        assert self.foreign == []


def kept(site: Site, *texts: str, model: str = "scripted") -> str:
    """A conversation that the site's store has: what was said in turn by the user and the model. Gives its id."""
    with Store(site.folder / "conversations.db") as store:
        found = store.create(texts[0][:40], model=model)
        for question, answer in zip(texts[::2], texts[1::2], strict=True):
            store.add(found.id, "user", question)
            reply = store.begin_reply(found.id, extras={"model": model})
            reply.append(answer)
            reply.finish({"model": model})
        return found.id


def connected(page: Page) -> None:
    """Waits until what the user does reaches the server."""
    page.wait_for_function("() => window.did_handshake === true")


def say(page: Page, text: str, timeout: float = 15_000) -> str:
    """Says something and gives the reply, once it is whole."""
    replies = page.locator(".gg-assistant")
    before = replies.count()
    field = page.locator(".gg-composer .gg-field")
    field.fill(text)
    field.press("Enter")
    page.wait_for_function("n => document.querySelectorAll('.gg-assistant').length > n", arg=before)
    return whole(page, timeout)


def whole(page: Page, timeout: float = 15_000) -> str:
    """The last reply, once it is whole."""
    last = page.locator(".gg-assistant").last
    last.locator(".gg-actions").wait_for(timeout=timeout)
    # What was put out of sight has no innerText until it is drawn (`content-visibility`).
    page.wait_for_function(
        """() => { const body = [...document.querySelectorAll(".gg-assistant .gg-body")].pop();
        return body.innerText || !body.textContent; }""",
        timeout=timeout,
    )
    return last.locator(".gg-body").inner_text()
