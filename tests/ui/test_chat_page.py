"""The tab Chat in a real browser: what a user does in the first minutes, and what must not be lost."""

from __future__ import annotations

import re

import pytest
from browsing import KEY, Site, Watched, connected, kept, say, whole
from playwright.sync_api import Page, expect

FIELD = ".gg-composer .gg-field"


def test_a_first_conversation_is_answered_and_named(window: Page):
    assert say(window, "Hello there") == "You said: Hello there"
    assert say(window, "And again") == "You said: And again"
    expect(window.locator(".gg-item.gg-now")).to_contain_text("Hello there")


def test_a_first_conversation_in_chinese(opens):
    window = opens(locale="zh-CN")
    assert window.url.endswith("/zh")
    expect(window.locator(".gg-name")).to_be_visible()
    expect(window.get_by_role("tab", name="对话")).to_be_visible()
    assert say(window, "你好，你是谁？") == "You said: 你好，你是谁？"
    assert window.evaluate("document.documentElement.lang") == "zh-CN"


def test_the_language_can_be_switched_and_is_remembered(opens):
    window = opens()
    window.get_by_role("link", name="中文").click()
    window.wait_for_url("**/zh*")
    expect(window.get_by_role("tab", name="知识")).to_be_visible()
    window.goto(window.url.split("/zh")[0] + "/")
    window.wait_for_url("**/zh*")


def test_a_reply_is_stopped_and_keeps_what_was_written(window: Page):
    field = window.locator(FIELD)
    field.fill("long:2000")
    field.press("Enter")
    window.get_by_text("word30").wait_for()
    window.get_by_role("button", name="Stop").click()
    text = whole(window)
    assert "word30" in text and "word1999" not in text
    expect(window.locator(".gg-banner")).to_have_text("Stopped here.")
    assert say(window, "go on") == "You said: go on"


def test_escape_stops_a_reply(window: Page):
    window.locator(FIELD).fill("long:2000")
    window.keyboard.press("Enter")
    window.get_by_text("word10 ").wait_for()
    window.keyboard.press("Escape")
    assert "word1999" not in whole(window)


def test_a_reply_is_written_again_beside_the_first(window: Page):
    say(window, "say:one")
    window.get_by_role("button", name="Write again").click()
    expect(window.locator(".gg-count")).to_have_text("2/2")
    window.get_by_role("button", name="The version before").click()
    expect(window.locator(".gg-count")).to_have_text("1/2")


def test_a_message_is_edited_and_both_branches_stay(window: Page):
    say(window, "say:first answer")
    say(window, "say:later")
    window.locator(".gg-user").first.get_by_role("button", name="Edit").click()
    field = window.get_by_label("Say this instead")
    assert field.input_value() == "say:first answer"
    field.fill("say:second answer")
    window.locator(".gg-over").get_by_role("button", name="Send").click()
    expect(window.locator(".gg-assistant .gg-body")).to_have_text(["second answer"])
    window.locator(".gg-user").get_by_role("button", name="The version before").click()
    expect(window.locator(".gg-assistant .gg-body")).to_have_text(["first answer", "later"])


def test_a_page_that_is_loaded_anew_shows_the_conversation(window: Page):
    say(window, "say:remember me")
    window.locator(FIELD).fill("half a sentence")
    window.reload()
    expect(window.locator(".gg-assistant .gg-body")).to_have_text("remember me")
    expect(window.locator(FIELD)).to_have_value("half a sentence")


def test_a_reply_goes_on_while_the_page_is_loaded_anew(window: Page):
    window.locator(FIELD).fill("long:300")
    window.keyboard.press("Enter")
    window.get_by_text("word20 ").first.wait_for()
    window.reload()
    text = whole(window)
    assert text.split() == [f"word{n}" for n in range(300)]


def test_two_windows_see_one_conversation(opens, watched: Watched):
    first = opens()
    say(first, "say:from the first")
    second = opens(first.url.split("localhost")[1].split("/", 1)[1].join(["/", ""]), beside=first)
    expect(second.locator(".gg-assistant .gg-body")).to_have_text("from the first")
    say(second, "say:from the second")
    expect(first.locator(".gg-assistant .gg-body")).to_have_text(["from the first", "from the second"])


def test_conversations_are_found_renamed_and_deleted(window: Page):
    say(window, "say:the zebra crossing")
    window.get_by_role("button", name="New conversation").first.click()
    expect(window.locator(".gg-greeting")).to_be_visible()
    say(window, "say:of other animals")
    search = window.get_by_label("Search the conversations")
    search.fill("zebra")
    expect(window.locator(".gg-open")).to_have_count(1)
    window.locator(".gg-open").click()
    expect(window.locator(".gg-assistant .gg-body")).to_have_text("the zebra crossing")
    window.get_by_role("button", name=re.compile("^Rename")).click()
    window.get_by_role("textbox", name="Name of the conversation").fill("Stripes")
    window.get_by_role("button", name="Keep").click()
    search.fill("Stripes")
    expect(window.locator(".gg-open")).to_have_text(re.compile("Stripes"))
    window.get_by_role("button", name="Delete Stripes").click()
    window.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(window.locator(".gg-open")).to_have_count(0)
    expect(window.locator(".gg-greeting")).to_be_visible()


