"""Measurements of systems side by side: turn by turn, so that a slow minute hits all alike."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

from bench.closed import closed_loop
from bench.usage import since, uses

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bench.history import Figures
    from bench.systems import System

WARM_UP = 3.0


def capacity(
    systems: Mapping[str, System], base: str, clients: int, rounds: int, seconds: float
) -> tuple[list[dict[str, Any]], dict[str, dict[str, dict[str, float]]]]:
    """Return a row for each system, and what each of its processes took; medians over rounds.

    A row's ``ratio`` is the median of the rounds' ratios to ``base``, which is one of them.
    """
    seen: dict[str, list[Figures]] = {name: [] for name in systems}
    used: dict[str, list[dict[str, dict[str, float]]]] = {name: [] for name in systems}
    began = time.monotonic()
    for turn in range(rounds):
        for name, system in systems.items():
            before = uses(system.pids)
            figures = closed_loop(system, clients, seconds)
            after = since(before, uses(system.pids))
            seen[name].append(figures)
            used[name].append(
                {
                    part: {
                        "cpu_us": taken.cpu_seconds / max(1, figures.answers) * 1e6,
                        "cores": taken.cpu_seconds / figures.seconds,
                        "memory_mib": taken.memory_mib,
                    }
                    for part, taken in after.items()
                }
            )
        print(f"  round {turn + 1} of {rounds}, {time.monotonic() - began:.0f} s", flush=True)
    rates = [figures.rate for figures in seen[base]]
    rows = [
        {
            **row(name, figures),
            "clients": clients,
            "ratio": statistics.median(f.rate / b for f, b in zip(figures, rates, strict=True)),
        }
        for name, figures in seen.items()
    ]
    return rows, {name: _medians(rounds_) for name, rounds_ in used.items()}


def _medians(rounds: Sequence[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    return {
        part: {
            key: round(statistics.median(each[part][key] for each in rounds), 3)
            for key in rounds[0][part]
        }
        for part in rounds[0]
    }


def latency(loads: Mapping[str, Callable[[], Figures]], rounds: int) -> list[dict[str, Any]]:
    """Return a row for each load: medians over rounds."""
    seen: dict[str, list[Figures]] = {name: [] for name in loads}
    for _ in range(rounds):
        for name, load in loads.items():
            seen[name].append(load())
    return [row(name, figures) for name, figures in seen.items()]


def row(name: str, rounds: Sequence[Figures]) -> dict[str, Any]:
    """Return the medians of the rounds' figures, and the sums of what was not right."""

    def median(of: Callable[[Figures], float]) -> float:
        return round(statistics.median(of(each) for each in rounds), 3)

    return {
        "system": name,
        "rate": median(lambda f: f.rate),
        "p50_ms": median(lambda f: f.p50_ms),
        "p99_ms": median(lambda f: f.p99_ms),
        "longest_ms": max(f.longest_ms for f in rounds),
        "wrong": sum(f.wrong for f in rounds),
        "empty": sum(f.empty for f in rounds),
        "failed": sum(f.failed for f in rounds),
    }


def warm_up(systems: Mapping[str, System], seconds: float = WARM_UP) -> None:
    """Load each for a while: a fresh Java process takes twice the time."""
    for name, system in systems.items():
        print(f"  warming up: {name}", flush=True)
        closed_loop(system, 16, seconds)
