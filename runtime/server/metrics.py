"""What Prometheus scrapes: counts and durations, and nobody's name.

Owns: the metrics' names and labels. Knows nothing of HTTP but methods, routes and statuses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Final

import psutil
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from uservlm.runtime.counters import Counters
from uservlm.runtime.server.turn import Turn

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS: Final = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
_OFFERED: Final = {
    "questions": "Prefixes that were prefilled",
    "vision_runs": "Pictures that went through the vision encoder",
    "prefix_computed": "Prefix positions that went through the language model",
    "prefix_reused": "Prefix positions that were found in the KV cache",
    "answer_tokens": "Tokens of answers that were read to their end",
    "resident_builds": "User blocks prefilled for resident attention",
    "resident_restores": "User blocks read from disk instead",
}
"""Of `Counters`, with what each counts."""


class Metrics:
    """The metrics of one process; safe to use from several threads."""

    def __init__(self) -> None:
        """Count nothing yet."""
        self._registry = CollectorRegistry()
        self._turns = Counter(
            "uservlm_turns", "Turns that ended", ["door", "outcome"], registry=self._registry
        )
        self._first_word = Histogram(
            "uservlm_ttft_seconds",
            "From the question to the first token, waiting included",
            ["attention"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._requests = Histogram(
            "uservlm_http_request_seconds",
            "HTTP requests, to the end of the response",
            ["method", "route", "status"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._gauge("uservlm_resident_memory_bytes", "Of this process", resident_bytes)

    def follow(self, counters: Callable[[], Counters], under_way: Callable[[], float]) -> None:
        """Ask an engine for its counts at each scrape, and a brain for its turns under way."""
        self._registry.register(_EngineCounters(counters))
        self._gauge("uservlm_turns_under_way", "Waiting or running", under_way)

    def turn(self, turn: Turn) -> None:
        """Count a turn that has ended."""
        outcome = turn.fault.code if turn.fault else "answered"
        self._turns.labels(turn.door, outcome).inc()
        if turn.usage is not None:
            self._first_word.labels(turn.usage.attention).observe(turn.usage.ttft_s)

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request; `route` is a template, which names nobody."""
        self._requests.labels(method, route, str(status)).observe(seconds)

    def text(self) -> bytes:
        """Give everything in Prometheus' text format."""
        return generate_latest(self._registry)

    def _gauge(self, name: str, what: str, ask: Callable[[], float]) -> None:
        Gauge(name, what, registry=self._registry).set_function(ask)


def resident_bytes() -> float:
    """Count the memory of this process."""
    return float(psutil.Process().memory_info().rss)


class _EngineCounters(Collector):
    """The engine's own counts, read when somebody asks."""

    def __init__(self, counters: Callable[[], Counters]) -> None:
        self._counters = counters

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Give each count."""
        for name, value in asdict(self._counters()).items():
            yield CounterMetricFamily(f"uservlm_{name}", _OFFERED[name], value=value)
