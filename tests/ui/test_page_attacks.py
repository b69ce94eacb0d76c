"""Whatever stands in a message, a name, a file or a source: the page shows it, runs none of it and asks nobody."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import Site
from playwright.sync_api import Page, expect

from glassgpt.assistant.store import Store

pytestmark = pytest.mark.slow
PROBE = """() => {
  window.ran = [];
  for (const name of ["alert", "confirm", "prompt"]) window[name] = (text) => window.ran.push(name + text);
}"""
WAIT = "() => document.querySelectorAll('.gg-message').length === %d"


@pytest.fixture(scope="module")
def payloads(shared_data: Path) -> list[str]:
    peers = shared_data / "peers"
    attacks = [
        one["payload"] for one in json.loads((peers / "web_chat/dompurify_xss_fixtures.json").read_text("utf-8"))
    ]
    examples = json.loads((peers / "web_chat/commonmark_spec_examples.json").read_text(encoding="utf-8"))
    strings = json.loads((peers / "robustness/blns.json").read_text(encoding="utf-8"))
    found = [*attacks, *strings, *(one["markdown"] for one in examples)]
    return [text for text in found if text.strip()]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, payloads: list[str]) -> Iterator[Site]:
    """A server whose store holds every payload in every field that is shown."""
    site = Site(tmp_path_factory.mktemp("attacked"))
    with Store(site.folder / "conversations.db") as store:
        for part in range(0, len(payloads), 200):
            some = payloads[part : part + 200]
            one = store.create(f"part {part // 200}")
            for text in some:
                store.add(one.id, "user", text)
                extras: dict[str, Any] = {
                    "kind": "quoted", "footer": text, "failure": text, "left_out": {"count": 1, "first": text},
                    "sources": [{"source": text, "place": text, "text": text, "question": text, "score": 1.0}],
                }  # fmt: skip
                reply = store.add(one.id, "assistant", text, extras=extras)
                store.give_feedback(reply.id, thumb=1, correction=text)
        for text in payloads:
            store.create(text[:200])
    site.start()
    yield site
    site.stop()


def test_every_payload_in_every_field_of_a_message(opens, site: Site, payloads: list[str]):
    with Store(site.folder / "conversations.db") as store:
        parts = {hit.conversation.title: hit.conversation.id for hit in store.search("part", 50)
                 if hit.conversation.title in {f"part {n}" for n in range(20)}}  # fmt: skip
    assert len(parts) == -(-len(payloads) // 200)
    for number in range(len(parts)):
        window: Page = opens(f"/en?chat={parts[f'part {number}']}")
        window.evaluate(PROBE)
        count = 2 * len(payloads[200 * number : 200 * (number + 1)])
        window.wait_for_function(WAIT % count, timeout=60_000)
        for details in ("details.gg-mode",):
            window.evaluate(f"document.querySelectorAll('{details}').forEach(one => one.open = true)")
        window.wait_for_timeout(300)
        assert window.evaluate("window.ran") == []
        # Nothing that a payload could have put there: only what the page itself is made of.
        inside = (
            "document.querySelectorAll('.gg-log script, .gg-log iframe, .gg-log img, .gg-log object, .gg-log style, "
        )
        inside += (
            ".gg-log form, .gg-log [onerror], .gg-log [onload], .gg-log [onclick], .gg-log link, .gg-log meta').length"
        )
        assert window.evaluate(inside) == 0
        shown = window.locator(".gg-user .gg-body").all_text_contents()
        wanted = payloads[200 * number : 200 * (number + 1)]
        assert [unended(text) for text in shown] == [unended(text) for text in wanted]  # every character, as text
        window.context.close()


def unended(text: str) -> str:
    """As HTML has it: its parser knows one kind of line end, and no zero character."""
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\x00", "\ufffd")


def test_every_payload_as_the_title_of_a_conversation(window: Page, payloads: list[str]):
    window.evaluate(PROBE)
    for _ in range(3):
        more = window.get_by_role("button", name="More", exact=True)
        if more.count():
            more.click()
            window.wait_for_timeout(400)
    assert window.locator(".gg-open").count() >= 150
    assert window.locator(".gg-list script, .gg-list img, .gg-list iframe").count() == 0
    assert window.evaluate("window.ran") == []


def test_payloads_that_are_said_are_shown_as_they_were_typed(window: Page, payloads: list[str]):
    window.evaluate(PROBE)
    for text in [p for p in payloads if "<" in p and "\n" not in p and len(p) < 300][:12]:
        window.get_by_role("button", name="New conversation").first.click()
        expect(window.locator(".gg-message")).to_have_count(0)
        window.locator(".gg-composer .gg-field").fill(f"say:{text}")
        window.keyboard.press("Enter")
        window.locator(".gg-assistant .gg-actions").wait_for()
        assert window.locator(".gg-user .gg-body").inner_text().strip() == f"say:{text}".strip()
    assert window.evaluate("window.ran") == []


def test_payloads_in_a_file_are_indexed_and_shown_as_text(opens, tmp_path: Path, payloads: list[str]):
    window: Page = opens("/en?tab=knowledge")
    window.evaluate(PROBE)
    rows = [{"question": f"zebra {text}", "answer": text} for text in payloads[:150] if text.strip()]
    file = tmp_path / "<img src=x onerror=alert(1)>.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    window.locator(".gg-drop:visible input").set_input_files(file)
    window.get_by_text("can be found now").wait_for()
    question = window.get_by_label("A question to your files")
    for asked in ("zebra", "zebra <script>", "zebra onerror"):
        question.fill(asked)
        question.press("Enter")
        window.locator(".gg-hit").first.wait_for()
    window.wait_for_timeout(300)
    assert window.locator("main script, main img, main iframe").count() == 0
    assert window.evaluate("window.ran") == []


def test_payloads_in_a_file_to_train_on_are_previewed_as_text(opens, tmp_path: Path, payloads: list[str]):
    window: Page = opens("/en?tab=build")
    window.evaluate(PROBE)
    rows = [{"prompt": f"{number} {text}", "response": text} for number, text in enumerate(payloads[:150])]
    file = tmp_path / "<b onmouseover=alert(1)>.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    window.locator(".gg-drop:visible input").set_input_files(file)
    window.get_by_role("heading", name="What would come of it").wait_for(timeout=60_000)
    window.evaluate("document.querySelectorAll('main details').forEach(one => one.open = true)")
    window.wait_for_timeout(300)
    assert window.locator("main script, main img, main iframe, main [onerror]").count() == 0
    assert window.evaluate("window.ran") == []
