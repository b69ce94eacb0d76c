"""A shop with the assistant on its pages: the shop's server, ours with a model that says what a test tells it to, and
what a test does with the widget.

The model answers `say:TEXT` with TEXT, `long:N` with N words at 100 words/s, `fail` with a mistake, and anything else
with "You said:" and the message.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

from playwright.sync_api import Locator, Page

from glassgpt.engine.request import Piece, Request
from glassgpt.server.app import make_app
from glassgpt.server.hub import Entry, Hub
from glassgpt.server.keys import Keys, key_of
from glassgpt.server.restricted import Restriction
from glassgpt.server.wire import listen, server_of
from glassgpt.text.bpe import train_bpe
from glassgpt.text.template import get_template
from glassgpt.ui.widget import add_widget

KEY, OTHER = "key-of-the-shops-page", "key-of-another-page.."
_LAST = re.compile(r"user\n(.*?)(?:<\|im_end\|>|$)", re.DOTALL)
PAGE = """<!doctype html><html lang="{page_language}"><head><meta charset="utf-8"><title>Shop</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">
<link rel="stylesheet" href="/shop.css"></head>
<body><header><b>{name}</b> <a href="/?page=2">{goods}</a> <input class="search" aria-label="{search}"></header>
<main><h1>{goods}</h1><ul><li><a href="/?page=3">{bag}</a></li></ul></main>{scripts}</body></html>"""
SHOP_CSS = """body { font: 16px/1.5 Georgia, serif; margin: 0; background: #faf7f2; color: #222; }
header { padding: 1rem 2rem; background: #2d4a3e; color: #fff; } header a { color: #fff; } main { padding: 1rem 2rem; }
* { letter-spacing: .5px } button, textarea, div, p { border: 5px dotted lime !important; font-size: 40px !important;
  display: inline !important; color: lime !important; } glassgpt-widget { display: none !important; }"""


class ScriptedEngine:
    """What the server needs of an engine."""

    def __init__(self, decode: Callable[[list[int]], str]) -> None:
        self.decode, self.cancelled, self.prompts = decode, 0, list[str]()

    def submit(self, requests: Sequence[Request], deliver: Sequence[Callable[[Any], None]]) -> list[Any]:
        lines = [SimpleNamespace(reused=0, ended=False, gone=False) for _ in requests]
        for request, line, tell in zip(requests, lines, deliver, strict=True):
            self.prompts.append(self.decode(list(request.prompt)))
            said = _LAST.findall(self.prompts[-1])[-1]
            threading.Thread(target=self._write, args=(said, line, tell), daemon=True).start()
        return lines

    def _write(self, said: str, line: Any, tell: Callable[[Any], None]) -> None:
        kind, _, rest = said.partition(":")
        reason: Any = "stop"
        if kind == "fail":
            tell(ValueError("a mistake of the model"))
            return
        if kind == "long":
            for number in range(int(rest)):
                time.sleep(0.01)
                if line.gone:
                    return
                tell(Piece(f"word{number} " if number % 40 else f"\n\nword{number} ", number))
        elif kind == "cut":
            tell(Piece("and so on", 1))
            reason = "length"
        else:
            text = rest if kind == "say" else f"You said: {said}"
            for at in range(0, len(text), 7):
                tell(Piece(text[at : at + 7], at))
        line.ended = True
        tell(Piece("", finish_reason=reason))

    def cancel(self, line: Any) -> None:
        line.gone = True
        self.cancelled += not line.ended


class Scripted:
    """What the server needs of a model."""

    context_length = 32_768

    def __init__(self, entry: Entry) -> None:
        self.name, self.precision = entry.name, "int8"
        self.tokenizer = train_bpe(["a text to begin with"] * 3, vocab_size=300)
        self.template = get_template("chatml")
        self.loop = ScriptedEngine(lambda ids: self.tokenizer.decode(ids, show_control=True))


@dataclass
class Shop:
    """Two servers on loopback: the shop's, with `page`'s scripts in its pages, and ours."""

    url: str = ""
    server: str = ""
    hub: Any = None
    restriction: Any = None
    scripts: str = ""
    language: str = "en"
    paths: list[str] = field(default_factory=list)

    @property
    def engine(self) -> ScriptedEngine:
        return next(iter(self.hub.entries.values())).model.loop

    @property
    def policy(self) -> str:
        """As strict as a shop's can be: nothing but what the widget is said to need."""
        return (f"default-src 'none'; script-src {self.server}; connect-src {self.server}; style-src 'self'; "
                "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
                "require-trusted-types-for 'script'; trusted-types 'none'")  # fmt: skip

    def script(self, **more: str) -> str:
        data = {"key": KEY, "model": "customer-service"} | more
        named = " ".join(f'data-{name}="{value}"' for name, value in data.items())
        return f'<script src="{self.server}/widget.js" {named} async></script>'

    def page(self) -> bytes:
        names = {
            "name": "Hill & Bag",
            "goods": "Everything we make",
            "bag": "Green canvas bag, $39",
            "search": "Search",
        }
        if self.language.startswith("zh"):
            names = {"name": "山野书包", "goods": "全部商品", "bag": "绿色帆布包，89 元", "search": "搜索"}
        return PAGE.format(page_language=self.language, scripts=self.scripts, **names).encode()


@contextlib.contextmanager
def open_shop() -> Iterator[Shop]:
    """Both servers, for as long as this lasts."""
    shop = Shop()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            shop.paths.append(self.path)
            css = self.path == "/shop.css"
            body = SHOP_CSS.encode() if css else shop.page()
            self.send_response(200)
            self.send_header("Content-Type", "text/css" if css else "text/html; charset=utf-8")
            self.send_header("Content-Security-Policy", shop.policy)
            self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    pages = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=pages.serve_forever, daemon=True).start()
    shop.url = f"http://127.0.0.1:{pages.server_port}"
    shop.hub = Hub(["customer-service"], Scripted)  # type: ignore[arg-type]
    key, other = key_of(KEY, "shop", ["customer-service"]), key_of(OTHER, "other", ["customer-service"])
    key.restriction = shop.restriction = Restriction([shop.url], visitor_per_minute=600)
    other.restriction = Restriction(["http://other.example"])
    socket = listen("127.0.0.1", 0)
    shop.server = f"http://127.0.0.1:{socket.getsockname()[1]}"
    server = server_of(make_app(shop.hub, Keys([key, other]), adds=[add_widget]))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[socket])), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield shop
    finally:
        pages.shutdown()
        pages.server_close()
        server.should_exit = True
        thread.join(20)


