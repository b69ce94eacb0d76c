"""The tab Inside in a real browser, on a small network whose numbers are computed beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlparse

import pytest
import torch
from browsing import Site, connected, say, whole
from glass_walls import READY, click_on, network_site, opened, place, read, tokens
from page_child import small_lens, small_network
from playwright.sync_api import Page, expect
from test_page_for_everyone import faults

from glassgpt.engine.language_model import LanguageModel
from glassgpt.inside.ablate import Switches, ablate
from glassgpt.inside.lens import logit_lens
from glassgpt.inside.steps import read_steps
from glassgpt.server.hub import Entry


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server with a network that can be looked into."""
    yield from network_site(tmp_path_factory.mktemp("inside"))


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    """The same network, beside the server."""
    with torch.no_grad():
        return small_network(Entry("small", "small"))


@pytest.mark.parametrize(("language", "pattern"), [("en", r"[a-z]{3,}"), ("zh", r"[\u4e00-\u9fff]")])
def test_a_click_on_a_word_opens_its_token_and_every_view_of_it(opens, model, language, pattern):
    window: Page = opens(f"/{language}", locale="zh-CN" if language == "zh" else "en-US")
    reply = say(window, "小船出海了吗？" if language == "zh" else "Where did the boat go?")
    found = re.findall(pattern, reply)
    assert found, reply
    word = found[len(found) // 2]
    click_on(window, word)
    opened(window)
    chosen = window.locator(".gg-tok[aria-selected=true]").inner_text()
    assert word[0] in chosen or chosen.strip() in word or "<" in chosen
    table = window.locator(".gg-view tbody tr")
    shown = [row.split("\t")[0].strip() for row in table.all_inner_texts()]
    assert 10 <= len(shown) <= 11
    for view, sign in (("choices", ".gg-share"), ("attention", "canvas"), ("layers", ".gg-lens"),
                       ("switches", ".gg-switch"), ("origins", ".gg-spans"),
                       ("influence", "ol.gg-most li")):  # fmt: skip
        window.locator(f"#gg-tab-{view}").click()
        window.wait_for_function(READY)
        expect(window.locator(f".gg-view {sign}").first).to_be_visible()
        assert faults(window) == []
        if view == "layers":
            assert window.locator(".gg-lens tbody tr").count() == 4
        if view == "origins":
            assert window.locator(".gg-spans").inner_text().strip() == window.evaluate(
                "[...document.querySelectorAll('.gg-assistant .gg-body')].pop().textContent").strip()  # fmt: skip
        if view in ("attention", "layers", "influence"):
            address = window.get_by_role("link", name=re.compile("SVG")).get_attribute("href") or ""
            for kind, begins in (("svg", b"<?xml"), ("png", b"\x89PNG")):
                found = window.context.request.get(window.url.split("/" + language)[0] + address.replace("svg", kind))
                assert found.status == 200 and found.body().startswith(begins), found.text()[:300]
    expect(window.locator(".gg-what")).to_contain_text(re.compile("above the others|比其他词元高"))
    window.get_by_role("button", name=re.compile("More exactly|算得更准")).click()
    expect(window.locator(".gg-what")).to_contain_text(re.compile("gradients|梯度"), timeout=40_000)
    expect(window.locator(".gg-view ol.gg-most li").first).to_be_visible()


def test_the_word_around_a_place_is_one_character_where_writing_has_no_spaces(window: Page):
    """Also where it stands beside a word of letters, as in many a Chinese reply."""
    text = "用Python编程，naïve x２y 한국 ok?"
    found = window.evaluate("""async text => {
        const script = performance.getEntriesByType("resource").find(one => one.name.includes("transcript.js"));
        const { wordAt } = await import(script.name);
        return [...text].map((_, at) => wordAt(text, at)?.word ?? null);
    }""", text)  # fmt: skip
    words = ["用", "Python", "编", "程", "，", "naïve", " ", "x２y", " ", "한국", " ", "ok", "?"]
    assert found == [None if word == " " else word for word in words for _ in word]


def test_switches_do_not_wait_for_what_another_view_had_asked(window: Page):
    say(window, "Tell me about the sea")
    window.locator(".gg-assistant .gg-actions").get_by_role("button", name="Look inside").click()
    opened(window)
    waits = window.evaluate("""() => {
        for (const view of ["layers", "switches"]) document.querySelector(`#gg-tab-${view}`).click();
        return document.querySelector(".gg-view").hasAttribute("aria-busy");
    }""")
    assert not waits and window.locator(".gg-waits").count() == 0
    expect(window.locator(".gg-switch").first).to_be_visible()


def test_what_is_shown_is_what_the_model_computes(window: Page, model: LanguageModel):
    say(window, "Tell me about the sea")
    window.locator(".gg-assistant .gg-actions").get_by_role("button", name="Look inside").click()
    opened(window)
    ids = read(window, model)
    at = place(window)
    steps = {step.position: step for step in read_steps(model, ids, 10)}
    own = window.locator(".gg-tok[aria-selected=true]")
    assert float(own.evaluate("e => e.style.getPropertyValue('--p')")) == pytest.approx(steps[at].probability, abs=2e-3)
    rows: list[dict[str, Any]] = window.evaluate("""() => [...document.querySelectorAll('.gg-view tbody tr')].map(
        row => ({ text: row.cells[0].textContent, chance: row.cells[1].textContent }))""")
    assert len(rows) >= 10
    for row, alternative in zip(rows, steps[at].alternatives, strict=False):
        assert float(row["chance"].split(" ")[0]) == pytest.approx(100 * alternative.probability, rel=0.06)
    window.locator("#gg-tab-switches").click()
    window.locator("[data-name='m1']").click()
    window.locator("[data-name='h0.2']").click()
    window.get_by_role("button", name="Answer again").click()
    window.locator(".gg-after").wait_for()
    expected = ablate(model, ids[:at], Switches(heads=((0, 2),), mlps=(1,)))
    expect(window.locator(".gg-result .gg-what")).to_contain_text(f"{expected.divergence:.2f} bits")
    address = window.get_by_role("link", name=re.compile("SVG")).get_attribute("href") or ""
    picture = window.context.request.get(f"{urlparse(window.url).scheme}://{urlparse(window.url).netloc}{address}")
    assert picture.status == 200 and "L0H2, L1 mlp" in picture.text() and f"{expected.divergence:.2f}" in picture.text()


def test_the_tuned_lens_beside_a_model_reads_its_layers(window: Page, model: LanguageModel, site: Site):
    say(window, "Tell me about the sea")
    window.locator(".gg-assistant .gg-actions").get_by_role("button", name="Look inside").click()
    opened(window)
    window.locator("#gg-tab-layers").click()
    window.wait_for_function(READY)
    ids, at, model.path = read(window, model), place(window), site.folder / "small"
    box = window.get_by_role("checkbox", name="Tuned lens")
    for lens in (small_lens(model), None):
        if box.is_checked() != (lens is not None):
            box.click()
        window.wait_for_function(READY)
        expect(box).to_be_checked(checked=lens is not None)
        expected = logit_lens(model, ids, 1, start=at - 1, stop=at, tuned=lens)
        shares: list[str] = window.evaluate("""() => [...document.querySelectorAll('.gg-lens td.gg-here')].map(
            cell => cell.style.getPropertyValue('--p'))""")
        found = [reading[0].alternatives[0].probability for reading in reversed(expected.readings)]
        assert [float(share) for share in shares] == pytest.approx(found, abs=2e-3)
        link = window.get_by_role("link", name=re.compile("SVG")).get_attribute("href") or ""
        picture = window.context.request.get(f"{urlparse(window.url).scheme}://{urlparse(window.url).netloc}{link}")
        assert (("Tuned lens" in picture.text()) == (lens is not None)) and picture.status == 200
        assert faults(window) == []


def test_another_token_is_chosen_and_the_reply_goes_on_from_there(window: Page, model: LanguageModel):
    first = say(window, "Which fish are there?")
    window.locator(".gg-assistant .gg-actions").get_by_role("button", name="Look inside").click()
    opened(window)
    for _ in range(3):
        window.locator(".gg-tokens").press("ArrowRight")
    opened(window)
    ids, at = read(window, model), place(window)
    begun = len(model.template.encode(model.tokenizer, [{"role": "user", "content": "Which fish are there?"}],
                                      add_generation_prompt=True).ids)  # fmt: skip
    assert at == begun + 3
    rows = window.locator(".gg-view tbody tr").filter(has=window.locator("button:enabled"))
    row = rows.filter(has=window.locator("code", has_text=re.compile(r"^[^<]+$"))).first  # no piece of a character
    name = row.get_by_role("button").get_attribute("aria-label")
    row.get_by_role("button").click()
    window.locator(".gg-assistant .gg-count", has_text="2/2").wait_for()
    second = whole(window)
    before = model.tokenizer.decode(ids[begun:at])
    chosen = name.removeprefix("Go on from here: ").strip()
    assert second != first and second.startswith(before.strip().rstrip("\ufffd")) and chosen in second


def test_the_address_brings_back_what_was_looked_at(window: Page):
    say(window, "And now?")
    window.locator(".gg-assistant .gg-actions").get_by_role("button", name="Look inside").click()
    opened(window)
    window.locator(".gg-tokens").press("ArrowDown")
    opened(window)
    window.wait_for_timeout(300)
    seen, text = place(window), tokens(window)
    window.reload()
    connected(window)
    window.get_by_role("tab", name="Inside").click()
    opened(window)
    assert place(window) == seen and tokens(window) == text


def test_what_was_said_stays_text_among_the_tokens(window: Page):
    """Tokens of the prompt are shown too; `watched` notes every script, request and dialog."""
    attack = "<img src=x onerror=alert(1)><script>alert(2)</script>\u202e</span><svg/onload=alert(3)> {{7*7}} 😀"
    say(window, attack)
    window.locator(".gg-assistant .gg-actions").get_by_role("button", name="Look inside").click()
    opened(window)
    for view in ("attention", "layers", "choices"):
        window.locator(f"#gg-tab-{view}").click()
        window.wait_for_function(READY)
    shown = "".join(tokens(window)).replace("␣", " ")
    assert "<img src=x onerror=alert(1)>" in shown and "<script>alert(2)" in shown
    assert window.locator(".gg-glass img, .gg-glass script").count() == 0


def test_what_cannot_be_looked_into_is_told_in_one_line(opens):
    window: Page = opens("/en?tab=inside&inside=no-such-message&place=3")
    expect(window.locator(".gg-inside .gg-faint").first).to_contain_text("no-such-message")
    expect(window.locator(".gg-glass")).to_be_hidden()
    window = opens("/zh?tab=inside")
    expect(window.locator(".gg-inside .gg-faint").first).to_contain_text("点击")


def test_a_selection_of_text_opens_nothing(window: Page):
    say(window, "Once more")
    box = window.locator(".gg-assistant .gg-body").bounding_box()
    assert box is not None
    window.mouse.move(box["x"] + 5, box["y"] + 12)
    window.mouse.down()
    window.mouse.move(box["x"] + 120, box["y"] + 12, steps=5)
    window.mouse.up()
    window.wait_for_timeout(300)
    assert window.evaluate("String(getSelection())") != ""
    expect(window.get_by_role("tab", name="Chat")).to_have_attribute("aria-selected", "true")
