"""The store on SQLite and on PostgreSQL: a tree of messages, pages, search, deletion, feedback, threads."""

from __future__ import annotations

import sys
import threading
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from glassgpt.assistant.store import Store
from glassgpt.assistant.store_rows import Message
from glassgpt.core.errors import ConfigError, FormatError, GlassError, InputError, NotFoundError


def said(messages: list[Message]) -> list[tuple[str, str, str]]:
    return [(m.role, m.text, m.state) for m in messages]


def test_what_was_said_is_there_after_the_store_was_closed_and_opened_again(database_url):
    with Store(database_url) as store:
        id = store.create("Shoes", persona="shop", model="smollm2").id
        store.add(id, "user", "May I return them? 🥿\n\t'\"\\ %s", extras={"page": [1, {"x": None}]})
        with store.begin_reply(id) as reply:
            reply.append("Yes, ")
            reply.append("within 30 days.")
    with Store(database_url) as store:
        path = store.path(id)
        assert said(path) == [
            ("user", "May I return them? 🥿\n\t'\"\\ %s", "done"),
            ("assistant", "Yes, within 30 days.", "done"),
        ]
        assert path[0].extras == {"page": [1, {"x": None}]} and path[1].parent == path[0].id
        about = store.conversation(id)
        assert (about.title, about.persona, about.model, about.head) == ("Shoes", "shop", "smollm2", path[1].id)


def test_a_reply_is_committed_while_it_is_written_and_finish_returns_when_all_of_it_is(store, database_url):
    id = store.create().id
    store.add(id, "user", "hello")
    reply = store.begin_reply(id, extras={"a": 1})
    reply.append("first")
    waited = time.monotonic()
    while reply.saved < 5:
        assert time.monotonic() - waited < 1, "a second is the most that may be lost"
        time.sleep(0.01)
    with Store(database_url) as other:  # another process sees it, and does not take it for a dead one's
        assert other.interrupted == 0
        assert other.message(reply.id).text == "first" and other.message(reply.id).state == "writing"
        reply.append(", last")
        reply.finish({"b": [2]})
        assert other.message(reply.id).text == "first, last" and other.message(reply.id).state == "done"
        assert other.message(reply.id).extras == {"a": 1, "b": [2]}
    with pytest.raises(InputError, match="the reply has ended"):
        reply.append("more")


def test_replies_end_as_they_ended(store):
    id = store.create().id
    store.add(id, "user", "q")
    with pytest.raises(ValueError), store.begin_reply(id) as failed:
        failed.append("half")
        raise ValueError("out of memory")
    failed.wait()
    with pytest.raises(KeyboardInterrupt), store.begin_reply(id) as stopped:
        stopped.append("some")
        raise KeyboardInterrupt
    stopped.wait()
    assert (store.message(failed.id).state, store.message(failed.id).text) == ("failed", "half")
    assert store.message(failed.id).extras == {"failure": "out of memory"}
    assert (store.message(stopped.id).state, store.message(stopped.id).text) == ("interrupted", "some")


def test_closing_saves_what_is_written_and_marks_it_as_interrupted(database_url):
    store = Store(database_url)
    id = store.create().id
    store.add(id, "user", "q")
    reply = store.begin_reply(id)
    reply.append("all of this")
    store.close()
    store.close()
    with pytest.raises(GlassError, match="are closed"):
        store.create()
    with Store(database_url) as again:
        assert said(again.path(id))[-1] == ("assistant", "all of this", "interrupted")
        assert again.interrupted == 0


def test_an_edited_question_and_a_reply_written_anew_are_branches_and_nothing_is_lost(store):
    id = store.create().id
    q1 = store.add(id, "user", "q1")
    a1 = store.add(id, "assistant", "a1")
    q2 = store.add(id, "user", "q2")
    a2 = store.add(id, "assistant", "a2")
    q2b = store.edit(q2.id, "q2, edited")
    assert q2b.parent == a1.id and store.siblings(q2.id) == [q2.id, q2b.id] == store.siblings(q2b.id)
    assert [m.text for m in store.path(id)] == ["q1", "a1", "q2, edited"]
    with store.begin_reply(id) as reply:
        reply.append("a2 of the edited one")
    with store.begin_reply(id, instead_of=a1.id) as anew:
        anew.append("a1, anew")
    assert [m.text for m in store.path(id)] == ["q1", "a1, anew"]
    assert store.choose(a1.id).head == reply.id
    assert store.choose(q2.id).head == a2.id
    assert [m.text for m in store.path(id)] == ["q1", "a1", "q2", "a2"]
    assert [m.text for m in store.path(id, q2.id)] == ["q1", "a1", "q2"]
    first = store.edit(q1.id, "another beginning")
    assert first.parent is None and [m.text for m in store.path(id)] == ["another beginning"]
    assert len(store.tree(id)) == 8


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_a_path_is_what_a_dictionary_of_parents_says(tmp_path_factory, data):
    with Store(tmp_path_factory.mktemp("tree") / "x.db") as store:
        id = store.create().id
        parents: dict[str, str | None] = {}
        for i in range(data.draw(st.integers(1, 12))):
            parent = data.draw(st.sampled_from([None, *parents]))
            parents[store.add(id, "user", str(i), parent=parent).id] = parent
        for last in parents:
            expected, at = [], last
            while at is not None:
                expected.append(at)
                at = parents[at]
            assert [m.id for m in store.path(id, last)] == expected[::-1]
            assert store.siblings(last) == [m for m in parents if parents[m] == parents[last]]