@pytest.mark.parametrize("word", ["你好", "こんにちは"])
def test_enter_does_not_send_while_an_input_method_composes(window: Page, word: str):
    window.locator(FIELD).focus()
    session = window.context.new_cdp_session(window)
    session.send("Input.imeSetComposition", {"text": "nihao", "selectionStart": 5, "selectionEnd": 5})
    enter = {"key": "Process", "code": "Enter", "windowsVirtualKeyCode": 229}
    session.send("Input.dispatchKeyEvent", {"type": "rawKeyDown", **enter})
    session.send("Input.dispatchKeyEvent", {"type": "keyUp", **enter, "key": "Enter"})
    window.wait_for_timeout(400)
    assert window.locator(".gg-message").count() == 0
    session.send("Input.insertText", {"text": word})
    expect(window.locator(FIELD)).to_have_value(word)
    window.keyboard.press("Enter")
    assert whole(window) == f"You said: {word}"


def test_an_enter_of_a_composition_that_the_browser_ends_first_does_not_send(window: Page):
    # Some browsers end the composition before the key: isComposing is false then, and the code 229.
    window.locator(FIELD).fill("ni")
    window.evaluate(
        "document.querySelector('.gg-composer .gg-field').dispatchEvent("
        "new KeyboardEvent('keydown', {key: 'Enter', keyCode: 229, bubbles: true, cancelable: true}))"
    )
    window.wait_for_timeout(300)
    assert window.locator(".gg-message").count() == 0


def test_shift_and_enter_begin_a_line(window: Page):
    field = window.locator(FIELD)
    field.fill("one")
    field.press("Shift+Enter")
    field.type("two")
    field.press("Enter")
    whole(window)
    assert window.locator(".gg-user .gg-body").inner_text() == "one\ntwo"


def test_thumbs_and_corrections_are_kept(window: Page):
    say(window, "say:the wrong answer")
    window.get_by_role("button", name="Good reply").click()
    expect(window.get_by_role("button", name="Good reply")).to_have_attribute("aria-pressed", "true")
    window.get_by_role("button", name="Correct it").click()
    window.get_by_label("What would have been the right answer?").fill("the right answer")
    window.get_by_role("button", name="Keep").click()
    expect(window.locator(".gg-correction")).to_contain_text("the right answer")
    window.reload()
    expect(window.locator(".gg-correction")).to_contain_text("the right answer")
    expect(window.get_by_role("button", name="Good reply")).to_have_attribute("aria-pressed", "true")


def test_an_empty_message_is_not_sent_and_a_failure_is_told(window: Page):
    window.locator(FIELD).fill("   ")
    window.keyboard.press("Enter")
    window.wait_for_timeout(200)
    assert window.locator(".gg-message").count() == 0
    say(window, "fail:now")
    expect(window.locator(".gg-banner")).to_contain_text("This reply failed")
    assert say(window, "say:better") == "better"


def test_an_assistant_says_where_its_answer_is_from(window: Page, site: Site):
    window.get_by_label("Who answers").select_option("customer-service")
    assert "Hello" in say(window, "hello")
    expect(window.locator(".gg-mode").last).to_have_text("Said by the persona")
    window.get_by_label("Who answers").select_option("scripted")  # for the tests to come: the choice is kept


def test_an_open_page_outlives_a_restart_of_its_server(window: Page, site: Site, watched: Watched):
    watched.allowed = re.compile("WebSocket|ERR_CONNECTION_REFUSED|503|404|websocket error")
    say(window, "say:before")
    window.locator(FIELD).fill("typed meanwhile")
    loaded = window.evaluate("performance.timeOrigin")
    site.stop()
    window.wait_for_timeout(500)
    site.start()
    # The page comes back by itself.
    window.wait_for_function("before => performance.timeOrigin !== before && window.did_handshake", arg=loaded,
                             timeout=30_000)  # fmt: skip
    expect(window.locator(FIELD)).to_have_value("typed meanwhile", timeout=30_000)
    expect(window.locator(".gg-assistant .gg-body")).to_have_text("before")
    assert say(window, "say:after") == "after"


def test_a_long_conversation_shows_each_message_once_whatever_is_said_while_it_comes(opens, site: Site):
    """Its earlier messages come in parts; a reply that began meanwhile showed them twice."""
    texts = [f"number {n}" for n in range(420)]
    window: Page = opens(f"/en?chat={kept(site, *texts)}")
    window.locator(".gg-assistant").first.wait_for()
    say(window, "say:now")
    expect(window.locator(".gg-message")).to_have_count(422)
    window.wait_for_timeout(600)
    shown = [text.strip() for text in window.locator(".gg-message .gg-body").all_text_contents()]
    assert shown == [*texts, "say:now", "now"]


