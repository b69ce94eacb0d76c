"""HTML as an independent parser reads it, and what must be true of all that the page draws."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

from glassgpt.ui.allowed import ATTRIBUTE_VALUES, ATTRIBUTES, CLASS_NAMES, REL, TAGS


class Walk(HTMLParser):
    """The tags with their attributes, the text, and anything else that there is."""

    def __init__(self, markup: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.nodes: list[object] = []
        self.text, self.other = "", ""
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), "an attribute stands twice"
        self.tags.append((tag, dict(attrs)))
        self.nodes.append((tag, tuple(sorted(attrs))))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)  # <br /> is <br>

    def handle_endtag(self, tag: str) -> None:
        self.nodes.append(f"/{tag}")

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.nodes and isinstance(self.nodes[-1], list):
            self.nodes[-1][0] += data
        else:
            self.nodes.append([data])

    def handle_comment(self, data: str) -> None:
        self.other += data

    handle_decl = handle_pi = unknown_decl = handle_comment


def allowed_attributes(tag: str) -> set[str]:
    """What `tag` may have."""
    more = {"rel"} if tag == "a" else set()
    named = {"class"} if tag in CLASS_NAMES else set()
    return ATTRIBUTES.get(tag, set()) | set(ATTRIBUTE_VALUES.get(tag, ())) | named | more


def check_harmless(markup: str) -> Walk:
    """Nothing but what is on the lists, and links to pages and mail alone."""
    found = Walk(markup)
    assert found.other == ""
    for tag, attributes in found.tags:
        assert tag in TAGS
        assert set(attributes) <= allowed_attributes(tag)
        assert not any(name.startswith("on") or name in ("style", "src", "id", "srcset") for name in attributes)
        if tag == "a":
            assert re.match(r"https?://|mailto:", attributes.get("href", "https://") or "", re.IGNORECASE)
            assert (attributes["rel"], attributes["target"]) == (REL, "_blank")
    return found


def attacks(shared_data: Path) -> list[str]:
    """Texts that broke other programs."""
    peers = shared_data / "peers"
    found = [one["payload"] for one in json.loads((peers / "web_chat/dompurify_xss_fixtures.json").read_text("utf-8"))]
    return found + json.loads((peers / "robustness/blns.json").read_text("utf-8"))


def examples(shared_data: Path) -> list[dict[str, str]]:
    """The examples of CommonMark's specification."""
    return json.loads((shared_data / "peers/web_chat/commonmark_spec_examples.json").read_text("utf-8"))
