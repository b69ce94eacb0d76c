"""The order look-up shows the rows that were asked for and nothing of anyone else's."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glassgpt.assistant.orders import MAX_SHOWN, order_lookup
from glassgpt.assistant.tool_run import ToolResult, run_tool
from glassgpt.core.errors import ConfigError, GlassError, NotFoundError

ROWS = [["order_id", "name", "状态", "internal note"], ["A-17", "Ada", "已发货", "vip"],
        ["A-18", "Bob", "paid, waits", "late \"payer\""], ["A-17", "Ada", "second parcel", ""],
        ["１２３", "Li", "到货", ""]]  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return written(tmp_path / "orders.csv", ROWS)


def written(path: Path, rows: list[list[str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def ask(tool, number: str) -> ToolResult:
    return run_tool(tool, json.dumps({"number": number}))


def test_an_order_is_found_with_all_its_rows(path):
    tool = order_lookup(path, "Order-ID", hide=["internal note"])
    assert (
        ask(tool, "A-17").text
        == "order_id: A-17\nname: Ada\n状态: 已发货\n\norder_id: A-17\nname: Ada\n状态: second parcel"
    )
    assert "到货" in ask(tool, " 123\n").text and "到货" in ask(tool, "１２３").text
    assert tool.name == "order_lookup" and list(tool.parameters["properties"]) == ["number"]


@pytest.mark.parametrize(
    "number", ["A-1", "A", "a-17", "A-19", "A-17 A-18", "*", "A-1%", "Ada", "%", "A-17\x00", "x" * 9_999]
)
def test_an_unknown_number_is_said_to_be_unknown_and_shows_nothing(path, number):
    for language in ("en", "zh"):
        text = ask(order_lookup(path, "order_id", language=language), number).text
        assert not any(word in text for word in ("Bob", "已发货", "paid", "A-18\n", "vip"))
        assert "no order" in text.lower() if language == "en" else "订单" in text


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(st.dictionaries(st.integers(0, 60).map(str), st.text("abcxyz", min_size=5, max_size=9), min_size=2, max_size=20),
       st.integers(0, 60).map(str))  # fmt: skip
def test_only_the_rows_of_that_number_are_shown(tmp_path, orders, number):
    rows = [["order_id", "customer"], *([key, f"{key}:{who}"] for key, who in orders.items())]
    text = ask(order_lookup(written(tmp_path / "o.csv", rows), "order_id"), number).text
    for key, who in orders.items():
        assert (f"customer: {key}:{who}" in text) == (key == number)


def test_the_file_may_change_and_an_unreadable_one_is_not_remembered(path):
    tool = order_lookup(path, "order_id")
    written(path, [*ROWS, ["A-99", "Eve", "new", ""]])
    os.utime(path, ns=(1, 1))
    assert "Eve" in ask(tool, "A-99").text
    path.unlink()
    gone = ask(tool, "A-17")
    assert not gone.ok and "orders.csv" in gone.text and str(path.parent) not in gone.text
    written(path, [["other", "table"], ["1", "2"]])
    assert not ask(tool, "A-17").ok
    written(path, ROWS)
    assert "Ada" in ask(tool, "A-17").text


def test_many_rows_of_one_order_are_counted(tmp_path):
    rows = [["order_id", "item"], *(["7", f"item {i}"] for i in range(MAX_SHOWN + 5))]
    text = ask(order_lookup(written(tmp_path / "o.csv", rows), "order_id"), "7").text
    assert text.count("item: ") == MAX_SHOWN and f"[{MAX_SHOWN} of {MAX_SHOWN + 5} rows are shown]" in text


def test_rows_that_cannot_be_read_are_told_where_an_order_is_missing(tmp_path):
    path = tmp_path / "o.csv"
    path.write_text("order_id,state\n1,paid\n2,sent,too,many\n3,paid\n", encoding="utf-8")
    tool = order_lookup(path, "order_id")
    assert "1 rows of the list could not be read" in ask(tool, "2").text
    assert ask(tool, "3").text == "order_id: 3\nstate: paid"


def test_a_cell_cannot_look_like_a_row(tmp_path):
    path = written(tmp_path / "o.csv", [["order_id", "note"], ["1", "x\norder_id: 2\n\n  y"], ["2", "z"]])
    assert ask(order_lookup(path, "order_id"), "1").text == "order_id: 1\nnote: x order_id: 2 y"


def test_what_is_missing_is_told_when_the_tool_is_made(path, tmp_path):
    with pytest.raises(NotFoundError):
        order_lookup(tmp_path / "none.csv", "order_id")
    with pytest.raises(ConfigError, match="ordr_id") as caught:
        order_lookup(path, "ordr_id")
    assert "'order_id'" in caught.value.hint()
    with pytest.raises(ConfigError, match="secret"):
        order_lookup(path, "order_id", hide=["secret"])
    with pytest.raises(GlassError):
        order_lookup(written(tmp_path / "e.csv", []), "order_id")
    (tmp_path / "b.csv").write_bytes(b"PK\x03\x04" + bytes(200))
    with pytest.raises(GlassError):
        order_lookup(tmp_path / "b.csv", "order_id")