def test_what_is_deleted_while_it_is_seen_leaves_without_a_complaint(opens):
    window: Page = opens()
    say(window, "say:soon gone")
    other: Page = opens("/en?" + window.url.split("?")[1], beside=window)
    expect(other.locator(".gg-assistant .gg-body")).to_have_text("soon gone")
    window.get_by_role("button", name="Delete say:soon gone").click()
    window.get_by_role("dialog").get_by_role("button", name="Delete").click()
    for one in (window, other):
        expect(one.locator(".gg-greeting")).to_be_visible()
        one.wait_for_timeout(300)
        expect(one.locator(".q-notification")).to_have_count(0)


def test_a_reply_of_a_branch_that_is_not_seen_does_not_come_into_the_one_that_is(window: Page):
    say(window, "say:first answer")
    window.locator(".gg-user").get_by_role("button", name="Edit").click()
    window.get_by_label("Say this instead").fill("long:200")
    window.locator(".gg-over").get_by_role("button", name="Send").click()
    window.get_by_text("word20 ").wait_for()
    window.locator(".gg-user").get_by_role("button", name="The version before").click()
    expect(window.locator(".gg-assistant .gg-body")).to_have_text("first answer")
    window.wait_for_timeout(2500)
    expect(window.locator(".gg-assistant .gg-body")).to_have_text(["first answer"])
    window.locator(".gg-user").get_by_role("button", name="The version after").click()
    expect(window.locator(".gg-assistant .gg-body")).to_contain_text("word199")


def test_a_judgement_of_an_older_reply_does_not_take_the_stop_button_away(window: Page):
    say(window, "say:older")
    window.locator(FIELD).fill("long:2000")
    window.keyboard.press("Enter")
    window.get_by_text("word10 ").wait_for()
    good = window.get_by_role("button", name="Good reply").first
    good.click()
    expect(good).to_have_attribute("aria-pressed", "true")
    window.get_by_role("button", name="Stop", exact=True).click()
    assert "word1999" not in whole(window)


def test_an_escape_of_an_input_method_stops_no_reply_and_closes_no_field(window: Page):
    escape = """(where) => document.querySelector(where).dispatchEvent(new KeyboardEvent("keydown",
        { key: "Escape", isComposing: true, bubbles: true, cancelable: true }))"""
    window.locator(FIELD).fill("long:60")
    window.keyboard.press("Enter")
    window.get_by_text("word10 ").wait_for()
    window.evaluate(escape, FIELD)
    assert "word59" in whole(window)
    window.get_by_role("button", name="Edit").click()
    window.evaluate(escape, ".gg-over textarea")
    expect(window.locator(".gg-over")).to_be_visible()
    window.locator(".gg-over textarea").press("Escape")
    expect(window.locator(".gg-over")).to_have_count(0)


def test_what_a_slow_disk_gives_late_does_not_replace_what_is_newer(browser, watched: Watched, tmp_path):
    """What was read before a reply was there came after it, and stayed."""
    site = Site(tmp_path, "slow")
    site.start()
    context = browser.new_context()
    try:
        context.request.get(f"{site.url}/?token={KEY}")
        page = context.new_page()
        watched.watch(page, site.url)
        page.goto(site.url)
        connected(page)
        for text in ("first", "second", "third"):
            say(page, text)
        field = page.locator(FIELD)
        field.fill("fourth")
        field.press("Enter")
        field.press_sequentially(" and more")  # before the server has taken what was sent
        page.locator(".gg-assistant").nth(3).wait_for()
        whole(page)
        expect(field).to_have_value(re.compile(r"^ ?and more$"))
        page.wait_for_timeout(1500)
        assert page.locator(".gg-assistant .gg-body").all_inner_texts() == [
            "You said: first", "You said: second", "You said: third", "You said: fourth",
        ]  # fmt: skip
        expect(page.locator(".gg-assistant .gg-actions")).to_have_count(4)
    finally:
        context.close()
        site.stop()


def test_without_a_key_nothing_of_the_page_is_shown(browser, site: Site):
    context = browser.new_context(locale="zh-CN")
    page = context.new_page()
    answer = page.goto(site.url)
    assert answer is not None and answer.status == 401
    expect(page.get_by_role("button", name="打开")).to_be_visible()
    page.locator("#key").fill("wrong-key-of-somebody")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_be_visible()
    page.locator("#key").fill(KEY)
    page.keyboard.press("Enter")
    page.wait_for_selector(FIELD)
    connected(page)
    assert "key" not in page.evaluate("document.cookie") and "glassgpt-" not in page.evaluate("document.cookie")
    context.close()
