"""Conversations leave as JSON and Markdown and come back the same; what comes from elsewhere is read within limits."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from portable_records import record, write

from glassgpt.assistant import store as store_module
from glassgpt.assistant.portable import export_json, export_markdown, import_file, json_chunks
from glassgpt.assistant.store import Store
from glassgpt.core.errors import GlassError

# What a database takes: no zero character, no half of one.
TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=("Cs",)), max_size=30)
TITLE = TEXT.map(lambda t: " ".join(t.split()))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
EXTRAS = st.dictionaries(st.text(st.characters(codec=None), max_size=5), JSON, max_size=3)
SETTINGS = settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))


def fill(store: Store, data: st.DataObject) -> list[str]:
    """Some conversations with branches, extras and feedback."""
    made = []
    for _ in range(data.draw(st.integers(0, 3))):
        id = store.create(data.draw(TITLE), persona=data.draw(TITLE), model=data.draw(TITLE)).id
        made.append(id)
        ids: list[str | None] = [None]
        for _ in range(data.draw(st.integers(0, 5))):
            role = data.draw(st.sampled_from(("user", "assistant", "system", "tool")))
            parent = data.draw(st.sampled_from(ids))
            message = store.add(id, role, data.draw(TEXT), parent=parent, extras=data.draw(EXTRAS))
            ids.append(message.id)
            if role == "assistant" and data.draw(st.booleans()):
                thumb, texts = data.draw(st.sampled_from((-1, 0, 1))), st.none() | TEXT
                store.give_feedback(message.id, thumb=thumb, correction=data.draw(texts), note=data.draw(texts))
        if len(ids) > 1 and data.draw(st.booleans()):
            store.choose(str(data.draw(st.sampled_from(ids[1:]))))
    return made


@pytest.fixture
def other(tmp_path):
    with Store(tmp_path / "other.db") as store:
        yield store


def test_json_keeps_everything_whichever_database_it_comes_from_and_goes_to(store, other, tmp_path):
    path, back = tmp_path / "all.json", tmp_path / "back.json"

    @SETTINGS
    @given(st.data())
    def holds(data: st.DataObject) -> None:
        made = fill(store, data)
        before = [store.take(id) for id in made]
        export_json(store, path, made)
        assert import_file(store, path).there_already == len(made)
        imported = import_file(other, path)
        assert imported.problems == [] and imported.conversations == made
        assert [other.take(id) for id in made] == before
        export_json(other, back, made)
        assert back.read_bytes() == path.read_bytes()
        for id in made:
            store.delete(id)
        assert import_file(store, back).conversations == made
        assert [store.take(id) for id in made] == before

    holds()


@SETTINGS
@given(st.data())
def test_markdown_keeps_the_branch_that_is_shown(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("md")
    tricky = ["<!-- glassgpt: user 1.0 -->", "\\<!-- glassgpt: x", "## User", "", " ", "```", "# t", "a\rb"]
    lines = st.lists(st.sampled_from(tricky) | TEXT).map("\n".join)
    said = data.draw(
        st.lists(st.tuples(st.sampled_from(("user", "assistant", "system", "tool")), lines), min_size=1, max_size=4)
    )
    title = data.draw(TITLE.filter(bool))
    with Store(folder / "x.db") as store:
        id = store.create(title).id
        for role, text in said:
            store.add(id, role, text)
        export_markdown(store, folder / "x.md", id)
        (new,) = import_file(store, folder / "x.md").conversations
        old, again = store.path(id), store.path(new)
        assert [(m.role, m.text, m.created) for m in again] == [(m.role, m.text, m.created) for m in old]
        assert store.conversation(new).title == title and [m.parent for m in again[1:]] == [m.id for m in again[:-1]]


def test_markdown_is_readable_and_says_what_was_not_finished(kept, tmp_path):
    id = kept.create("Shoes").id
    kept.add(id, "user", "May I return them?")
    kept.begin_reply(id).interrupt()
    reply = kept.begin_reply(id)
    reply.append("Yes, wi")
    reply.interrupt()
    export_markdown(kept, tmp_path / "x.md", id)
    shown = [s for s in (tmp_path / "x.md").read_text(encoding="utf-8").split("\n") if s and not s.startswith("<!--")]
    assert shown[0] == "# Shoes" and shown[1].startswith("## User · 20") and shown[2] == "May I return them?"
    assert shown[-2].startswith("## Assistant · ") and shown[-2].endswith(" UTC (interrupted)")
    (new,) = import_file(kept, tmp_path / "x.md").conversations
    assert [m.state for m in kept.path(new)] == ["done", "interrupted", "interrupted"]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_markdown_written_by_hand_is_parted_at_the_speakers(kept, tmp_path, end):
    written = """# 退货问题

不是消息

## 用户

可以退货吗？
```
## Assistant
```

### **Assistant**:
Yes.

## Details

