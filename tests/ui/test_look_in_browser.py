"""The page that `glassgpt look` writes, in a browser: the slider, the keyboard, and nothing from elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from glassgpt.core.runs import Run
from glassgpt.data.rows import Row
from glassgpt.engine.load import load
from glassgpt.inside.look import look
from glassgpt.inside.look_page import look_page, time_page
from glassgpt.inside.through_time import ThroughTime, through_time
from glassgpt.training.pretrain import prepare, pretrain
from glassgpt.training.settings import DataSettings, Recipe, TrainSettings

TEXT = "A boat.\n小船 <b>"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    run = Run.create(tmp_path_factory.mktemp("runs") / "sea", {"data": "sea.txt"})
    settings = TrainSettings(steps=6, batch=2, context=32, precision="float32", sample_tokens=0, snapshots=3)
    rows = [Row("sea.txt", 1, ("text",), [f"{TEXT} went out to sea. 小船出海。\n" * 40])]
    model = {"n_layer": 2, "n_head": 2, "n_embd": 16}
    prepare(run, rows, Recipe(model=model, data=DataSettings(tokenizer="characters"), train=settings))
    pretrain(run)
    return run.folder


@pytest.fixture(scope="module")
def through(run) -> ThroughTime:
    return through_time(run, TEXT, every_head=True)


@pytest.fixture
def opened(browser, tmp_path, watched):
    """Opens a page from its file, as a user does; whatever it asks of another place fails the test."""
    contexts = []

    def open_page(page: str, **settings) -> Page:
        path = tmp_path / "look.html"
        path.write_text(page, encoding="utf-8")
        context = browser.new_context(**settings)
        contexts.append(context)
        window = context.new_page()
        watched.watch(window, path.as_uri())
        window.goto(path.as_uri())
        return window

    yield open_page
    for context in contexts:
        context.close()


def test_the_slider_goes_through_the_training(opened, through):
    page = opened(time_page(through, "en"))
    slider, last = page.get_by_role("slider"), len(through.moments) - 1
    expect(slider).to_have_value(str(last))
    for at in range(last, -1, -1):
        moment = through.moments[at]
        expect(page.locator("label[for=moment]")).to_have_text(f"step {moment.step} of 6")
        expect(page.locator(".facts")).to_contain_text(f"loss of this text: {moment.seen.loss:.3f}")
        likeliest = moment.seen.next.alternatives[0]
        expect(page.locator("#others .amount").first).to_have_text(f"{100 * likeliest.probability:.1f} %")
        slider.focus()
        page.keyboard.press("ArrowLeft")
    expect(page.locator(".facts")).to_contain_text("training loss: none yet")
    page.get_by_role("button", name="play").click()
    expect(slider).to_have_value(str(last))
    expect(page.get_by_role("button", name="play")).to_be_visible()


def test_a_token_is_chosen_by_mouse_and_keys_and_told_with_what_it_looks_at(opened, through):
    page = opened(time_page(through, "en"))
    seen = through.moments[-1].seen
    tokens = page.locator(".tokens button")
    assert tokens.all_inner_texts() == [*[t.replace(" ", "␣").replace("\n", "⏎") for t in seen.tokens], "▸ next"]
    tokens.nth(3).click()
    step = seen.steps[2]
    expect(page.locator("#others h3")).to_contain_text(f"{step.entropy:.1f} bits, {100 * step.probability:.1f} %")
    page.keyboard.press("ArrowRight")
    expect(tokens.nth(4)).to_be_focused()
    page.keyboard.press("Home")
    expect(page.locator("#others")).to_have_text("the first token has none before it")
    page.keyboard.press("End")
    expect(page.locator("#others h3")).to_contain_text("What comes next")
    page.locator("#head").select_option(label="layer 0, head 1")
    pattern = next(p.pattern for p in seen.patterns if (p.layer, p.head) == (0, 1))
    most = round(1000 * float(pattern[-1].max())) / 10
    expect(page.locator("#row .amount").first).to_have_text(f"{most:.1f} %")
    box = page.locator("#matrix").bounding_box()
    assert box is not None
    page.locator("#matrix").click(position={"x": 3, "y": box["height"] * 5.5 / len(seen.tokens)})
    expect(tokens.nth(5)).to_have_attribute("aria-pressed", "true")


@pytest.mark.parametrize(("language", "scheme"), [("en", "dark"), ("zh", "light")])
def test_one_look_has_lens_and_attribution_in_either_language_and_light(opened, run, language, scheme):
    seen = look(load(run, in_torch=True), TEXT, every_head=True)
    page = opened(look_page(seen, "sea", language), color_scheme=scheme, viewport={"width": 390, "height": 800})
    assert page.locator("html").get_attribute("lang") == language
    expect(page.get_by_role("slider")).to_have_count(0)
    assert seen.lens is not None and seen.attribution is not None
    expect(page.locator("table.lens tr")).to_have_count(len(seen.lens.readings) + 1)
    top = page.locator("table.lens tr").nth(1).locator("td").last
    end = seen.lens.readings[-1][-1]
    bits = "bits" if language == "en" else "比特"
    told = f"{100 * end.alternatives[0].probability:.1f} %, {end.entropy:.1f} {bits}"
    expect(top).to_have_attribute("title", told)
    expect(page.locator("section").last.locator(".amount")).to_have_count(len(seen.tokens))
    heads = {"en": "How the guess forms", "zh": "猜测如何形成"}
    expect(page.get_by_role("heading", name=heads[language])).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "a phone need not scroll sideways"
    light = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(20, 22, 26)"
    assert light == (scheme == "light")
