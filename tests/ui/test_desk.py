"""What the windows of the page stand on, without a browser."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glassgpt.assistant.store import Message
from glassgpt.core.errors import ConfigError, GlassError
from glassgpt.server.hub import Hub
from glassgpt.ui.desk import SECRET, SETTINGS, Desk, Settings, page_secret
from glassgpt.ui.plot import Curve, plot, ticks
from glassgpt.ui.views import answer_alone, banners_of, path_of, siblings_in, view_of


def desk(folder: Path) -> Desk:
    return Desk(Hub(["small", "large"], lambda entry: None), None, None, None, folder)  # type: ignore[arg-type]


def test_settings_are_kept_and_what_is_wrong_changes_nothing(tmp_path: Path):
    first = desk(tmp_path)
    first.change(model="large", temperature=0.5, seed=7)
    with pytest.raises(GlassError):
        first.change(temperature=-1.0)
    with pytest.raises(ConfigError):
        first.change(precision="int3")
    again = desk(tmp_path)
    assert again.settings == Settings(model="large", temperature=0.5, seed=7) and again.model == "large"
    assert again.options("large", "en").sampling == {"temperature": 0.5, "seed": 7}


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"temperature": "hot"}', '{"temperature": -5}', '{"system": 5}', "null"]
)
def test_settings_that_are_damaged_count_as_none(tmp_path: Path, content: str):
    (tmp_path / SETTINGS).write_text(content)
    assert desk(tmp_path).settings == Settings()


def test_a_model_that_is_gone_gives_way_to_the_first(tmp_path: Path):
    (tmp_path / SETTINGS).write_text(json.dumps({"model": "gone", "unknown": 1}))
    assert desk(tmp_path).model == "small"


def test_another_precision_is_another_model_that_clients_are_not_told_of(tmp_path: Path):
    one = desk(tmp_path)
    one.hub.add_assistant("helper", lambda model: None, "small")  # type: ignore[arg-type, return-value]
    one.change(precision="int8")
    assert one.options("small", "en").model == "small@int8"
    assert one.options("helper", "en").model == "helper@int8"
    assert one.hub.entries["helper@int8"].source == "small@int8" and one.hub.entries["small@int8"].source == "small"
    assert one.hub.listed() == ["small", "large", "helper"]


@pytest.mark.skipif(os.name == "nt", reason="permissions of Unix")
def test_the_secret_is_made_once_and_its_users_alone(tmp_path: Path):
    secret = page_secret(tmp_path / "new")
    assert len(secret) == 32 and page_secret(tmp_path / "new") == secret
    assert stat.S_IMODE((tmp_path / "new" / SECRET).stat().st_mode) == 0o600
    (tmp_path / "new" / SECRET).write_bytes(b"short")
    assert len(page_secret(tmp_path / "new")) == 32


def message(id: str, parent: str | None, role: str = "user", **extras: Any) -> Message:
    return Message(id, "c", parent, role, f"text of {id}", 0.0, "done", extras)


def test_the_path_and_the_branches_are_those_of_the_tree():
    tree = [message("a", None), message("b", "a", "assistant"), message("c", "a", "assistant"), message("d", "c")]
    assert [m.id for m in path_of(tree, "d")] == ["a", "c", "d"] and path_of(tree, None) == []
    assert siblings_in(tree)["a"] == ["b", "c"]


STRANGE = st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
NAMES = ["footer", "kind", "sources", "left_out", "tokens", "finish_reason", "failure", "unlearned"]


@given(st.dictionaries(st.sampled_from(NAMES), STRANGE))
def test_strange_extras_of_a_message_are_no_mistake(extras: dict[str, Any]):
    one = Message("m", "c", None, "assistant", "text", 0.0, "failed", extras)
    assert view_of(one, ["m"], None, None, "zh")["text"] == "text"
    assert banners_of(one, "en")


def test_a_rows_answer_stands_without_its_question():
    assert (
        answer_alone("How?\nSo.", "How?") == "So."
        and answer_alone("So.", "") == "So."
        and answer_alone("How?", "How?") == "How?"
    )


def test_a_server_with_its_page_starts_without_torch_and_without_matplotlib():
    """They take seconds and hundreds of megabytes, and are wanted by those who look inside alone."""
    code = "import sys, glassgpt.cli.opening, glassgpt.ui.page\nassert not {'torch', 'matplotlib'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


class Shapes(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "polyline":
            self.lines.append(dict(attrs)["points"] or "")


@given(st.lists(st.tuples(st.integers(0, 10**6), st.floats(allow_nan=True, allow_infinity=True)), max_size=20))
def test_a_plot_of_anything_stays_inside_its_frame(points: list[tuple[int, float]]):
    found = Shapes()
    found.feed(plot([Curve("<b>", sorted(points, key=lambda p: p[0]))], "x", "step", "loss"))
    for line in found.lines:
        for pair in line.split():
            x, y = map(float, pair.split(","))
            assert 0 <= x <= 640 and 0 <= y <= 260


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_few_and_between(low: float, span: float):
    found = ticks(low, low + span)
    assert len(found) <= 7 and all(low - 1e-6 * span <= t <= low + span + 1e-6 * span for t in found)