@dataclass
class Customer:
    """What someone does in a window of the shop."""

    page: Page
    shop: Shop
    errors: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    allowed: str = r"(?!)"  # errors that a test expects

    def __post_init__(self) -> None:
        page = self.page
        page.set_default_timeout(15_000)
        page.on("console", lambda m: self.errors.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("dialog", lambda dialog: (self.errors.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: self.asked.append(request.url))

    def check(self) -> None:
        """No error, and no request to anyone but the shop and us."""
        errors = [error for error in self.errors if not re.search(self.allowed, error)]
        foreign = [url for url in self.asked if not url.startswith((self.shop.url, self.shop.server, "data:"))]
        assert not errors and not foreign, (errors, foreign)

    def find(self, selector: str) -> Locator:
        return self.page.locator(f"glassgpt-widget {selector}")

    def comes(self, **data: str) -> Customer:
        """Loads the shop's page with the widget in it."""
        self.shop.scripts = self.shop.script(**data)
        self.page.goto(self.shop.url)
        self.find(".launcher").wait_for(state="attached")
        return self

    def opens(self) -> Customer:
        self.find(".launcher").click()
        self.find(".panel").wait_for()
        return self

    def says(self, text: str) -> str:
        """Says something, and gives the reply."""
        before = self.find(".turn:not(.user)").count()
        self.find("textarea").fill(text)
        self.find("textarea").press("Enter")
        self.find(".turn:not(.user)").nth(before).wait_for()
        return self.whole()

    def whole(self) -> str:
        """The last reply, once it is whole."""
        self.find(".send:not([data-stops])").wait_for()
        return self.find(".turn:not(.user) .text").last.inner_text()

    def focused(self) -> str:
        """What has the focus: its label or text."""
        return self.page.evaluate("""() => {
          const host = document.activeElement;
          const found = host.shadowRoot ? host.shadowRoot.activeElement : host;
          return found.getAttribute("aria-label") || found.textContent || found.tagName;
        }""")
