"""What monitoring sees, for Prometheus: counters of this process, and gauges that are looked up when it asks.

A registry of its own, so that several activation servers in one process (tests) do not add up. Workers at one address
do: who is asked answers for all of them, from small files in a directory that ``serve`` names before this is imported.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from tallystick import __version__

SHARED_DIRECTORY: Final = "PROMETHEUS_MULTIPROC_DIR"
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """Counts what a process does, or all workers together. ``look`` gives gauges by name, with their help, when somebody asks."""

    def __init__(self, look: Callable[[], Mapping[str, tuple[str, float]]]) -> None:
        self._registry = CollectorRegistry()
        counting: CollectorRegistry | None = self._registry
        if SHARED_DIRECTORY in os.environ:
            counting = None  # each worker writes to its file, and the files are added up
            MultiProcessCollector(self._registry)  # type: ignore[no-untyped-call]  # theirs has no types
        self._messages = Counter(
            "tallystick_messages",
            "Messages of field servers, by what became of them; code is why they were refused.",
            ("outcome", "code"),
            registry=counting,
        )
        self._strangers = Counter(
            "tallystick_messages_of_strangers",
            "Messages of whoever is not known and proved nothing: refused, and forgotten.",
            registry=counting,
        )
        self._paused = Counter(
            "tallystick_messages_of_strangers_paused",
            "Messages beyond the rate of an address or a key that proved nothing: refused before they are verified.",
            registry=counting,
        )
        self._requests = Counter(
            "tallystick_http_requests", "Requests over HTTP.", ("method", "route", "status"), registry=counting
        )
        self._seconds = Histogram(
            "tallystick_http_request_seconds",
            "From the first byte of a request to the last of its answer.",
            ("route",),
            buckets=_SECONDS,
            registry=counting,
        )
        self._security = Counter(
            "tallystick_security_events",
            "Failed and paused sign-ins, revealed and replaced secrets, tokens made and ended, changed credentials.",
            ("kind",),
            registry=counting,
        )
        # What a label's values stand for is looked up once: there are few of them.
        self._message = cache(self._messages.labels)
        self._request = cache(self._requests.labels)
        self._span = cache(self._seconds.labels)
        self._registry.register(_Looked(look))

    def count_message(self, outcome: str, code: str | None) -> None:
        """A message was answered."""
        self._message(outcome, code or "").inc()

    def count_security(self, kind: str) -> None:
        """Something happened that an attack would look like."""
        self._security.labels(kind).inc()

    def count_stranger(self) -> None:
        """A message was refused and forgotten."""
        self._strangers.inc()

    def count_paused(self) -> None:
        """A message was beyond the rate of its address or key."""
        self._paused.inc()

    def count_request(self, *, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered."""
        self._request(method, route, str(status)).inc()
        self._span(route).observe(seconds)

    def text(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(self._registry)


class _Looked(Collector):
    def __init__(self, look: Callable[[], Mapping[str, tuple[str, float]]]) -> None:
        self._look = look

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """See ``Collector``."""
        build = GaugeMetricFamily("tallystick_build", "The version of Tallystick.", labels=["version"])
        build.add_metric([__version__], 1)
        yield build
        for name, (help_, value) in self._look().items():
            yield GaugeMetricFamily(name, help_, value=value)

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Nothing is looked up when it is registered."""
        return ()
