"""The page for everyone: by keyboard alone, read aloud, in the dark, on a phone."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from browsing import say, whole
from playwright.sync_api import Page, expect

FIELD = ".gg-composer .gg-field"
MARKDOWN = """say:# Title

Text with `code` and [a link](https://example.org).

```python
x = 1  # why
```

| a | b |
|---|---|
| 1 | 2 |

$x^2$"""


def faults(page: Page) -> list[str]:
    """What axe calls serious or critical, with the first element of each."""
    found = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found if one["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("dark", ["light", "dark"])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_axe_finds_nothing_serious_in_any_tab(opens, dark: str, language: str):
    window: Page = opens(f"/{language}", color_scheme=dark)
    assert window.evaluate("document.body.classList.contains('body--dark')") == (dark == "dark")
    assert faults(window) == []
    field = window.locator(FIELD)
    field.fill(MARKDOWN)
    field.press("Enter")
    whole(window)
    window.locator(".gg-assistant .gg-actions button").nth(3).click()
    window.wait_for_timeout(300)
    assert faults(window) == []
    for tab in (1, 2):
        window.get_by_role("tab").nth(tab).click()
        window.locator(".gg-drop:visible").wait_for()
        assert faults(window) == []


def test_axe_finds_nothing_serious_in_the_dialogs(window: Page):
    say(window, "say:something")
    window.get_by_role("button", name="Settings").click()
    window.get_by_role("dialog").wait_for()
    window.wait_for_timeout(500)
    assert faults(window) == []
    window.keyboard.press("Escape")
    expect(window.get_by_role("dialog")).to_have_count(0)
    window.get_by_role("button", name="Delete say:something").click()
    window.wait_for_timeout(500)
    assert faults(window) == []
    window.get_by_role("button", name="Cancel").click()
    window.get_by_role("button", name="Edit").click()
    assert faults(window) == []


def test_axe_finds_nothing_serious_where_the_key_is_asked_for(browser, site):
    context = browser.new_context()
    page = context.new_page()
    page.goto(site.url)
    assert faults(page) == []
    context.close()


def test_a_conversation_by_keyboard_alone(window: Page):
    def press_until(name: str, most: int = 60) -> None:
        for _ in range(most):
            window.keyboard.press("Tab")
            focused = window.evaluate(
                "document.activeElement.getAttribute('aria-label') || document.activeElement.textContent"
            )
            if focused.strip() == name:
                return
        raise AssertionError(f"{name} is not reached with Tab")

    window.keyboard.type("say:one")  # the field has the focus
    window.keyboard.press("Enter")
    whole(window)
    press_until("New conversation")
    window.keyboard.press("Enter")
    expect(window.locator(".gg-greeting")).to_be_visible()
    window.keyboard.type("say:two")  # and has it again
    window.keyboard.press("Enter")
    assert whole(window) == "two"
    window.keyboard.press("Shift+Tab")
    press_until("Write again")
    window.keyboard.press("Enter")
    expect(window.locator(".gg-count")).to_have_text("2/2")
    press_until("Edit")
    window.keyboard.press("Enter")
    window.keyboard.press("Control+A")
    window.keyboard.type("say:three")
    window.keyboard.press("Control+Enter")
    expect(window.locator(".gg-assistant .gg-body")).to_have_text("three")


def test_the_whole_reply_is_told_to_those_who_listen(window: Page):
    say(window, "say:read me aloud")
    expect(window.locator("[aria-live=polite]").filter(has_text="read me aloud")).to_have_count(1)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_phone_shows_everything_without_scrolling_sideways(opens, language: str):
    window: Page = opens(f"/{language}", viewport={"width": 360, "height": 640}, has_touch=True, is_mobile=True)
    field = window.locator(FIELD)
    field.fill(MARKDOWN + "\n\n" + "verylongword" * 20)
    field.press("Enter")
    whole(window)
    for tab in (0, 1, 2):
        window.get_by_role("tab").nth(tab).click()
        window.wait_for_timeout(300)
        assert window.evaluate("document.documentElement.scrollWidth <= innerWidth")
    window.get_by_role("tab").nth(0).click()
    assert window.locator(".gg-open").first.is_visible() is False  # the list is away, and comes
    window.locator(".gg-header button").first.click()
    window.locator(".gg-open").first.click()
    expect(window.locator(".gg-assistant .gg-body")).to_contain_text("Title")
    window.wait_for_timeout(500)
    assert field.is_visible()


def test_light_and_dark_are_switched_and_remembered(opens):
    window: Page = opens("/", color_scheme="light")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = window.evaluate(ground)
    window.get_by_role("button", name="Light or dark").click()
    assert window.evaluate(ground) != light
    window.reload()
    window.wait_for_selector(FIELD)
    window.wait_for_function(f"() => {ground} !== '{light}'")
