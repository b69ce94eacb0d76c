"""The page of `glassgpt serve`: what it stands on, and opening it in the browser."""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
import urllib.request
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassgpt.cli.options import note
from glassgpt.core.errors import GlassError
from glassgpt.core.words import say

if TYPE_CHECKING:
    import uvicorn

    from glassgpt.server.app import ServerSettings
    from glassgpt.server.guard import App
    from glassgpt.server.hub import Hub
    from glassgpt.server.keys import Keys

LONGEST_S = 1800.0  # that a first start may take where nobody watches it


class Opening:
    """Opens the page when the server has begun. Where there is neither a terminal nor a display, nobody could see it:
    then the server only shows that it works, and ends.

    Args:
        opens: whether to open it at all.
    """

    def __init__(self, hub: Hub, url: str, token: str | None, language: str, *, opens: bool) -> None:
        self.hub, self.url, self.token, self.language, self.opens = hub, url, token, language, opens
        self.error: Exception | None = None
        self._server: uvicorn.Server | None = None

    def started(self, server: uvicorn.Server) -> None:
        """Called before the server begins."""
        self._server = server
        if self.opens:
            threading.Thread(target=self._open, daemon=True, name="glassgpt-open").start()

    def failed(self, error: Exception) -> None:
        """The first model could not be loaded: the server ends."""
        self.error = error
        if self._server is not None:
            self._server.should_exit = True

    def end(self) -> None:
        """Called when the server has ended; raises what ended it."""
        if self.error is not None:
            raise self.error

    def _open(self) -> None:
        alone = not has_display() and not (sys.stdin.isatty() and sys.stdout.isatty())
        until = time.monotonic() + LONGEST_S
        while not self._answers():
            if time.monotonic() > until or self.error is not None:
                return
            time.sleep(0.05)
        if not alone:
            if has_display():
                webbrowser.open(f"{self.url}/?token={self.token}" if self.token else self.url)
            return
        first = next(iter(self.hub.entries.values()))
        while first.model is None and self.error is None:
            if time.monotonic() > until:
                self.failed(GlassError("the model was not there after {minutes:.0f} minutes", minutes=LONGEST_S / 60))
            time.sleep(0.1)
        if self.error is None and self._server is not None:
            note(say("It works. There is neither a terminal nor a display here, so it ends again.", self.language))
            self._server.should_exit = True

    def _answers(self) -> bool:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"{self.url}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


def has_display() -> bool:
    """Whether a browser could show something here."""
    shown = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return sys.platform in ("win32", "darwin") or bool(shown)


def with_page(args: argparse.Namespace, hub: Hub, keys: Keys, settings: ServerSettings, given: Any,
              failed: Callable[[Exception], None]) -> App:  # fmt: skip
    """The server with its page."""
    from glassgpt.assistant.assistant import Assistant
    from glassgpt.assistant.persona import PACKAGED, load_persona
    from glassgpt.assistant.persona_tools import persona_tools
    from glassgpt.assistant.store import Store
    from glassgpt.cli.serve import OWN, add_assistant
    from glassgpt.server.app import make_app
    from glassgpt.server.door import Door
    from glassgpt.ui.builds import Builds
    from glassgpt.ui.desk import KNOWLEDGE, STORE, Desk, data_folder, page_secret
    from glassgpt.ui.page import make_page
    from glassgpt.ui.shelf import Shelf
    from glassgpt.ui.widget import add_widget

    folder = Path(args.data).expanduser() if args.data else data_folder()
    secret = page_secret(folder)
    shelf = Shelf(folder / KNOWLEDGE, beside=given[1] if given else None)
    if given is not None:
        add_assistant(hub, args, given[0], shelf, given[2])
    for name in PACKAGED:
        if name not in hub.entries:
            persona = load_persona(name)
            tools = persona_tools(persona).tools

            def make(model: Any, persona: Any = persona, tools: Any = tools) -> Assistant:
                return Assistant(model, persona, shelf, tools)

            hub.add_assistant(name, make, listed=False)
    desk = Desk(hub, Store(folder / STORE), shelf, Builds(Path(args.runs)), folder, args.language)
    return make_app(hub, keys, settings, Door(keys, secret, (OWN,)), make_page(desk), failed, [add_widget])