More.
"""
    (tmp_path / "notes.md").write_bytes(written.replace("\n", end).encode("utf-8-sig"))
    (id,) = import_file(kept, tmp_path / "notes.md").conversations
    assert kept.conversation(id).title == "退货问题"
    assert [(m.role, m.text) for m in kept.path(id)] == [
        ("user", "可以退货吗？\n```\n## Assistant\n```"),
        ("assistant", "Yes.\n\n## Details\n\nMore."),
    ]


def test_marked_markdown_that_another_program_saved_with_its_line_ends_is_the_same(kept, tmp_path):
    id = kept.create("t").id
    kept.add(id, "user", "a\nb")
    export_markdown(kept, tmp_path / "x.md", id)
    path = tmp_path / "x.md"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    (new,) = import_file(kept, path).conversations
    assert [m.text for m in kept.path(new)] == ["a\nb"]


def test_markdown_without_a_message_is_a_problem_that_is_told(kept, tmp_path):
    (tmp_path / "x.md").write_text("# Only a title", encoding="utf-8")
    imported = import_file(kept, tmp_path / "x.md")
    assert [str(p) for _, p in imported.problems] and imported.conversations == []


def test_an_export_while_somebody_talks_is_of_one_moment(store, other, tmp_path, monkeypatch):
    """The head was read after the messages and was then not among them, so the file could not come back."""
    id = store.create("busy").id
    first = store.add(id, "user", "first")
    read = store_module.all_messages

    def meanwhile(connection: Any, conversation: str) -> Any:
        store.add(id, "user", "meanwhile")
        return read(connection, conversation)

    monkeypatch.setattr(store_module, "all_messages", meanwhile)
    export_json(store, tmp_path / "x.json")
    monkeypatch.undo()
    assert import_file(other, tmp_path / "x.json").problems == []
    assert [m.id for m in other.path(id)] == [first.id]


def test_a_reply_that_is_being_written_is_exported_as_interrupted(store, other, tmp_path):
    id = store.create().id
    reply = store.begin_reply(id)
    export_json(store, tmp_path / "x.json")
    assert import_file(other, tmp_path / "x.json").conversations == [id]
    assert other.message(reply.id).state == "interrupted"
    reply.finish()


def test_a_conversation_that_is_wrong_keeps_no_other_one_out(kept, tmp_path):
    wrong = [
        record(id="c2", messages=[]),  # its head is missing
        record(id="c3", feedback=[{"message": "m1", "created": 1.0, "thumb": 1, "correction": None, "note": None}]),
        record(id="../c4"),
        record(id="c5", created=float("inf")),
        record(id="c6", title="x" * 201),
        record(id="c7", more=1),
        record(id="c8", messages=[record()["messages"][1], record()["messages"][0]]),
        record(id="c9", messages=[record()["messages"][0] | {"state": "writing"}], head=None, feedback=[]),
        17,
    ]
    imported = import_file(kept, write(tmp_path / "x.json", *wrong, record()))
    assert imported.conversations == ["c1"] and imported.messages == 2 and len(imported.problems) == len(wrong)
    assert [m.text for m in kept.path("c1")] == ["q", "a"]


def test_messages_whose_ids_are_taken_get_others(kept, tmp_path):
    imported = import_file(kept, write(tmp_path / "x.json", record(), record(id="c2")))
    assert imported.conversations == ["c1", "c2"] and imported.problems == []
    first, second = kept.path("c1"), kept.path("c2")
    assert [m.text for m in second] == ["q", "a"] and second[1].parent == second[0].id
    assert not {m.id for m in first} & {m.id for m in second}
    assert [f.message for f in kept.feedback("c2")] == [second[1].id]


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The ways to every value in a record."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, v in inner for place in places(v, (*at, key)))]


def test_whatever_stands_in_a_record_it_comes_in_or_is_told(store, tmp_path):
    ways = [place for place in places(record()) if place]
    other = JSON | st.sampled_from(["", "m1", "m2", "x" * 300, "\ud800", "\x00", 1e308, 10**400, -1, True, 1.5])

    @settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.tuples(st.sampled_from(ways), other), min_size=1, max_size=3))
    def holds(changes: list[tuple[tuple[Any, ...], Any]]) -> None:
        given = json.loads(json.dumps(record()))
        for way, value in changes:
            at = given
            try:
                for key in way[:-1]:
                    at = at[key]
                at[way[-1]] = value
            except (TypeError, KeyError, IndexError):
                pass  # an earlier change took it away
        path = write(tmp_path / "x.json", given)
        imported = import_file(store, path)
        assert len(imported.conversations) + len(imported.problems) == 1
        for id in imported.conversations:
            assert [m.text for m in store.take(id).messages] == [m["text"] for m in given["messages"]]
            assert import_file(store, path).there_already == 1
            "".join(json_chunks(store))
            store.delete(id)

    holds()


def test_a_disk_that_refuses_leaves_the_export_that_was_there(kept, tmp_path, monkeypatch):
    kept.create("x")
    export_json(kept, tmp_path / "x.json")
    before = (tmp_path / "x.json").read_bytes()
    kept.create("y")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("glassgpt.assistant.portable_files.os.fsync", full)
    with pytest.raises(GlassError, match="could not be written"):
        export_json(kept, tmp_path / "x.json")
    assert (tmp_path / "x.json").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
