"""Logs and metrics: how they look, and the one place where a metric is declared."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
    values,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rendezvous.contract import ModelProvenance, Score
    from rendezvous.decision import Decision, Endpoint
    from rendezvous.record import DecisionRecord

DISTRIBUTION = "rendezvous-serving"
"""The name under which this package is installed."""

MODELS_MOST = 200
"""Models that are counted apart; a sender that invents names must not fill the memory."""

MetricT = TypeVar("MetricT", Counter, Histogram)

SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that names the directory where the metrics of several workers are."""

FRESH = 1.0
"""Seconds that a gauge of another worker may be old."""

LogFormat = Literal["text", "json"]
Across = Literal["livesum", "livemin", "livemax"]
"""What a gauge of several workers shows: the sum, the least or the largest of those that live."""

_SECONDS = (
    0.0001,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    0.75,
    1.0,
    2.5,
    5.0,
    10.0,
)


class JsonFormatter(logging.Formatter):
    """One JSON object a line; line breaks and control characters in it are escaped."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """Lines for people. Foreign text cannot forge one: control characters in it are escaped."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Return the line, without the trace that may follow it."""
        return super().formatMessage(record).translate(_ESCAPES)


_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}


def configure_logging(level: str = "INFO", style: LogFormat = "text") -> None:
    """Send all logs to standard error: lines for people, or ``json`` for machines."""
    out = logging.StreamHandler(sys.stderr)
    out.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    logging.basicConfig(level=level, handlers=[out], force=True)
    for noisy in ("elastic_transport", "httpx", "uvicorn.error"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLogger().level))
    logging.getLogger("stamina").setLevel(logging.ERROR)  # whoever tries again says so itself


def share_metrics(worker: int) -> None:
    """Keep this process's metrics in the directory that ``SHARED`` names, from now on.

    They are there under the worker's number, so that its successor counts on from where it was.
    """
    values.ValueClass = values.MultiProcessValue(lambda: worker)


def forget_worker(directory: str, worker: int) -> None:
    """Take the gauges of a worker that has ended from the shared metrics; its counts stay."""
    multiprocess.mark_process_dead(worker, directory)


