"""What `/metrics` shows, in Prometheus' form."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily

from glassgpt.server.hub import Hub

KNOWN = {
    "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings", "/v1/models", "/v1/messages",
    "/v1/messages/count_tokens", "/health", "/metrics", "/openapi.json",
}  # fmt: skip
_TURN = 0.02  # s
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """Counts requests, tokens and times, and reads the engines when it is asked."""

    def __init__(self, hub: Hub) -> None:
        self.registry, self._hub = CollectorRegistry(), hub
        self.requests = Counter("glassgpt_requests", "requests that were answered", ["route", "status"],
                                registry=self.registry)  # fmt: skip
        self.seconds = Histogram("glassgpt_request_seconds", "time until a response was sent", ["route"],
                                 buckets=_SECONDS, registry=self.registry)  # fmt: skip
        self.first = Histogram("glassgpt_first_token_seconds", "time until the first token", ["model"],
                               buckets=_SECONDS, registry=self.registry)  # fmt: skip
        self.tokens = Counter("glassgpt_tokens", "tokens that were read or written", ["model", "kind"],
                              registry=self.registry)  # fmt: skip
        self.blocked = Gauge("glassgpt_loop_blocked_seconds", "the longest time in which the event loop did not turn",
                             registry=self.registry)  # fmt: skip
        self.longest = 0.0
        self.registry.register(self)

    def observe(self, method: str, path: str, status: int, seconds: float) -> None:
        """Note a request."""
        route = path if path in KNOWN else "other"
        self.requests.labels(route, str(status)).inc()
        self.seconds.labels(route).observe(seconds)

    async def watch(self) -> None:
        """Sees how long the event loop does not turn, until it is cancelled."""
        while True:
            began = time.perf_counter()
            await asyncio.sleep(_TURN)
            self.longest = max(self.longest, time.perf_counter() - began - _TURN)
            self.blocked.set(self.longest)

    def text(self) -> bytes:
        """All of it."""
        return generate_latest(self.registry)

    def collect(self) -> Iterator[Any]:
        """How the engines stand; called by the registry."""
        shown = {
            "running": "requests that are being answered", "waiting": "requests that wait",
            "pages_used": "pages of keys and values in use", "pages_free": "pages with nothing in them",
            "prefix_hits": "tokens that were found instead of computed", "preemptions": "requests that were put back",
        }  # fmt: skip
        engines = {name: engine.counters() for name, engine in self._hub.engines().items()}
        for field, about in shown.items():
            family = GaugeMetricFamily(f"glassgpt_engine_{field}", about, labels=["model"])
            for name, counters in engines.items():
                family.add_metric([name], getattr(counters, field))
            yield family
