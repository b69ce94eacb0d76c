"""The databases that the store is tested on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres_server import PostgresServer

from glassgpt.assistant.store import Store


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    pytest.importorskip("psycopg", reason="needs psycopg")
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return str(tmp_path / "conversations.db")
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.new_database()


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    """An empty store in a database of each kind."""
    with Store(database_url) as opened:
        yield opened


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Store]:
    """An empty store in SQLite."""
    with Store(tmp_path / "kept.db") as opened:
        yield opened
