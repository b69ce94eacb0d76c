"""How the widget's script is served, and that it is one file which needs nobody."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import httpx
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from glassgpt.ui.widget import PLACE, SCRIPT, WORDS, add_widget, widget_script

SOURCE = SCRIPT.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    app = FastAPI()
    add_widget(app)
    with TestClient(app) as client:
        yield client


def test_the_script_is_served_as_one_that_any_page_may_load_and_keep(client: httpx.Client):
    got = client.get("/widget.js")
    assert got.status_code == 200 and got.content == widget_script()
    assert got.headers["content-type"] == "text/javascript; charset=utf-8"
    assert got.headers["cross-origin-resource-policy"] == "cross-origin"
    assert re.fullmatch(r"public, max-age=\d+", got.headers["cache-control"])
    assert client.head("/widget.js").content == b""


def test_a_browser_that_has_it_is_told_so(client: httpx.Client):
    mark = client.get("/widget.js").headers["etag"]
    for known in (mark, f"W/{mark}", f'"other", {mark}', "*"):
        got = client.get("/widget.js", headers={"If-None-Match": known})
        assert (got.status_code, got.content, got.headers["etag"]) == (304, b"", mark)
    assert client.get("/widget.js", headers={"If-None-Match": '"other"'}).status_code == 200


def test_it_comes_with_every_word_that_it_uses_in_both_languages():
    assert SOURCE.count(PLACE) == 1
    line = next(line for line in widget_script().decode().splitlines() if "const WORDS" in line)
    told = json.loads(line.strip().removeprefix("const WORDS = ").removesuffix(";"))
    assert set(told) == {"en", "zh"} and set(told["en"]) == set(told["zh"]) == set(WORDS)
    used = set(re.findall(r"words\.([a-z]+)", SOURCE))
    quoted = set(re.findall(r'"([a-z]+)"', SOURCE))  # kinds of trouble
    assert used <= set(WORDS) <= used | quoted
    troubles = set(re.findall(r'Trouble\((?:[^"\n]*\? )?"([a-z]+)"(?: : "([a-z]+)")?', SOURCE))
    assert {name for pair in troubles for name in pair if name} <= set(WORDS)
    assert [name for name in WORDS if told["en"][name] == told["zh"][name]] == []


def test_it_has_nothing_that_a_strict_policy_forbids_and_asks_nobody_else():
    code = re.sub(r"^\s*//.*$", "", SOURCE, flags=re.M)
    forbidden = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|setAttribute\(.style|srcdoc"
    )
    assert re.findall(forbidden, code) == []
    assert re.findall(r"\bimport\b|importScripts|XMLHttpRequest|@import|url\(|localStorage|\bcookie", code) == []
    assert set(re.findall(r"https?://[a-z0-9.]+", code)) == {"http://www.w3.org"}  # the name of SVG
    assert len(re.findall(r"\bfetch\(", code)) == 1
