"""The page in a real browser: from the server's start to a page that can be used, a long conversation, a fast reply.

    python -m benchmarks page --rounds 3

The server runs in a process of its own with a scripted model (tests/ui/page_child.py), so that nothing is measured but
the page; `--real` starts `glassgpt serve` with the default model instead, for the first figures, and looks inside a
reply of some 200 tokens.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CHILD = Path(__file__).resolve().parent.parent / "tests" / "ui" / "page_child.py"
KEY = "a-key-for-the-tests"
VIEWS = (("attention", "canvas"), ("layers", ".gg-lens"), ("influence", ".gg-most li"), ("switches", ".gg-switch"),
         ("origins", ".gg-spans"), ("choices", "tbody tr"))  # fmt: skip
SEEN = """() => {{ const view = document.querySelector(".gg-view");
  return view && !view.hasAttribute("aria-busy") && view.querySelector("{sign}"); }}"""
FRAMES = """() => {
  window.gaps = [];
  let last = performance.now();
  (function frame(now) {
    window.gaps.push(now - last);
    last = now;
    window.done || requestAnimationFrame(frame);
  })(last);
}"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks page", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--messages", type=int, default=500, help="of the conversation that is opened")
    parser.add_argument("--tokens", type=int, default=500, help="of the reply, which comes at 100 a second")
    parser.add_argument("--real", action="store_true", help="with the default model")
    args = parser.parse_args()
    from playwright.sync_api import sync_playwright

    rows: dict[str, list[float]] = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for _ in range(args.rounds):
            for name, value in _round(browser, args).items():
                rows.setdefault(name, []).append(value)
        browser.close()
    for name, values in rows.items():
        print(f"{name:62} {statistics.median(values):8.2f}  ({min(values):.2f} to {max(values):.2f})")


def _round(browser: Any, args: argparse.Namespace) -> dict[str, float]:
    folder = Path(tempfile.mkdtemp())
    if args.real:
        from glassgpt.ui.desk import SETTINGS

        (folder / SETTINGS).write_text(json.dumps({"max_new_tokens": 200}))
        words = [sys.executable, "-m", "glassgpt", "serve", "--port", "0", "--json", "--data", str(folder),
                 "--api-key", KEY]  # fmt: skip
    else:
        words = [sys.executable, str(CHILD), str(folder), "0"]
    began = time.perf_counter()
    server = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    found: dict[str, float] = {}
    try:
        assert server.stdout is not None
        told = server.stdout.readline().strip()
        url = json.loads(told)["url"].removesuffix("/v1") if args.real else told
        found["from the program's start to its address, s"] = time.perf_counter() - began
        context = browser.new_context(viewport={"width": 1200, "height": 800})
        page = context.new_page()
        _first(page, url, began, found)
        if args.real:
            _inside(page, url, found)
        else:
            _reply(page, args.tokens, found)
            _conversation(page, folder, url, args.messages, found)
        context.close()
    finally:
        server.terminate()
        server.wait(30)
        shutil.rmtree(folder, ignore_errors=True)
    return found


def _first(page: Any, url: str, began: float, found: dict[str, float]) -> None:
    address = time.perf_counter()
    page.goto(f"{url}/?token={KEY}")
    page.wait_for_function("() => window.did_handshake === true && document.querySelector('.gg-composer .gg-field')")
    now = time.perf_counter()
    found["from the address to a page that can be used, empty cache, s"] = now - address
    found["from the program's start to a page that can be used, s"] = now - began


def _reply(page: Any, tokens: int, found: dict[str, float]) -> None:
    page.evaluate(FRAMES)
    page.fill(".gg-composer .gg-field", f"long:{tokens}")
    page.keyboard.press("Enter")
    page.wait_for_selector(".gg-assistant .gg-actions", timeout=60_000)
    found[f"longest gap between frames, reply of {tokens} tokens at 100/s, ms"] = page.evaluate("Math.max(...gaps)")
    page.evaluate("window.done = true")


def _inside(page: Any, url: str, found: dict[str, float]) -> None:
    """Every view of the last tokens of a reply, from the click until it is there; each at a place of its own."""
    others: list[str] = []
    page.on("request", lambda request: others.append(request.url) if not request.url.startswith((url, "blob:")) else 0)
    page.fill(".gg-composer .gg-field", "Tell me a long story about a fox who lives in Paris.")
    page.keyboard.press("Enter")
    page.locator(".gg-assistant .gg-actions").wait_for(timeout=120_000)
    began = time.perf_counter()
    page.locator(".gg-assistant .gg-actions button").nth(1).click()
    page.wait_for_function(SEEN.format(sign="tbody tr"), timeout=60_000)
    found["the reply is opened, the first time, s"] = time.perf_counter() - began
    began = time.perf_counter()
    page.locator("#gg-tab-attention").click()  # torch is imported for it, and the weights are unpacked
    page.wait_for_function(SEEN.format(sign="canvas"), timeout=60_000)
    found["the first view that needs torch opens, at once after that, s"] = time.perf_counter() - began
    page.locator("#gg-tab-choices").click()
    page.wait_for_function(SEEN.format(sign="tbody tr"), timeout=60_000)
    tokens = page.locator(".gg-tok")
    count = tokens.count()
    found["tokens of the reply"] = count
    for number, (view, sign) in enumerate(VIEWS):
        before = VIEWS[number - 1][1]
        tokens.nth(count - 2 - number).click()
        page.wait_for_function(SEEN.format(sign=before), timeout=60_000)  # the view that is open there
        page.wait_for_timeout(500)
        began = time.perf_counter()
        page.locator(f"#gg-tab-{view}").click()
        page.wait_for_function(SEEN.format(sign=sign), timeout=60_000)
        found[f"view {view} opens, s"] = time.perf_counter() - began
    began = time.perf_counter()
    tokens.nth(count - 20).click()
    page.wait_for_function(SEEN.format(sign="tbody tr"), timeout=60_000)
    found["another token in the view choices, s"] = time.perf_counter() - began
    found["requests to another host"] = len(others)


def _conversation(page: Any, folder: Path, url: str, messages: int, found: dict[str, float]) -> None:
    from glassgpt.assistant.store import Store

    with Store(folder / "conversations.db") as store:
        one = store.create("long")
        for number in range(messages):
            text = f"message {number} with **bold**, `code` and\n\n| a | b |\n|---|---|\n| 1 | 2 |"
            store.add(one.id, "user" if number % 2 == 0 else "assistant", text)
    page.reload()
    page.wait_for_function("() => window.did_handshake === true")
    row = page.locator(f'[data-id="{one.id}"] .gg-open')
    row.wait_for()
    began = time.perf_counter()
    row.click()
    page.wait_for_function(f"() => document.body.textContent.includes('message {messages - 1} with')")
    found[f"a conversation of {messages} messages opens, s"] = time.perf_counter() - began
    page.wait_for_function(f"() => document.querySelectorAll('.gg-message').length === {messages}", timeout=60_000)
    found["all of its messages are there, s"] = time.perf_counter() - began


if __name__ == "__main__":
    main()
