"""Fixtures shared by all tests: test data and real weights, which skip with a reason where they are absent.

In CI (`CI` set in the environment) a skip is a failure: see `pytest_runtest_makereport`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of public test data beside the repository."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the shared test data in {folder}")
    return folder


@pytest.fixture(scope="session")
def smollm2_path() -> Path:
    """The GGUF file of SmolLM2-135M-Instruct, fetched once into the cache that the program itself uses."""
    return _packaged_model("smollm2")


@pytest.fixture(scope="session")
def gemma_path() -> Path:
    """The GGUF file of Gemma 3 270M, as above."""
    return _packaged_model("gemma3-270m")


@pytest.fixture(scope="session")
def encoders_path() -> list[Path]:
    """The files of the two encoders that an assistant searches with, as above."""
    return [_packaged_model("e5-small"), _packaged_model("minilm")]


@pytest.fixture(scope="session")
def packaged_model() -> Callable[[str], Path]:
    """Any model of the catalog by its name, as above."""
    return _packaged_model


def _packaged_model(name: str) -> Path:
    from glassgpt.core.errors import FetchError
    from glassgpt.formats.fetch import pull

    try:
        return pull(name, source="package")
    except FetchError as error:
        pytest.skip(f"needs the model {name}: {error}")


def pytest_collection_finish() -> None:
    """Hypothesis makes its table of characters, seconds of work in a fresh clone, for the first text it draws: before
    the tests, not within one, which it would call too slow."""
    if "hypothesis" in sys.modules:
        from hypothesis import find
        from hypothesis import strategies as st

        find(st.text(), lambda _: True)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """In CI nothing may be skipped: a skip becomes a failure that names its reason."""
    outcome = yield
    report = outcome.get_result()
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("CI"):
        report.outcome = "failed"
        report.longrepr = (
            f"skipped in CI: {report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr}"
        )