class Metrics:
    """The metrics of one process, all declared here; each part counts through its observer.

    Parts count from the event loop; any thread may read.

    Args:
        shared: Show those of all workers that share theirs; see ``share_metrics``.
    """

    def __init__(self, *, shared: bool = False) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self._shared = os.environ[SHARED] if shared else None
        self._watched: list[tuple[Gauge, Callable[[], float]]] = []
        self._models: dict[tuple[str, int], tuple[str, str]] = {}
        self._children: dict[tuple[Any, ...], Any] = {}
        self._parts: dict[tuple[str, ...], bool] = {}  # group and topics -> whether it reads
        self._held: dict[tuple[str, ...], float] = {}  # group and topics -> since when
        self._declare_requests()
        self._declare_work()
        build = self._gauge("build_info", "1, and the version that runs.", "version", "livemax")
        build.labels(version(DISTRIBUTION)).set(1)

    def _declare_requests(self) -> None:
        self._requests = self._counter(
            "requests", "Requests decided, by what became of them.", "endpoint outcome reason"
        )
        self._answers = self._counter(
            "answers", "Answers, by the model whose score they are.", "endpoint model version"
        )
        self._duration = self._histogram(
            "request_duration_seconds", "From a request's arrival to the choice.", "endpoint"
        )
        self._scores = self._counter(
            "scores",
            "Scores received: in_time, late, error, duplicate, foreign (another front end's).",
            "model version state",
        )
        self._misses = self._counter(
            "deadline_misses", "Choices later than the endpoint's deadline.", "endpoint"
        )
        self._ejected = self._counter(
            "models_ejected",
            "Models taken out for they were silent, hung or missed requests.",
            "endpoint model version",
        )
        self._comparisons = self._counter(
            "comparisons",
            "Results compared with the chosen one: agree, disagree.",
            "endpoint model version outcome",
        )
        self._lost = self._counter(
            "decisions_lost", "Decision records that the bus did not take.", "endpoint"
        )
        self._live = self._gauge("models_live", "Live models that may answer.", "endpoint")
        self._in_flight = self._gauge(
            "inflight", "Requests that have no answer yet.", "", "livesum"
        )

    def _declare_work(self) -> None:
        self._worked = self._counter(
            "worker_requests",
            "Requests taken by a worker: ok, error, expired.",
            "model version outcome",
        )
        self._evaluation = self._histogram(
            "worker_evaluation_seconds", "Time a model took for a batch.", "model version"
        )
        self._rows = self._counter(
            "worker_rows", "Rows scored; over the batches, the batch size.", "model version"
        )
        self._unreadable = self._counter(
            "unreadable_messages", "Messages that are no score, or no announcement.", "topic"
        )
        self._buried = self._counter(
            "dlq_messages", "Messages that went to a dead-letter topic.", "topic"
        )
        self._archived = self._counter(
            "archived", "Records that a connector stored durably.", "group topic"
        )
        self._retries = self._counter(
            "sink_retries", "Writes of a connector that failed and were tried again.", "group"
        )
        self._reading = self._gauge(
            "reading", "Whether all parts of a group have their subscription and work.", "group"
        )
        self._lag = self._gauge(
            "sink_lag_seconds",
            "Age in the connector of the oldest message in hand that is not stored; 0 for none.",
            "group",
            "livemax",
        )

    def _counter(self, name: str, text: str, labels: str) -> Counter:
        return Counter(f"rendezvous_{name}", text, labels.split(), registry=self.registry)

    def _gauge(self, name: str, text: str, labels: str, across: Across = "livemin") -> Gauge:
        return Gauge(
            f"rendezvous_{name}",
            text,
            labels.split(),
            registry=self.registry,
            multiprocess_mode=across,
        )

    def _histogram(self, name: str, text: str, labels: str) -> Histogram:
        return Histogram(
            f"rendezvous_{name}", text, labels.split(), buckets=_SECONDS, registry=self.registry
        )

    def text(self) -> bytes:
        """Return all metrics in the text format of Prometheus."""
        if self._shared is None:
            return generate_latest(self.registry)
        self._refresh()
        of_all = CollectorRegistry()
        multiprocess.MultiProcessCollector(of_all, self._shared)
        return generate_latest(of_all)

    async def keep_fresh(self) -> None:
        """Let the other workers know this one's gauges, until cancelled; if there are others."""
        while self._shared is not None:
            self._refresh()
            await asyncio.sleep(FRESH)

    def _refresh(self) -> None:
        for gauge, read in self._watched:
            gauge.set(read())

    def watch_in_flight(self, count: Callable[[], int]) -> None:
        """Read the number of requests in flight from ``count`` at each scrape."""
        self._watch(self._in_flight, count)

    def watch_live(self, endpoint: str, count: Callable[[], int]) -> None:
        """Read the number of an endpoint's live models from ``count`` at each scrape."""
        self._watch(self._live.labels(endpoint), count)

    def _watch(self, gauge: Gauge, read: Callable[[], float]) -> None:
        if self._shared is None:
            gauge.set_function(read)
        else:
            self._watched.append((gauge, read))

    def decided(self, endpoint: Endpoint, decision: Decision) -> None:
        """Count a choice of the rendezvous server, or that nothing could be chosen."""
        outcome = "answered" if decision.score else "exhausted"
        self._child(self._requests, endpoint.name, outcome, decision.reason).inc()
        self._child(self._duration, endpoint.name).observe(decision.elapsed)
        if decision.elapsed > endpoint.deadline:
            self._misses.labels(endpoint.name).inc()
        if decision.score:
            model = self._of(decision.score.model)
            self._child(self._answers, endpoint.name, *model).inc()

    def arrived(self, score: Score, state: str) -> None:
        """Count a score that came to the rendezvous server."""
        self._child(self._scores, *self._of(score.model), state).inc()

    def _child(self, metric: MetricT, *labels: str) -> MetricT:
        """Return the metric of these labels; the library's own way costs more than the counting."""
        key = (metric, *labels)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = metric.labels(*labels)
        return child

    def ejected(self, endpoint: str, model: str, version: int) -> None:
        """Count a model that was taken out without having said goodbye."""
        self._ejected.labels(endpoint, *self._named(model, version)).inc()

    def recorded(self, endpoint: Endpoint, record: DecisionRecord) -> None:
        """Count how the results of a decision compare with the chosen one."""
        for score in record.scores:
            if score.agrees is not None:
                model = self._named(score.model, score.version)
                outcome = "agree" if score.agrees else "disagree"
                self._child(self._comparisons, endpoint.name, *model, outcome).inc()

    def record_lost(self, endpoint: Endpoint) -> None:
        """Count a decision record that the bus did not take."""
        self._lost.labels(endpoint.name).inc()

    def _of(self, model: ModelProvenance) -> tuple[str, str]:
        return self._named(model.model_name, model.model_version)

    def _named(self, name: str, version: int) -> tuple[str, str]:
        """Return the labels of a model; of too many, all later ones are counted as one."""
        labels = self._models.get((name, version))
        if labels is None:
            if len(self._models) >= MODELS_MOST:
                return ("other", "")
            labels = self._models[name, version] = (name, str(version))
        return labels

    def worked(self, model: str, version: int, outcome: str, number: int) -> None:
        """Count requests that a worker took."""
        self._worked.labels(model, version, outcome).inc(number)

    def evaluated(self, model: str, version: int, seconds: float, rows: int) -> None:
        """Count a batch that a model scored."""
        self._evaluation.labels(model, version).observe(seconds)
        self._rows.labels(model, version).inc(rows)

    def unreadable(self, topic: str) -> None:
        """Count a message of ``topic`` that the rendezvous server could not read."""
        self._unreadable.labels(topic).inc()

    def buried(self, topic: str) -> None:
        """Count a message that went to the dead-letter topic of ``topic``."""
        self._buried.labels(topic).inc()

    def archived(self, group: str, topic: str, number: int) -> None:
        """Count records of ``topic`` that the connector ``group`` stored durably."""
        self._archived.labels(group, topic).inc(number)

    def retried(self, group: str) -> None:
        """Count a write of the connector ``group`` that failed and is tried again."""
        self._retries.labels(group).inc()

    def reading(self, group: str, topics: Sequence[str], *, now: bool) -> None:
        """Show whether the part of ``group`` that reads ``topics`` does so now."""
        self._parts[(group, *topics)] = now
        of_group = [reads for (name, *_), reads in self._parts.items() if name == group]
        self._reading.labels(group).set(all(of_group))

    def parts(self) -> dict[tuple[str, ...], bool]:
        """Return each part that has begun, by group and topics, and whether it reads now."""
        return self._parts.copy()  # at once: it may be another thread that asks

    def holding(self, group: str, topics: Sequence[str], *, since: float | None) -> None:
        """Show at each scrape how long the oldest message in hand of a connector has waited."""
        if since is None:
            self._held.pop((group, *topics), None)
        else:
            self._held[(group, *topics)] = since
        self._lag.labels(group).set_function(lambda: self._oldest(group))

    def _oldest(self, group: str) -> float:
        held = [since for (name, *_), since in self._held.copy().items() if name == group]
        return time.monotonic() - min(held) if held else 0.0
