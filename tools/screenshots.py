"""Draws the pictures of the page in docs/images, in both languages, from a real server with the sample.

.venv/bin/python tools/screenshots.py        # takes about five minutes; needs chromium and the default model
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from glassgpt.core.words import translate

ROOT = Path(__file__).resolve().parent.parent
SAID = {
    "en": ["How long may a bank transfer take?", "Do you repair laptops?"],
    "zh": ["优惠券怎么用？", "你们卖自行车吗？"],
}
EXPLAINED = "What is the capital of France?"  # the default model knows English alone
ASKED = {"en": "How long does delivery take?", "zh": "银行转账要多久到？"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    with pages() as open_page:
        for language in ("en", "zh"):
            draw(open_page(language), language, out)


@contextmanager
def pages() -> Iterator[Callable[[str], Page]]:
    """A server of its own, and what opens its page in a language."""
    folder = Path(tempfile.mkdtemp())
    words = [sys.executable, "-m", "glassgpt", "serve", "--port", "0", "--json", "--data", str(folder / "data"),
             "--runs", str(folder / "runs")]  # fmt: skip
    server = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                              env=os.environ | {"GLASSGPT_LANG": "en"})  # fmt: skip
    try:
        assert server.stdout is not None
        page_url = json.loads(server.stdout.readline())["page"]
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])

            def open_page(language: str) -> Page:
                context = browser.new_context(viewport={"width": 1120, "height": 760}, color_scheme="light",
                                              locale={"en": "en-US", "zh": "zh-CN"}[language])  # fmt: skip
                page = context.new_page()
                page.set_default_timeout(240_000)
                page.goto(page_url)
                page.wait_for_selector(".gg-composer .gg-field")
                return page

            yield open_page
            browser.close()
    finally:
        server.terminate()
        server.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def draw(page: Page, language: str, out: Path) -> None:
    """The tabs in one language; the dark and the narrow one too."""
    page.get_by_role("tab").nth(1).click()
    if language == "en":
        page.locator(".gg-panel:visible .gg-button").first.click()  # the sample
    page.locator(".gg-table:visible").wait_for()
    question = page.locator("main input[name=question]")
    question.fill(ASKED[language])
    question.press("Enter")
    page.locator(".gg-hit").first.wait_for()
    page.locator(".gg-hit").nth(1).scroll_into_view_if_needed()
    shoot(page, out / f"knowledge.{language}.png")
    page.get_by_role("tab").nth(0).click()
    page.locator(".gg-bar select").select_option("customer-service")
    page.locator(".gg-greeting").wait_for()
    for number, text in enumerate(SAID[language]):
        say(page, text, number)
    page.locator(".gg-mode summary").first.click()
    shoot(page, out / f"chat.{language}.png")
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 390, "height": 780})
    shoot(page, out / f"phone.{language}.png")
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 1120, "height": 760})
    page.locator(".gg-bar select").select_option("smollm2")
    page.locator(".gg-bar .gg-button, .gg-bar .gg-icon").first.click()  # a new conversation
    page.locator(".gg-greeting").wait_for()
    say(page, EXPLAINED, 0)
    while "France is Paris" not in page.locator(".gg-assistant .gg-body").inner_text():  # it is sampled
        press(page, "Write again", language)
        page.wait_for_timeout(500)
        page.locator(".gg-assistant .gg-actions").wait_for()
    press(page, "Look inside", language)
    page.locator(".gg-tok", has_text="Paris").first.click()
    for view in ("attention", "layers"):
        page.locator(f"#gg-tab-{view}").click()
        page.wait_for_function("() => !document.querySelector('.gg-view').hasAttribute('aria-busy')")
        shoot(page, out / f"inside-{view}.{language}.png")
    page.get_by_role("tab", name={"en": "Build", "zh": "训练"}[language], exact=True).click()
    if language == "en":
        page.locator(".gg-panel:visible .gg-row .gg-button").first.click()  # the sample
        page.locator(".doctor").wait_for()
        shoot(page, out / f"build-file.{language}.png")
        page.locator(".gg-panel:visible select").select_option("scratch")
        page.locator(".gg-panel:visible input[type=number]").fill("2")
        page.wait_for_timeout(8000)
        page.locator(".gg-form .gg-main").click()
    else:
        page.locator(".gg-panel:visible .gg-row .gg-button").first.click()
        page.locator(".doctor").wait_for()
        shoot(page, out / f"build-file.{language}.png")
        page.reload()
        page.locator("[data-do=show]").first.click()
    page.locator(".gg-card .wide tbody, .gg-card .wide table").first.wait_for()
    page.get_by_text({"en": "Held-out loss:", "zh": "留出数据的损失："}[language]).first.wait_for()
    page.locator(".gg-card").scroll_into_view_if_needed()
    shoot(page, out / f"build.{language}.png")


def press(page: Page, name: str, language: str) -> None:
    """A button below the last reply."""
    page.locator(".gg-assistant .gg-actions").last.get_by_role("button", name=translate(name, language)).click()


def say(page: Page, text: str, number: int) -> None:
    page.locator(".gg-composer .gg-field").fill(text)
    page.keyboard.press("Enter")
    page.locator(".gg-assistant").nth(number).locator(".gg-actions").wait_for()


def shoot(page: Page, path: Path) -> None:
    page.wait_for_timeout(700)
    page.screenshot(path=path)


if __name__ == "__main__":
    main()
