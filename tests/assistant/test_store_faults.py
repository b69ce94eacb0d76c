"""Killed processes, full disks, damaged files and a database that goes away: what was said to be saved is there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from postgres_server import PostgresServer
from sqlalchemy import event

import glassgpt
from glassgpt.assistant import store_writer
from glassgpt.assistant.store import Store
from glassgpt.core.errors import FormatError, GlassError

CHILD = Path(__file__).with_name("store_child.py")


def child(*arguments: str) -> subprocess.Popen[str]:
    source = str(Path(glassgpt.__file__).parent.parent)
    environ = os.environ | {"PYTHONPATH": os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])}
    return subprocess.Popen([sys.executable, CHILD, *arguments], stdout=subprocess.PIPE, text=True, env=environ)


@pytest.mark.slow
def test_a_process_that_is_killed_while_20_replies_stream_loses_a_second_at_most(database_url):
    process = child("stream", database_url, "20")
    lines: list[list[Any]] = []

    def listen() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if line.endswith("\n"):
                lines.append(json.loads(line))

    listening = threading.Thread(target=listen)
    listening.start()
    try:
        until = time.monotonic() + 60
        while sum(line[0] == "began" for line in lines) < 20 and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(2)
    finally:
        killed = time.monotonic()
        process.kill()
        process.wait()
        listening.join()
    begun = [line[1] for line in lines if line[0] == "began"]
    finished = {line[1] for line in lines if line[0] == "finished"}
    said = {id: [(line[2], line[3]) for line in lines if line[0] == "said" and line[1] == id] for id in begun}
    assert len(finished) >= 3 and len(set(begun) - finished) >= 15, "some ended, and most were in the middle of it"
    with Store(database_url) as store:
        tree = {m.id: m for m in store.tree(lines[0][1])}
        for id in begun:
            message, pieces = tree[id], "".join(piece for piece, _ in said[id])
            if id in finished:
                assert (message.state, message.text) == ("done", pieces)
                continue
            # Between the last line and the end one more piece may have been said, or the end itself.
            assert message.state in ("interrupted", "done")
            assert message.text.startswith("".join(piece for piece, when in said[id] if when < killed - 1))
            assert pieces.startswith(message.text) or message.text.startswith(pieces)
        marked = [m for m in tree.values() if m.state == "interrupted"]
        assert store.interrupted == len(marked) >= 15 and not [m for m in tree.values() if m.state == "writing"]
        # All of them are found, those that were marked just now too.
        longest = max(marked, key=lambda m: len(m.text))
        assert longest.id in {h.message.id for h in store.search(longest.text.split()[0]) if h.message}


@pytest.mark.slow
def test_a_disk_that_takes_nothing_more_is_told_and_loses_nothing_that_was_saved(tmp_path):
    process = child("fill", str(tmp_path / "x.db"))
    told, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    id, saved, reply, refusals, readable = json.loads(told)
    assert readable and len(refusals) == 5
    for refusal in refusals:
        assert "takes nothing more (" in refusal and "Free some space" in refusal
    with Store(tmp_path / "x.db") as store:
        messages = {m.id: m for m in store.tree(id)}
        assert set(messages) == {*saved, reply}, "nothing that was refused, and everything else"
        assert (messages[reply].state, messages[reply].text) == ("done", "first, second, ")


def test_a_database_that_is_full_is_told_and_goes_on_when_there_is_room_again(tmp_path):
    with Store(tmp_path / "x.db") as store:
        id = store.create("x").id
        pages = [60]

        def limit(connection: Any, *_: Any) -> None:
            connection.execute(f"PRAGMA max_page_count = {pages[0]}")

        event.listen(store.database.engine, "checkout", limit)
        reply = store.begin_reply(id)
        saved = []
        with pytest.raises(GlassError, match=r"takes nothing more .*full"):
            for _ in range(100):
                saved.append(store.add(id, "user", "y" * 30_000).id)
        reply.append("z" * 200_000)
        with pytest.raises(GlassError, match=r"takes nothing more .*full"):
            reply.finish()
        assert reply.saved == 0 and [m.id for m in store.tree(id) if m.id != reply.id] == saved
        pages[0] = 100_000
        reply.wait()
        assert store.message(reply.id).text == "z" * 200_000
        assert store.add(id, "user", "again")


def damage(path: Path, kind: str) -> None:
    content = bytearray(path.read_bytes())
    if kind == "no database":
        content[:] = b"this was something else entirely" * 500
    elif kind == "pages":
        content[4096 * 3 : -4096] = os.urandom(len(content) - 4096 * 4)
    elif kind == "cut":
        del content[len(content) // 2 :]
    elif kind == "header":
        content[16:24] = b"\xff" * 8
    path.write_bytes(content)


@pytest.mark.parametrize("kind", ["no database", "pages", "cut", "header"])
def test_a_damaged_file_is_said_to_be_and_left_as_it_is(tmp_path, kind):
    path = tmp_path / "x.db"
    with Store(path) as store:
        id = store.create("x").id
        for i in range(60):
            store.add(id, "user", f"message {i} " * 50)
    damage(path, kind)
    before = path.read_bytes()
    with pytest.raises(FormatError, match="are damaged") as error:
        Store(path)
    assert "Nothing was changed" in error.value.hint() and "\n" not in error.value.line("zh")
    assert path.read_bytes() == before
    assert not (tmp_path / "x.db-wal").exists() or not (tmp_path / "x.db-wal").stat().st_size


def test_a_file_of_another_program_is_left_as_it_is(tmp_path):
    import sqlite3

    path = tmp_path / "x.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE mine (x)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(FormatError, match="is a file of another program"):
        Store(path)
    assert path.read_bytes() == before
    with pytest.raises(GlassError, match=r"takes nothing more|cannot be|refused"):
        Store(tmp_path)


def test_damage_that_comes_while_it_is_open_is_told(tmp_path):
    with Store(tmp_path / "x.db") as store:
        id = store.create("x").id
        for i in range(60):
            store.add(id, "user", f"message {i} " * 50)
        store.database.wipe()
        store.database.engine.dispose()
        damage(tmp_path / "x.db", "pages")
        with pytest.raises(FormatError, match="are damaged"):
            store.tree(id)
        damage(tmp_path / "x.db", "no database")
        for call in (lambda: store.tree(id), lambda: store.add(id, "user", "x")):
            with pytest.raises(FormatError, match="are damaged"):
                call()
        with pytest.raises(FormatError, match="are damaged"):
            store.close()


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A server of this test's own, to stop."""
    pytest.importorskip("psycopg", reason="needs psycopg")
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.mark.parametrize("seconds", [pytest.param(2, marks=pytest.mark.slow), pytest.param(10, marks=pytest.mark.full)])
def test_postgresql_may_be_gone_for_some_seconds_while_everybody_talks(server, seconds):
    with Store(server.new_database()) as store:
        root = store.add(store.create("x").id, "user", "q")
        saved: dict[str, str] = {}
        failures: list[BaseException] = []
        ending = threading.Event()

        def talk(number: int) -> None:
            try:
                while not ending.is_set():
                    with store.begin_reply(root.conversation, parent=root.id) as reply:
                        pieces = [f"{number}.{i} " for i in range(30)]
                        for piece in pieces:
                            reply.append(piece)
                            time.sleep(0.005)
                    saved[reply.id] = "".join(pieces)
                    saved[store.add(root.conversation, "user", "x", parent=root.id).id] = "x"
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=talk, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        time.sleep(1)
        server.stop()
        before = len(saved)
        time.sleep(seconds / 2)
        with pytest.raises(GlassError, match="cannot be reached") as error:
            store.tree(root.conversation)
        assert "what was saved is still there" in error.value.hint()
        time.sleep(seconds / 2)
        assert len(saved) - before <= 16, "nothing is said to be saved while it is gone"
        server.start()
        time.sleep(1.5)
        ending.set()
        for thread in threads:
            thread.join()
        assert failures == [] and len(saved) > before
        tree = {m.id: m for m in store.tree(root.conversation)}
        assert {id: tree[id].text for id in saved} == saved
        assert {m.state for m in tree.values()} == {"done"} and len(tree) == len(saved) + 1


