"""What Prometheus is told. Labels are ours or looked up, and there are only so many of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from foreword.serving.scheduling.work import Pass

MOST_TASKS = 100
"""Tasks with a label of their own; all further ones count as `OTHER`."""
OTHER, NONE = "other", "none"

_RESULT = ("task", "code")
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
        kept = self.registry
        self.requests = Counter("foreword_requests", "Requests answered", ("route", "status"), registry=kept)
        self.request_seconds = _seconds("request_seconds", "Seconds from head to answer", kept, ("route",))
        self._inputs = Counter(
            "foreword_inputs", "Results told; the code is 'ok' or an error's", _RESULT, registry=kept
        )
        self.rejected = Counter("foreword_rejected", "Requests refused as too much waits", ("reason",), registry=kept)
        self.unwanted = Counter("foreword_unwanted", "Inputs given up, never computed", ("reason",), registry=kept)
        self.slow_clients = Counter("foreword_slow_clients", "Connections cut, no request arrived", registry=kept)
        self.changes = Counter("foreword_registry_changes", "Times the registry was found changed", registry=kept)
        self.queue_seconds = _seconds("queue_seconds", "Seconds an input waited", kept)
        self.forward_seconds = _seconds("forward_seconds", "Seconds of a pass", kept)
        self.batch_rows = _sizes("batch_rows", "Rows of a pass", kept, _SIZES)
        self.batch_tasks = _sizes("batch_tasks", "Tasks in a pass", kept, _SIZES)
        self.batch_tokens = _sizes("batch_tokens", "Tokens of a pass, without padding", kept, _TOKENS)
        self.tokens = Counter("foreword_tokens", "Tokens computed", registry=kept)
        self.padded_tokens = Counter("foreword_padded_tokens", "Tokens computed, padding included", registry=kept)
        self.ready = Gauge("foreword_ready", "Whether the server is ready", registry=kept)
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

    def observe(self, done: Pass) -> None:
        """Take in a pass."""
        self.forward_seconds.observe(done.seconds)
        self.batch_rows.observe(done.rows)
        self.batch_tasks.observe(done.tasks)
        self.batch_tokens.observe(done.tokens)
        self.tokens.inc(done.tokens)
        self.padded_tokens.inc(done.padded)
        for wait in done.waits:
            self.queue_seconds.observe(wait)


def _seconds(name: str, told: str, kept: CollectorRegistry, labels: Sequence[str] = ()) -> Histogram:
    return Histogram(f"foreword_{name}", told, labels, buckets=_SECONDS, registry=kept)


def _sizes(name: str, told: str, kept: CollectorRegistry, buckets: Sequence[float]) -> Histogram:
    return Histogram(f"foreword_{name}", told, buckets=buckets, registry=kept)


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
