"""What the project has set out to reach, and whether a run did."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.backlog import Drained
    from bench.history import Figures

BASE = "bare FastAPI + scikit-learn, one model"
EMBEDDED = "rendezvous, embedded"
PULSAR = "rendezvous, over Pulsar"
ELASTIC = "rendezvous, over Pulsar, with Elasticsearch"
TWO_HOPS = "bare bus, two hops over Pulsar"
Goal = dict[str, Any]


def at_least(figure: str, value: float, least: float, unit: str = "") -> Goal:
    """Return a goal that is a lower bound."""
    return _goal(figure, "≥", value, least, unit, met=value >= least)


def at_most(figure: str, value: float, most: float, unit: str = "") -> Goal:
    """Return a goal that is an upper bound; what could not be measured does not keep it."""
    return _goal(figure, "≤", value, most, unit, met=value <= most)


def _goal(figure: str, sign: str, value: float, limit: float, unit: str, *, met: bool) -> Goal:
    return {
        "figure": figure,
        "goal": f"{sign} {_number(limit)}{unit}",
        "measured": f"{_number(value)}{unit}",
        "met": met,
    }


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"  # noqa: PLR2004 - looks only


def ratios(rows: list[dict[str, Any]]) -> list[Goal]:
    """Return the goals of capacity; each over the bare service of the same rounds."""
    limits = {EMBEDDED: 1.0, PULSAR: 0.6, ELASTIC: 0.25}
    return [
        at_least(f"{row['system']}, {row['clients']} clients, over the bare service",
                 row["ratio"], limits[row["system"]])
        for row in rows
        if row["system"] in limits
    ]  # fmt: skip


def latencies(rows: list[dict[str, Any]]) -> list[Goal]:
    """Return the goals of the latency that is added to a service without a bus.

    By so much ours is over the bare service's, in two bare hops over the bus.
    """
    by_name = {row["system"]: row for row in rows}
    ours, service, hops = by_name[PULSAR], by_name[BASE], by_name[TWO_HOPS]
    return [
        at_most(
            f"over Pulsar at 100 requests/s, added {name}, over two bare hops",
            (ours[key] - service[key]) / hops[key],
            limit,
        )
        for name, key, limit in [("p50", "p50_ms", 1.5), ("p99", "p99_ms", 2.0)]
    ]


def crowded(figures: Figures, clients: int, deadline_ms: float) -> list[Goal]:
    """Return the goals of many clients at the same time."""
    name = f"{clients:,} clients, every answer checked"
    return [
        at_most(f"{name}: empty", figures.empty + figures.failed, 0),
        at_most(f"{name}: wrong, or another's", figures.wrong, 0),
        at_most(f"{name}: p99", figures.p99_ms, deadline_ms, " ms"),
    ]


def parts(rows: float, worker: Drained, archive: Drained, index: Drained) -> list[Goal]:
    """Return the goals of the services alone."""
    return [
        at_least("scoring, batches of 64", rows, 100_000, " rows/s"),
        at_most("a worker's CPU a message, the model's included", worker.cpu_us, 60, " µs"),
        at_least("log connector, from a backlog", archive.rate, 30_000, " messages/s"),
        at_least("Elasticsearch connector, from a backlog", index.rate, 5_000, " messages/s"),
    ]


def memory(uses: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[Goal]:
    """Return the goals of resident memory, of the processes under load."""
    limits = {"front end": 90.0, "model": 150.0, "decoy": 70.0, "connector": 70.0}
    largest: dict[str, float] = {}
    for processes in uses.values():
        for name, used in processes.items():
            for kind in limits:
                if kind in name:
                    largest[kind] = max(largest.get(kind, 0.0), used["memory_mib"])
    return [at_most(f"memory, {kind}", mib, limits[kind], " MiB") for kind, mib in largest.items()]
