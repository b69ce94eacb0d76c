"""The widget on a shop's page, in a real browser: the page has the strictest policy and styles that would ruin it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Route, expect
from widget_shop import KEY, OTHER, Customer, Shop, open_shop

pytestmark = pytest.mark.slow
STATUS = r"status of (401|403|429|500)|ERR_INTERNET_DISCONNECTED|ERR_FAILED|CORS"
MARKDOWN = """say:Yes, **of course**.
On one more line.

1. Open [your orders](https://shop.example/orders?a=1&b=2).
2. Choose one,
   then press it.

- also https://shop.example/returns.
- （见https://shop.example/zh。）

## Ends"""


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    with open_shop() as shop:
        yield shop


@pytest.fixture
def customer(browser: Browser, shop: Shop) -> Iterator[Callable[..., Customer]]:
    """Makes customers, each with a browser of their own: `customer(locale=..., viewport=...)`."""
    contexts: list[BrowserContext] = []
    made: list[Customer] = []
    shop.language = "en"

    def enters(allowed: str = r"(?!)", **settings: Any) -> Customer:
        context = browser.new_context(**({"locale": "en-US", "viewport": {"width": 1100, "height": 760}} | settings))
        contexts.append(context)
        made.append(Customer(context.new_page(), shop, allowed=allowed))
        return made[-1]

    yield enters
    for one in made:
        one.check()
    for context in contexts:
        context.close()


def faults(one: Customer) -> list[str]:
    """What axe calls serious or critical in the widget, once nothing moves any more."""
    one.page.wait_for_timeout(300)
    found = Axe().run(one.page, context=[["glassgpt-widget"]]).response["violations"]
    return [f"{f['id']}: {f['nodes'][0]['html'][:200]}" for f in found if f["impact"] in ("serious", "critical")]


def test_a_conversation_in_english(customer):
    one = customer().comes().opens()
    assert one.says("say:Hello to you") == "Hello to you"
    assert one.says("How are you?") == "You said: How are you?"
    said = one.shop.engine.prompts[-1]
    assert said.index("say:Hello") < said.index("Hello to you<|im_end|>") < said.index("How are you?")
    assert "How can I help" not in said  # the greeting is the widget's
    expect(one.find("h2")).to_have_text("Assistant")
    expect(one.find(".turn").first).to_contain_text("Hello! How can I help you?")


@pytest.mark.parametrize("how", ["data", "page", "browser"])
def test_a_conversation_in_chinese(customer, how: str):
    one = customer(locale="zh-CN" if how == "browser" else "en-US")
    one.shop.language = {"data": "en", "page": "zh-Hant", "browser": ""}[how]
    one.comes(**({"language": "zh"} if how == "data" else {}), title="山野客服").opens()
    assert one.says("say:可以退货，三十天内。") == "可以退货，三十天内。"
    expect(one.find("h2")).to_have_text("山野客服")
    expect(one.find(".turn").first).to_contain_text("您好！请问有什么可以帮您？")
    assert one.find("textarea").get_attribute("aria-label") == "您的消息"
    assert one.find(".root").get_attribute("lang") == "zh-CN"


def test_the_shops_styles_do_not_reach_the_widget_nor_its_own_the_shop(customer):
    one = customer()
    one.page.goto(one.shop.url)
    look = """() => [...document.querySelectorAll('body, main, a')].map(e => { const s = getComputedStyle(e);
      return [s.font, s.color, s.margin, s.display, s.letterSpacing].join() }).join()"""
    before = one.page.evaluate(look)
    one.comes().opens()
    assert one.page.evaluate(look) == before
    style = one.find("textarea").evaluate(
        "e => { const s = getComputedStyle(e); return [s.fontSize, s.borderWidth, s.letterSpacing] }"
    )
    assert style == ["16px", "0px", "normal"]
    assert one.find(".launcher").evaluate("e => getComputedStyle(e.getRootNode().host).display") == "block"


def test_what_the_model_writes_becomes_paragraphs_lists_bold_and_links(customer):
    one = customer().comes().opens()
    one.says(MARKDOWN)
    found = one.find(".turn:not(.user) .text").last
    kinds = found.evaluate("e => [...e.children].map(c => c.tagName)")
    assert kinds == ["P", "OL", "UL", "P"]
    expect(found.locator("strong").first).to_have_text("of course")
    assert found.locator("p br").count() == 1
    assert found.locator("li").all_inner_texts()[1] == "Choose one,\nthen press it."
    links = found.locator("a")
    assert links.evaluate_all("all => all.map(a => a.getAttribute('href'))") == [
        "https://shop.example/orders?a=1&b=2", "https://shop.example/returns", "https://shop.example/zh",
    ]  # fmt: skip
    assert {*links.evaluate_all("all => all.map(a => a.rel + ' ' + a.target)")} == {
        "noopener noreferrer nofollow _blank"
    }


def test_text_comes_bit_by_bit_and_can_be_stopped(customer):
    one = customer().comes().opens()
    cancelled = one.shop.engine.cancelled
    one.find("textarea").fill("long:2000")
    one.find("textarea").press("Enter")
    text = one.find(".turn:not(.user) .text").last
    expect(text).to_contain_text("word30")
    assert "word1999" not in text.inner_text()
    one.find("textarea").fill("and then?")
    one.find("textarea").press("Enter")  # sends nothing while a reply comes
    assert one.find(".turn.user").count() == 1 and one.find("textarea").input_value() == "and then?"
    assert one.find(".send").get_attribute("aria-label") == "Stop"
    one.find(".send").click()
    expect(one.find(".note").last).to_have_text("Stopped here.")
    assert one.focused() == "Your message" and one.find(".send").get_attribute("aria-label") == "Send"
    one.page.wait_for_timeout(300)
    assert one.shop.engine.cancelled == cancelled + 1  # nobody writes on
    one.find("textarea").press("Enter")
    assert "You said: and then?" in one.whole()


def test_a_reply_that_reached_its_limit_says_so(customer):
    one = customer().comes().opens()
    one.says("cut")
    expect(one.find(".note")).to_have_text("The reply became too long and ends here.")


@pytest.mark.parametrize(("data", "said"), [
    ({"key": "a-key-that-nobody-knows"}, "The assistant is not available on this page."),
    ({"key": OTHER}, "The assistant is not available on this page."),
    ({"model": "another"}, "The assistant is not available on this page."),
    ({"language": "zh", "key": OTHER}, "此页面无法使用助手。"),
])  # fmt: skip
def test_a_page_that_may_not_ask_is_told_in_one_line(customer, data: dict[str, str], said: str):
    one = customer(allowed=STATUS).comes(**data).opens()
    one.find("textarea").fill("hello")
    one.find("textarea").press("Enter")
    expect(one.find("[role=alert] p")).to_have_text(said)


def test_after_an_error_the_same_is_asked_again(customer):
    one = customer(allowed=STATUS).comes().opens()
    one.page.context.set_offline(True)
    one.find("textarea").fill("say:here I am")
    one.find("textarea").press("Enter")
    expect(one.find("[role=alert] p")).to_have_text("You are offline.")
    one.page.context.set_offline(False)
    one.find(".again").click()
    assert one.whole() == "here I am" and one.find(".turn.user").count() == 1
    assert one.find("[role=alert]").count() == 0
    one.find("textarea").fill("fail")
    one.find("textarea").press("Enter")
    expect(one.find("[role=alert] p")).to_have_text("The assistant has a problem at the moment.")
    assert faults(one) == []


def test_a_server_that_cannot_be_reached_and_one_that_goes_away_in_the_middle(customer):
    one = customer(allowed=STATUS).comes().opens()
    one.page.route("**/v1/chat/completions", lambda route: route.abort())
    one.find("textarea").fill("say:hello")
    one.find("textarea").press("Enter")
    expect(one.find("[role=alert] p")).to_have_text("The assistant cannot be reached at the moment.")
    one.page.unroute("**/v1/chat/completions")
    half = 'data: {"choices": [{"index": 0, "delta": {"content": "half of"}}]}\n\n'
    headers = {"Access-Control-Allow-Origin": one.shop.url, "Content-Type": "text/event-stream"}
    one.page.route("**/v1/chat/completions", lambda route: route.fulfill(body=half, headers=headers))
    one.find(".again").click()
    expect(one.find(".note")).to_have_text("The reply was interrupted.")
    assert one.whole() == "half of"
    one.page.unroute("**/v1/chat/completions")
    one.find(".again").click()
    assert one.whole() == "hello" and one.find(".turn").count() == 3


def test_who_asks_too_often_is_told_when_to_come_again(customer):
    one = customer(allowed=STATUS).comes().opens()
    visitors = one.shop.restriction.visitors
    visitors.per_minute = 60
    visitors.seen.clear()
    visitors.seen["127.0.0.1"] = (-1.0, one.shop.restriction.clock())
    try:
        one.find("textarea").fill("say:hello")
        one.find("textarea").press("Enter")
        expect(one.find("[role=alert] p")).to_have_text(re.compile(r"Please try again in \d s\."))
        assert one.find(".again").is_disabled()
        expect(one.find(".again")).to_be_enabled()
        one.find(".again").click()
        assert one.whole() == "hello"
    finally:
        visitors.per_minute = 600
        visitors.seen.clear()


def test_a_conversation_that_outgrows_the_model_goes_on_with_its_end(customer):
    one = customer(allowed=r"status of 400").comes().opens()
    one.says("say:" + "a word " * 400)
    model = next(iter(one.shop.hub.entries.values())).model
    model.context_length = 1500
    try:
        assert one.says("say:and now?") == "and now?"
        expect(one.find(".note")).to_have_text("The assistant no longer sees the beginning of this conversation.")
        one.find("textarea").fill("b" * 3000)
        one.find("textarea").press("Enter")
        expect(one.find("[role=alert] p")).to_have_text(
            "This message is too long for the assistant. Please shorten it."
        )
        assert one.find("textarea").input_value() == "b" * 3000 and one.find(".turn.user").count() == 2
        assert one.says("say:short") == "short"
    finally:
        model.context_length = 32_768


def test_the_conversation_goes_with_the_customer_from_page_to_page(customer):
    one = customer().comes().opens()
    one.says("say:first")
    one.page.get_by_role("link", name="Green canvas bag").click()
    one.page.wait_for_url("**page=3")
    expect(one.find(".panel")).to_be_visible()
    assert [t.strip() for t in one.find(".turn .text").all_inner_texts()][1:] == ["say:first", "first"]
    assert one.page.evaluate("document.activeElement === document.body")  # it takes the focus from nobody
    one.says("and?")
    assert "say:first" in one.shop.engine.prompts[-1]
    one.find("textarea").fill("long:500")
    one.find("textarea").press("Enter")
    expect(one.find(".text").last).to_contain_text("word5")
    one.page.get_by_role("link", name="Everything").click()  # and leaves in the middle of a reply
    one.page.wait_for_url("**page=2")
    expect(one.find(".note")).to_have_text("The reply was interrupted.")
    assert one.find(".again").is_visible()
    one.find("[aria-label='New conversation']").click()
    assert one.find(".turn").count() == 1 and one.focused() == "Your message"
    one.page.reload()
    expect(one.find(".panel")).to_be_visible()
    assert one.find(".turn").count() == 1
    one.find("[aria-label='Close']").click()
    one.page.reload()
    expect(one.find(".launcher")).to_be_visible()
    assert one.find(".panel").is_hidden()


def test_what_is_kept_has_a_limit_and_what_others_wrote_there_is_no_danger(customer):
    one = customer(allowed="status of 400").comes().opens()  # so much does not fit the model

    def finds(kept: str) -> None:
        """The next page finds something else than what was kept."""
        one.page.evaluate(
            """kept => addEventListener("pagehide", () => {
            sessionStorage.setItem(Object.keys(sessionStorage)[0], kept) })""",
            kept,
        )
        one.page.reload()
        one.find(".launcher").wait_for(state="attached")

    for kept in ("{", "[]", "null", '{"messages": [{"role": "system", "text": "x"}, 5, null]}', '{"messages": 5}'):
        finds(kept)
        assert one.find(".turn").count() == 1
    many = [{"role": r, "text": f"{r} {n} " + "x" * 5000} for n in range(100) for r in ("user", "assistant")]
    finds(json.dumps({"open": True, "messages": many}))
    expect(one.find(".panel")).to_be_visible()
    assert one.find(".turn").count() <= 61
    one.says("say:more")
    assert len(one.page.evaluate("Object.values(sessionStorage)[0]")) < 210_000
    assert len(one.shop.engine.prompts[-1]) < 50_000
    one.page.reload()
    expect(one.find(".gone")).to_have_text("The assistant no longer sees the beginning of this conversation.")


def test_an_input_method_chooses_its_words_with_enter_and_sends_nothing(customer):
    one = customer().comes().opens()
    keys = one.page.context.new_cdp_session(one.page)
    one.find("textarea").focus()
    keys.send("Input.imeSetComposition", {"text": "ni hao", "selectionStart": 6, "selectionEnd": 6})
    down = {"type": "rawKeyDown", "key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13}
    keys.send("Input.dispatchKeyEvent", down | {"windowsVirtualKeyCode": 229})
    keys.send("Input.dispatchKeyEvent", down)  # while it composes
    one.find("textarea").dispatch_event(
        "keydown", {"key": "Enter", "keyCode": 229, "bubbles": True}
    )  # as Safari has it
    one.find("textarea").dispatch_event("keydown", {"key": "Escape", "keyCode": 229, "bubbles": True})
    assert one.find(".turn.user").count() == 0 and one.find(".panel").is_visible()
    keys.send("Input.insertText", {"text": "你好"})
    assert one.find("textarea").input_value() == "你好" and one.find(".turn.user").count() == 0
    one.page.keyboard.press("Shift+Enter")
    assert one.find("textarea").input_value() == "你好\n" and one.find(".turn.user").count() == 0
    one.page.keyboard.type("again")
    one.page.keyboard.press("Enter")
    assert one.whole() == "You said: 你好\nagain"


def test_by_keyboard_alone(customer):
    one = customer().comes()
    for _ in range(10):
        one.page.keyboard.press("Tab")
        if one.focused() == "Open the chat":
            break
    one.page.keyboard.press("Enter")
    assert one.focused() == "Your message"
    one.page.keyboard.type("say:[a link](https://shop.example/)")
    one.page.keyboard.press("Enter")
    one.whole()
    order = []
    for _ in range(12):  # round and round, and never out of it
        one.page.keyboard.press("Tab")
        order.append(one.focused())
    assert order[:6] == [
        "Send",
        "New conversation",
        "Close",
        "Conversation",
        "a link (opens in a new tab)",
        "Your message",
    ]
    assert order[6:] == order[:6]
    one.page.keyboard.press("Shift+Tab")
    assert one.focused() == "a link (opens in a new tab)"
    one.page.keyboard.press("Escape")
    assert one.find(".panel").is_hidden() and one.focused() == "Open the chat"
    one.page.keyboard.press("Space")
    one.page.keyboard.press("Shift+Tab")
    assert one.find(".panel").is_visible() and one.focused() == "a link (opens in a new tab)"


def test_the_shops_own_keys_are_not_meant_by_who_writes_here(customer):
    one = customer().comes().opens()
    one.page.evaluate("() => { window.heard = 0; document.addEventListener('keydown', () => heard++) }")
    one.find("textarea").press("/")
    assert one.page.evaluate("heard") == 0 and one.find("textarea").input_value() == "/"


def test_a_reply_is_read_aloud_once_when_it_is_whole_and_seen_when_the_chat_is_closed(customer):
    one = customer().comes().opens()
    live = one.find("[aria-live=polite]")
    one.find("textarea").fill("long:60")
    one.find("textarea").press("Enter")
    expect(live).to_have_text("The assistant is writing")
    one.whole()
    expect(live).to_contain_text("Assistant: word0 word1")
    one.find("textarea").fill("long:60")
    one.find("textarea").press("Enter")
    one.page.keyboard.press("Escape")
    expect(one.find(".launcher")).to_have_attribute("aria-label", "Open the chat: a new reply")
    one.opens()
    one.page.keyboard.press("Escape")
    expect(one.find(".launcher")).to_have_attribute("aria-label", "Open the chat")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("data", [{}, {"language": "zh", "color": "#ffd54f"}])
def test_axe_finds_nothing_serious(customer, scheme: str, data: dict[str, str]):
    one = customer(color_scheme=scheme).comes(**data)
    assert faults(one) == []
    one.opens()
    assert faults(one) == []
    one.says(MARKDOWN)
    one.says("cut")
    assert one.find(".root").get_attribute("data-theme") == scheme
    assert faults(one) == []


def test_the_theme_follows_the_system_unless_the_page_says_which(customer):
    one = customer(color_scheme="light").comes()
    one.page.emulate_media(color_scheme="dark")
    expect(one.find(".root")).to_have_attribute("data-theme", "dark")
    one.comes(theme="light")
    expect(one.find(".root")).to_have_attribute("data-theme", "light")


def test_a_phone_shows_nothing_but_the_chat_while_it_is_open(customer):
    one = customer(viewport={"width": 360, "height": 640}, has_touch=True, is_mobile=True).comes().opens()
    one.says("say:" + "verylongword" * 20)
    box = one.find(".panel").bounding_box()
    assert box is not None and [box[k] for k in ("x", "y", "width", "height")] == [0, 0, 360, 640]
    assert one.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert one.find(".log").evaluate("e => e.scrollWidth <= e.clientWidth")
    assert one.find(".panel").get_attribute("aria-modal") == "true"
    for control in one.find("button:visible").all():
        size = control.bounding_box()
        assert size is not None and min(size["width"], size["height"]) >= 44
    assert faults(one) == []
    one.page.reload()
    expect(one.find(".launcher")).to_be_visible()  # it does not cover the next page
    assert one.find(".panel").is_hidden()
    assert one.opens().find(".turn").count() == 3


def test_who_wants_no_motion_sees_none(customer):
    one = customer(reduced_motion="reduce").comes().opens()
    assert one.find(".panel").evaluate("e => getComputedStyle(e).animationName") == "none"


def test_a_script_that_stands_there_twice_makes_one_button_and_leaves_no_names(customer):
    one = customer()
    one.shop.scripts = ""
    one.page.goto(one.shop.url)
    before = set(one.page.evaluate("Object.getOwnPropertyNames(window)"))
    one.shop.scripts = one.shop.script() * 2 + one.shop.script(key="another")
    one.page.goto(one.shop.url)
    one.find(".launcher").wait_for(state="attached")
    one.page.wait_for_load_state("networkidle")
    assert one.page.locator("glassgpt-widget").count() == 1
    assert set(one.page.evaluate("Object.getOwnPropertyNames(window)")) - before == set()


def test_a_script_without_its_data_says_so_to_who_wrote_the_page(customer):
    one = customer(allowed="needs data-key and data-model")
    one.shop.scripts = f'<script src="{one.shop.server}/widget.js" data-key="{KEY}"></script>'
    one.page.goto(one.shop.url)
    assert one.page.locator("glassgpt-widget").count() == 0
    assert any("needs data-key and data-model" in error for error in one.errors)


def test_hostile_text_is_shown_and_never_runs(customer, shared_data: Path):
    peers = shared_data / "peers"
    attacks = [a["payload"] for a in json.loads((peers / "web_chat/dompurify_xss_fixtures.json").read_text("utf-8"))]
    attacks += ["[x](javascript:alert(1))", "[x](https://a.example/\"onclick=alert(1))",
                "**<img src=x onerror=alert(1)>**",
                "https://a.example/'><script>alert(1)</script>",
                "[https://shop.example](http://evil.example)"]  # fmt: skip
    one = customer().comes(title="<img src=x onerror=alert(1)>", greeting="&lt;img src=x onerror=alert(2)&gt;").opens()
    one.page.evaluate("""() => { window.ran = [];
      for (const name of ["alert", "confirm", "prompt"]) window[name] = (text) => ran.push(name + text) }""")
    assert "<img" in one.find(".turn").first.inner_text()
    texts, now = [text for text in attacks if text.strip()], [""]

    def answer(route: Route) -> None:
        event = json.dumps({"choices": [{"index": 0, "delta": {"content": now[0]}}]})
        headers = {"Access-Control-Allow-Origin": one.shop.url, "Content-Type": "text/event-stream"}
        route.fulfill(body=f"data: {event}\n\ndata: [DONE]\n\n", headers=headers)

    one.page.route("**/v1/chat/completions", answer)
    for number, text in enumerate(texts):
        now[0] = text
        one.find("textarea").fill(text)  # said by the customer, and by the model
        one.find("textarea").press("Enter")
        one.find(f".turn >> nth={2 * number + 2}").wait_for()
        one.find(".send:not([data-stops])").wait_for()
    tags = one.find(".log *").evaluate_all("all => [...new Set(all.map(e => e.localName))].sort()")
    assert set(tags) <= {"div", "span", "p", "br", "strong", "a", "ul", "ol", "li"}
    names = one.find(".log *").evaluate_all("all => [...new Set(all.flatMap(e => e.getAttributeNames()))].sort()")
    assert set(names) <= {"class", "href", "rel", "target", "title", "start"}
    links = one.find(".log a").evaluate_all("all => all.map(a => a.protocol)")
    assert set(links) <= {"http:", "https:"}
    assert one.find(".turn.user .text").all_text_contents() == [re.sub(r"\r\n?", "\n", t) for t in texts]
    assert one.page.evaluate("ran") == []
