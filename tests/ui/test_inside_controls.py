"""The tab Inside in a real browser: its controls, clicks on words, what fails, and what comes too late."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from browsing import Site, kept, say
from glass_walls import READY, click_on, inside, network_site, opened, place, reply_of, where
from playwright.sync_api import Page, expect


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server with a network that can be looked into."""
    yield from network_site(tmp_path_factory.mktemp("controls"))


def test_a_view_that_fails_says_why_and_the_next_one_is_seen(window: Page, site: Site):
    """It was busy for ever."""
    lens = site.folder / "small" / "tuned.lens"
    good = lens.read_bytes()
    inside(window, "layers")
    try:
        lens.write_bytes(b"nothing")
        window.get_by_role("checkbox", name="Tuned lens").click()
        expect(window.locator(".gg-view .gg-banner")).to_contain_text("is no tuned lens")
        window.wait_for_function(READY)
        window.locator(".gg-tokens").press("ArrowRight")
        window.wait_for_function(READY)
        expect(window.locator(".gg-view .gg-lens")).to_be_visible()
        expect(window.get_by_role("checkbox", name="Tuned lens")).not_to_be_checked()
    finally:
        lens.write_bytes(good)


def test_whoever_moves_a_control_by_keyboard_stays_at_it(window: Page):
    inside(window, "choices")
    at = "() => document.activeElement.dataset.key ?? document.activeElement.className"
    window.get_by_role("slider", name="Temperature").focus()
    for _ in range(3):
        window.keyboard.press("ArrowRight")
        window.wait_for_function(READY)
        assert window.evaluate(at) == "temperature"
    expect(window.get_by_role("slider", name="Temperature")).to_have_value("0.5")
    window.locator("#gg-tab-attention").click()
    window.wait_for_function(READY)
    window.get_by_role("combobox", name="Head").focus()
    window.get_by_role("combobox", name="Head").select_option("2")
    window.wait_for_function(READY)
    assert window.evaluate(at) == "head"
    expect(window.locator(".gg-glass [role=status]")).to_contain_text("head 2")


def test_what_was_computed_for_other_switches_is_not_shown_under_these(window: Page):
    inside(window, "switches")
    window.locator("[data-name='m1']").click()
    window.get_by_role("button", name="Answer again").click()
    window.locator("[data-name='h0.2']").click()  # before the answer is there, or after it
    window.wait_for_timeout(1500)
    assert window.locator(".gg-after").count() == 0 and window.locator("[aria-busy]").count() == 0
    assert window.get_by_role("link", name=re.compile("SVG")).count() == 0
    window.get_by_role("button", name="Answer again").click()
    window.locator(".gg-after").wait_for()
    window.get_by_role("button", name="All on").click()
    assert window.locator(".gg-after").count() == 0
    expect(window.locator(".gg-switch[aria-pressed=true]")).to_have_count(0)


def test_two_clicks_on_a_word_select_it_and_a_click_that_ends_a_selection_opens_nothing(window: Page):
    reply = say(window, "Tell me about the sea")
    word = re.findall(r"[a-z]{3,}", reply)[0]
    x, y = where(window, word)
    window.mouse.dblclick(x, y)
    window.wait_for_timeout(500)
    assert window.evaluate("String(getSelection())").strip()
    window.mouse.click(x, y)
    window.wait_for_timeout(500)
    expect(window.get_by_role("tab", name="Chat")).to_have_attribute("aria-selected", "true")
    window.mouse.click(x, y)
    opened(window)


def test_the_word_that_was_clicked_on_is_found_where_more_is_shown_than_was_written(opens, site: Site):
    """A block of code has a label, a link has an address that is not shown, and a list numbers that are not text."""
    text = ("```python\nprint(1)\n```\n\nPython is a sea. [sea](https://example.org/sea) and sea\n\n1. one has 1 boat\n"
            "2. two have 2, and Python")  # fmt: skip
    window: Page = opens(f"/en?chat={kept(site, 'And code?', text, model='small')}")
    for word, number, before in (
        ("Python", 1, "```"),
        ("sea", 2, " and "),
        ("1", 1, "one has "),
        ("2", 0, "have "),
    ):
        click_on(window, word, number)
        opened(window)
        marked = window.evaluate("""() => [...document.querySelectorAll('.gg-tokens .gg-tok')].reduce(
            (all, token) => all + (token.ariaSelected === "true" ? "▶" : "") + token.textContent, "")""")
        marked = marked.replace("␣", " ").replace("⏎", "")
        assert f"{before}▶{word[0]}" in marked or f"{before[:-1]}▶{before[-1]}{word[0]}" in marked, (word, marked)
        window.get_by_role("tab", name="Chat").click()


def test_a_picture_that_cannot_be_drawn_is_refused_in_the_windows_language(opens, site: Site):
    window: Page = opens("/zh")
    host = window.url.split("/zh")[0]
    for words, status, said in (("message=nothing&view=layers&place=1", 404, "nothing"),
                                (f"message={reply_of(site)}&view=nonsense&place=30", 400, "view")):  # fmt: skip
        found = window.context.request.get(f"{host}/inside/picture?{words}&language=zh")
        assert found.status == status and said in found.text() and re.search("[\u4e00-\u9fff]", found.text())


def test_a_tab_that_is_not_seen_opens_no_model(opens, site: Site):
    window: Page = opens(f"/en?inside={reply_of(site)}&place=40")
    window.wait_for_timeout(700)
    expect(window.locator(".gg-inside .gg-faint").first).to_contain_text("Click on a word")
    window.get_by_role("tab", name="Inside").click()
    opened(window)
    assert place(window) == 40
