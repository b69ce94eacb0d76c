"""The server that most of these tests ask."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import Running, serve

import glassgpt
from glassgpt.engine.engine import EngineSettings


@pytest.fixture(scope="module")
def server(smollm2_path: Path) -> Iterator[Running]:
    """With the real small model."""
    model = glassgpt.load("smollm2", engine=EngineSettings(max_running=8, max_waiting=24))
    yield from serve({"smollm2": model})