def test_pages_hold_every_conversation_once_the_last_changed_first(store):
    ids = [store.create(f"t{i}").id for i in range(7)]
    store.add(ids[2], "user", "x")
    found, after = [], ""
    while True:
        page = store.conversations(3, after)
        assert len(page.conversations) <= 3
        found += [c.id for c in page.conversations]
        after = page.next
        if not after:
            break
    assert found == [ids[2], *[i for i in ids[::-1] if i != ids[2]]]
    store.rename(ids[0], "  Another\n title ")
    assert store.conversation(ids[0]).title == "Another title"
    with pytest.raises(InputError, match="no such page"):
        store.conversations(3, "x~y")


def test_what_is_deleted_is_gone_with_all_that_belongs_to_it(store):
    kept, gone = store.create("kept").id, store.create("gone").id
    store.add(kept, "user", "退货 stays")
    store.add(gone, "user", "退货 goes")
    reply = store.add(gone, "assistant", "x")
    store.give_feedback(reply.id, thumb=-1, note="bad")
    writing = store.begin_reply(gone)
    writing.append("on and on")
    store.delete(gone)
    with pytest.raises(InputError, match="the reply has ended"):
        writing.append("more")
    assert [c.id for c in store.conversations().conversations] == [kept]
    assert [h.message.text for h in store.search("退货")] == ["退货 stays"] and store.feedback() == []
    with store.database.read() as connection:
        for table in ("messages", "feedback", "search"):
            assert connection.execute(text(f"SELECT count(*) FROM glassgpt_{table}")).scalar_one() == (
                table != "feedback"
            )
    for call in (store.conversation, store.tree, store.path, store.delete):
        with pytest.raises(NotFoundError, match="there is no conversation"):
            call(gone)


def test_no_byte_of_what_was_deleted_is_left_in_the_files(tmp_path):
    with Store(tmp_path / "x.db") as store:
        others = [store.create(f"c{i}").id for i in range(20)]
        for id in others:
            for j in range(20):
                store.add(id, "user", f"something else {j} 其他内容")
        secret = store.create("title-of-xyzzyplugh").id
        for i in range(50):
            store.add(secret, "user", f"xyzzyplugh{i} 绝密甲乙丙丁 " * 40, extras={"k": "xyzzyplugh"})
        with store.begin_reply(secret) as reply:
            reply.append("xyzzyplugh " * 500)
        store.give_feedback(reply.id, note="xyzzyplugh")
        reading = store.database.engine.connect()  # somebody who reads an earlier moment
        reading.execute(text("SELECT count(*) FROM glassgpt_messages")).scalar_one()
        names = sorted(p.name for p in tmp_path.iterdir())
        assert names == ["x.db", "x.db-shm", "x.db-wal"]
        assert any(b"xyzzyplugh" in p.read_bytes() for p in tmp_path.iterdir())
        reading.close()
        store.delete(secret)
        for path in tmp_path.iterdir():
            content = path.read_bytes()
            assert b"xyzzy" not in content and "绝密甲乙".encode() not in content, path.name
        assert store.search("其他内容")
    assert all(b"xyzzy" not in p.read_bytes() for p in tmp_path.iterdir())


def test_feedback_replaces_what_was_thought_before_and_can_be_taken_back(store):
    id = store.create().id
    question = store.add(id, "user", "q")
    reply = store.add(id, "assistant", "a")
    store.give_feedback(reply.id, thumb=1)
    store.give_feedback(reply.id, thumb=-1, correction="b", note="wrong")
    (one,) = store.feedback(id)
    assert (one.message, one.thumb, one.correction, one.note) == (reply.id, -1, "b", "wrong")
    store.give_feedback(reply.id)
    assert store.feedback() == []
    with pytest.raises(InputError, match="only replies"):
        store.give_feedback(question.id, thumb=1)
    with pytest.raises(InputError, match="a thumb is 2"):
        store.give_feedback(reply.id, thumb=2)


