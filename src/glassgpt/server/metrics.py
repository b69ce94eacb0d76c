"""What `/metrics` shows, in Prometheus' form."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from glassgpt.server.hub import Hub

KNOWN = {
    "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings", "/v1/models", "/v1/messages",
    "/v1/messages/count_tokens", "/health", "/metrics", "/openapi.json", "/widget.js",
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
        self.tokens: dict[tuple[str, str], int] = defaultdict(int)  # counted too often for a counter of the library's
        self.blocked = 0.0
        self._next: asyncio.TimerHandle | None = None
        self.registry.register(self)

    def observe(self, method: str, path: str, status: int, seconds: float) -> None:
        """Note a request."""
        route = path if path in KNOWN else "other"
        self.requests.labels(route, str(status)).inc()
        self.seconds.labels(route).observe(seconds)

    def watch(self) -> None:
        """Sees from now on how long the event loop does not turn."""
        loop = asyncio.get_running_loop()

        def look(due: float) -> None:
            now = loop.time()
            self.blocked = max(self.blocked, now - due)
            self._next = loop.call_at(now + _TURN, look, now + _TURN)

        look(loop.time())

    def unwatch(self) -> None:
        """Ends that."""
        if self._next is not None:
            self._next.cancel()

    def text(self) -> bytes:
        """All of it."""
        return generate_latest(self.registry)

    def collect(self) -> Iterator[Any]:
        """The counts, and how the engines stand; called by the registry."""
        blocked = "the longest time in which the event loop did not turn, since the first model is there"
        yield GaugeMetricFamily("glassgpt_loop_blocked_seconds", blocked, value=self.blocked)
        tokens = CounterMetricFamily("glassgpt_tokens", "tokens that were read or written", labels=["model", "kind"])
        for labels, count in self.tokens.items():
            tokens.add_metric(labels, count)
        yield tokens
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
