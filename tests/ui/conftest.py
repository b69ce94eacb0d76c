"""A browser, a server whose page it opens, and windows that note what they should not do."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from browsing import KEY, Site, Watched, connected
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

expect.set_options(timeout=20_000)  # two test processes and a training may share two cores
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's chromium, for the tests of a file: while it is there an event loop runs in this thread, and the tests of
    other files begin one of their own."""
    found = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if found is None:
        pytest.skip("needs a browser: on Debian and Ubuntu, apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One server for the tests of a file."""
    site = Site(tmp_path_factory.mktemp("site"))
    site.start()
    yield site
    site.stop()


@pytest.fixture
def watched() -> Iterator[Watched]:
    """No window of the test may write an error or ask another host."""
    found = Watched()
    yield found
    found.check()


Opens = Callable[..., Page]


@pytest.fixture
def opens(browser: Browser, site: Site, watched: Watched) -> Iterator[Opens]:
    """Opens windows of the page, each a browser of its own: `opens(path, locale=..., viewport=..., ...)`."""
    contexts: list[BrowserContext] = []

    def opened(path: str = "/", *, beside: Page | None = None, **settings: Any) -> Page:
        if beside is None:
            context = browser.new_context(
                **({"locale": "en-US", "viewport": {"width": 1200, "height": 800}} | settings)
            )
            contexts.append(context)
            context.request.get(f"{site.url}/?token={KEY}")
        else:
            context = beside.context
        page = context.new_page()
        page.set_default_timeout(15_000)
        watched.watch(page, site.url)
        page.goto(site.url + path)
        page.wait_for_selector(".gg-composer .gg-field", state="attached")
        connected(page)
        return page

    yield opened
    for context in contexts:
        context.close()


@pytest.fixture
def window(opens: Opens) -> Page:
    """One window, in English, at a new conversation."""
    return opens()