@pytest.mark.slow
def test_who_has_waited_long_enough_is_told_and_the_reply_is_kept_for_later(server):
    with Store(server.new_database(), patience=0.5) as store:
        id = store.create("x").id
        reply = store.begin_reply(id)
        server.stop()
        reply.append("kept in memory")
        with pytest.raises(GlassError, match="cannot be reached"):
            store.add(id, "user", "not saved")
        with pytest.raises(GlassError, match="cannot be reached"):
            reply.finish()
        server.start()
        reply.wait()
        assert [(m.text, m.state) for m in store.tree(id)] == [("kept in memory", "done")]


@pytest.mark.slow
def test_closing_while_the_database_is_away_ends_and_says_what_was_not_saved(server, monkeypatch):
    monkeypatch.setattr(store_writer, "_CLOSING", 1.0)
    url = server.new_database()
    store = Store(url)
    id = store.create("x").id
    reply = store.begin_reply(id)
    reply.append("saved")
    while reply.saved < 5:
        time.sleep(0.01)
    server.stop()
    reply.append(" and not saved")
    began = time.monotonic()
    with pytest.raises(GlassError, match="1 replies were not saved"):
        store.close()
    assert time.monotonic() - began < 10
    server.start()
    with Store(url) as store:
        (message,) = store.tree(id)
        assert message.text == "saved" and message.state in ("interrupted", "writing")
