"""The tab Build in a real browser: from the sample to a model that one talks to, and trainings beside each other."""

from __future__ import annotations

from pathlib import Path

import pytest
from browsing import Site
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small file, so that a training takes seconds."""
    path = tmp_path_factory.mktemp("rows") / "店铺 rows.csv"
    lines = [
        f"What does item {n} cost?,Item {n} costs {n % 7 + 1} euros and comes in {n % 5 + 2} days." for n in range(60)
    ]
    path.write_text("question,answer\n,left out\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return path


def train(page: Page, rows: Path, minutes: str) -> None:
    page.locator(".gg-drop:visible input").set_input_files(rows)
    page.get_by_role("heading", name="What would come of it").wait_for(timeout=90_000)
    page.get_by_label("Begin with").select_option("scratch")
    page.locator(".doctor").wait_for(timeout=90_000)
    page.get_by_label("Minutes to spend").fill(minutes)
    page.get_by_role("button", name="Start the training").click()


def test_from_a_file_to_a_model_that_one_talks_to(opens, site: Site, rows: Path):
    window: Page = opens("/en?tab=build")
    window.set_default_timeout(90_000)
    train(window, rows, "1")
    card = window.locator(".gg-card")
    expect(card).to_contain_text("rows-1", timeout=60_000)
    window.reload()  # the training goes on, and is shown again
    expect(card.get_by_role("button", name="Stop the training")).to_be_visible(timeout=60_000)
    expect(card).to_contain_text("Held-out loss:", timeout=150_000)
    expect(card.locator("svg[role=img]").first).to_be_visible()
    expect(card.get_by_role("heading", name="Before and after")).to_be_visible()
    report = window.context.request.get(site.url + card.get_by_role("link", name="Report").get_attribute("href"))
    assert report.status == 200 and "<h1>" in report.text()
    card.get_by_role("button", name="Talk to it").click()
    field = window.locator(".gg-composer .gg-field")
    expect(field).to_be_visible()
    expect(window.get_by_label("Who answers")).to_have_value("店铺-rows-1")


def test_a_training_is_stopped_resumed_compared_and_deleted(opens, rows: Path):
    window: Page = opens("/en?tab=build")
    window.set_default_timeout(90_000)
    train(window, rows, "3")
    card = window.locator(".gg-card")
    expect(card).to_contain_text("training; step", timeout=120_000)
    card.get_by_role("button", name="Stop the training").click()
    expect(card).to_contain_text("stopped", timeout=60_000)
    row = window.locator("tr[data-id]").first
    expect(row).to_contain_text("stopped")
    row.get_by_role("button", name="Go on with").click()
    expect(row).to_contain_text("training", timeout=60_000)
    card.get_by_role("button", name="Stop the training").click()
    expect(row).to_contain_text("stopped", timeout=60_000)
    window.locator("tr[data-id] input[type=checkbox]").nth(0).check()
    window.locator("tr[data-id] input[type=checkbox]").nth(1).check()
    expect(window.get_by_role("img", name="Held-out losses of the chosen trainings")).to_be_visible()
    row.get_by_role("button", name="Delete").click()
    window.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(window.locator("tr[data-id]")).to_have_count(1)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [("empty.csv", b"", "empty.csv is empty"), ("a.xlsx", b"PK", "is of a kind that is not read"),
     ("broken.parquet", b"PAR1 and no more", "broken.parquet was refused")],
)  # fmt: skip
def test_a_file_that_is_none_is_refused_in_one_line(opens, tmp_path: Path, name: str, content: bytes, told: str):
    window: Page = opens("/en?tab=build")
    (tmp_path / name).write_bytes(content)
    window.locator(".gg-drop:visible input").set_input_files(tmp_path / name)
    expect(window.get_by_text(told)).to_be_visible(timeout=60_000)


def test_minutes_that_are_none_are_refused_and_the_form_stays(opens, rows: Path):
    window: Page = opens("/en?tab=build")
    train(window, rows, "")
    expect(window.get_by_text("the minutes are ''; expected a number")).to_be_visible()
    expect(window.get_by_role("button", name="Start the training")).to_be_visible()