def test_what_is_out_of_bounds_is_refused_and_changes_nothing(store, monkeypatch):
    id = store.create().id
    for wrong in ("a\x00b", "\ud800"):
        with pytest.raises(InputError, match="zero characters or halves"):
            store.add(id, "user", wrong)
    with pytest.raises(InputError, match="there is no role 'robot'"):
        store.add(id, "robot", "x")
    with pytest.raises(InputError, match="1000001 characters; 1000000 are allowed"):
        store.add(id, "user", "x" * 1_000_001)
    with pytest.raises(InputError, match="is not JSON"):
        store.add(id, "user", "x", extras={"a": {1, 2}})
    with pytest.raises(InputError, match="201 characters"):
        store.create("x" * 201)
    with pytest.raises(InputError, match="no word"):
        store.search("?!，。")
    with pytest.raises(InputError, match="at a time cannot be shown"):
        store.conversations(0)
    with pytest.raises(NotFoundError, match="there is no message"):
        store.add(id, "user", "x", parent="nobody")
    other = store.create().id
    theirs = store.add(other, "user", "x").id
    with pytest.raises(NotFoundError, match="there is no message"):
        store.add(id, "user", "x", parent=theirs)
    monkeypatch.setattr("glassgpt.assistant.store_queries.MAX_MESSAGES", 2)
    store.add(id, "user", "1"), store.add(id, "user", "2")
    with pytest.raises(InputError, match="has 2 messages; more do not fit"):
        store.add(id, "user", "3")
    assert len(store.tree(id)) == 2


def test_characters_that_no_database_takes_are_replaced_in_replies_and_counted(store):
    id = store.create().id
    with store.begin_reply(id) as reply:
        reply.append("a\x00b")
        reply.append("\ud83d")
    assert store.message(reply.id).text == "a\ufffdb\ufffd"
    assert store.message(reply.id).extras == {"replaced_characters": 2}


def test_a_reply_has_a_limit_and_keeps_what_it_has(store, monkeypatch):
    monkeypatch.setattr("glassgpt.assistant.store_writer.MAX_TEXT", 10)
    reply = store.begin_reply(store.create().id)
    reply.append("x" * 10)
    with pytest.raises(InputError, match="11 characters; 10 are allowed"):
        reply.append("x")
    reply.finish()
    assert store.message(reply.id).text == "x" * 10


def test_many_threads_write_and_read_at_once_and_every_word_is_there(store):
    id = store.create().id
    root = store.add(id, "user", "q").id
    failures: list[BaseException] = []

    def talk(number: int) -> None:
        try:
            for turn in range(3):
                with store.begin_reply(id, parent=root) as reply:
                    for piece in range(40):
                        reply.append(f"{number}.{turn}.{piece} ")
                assert store.message(reply.id).state == "done"
                assert store.search(f"{number}")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=talk, args=(n,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    texts = sorted(m.text for m in store.tree(id)[1:])
    assert texts == sorted("".join(f"{n}.{t}.{p} " for p in range(40)) for n in range(12) for t in range(3))


def test_two_stores_share_a_database(database_url):
    with Store(database_url) as one, Store(database_url) as two:
        id = one.create("both").id
        for i in range(20):
            (one, two)[i % 2].add(id, "user", str(i))
        assert [m.text for m in two.path(id)] == [str(i) for i in range(20)] == [m.text for m in one.path(id)]


def test_a_database_of_a_later_version_is_refused_and_left_alone(database_url):
    with Store(database_url) as store:
        id = store.create("x").id
        with store.database.engine.begin() as connection:
            connection.execute(text("UPDATE glassgpt_schema SET version = 99"))
    with pytest.raises(FormatError, match=r"has version 99; this glassgpt knows up to \d+"):
        Store(database_url)
    assert id


def test_a_migration_that_fails_leaves_the_version_before_and_runs_later(database_url, monkeypatch):
    from glassgpt.assistant import store_schema

    with Store(database_url) as store:
        id = store.create("x").id
    broken = True

    def second(connection):
        connection.execute(text("ALTER TABLE glassgpt_conversations ADD COLUMN extra TEXT"))
        if broken:
            raise GlassError("no")

    monkeypatch.setattr(store_schema, "MIGRATIONS", (*store_schema.MIGRATIONS, second))
    with pytest.raises(GlassError, match="no"):
        Store(database_url)
    broken = False
    with Store(database_url) as store:
        assert store.conversation(id).title == "x"
    with Store(database_url) as store, store.database.read() as connection:
        assert connection.execute(text("SELECT version FROM glassgpt_schema")).scalars().all() == [2]


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "nosuch://x/y", "://", "mysql+nosuch://a/b"])
def test_an_address_that_cannot_be_used_is_a_clear_error(url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError):
        Store(url)


def test_a_password_is_never_told(tmp_path):
    with pytest.raises(GlassError, match=r"glass:\*\*\*@") as error:
        Store(f"postgresql://glass:topsecret@/x?host={tmp_path}")
    assert "topsecret" not in error.value.line("en") + error.value.line("zh")


def test_what_postgresql_needs_is_said_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigError, match="is not installed") as error:
        Store("postgresql://glass@/x")
    assert error.value.hint() == "For PostgreSQL: `pip install glassgpt[postgres]`."
