"""The export of ChatGPT's: a tree of nodes as it is given to users who ask for their data."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from portable_records import packed

from glassgpt.assistant.portable import Imported, import_file
from glassgpt.assistant.portable_chatgpt import read_chatgpt
from glassgpt.assistant.store import Store
from glassgpt.core.errors import FormatError


def node(id: str, parent: str | None, role: str = "", content: Any = None, **more: Any) -> dict[str, Any]:
    """A place in the tree; without a role it has no message."""
    message = None
    if role:
        if isinstance(content, str):
            content = {"content_type": "text", "parts": [content]}
        message = {
            "id": id, "author": {"role": role, "name": None, "metadata": {}}, "create_time": 1.7e9, "update_time": None,
            "content": content, "status": "finished_successfully", "end_turn": None, "weight": 1.0, "metadata": {},
            "recipient": "all", "channel": None,
        } | more  # fmt: skip
    return {"id": id, "message": message, "parent": parent, "children": []}


def conversation(*nodes: dict[str, Any], current: str, **more: Any) -> dict[str, Any]:
    """A conversation as it stands in conversations.json."""
    mapping = {n["id"]: n for n in nodes}
    for one in nodes:
        if one["parent"] in mapping:
            mapping[one["parent"]]["children"].append(one["id"])
    return {
        "title": "Shoes 鞋", "create_time": 1.6e9, "update_time": 1.7e9, "mapping": mapping, "moderation_results": [],
        "current_node": current, "plugin_ids": None, "conversation_id": "c-1", "conversation_template_id": None,
        "gizmo_id": None, "is_archived": False, "safe_urls": [], "default_model_slug": "gpt-4o", "id": "c-1",
    } | more  # fmt: skip


IMAGE = {"content_type": "image_asset_pointer", "asset_pointer": "file-service://file-x", "size_bytes": 10, "width": 4,
         "height": 4, "metadata": None}  # fmt: skip
HIDDEN = {"metadata": {"is_visually_hidden_from_conversation": True}}
WHOLE = conversation(
    node("root", None),
    node("sys", "root", "system", "", **HIDDEN),
    node("about", "sys", "user", {"content_type": "user_editable_context", "user_profile": "p"}),
    node("q1", "about", "user", {"content_type": "multimodal_text", "parts": [IMAGE, "What is this?", "这是什么？"]}),
    node("think", "q1", "assistant", {"content_type": "thoughts", "thoughts": [{"summary": "s", "content": "c"}]}),
    node("a1", "think", "assistant", "A shoe\ue200cite\ue202turn0search1\ue201.", metadata={"model_slug": "gpt-4o"}),
    node("q2", "a1", "user", "Draw it"),
    node("code", "q2", "assistant", {"content_type": "code", "language": "python", "text": "print('```')"},
         recipient="python"),
    node("run", "code", "tool", {"content_type": "execution_output", "text": "```"},
         author={"role": "tool", "name": "python", "metadata": {}}),
    node("never", "run"),
    node("a2", "never", "assistant", "Unfini", status="in_progress", create_time=None),
    node("q2b", "a1", "user", "Draw it, edited"),
    node("voice", "q2b", "assistant", {"content_type": "multimodal_text", "parts": [
        {"content_type": "audio_transcription", "text": "spoken", "direction": "out"},
        {"content_type": "audio_asset_pointer", "asset_pointer": "sediment://x"},
        {"content_type": "something_new"}, None, 7]}),
    current="voice",
)  # fmt: skip


def brought(store: Store, tmp_path: Any, *records: Any, name: str = "conversations.json") -> Imported:
    path = tmp_path / name
    path.write_text(json.dumps(list(records)), encoding="utf-8")
    return import_file(store, path)


def test_what_a_reader_saw_comes_in_with_its_branches(store, tmp_path):
    imported = brought(store, tmp_path, WHOLE)
    assert imported.conversations == ["c-1"] and imported.problems == []
    about = store.conversation("c-1")
    assert (about.title, about.model, about.created, about.updated) == ("Shoes 鞋", "gpt-4o", 1.6e9, 1.7e9)
    assert [(m.role, m.text) for m in store.path("c-1")] == [
        ("user", "[image]\n\nWhat is this?\n\n这是什么？"),
        ("assistant", "A shoe."),
        ("user", "Draw it, edited"),
        ("assistant", "spoken\n\n[sound]\n\n[file]"),
    ]
    other = store.path("c-1", "a2")
    assert [m.id for m in other] == ["q1", "a1", "q2", "code", "run", "a2"]
    assert other[3].text == "````python\nprint('```')\n````" and other[3].extras["to"] == "python"
    assert other[4].text == "````\n```\n````" and other[4].extras["tool"] == "python"
    assert other[5].state == "interrupted" and other[5].created == 1.6e9
    assert dict(imported.notes) == {
        "images left out": 1, "hidden messages left out": 3, "citations left out": 1, "sound left out": 1,
        "files left out": 1, "parts that are no text left out": 1,
    }  # fmt: skip
    assert [h.message.id for h in store.search("什么") if h.message] == ["q1"]


def test_the_zip_is_read_whatever_else_is_in_it_and_only_once(store, tmp_path):
    second = conversation(
        node("r", None), node("x", "r", "user", "hello"), current="x", id="c-2", conversation_id="c-2"
    )
    path = packed(tmp_path / "export.zip", {
        "chat.html": b"<html>", "user.json": b"{}", "message_feedback.json": b"[]", "shared_conversations.json": b"[]",
        "file-abc.png": b"\x89PNG", "conversations.json": json.dumps([WHOLE]).encode(),
        "data/conversations-001.json": json.dumps([second]).encode()})  # fmt: skip
    assert import_file(store, path).conversations == ["c-1", "c-2"]
    before = store.take("c-1")
    again = import_file(store, path)
    assert again.there_already == 2 and not again.conversations and not again.notes
    assert store.take("c-1") == before


def test_one_conversation_alone_comes_in_too(kept, tmp_path):
    (tmp_path / "x.json").write_text(json.dumps(WHOLE))
    assert import_file(kept, tmp_path / "x.json").conversations == ["c-1"]


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ({"mapping": {}}, "there is no message in it"),
        ({"mapping": []}, "does not have the fields"),
        ({"mapping": {"a": 1}}, "does not have the fields"),
        ({"title": "x"}, "does not have the fields"),
        (17, "does not have the fields"),
        (conversation(node("a", "b", "user", "x"), node("b", "a", "user", "y"), current="a"), "do not form a tree"),
        (conversation(node("a", "a", "user", "x"), current="a"), "do not form a tree"),
        (conversation(node("r", None), node("s", "r", "system", "x", **HIDDEN), current="s"), "there is no message"),
        (conversation(node("a", None, "user", "x" * 1_000_001), current="a"), "1000000 are allowed"),
    ],
)
def test_a_conversation_that_is_wrong_is_told_and_the_others_come_in(kept, tmp_path, record, says):
    imported = brought(kept, tmp_path, record, WHOLE)
    assert imported.conversations == ["c-1"] and says in str(imported.problems[0][1])


def test_a_chain_of_ten_thousand_nodes_is_no_trouble(kept, tmp_path):
    nodes = [node("n0", None), *(node(f"n{i}", f"n{i - 1}", "user", f"t{i}") for i in range(1, 10_001))]
    assert brought(kept, tmp_path, conversation(*nodes, current="n10000")).messages == 10_000
    assert len(kept.path("c-1")) == 10_000


def test_without_ids_and_with_impossible_values_it_comes_in_and_only_once(kept, tmp_path):
    strange = conversation(
        node("n" * 100, None, "user", "a\x00b\ud800", create_time="yesterday"),
        node("\ud800 odd", "n" * 100, "assistant", "ok", create_time=1e300),
        current="gone", id=None, conversation_id=None, title=" \n" + "t" * 300, create_time=None,
        update_time=float("nan"),
    )  # fmt: skip
    for one in strange["mapping"].values():
        one["message"]["id"] = None
    (id,) = brought(kept, tmp_path, strange).conversations
    assert [m.text for m in kept.path(id)] == ["a\ufffdb\ufffd", "ok"]
    assert kept.conversation(id).title == "t" * 199 + "…"
    assert brought(kept, tmp_path, strange).there_already == 1


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["q1", "a1", "root"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_whatever_stands_in_an_export_it_is_read_or_told(data):
    record = json.loads(json.dumps(WHOLE))
    for _ in range(data.draw(st.integers(1, 3))):
        at: Any = record
        while isinstance(at, dict | list) and at:
            key = data.draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
            if not isinstance(at[key], dict | list) or data.draw(st.integers(0, 4)) == 0:
                at[key] = data.draw(JSON)
                break
            at = at[key]
    try:
        about, messages, _ = read_chatgpt(record)
    except FormatError:
        return
    ids = [m.id for m in messages]
    assert about.head in ids and all(m.parent is None or m.parent in ids for m in messages)
