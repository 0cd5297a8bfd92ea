"""What Prometheus is told. Labels are ours or looked up, and there are only so many of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from foreword.serving.scheduling.work import Work

MOST_TASKS = 100
"""Tasks with a label of their own; all further ones count as `OTHER`."""
OTHER, NONE = "other", "none"

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_TOKENS = (16, 64, 256, 1024, 2048, 4096, 8192, 16384)

Gauges = Callable[[], dict[str, float]]


class Metrics:
    """The numbers of one app; two apps in a process do not mix.

    Args:
        now: gauges that are read when they are asked for, by name; names ending in ``_total`` are counters.
    """

    def __init__(self, now: Gauges) -> None:
        self.registry = CollectorRegistry()
        kept = {"registry": self.registry, "namespace": "foreword"}
        self.requests = Counter("requests", "Requests answered", ("route", "status"), **kept)
        self.request_seconds = Histogram(
            "request_seconds", "Seconds from head to answer", ("route",), buckets=_SECONDS, **kept
        )
        self._inputs = Counter(
            "inputs", "Results told, by task and code ('ok' or an error's)", ("task", "code"), **kept
        )
        self.rejected = Counter("rejected", "Requests refused because too much waits", ("reason",), **kept)
        self.unwanted = Counter(
            "unwanted", "Inputs never computed, because nobody waited any more", ("reason",), **kept
        )
        self.slow_clients = Counter("slow_clients", "Connections cut because a request did not arrive", **kept)
        self.changes = Counter("registry_changes", "Times the registry was found changed", **kept)
        self.queue_seconds = Histogram("queue_seconds", "Seconds an input waited", buckets=_SECONDS, **kept)
        self.forward_seconds = Histogram("forward_seconds", "Seconds of a pass", buckets=_SECONDS, **kept)
        self.batch_rows = Histogram("batch_rows", "Rows of a pass", buckets=_SIZES, **kept)
        self.batch_tasks = Histogram("batch_tasks", "Tasks in a pass", buckets=_SIZES, **kept)
        self.batch_tokens = Histogram("batch_tokens", "Tokens of a pass, without padding", buckets=_TOKENS, **kept)
        self.tokens = Counter("tokens", "Tokens computed", **kept)
        self.padded_tokens = Counter("padded_tokens", "Tokens computed, padding included", **kept)
        self.ready = Gauge("ready", "Whether the server is ready", **kept)
        self.registry.register(_Asked(now))
        self._tasks: set[str] = set()

    def result(self, task: str | None, code: str) -> None:
        """Count one result. ``task`` must be a name that exists, or None."""
        self._inputs.labels(self._label(task), code).inc()

    def _label(self, task: str | None) -> str:
        if task is None:
            return NONE
        if task not in self._tasks:
            if len(self._tasks) >= MOST_TASKS:
                return OTHER
            self._tasks.add(task)
        return task

    def observe(self, works: Sequence[Work], seconds: float, waits: Sequence[float]) -> None:
        """Take in a pass."""
        rows = sum(work.job.rows for work in works)
        tokens = sum(work.job.tokens for work in works)
        self.forward_seconds.observe(seconds)
        self.batch_rows.observe(rows)
        self.batch_tasks.observe(len({work.job.handle.task for work in works}))
        self.batch_tokens.observe(tokens)
        self.tokens.inc(tokens)
        self.padded_tokens.inc(rows * max(work.job.longest for work in works))
        for wait in waits:
            self.queue_seconds.observe(wait)


class _Asked(Collector):
    """Numbers that somebody else keeps."""

    def __init__(self, now: Gauges) -> None:
        self._now = now

    def describe(self) -> Iterable[Metric]:
        """Nothing: it would need the numbers before there are any."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """The numbers of this moment."""
        for name, value in self._now().items():
            family = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            words = name.removesuffix("_total").replace("_", " ").capitalize()
            yield family(f"foreword_{name.removesuffix('_total')}", words, value=value)
