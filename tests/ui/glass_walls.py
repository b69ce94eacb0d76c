"""Looking into a reply of the small network in a browser: what several files of tests do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlparse

from browsing import Site, kept, say
from playwright.sync_api import Page

from glassgpt.assistant.store import Store
from glassgpt.engine.language_model import LanguageModel

READY = "() => !document.querySelector('.gg-view').hasAttribute('aria-busy')"


def network_site(folder: Path) -> Iterator[Site]:
    """A server with the small network, for a fixture."""
    site = Site(folder, "network")
    site.start()
    yield site
    site.stop()


def where(window: Page, word: str, number: int = 0) -> tuple[float, float]:
    """The middle of a word of the last reply."""
    window.locator(".gg-assistant .gg-body").last.wait_for()
    x, y = window.evaluate(
        """([word, number]) => {
          const body = [...document.querySelectorAll('.gg-assistant .gg-body')].pop();
          const walker = document.createTreeWalker(body, NodeFilter.SHOW_TEXT);
          for (let node; (node = walker.nextNode()); ) {
            for (let at = node.data.indexOf(word); at >= 0; at = node.data.indexOf(word, at + 1)) {
              if (number--) continue;
              const range = document.createRange();
              range.setStart(node, at);
              range.setEnd(node, at + word.length);
              range.startContainer.parentElement.scrollIntoView({ block: "center" });
              const box = range.getClientRects()[0];
              return [box.left + box.width / 2, box.top + box.height / 2];
            }
          }
          return [0, 0];
        }""",
        [word, number],
    )
    return x, y


def click_on(window: Page, word: str, number: int = 0) -> None:
    """A click into the middle of a word of the last reply."""
    window.mouse.click(*where(window, word, number))


def opened(window: Page) -> None:
    """Waits until a token is seen with its view."""
    window.locator(".gg-tok[aria-selected=true]").wait_for()
    window.wait_for_function(READY)


def place(window: Page) -> int:
    """The place that is looked at, as the address says it."""
    return int(parse_qs(urlparse(window.url).query)["place"][0])


def tokens(window: Page) -> list[str]:
    """All tokens, as they are shown."""
    return window.locator(".gg-tokens > span").all_inner_texts()


def read(window: Page, model: LanguageModel) -> list[int]:
    """The ids that are looked at: laid out anew from what was said."""
    said = window.evaluate("""() => [...document.querySelectorAll('.gg-log article')].map(a => [
        a.classList.contains('gg-user') ? 'user' : 'assistant', a.querySelector('.gg-body').textContent])""")
    return model.template.encode(model.tokenizer, [{"role": r, "content": t} for r, t in said]).ids


def inside(window: Page, view: str) -> None:
    """Says something and opens a view of the reply."""
    say(window, "Tell me about the sea")
    window.locator(".gg-assistant .gg-actions").get_by_role("button", name="Look inside").last.click()
    opened(window)
    window.locator(f"#gg-tab-{view}").click()
    window.wait_for_function(READY)


def reply_of(site: Site) -> str:
    """A reply of the small network that the store has."""
    id = kept(
        site, "What is there?", "The sea, and a boat that went out to the sea, and the sea was calm.", model="small"
    )
    with Store(site.folder / "conversations.db") as store:
        return store.path(id)[-1].id
