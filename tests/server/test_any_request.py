"""Requests made at random from our own description: none ends in a 500 or without an answer."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from serving import KEY, Running, serve, tiny_model

pytestmark = pytest.mark.slow
PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/v1/messages/count_tokens",
         "/v1/embeddings")  # fmt: skip


@pytest.fixture(scope="module")
def tiny() -> Iterator[Running]:
    yield from serve({"tiny": tiny_model(context=128)})


def examine(tiny: Running, examples: int) -> None:
    """So many requests to each path, most with the model's name put in so that they reach the engine."""
    headers = {"Authorization": f"Bearer {KEY}"}
    with tiny.client() as client:
        described = client.get("/openapi.json").json()
    schema = schemathesis.openapi.from_dict(described)
    schema.config.update(base_url=tiny.url)
    reached = 0
    for path in PATHS:
        operation = schema[path]["POST"]

        @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None,
                  phases=[Phase.generate], derandomize=examples <= 200)  # fmt: skip
        @given(case=operation.as_strategy())
        def one(case: schemathesis.Case) -> None:
            nonlocal reached
            if isinstance(case.body, dict) and "model" in case.body:
                case.body["model"] = "tiny"
            response = case.call(headers=headers, timeout=20)
            case.validate_response(response, checks=[not_a_server_error])
            reached += response.status_code == 200

        one()
    assert reached > len(PATHS)


def test_a_few_hundred(tiny: Running):
    examine(tiny, 200 // len(PATHS) + 1)


@pytest.mark.full
def test_thousands(tiny: Running):
    examine(tiny, int(os.environ.get("EXAMPLES", "2000")) // len(PATHS) + 1)
