"""The tab Knowledge in a real browser: files in, what became of them, and what a question finds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect


@pytest.fixture
def knowledge(opens) -> Page:
    return opens("/en?tab=knowledge")


def drop(page: Page, *paths: Path) -> None:
    """Gives files to the field that the place to drop is."""
    page.locator(".gg-drop:visible input").set_input_files(paths)


def test_a_file_is_added_asked_and_removed(knowledge: Page, tmp_path: Path):
    file = tmp_path / "常见问题.csv"
    file.write_text(
        "question,answer\n你们几点开门？,我们早上九点开门。\n怎么退货？,三十天内可以退货。\n", encoding="utf-8"
    )
    drop(knowledge, file)
    expect(knowledge.get_by_role("status").filter(has_text="can be found now")).to_contain_text(
        "常见问题.csv: 2 passages"
    )
    expect(knowledge.get_by_role("cell", name="常见问题.csv", exact=True)).to_be_visible()
    question = knowledge.get_by_label("A question to your files")
    question.fill("几点开门？")
    question.press("Enter")
    hit = knowledge.locator(".gg-hit").first
    expect(hit).to_contain_text("我们早上九点开门。")
    expect(hit).to_contain_text("常见问题.csv")
    expect(hit).to_have_class(re.compile("gg-known"))
    drop(knowledge, file)
    expect(knowledge.get_by_text("was there already")).to_be_visible()
    knowledge.get_by_role("button", name="Remove 常见问题.csv").click()
    expect(knowledge.get_by_role("cell", name="常见问题.csv", exact=True)).to_have_count(0)


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.pdf", b"%PDF-1.4 and nothing more"), ("empty.csv", b""), ("b.exe", b"MZ\x00\x01"),
     ("c.docx", b"PK\x03\x04 broken")],
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_refused_with_the_reason(
    knowledge: Page, tmp_path: Path, name: str, content: bytes
):
    (tmp_path / name).write_bytes(content)
    drop(knowledge, tmp_path / name)
    said = knowledge.get_by_role("alert")
    expect(said).to_contain_text(f"{name} was refused: ")
    assert "Traceback" not in said.inner_text()


def test_the_sample_answers_customers_in_the_chat(knowledge: Page):
    knowledge.get_by_role("button", name="Add the sample").click()
    expect(knowledge.get_by_role("cell", name="shop.csv", exact=True)).to_be_visible()
    knowledge.get_by_role("tab", name="Chat").click()
    knowledge.get_by_label("Who answers").select_option("customer-service")
    field = knowledge.locator(".gg-composer .gg-field")
    field.fill("How long may a bank transfer take?")
    field.press("Enter")
    mode = knowledge.locator(".gg-mode")
    expect(mode.locator("summary")).to_contain_text("Quoted from shop.csv, row")
    mode.locator("summary").click()
    said = knowledge.locator(".gg-assistant .gg-body").inner_text()
    assert "transfer" in said
    expect(mode.locator("blockquote").first).to_have_text(said)  # word for word
    knowledge.get_by_label("Who answers").select_option("scripted")
    knowledge.get_by_role("tab", name="Knowledge").click()
    knowledge.get_by_role("button", name="Remove shop.csv").click()
    expect(knowledge.get_by_role("button", name="Add the sample")).to_be_visible()


def test_a_question_that_nothing_answers_says_so(knowledge: Page, tmp_path: Path):
    (tmp_path / "faq.csv").write_text("question,answer\nDo you ship abroad?,Yes we do.\n")
    drop(knowledge, tmp_path / "faq.csv")
    expect(knowledge.get_by_role("cell", name="faq.csv", exact=True)).to_be_visible()
    question = knowledge.get_by_label("A question to your files")
    question.fill("quantum chromodynamics lattice")
    question.press("Enter")
    expect(knowledge.get_by_text("Nothing in the files has anything in common with that.")).to_be_visible()
    knowledge.get_by_role("button", name="Remove faq.csv").click()
