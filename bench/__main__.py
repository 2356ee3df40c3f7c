"""``python -m bench``: p50, p99 and answers a second, all systems in one run, side by side."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from bench import systems
from bench.load import Figures, closed_loop, gateway_timeouts
from bench.report import BASE, UNANSWERED, markdown, plot
from bench.two_hops import round_trips
from deploy.servers.pulsar import Pulsar
from rendezvous.testing.processes import running

if TYPE_CHECKING:
    from collections.abc import Callable

CLIENTS = (1, 16, 64)
Load = dict[str, "Callable[[int, float], Figures]"]


def main() -> None:
    """Measure and report."""
    options = _options()
    with ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        print(f"starting the systems (logs in {logs}) ...", flush=True)
        loads = _start(stack, logs)
        results = _measure(loads, options.rounds, options.seconds)
    report = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": ", ".join(
            (platform.machine(), f"{os.cpu_count()} cores", f"Python {platform.python_version()}")
        ),
        "rounds": options.rounds,
        "seconds": options.seconds,
        "results": results,
    }
    print(markdown(report))
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        stem = options.output / f"{report['date'][:10]}-{report['commit']}"
        stem.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        stem.with_suffix(".md").write_text(markdown(report), encoding="utf-8")
        plot(report, stem.with_suffix(".png"))
        print(f"kept in {stem}.md, .json and .png")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="the median of so many is reported")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one measurement")
    parser.add_argument("--output", type=Path, help="keep table, figures and plot in this folder")
    return parser.parse_args()


def _start(stack: ExitStack, logs: Path) -> Load:
    broker = Pulsar(logs / "pulsar")
    broker.start()
    stack.callback(broker.stop)
    bare = stack.enter_context(systems.bare(logs))
    embedded = stack.enter_context(systems.embedded(logs))
    pulsar = stack.enter_context(systems.over_pulsar(logs, broker.url))
    nobody = stack.enter_context(systems.unanswered(logs, broker.url))
    echo = ["-m", "bench.two_hops", broker.url]
    stack.enter_context(running([systems.process("echo", echo, logs)]))
    return {
        BASE: lambda c, s: uvloop.run(closed_loop(bare, c, s)),
        "rendezvous, embedded": lambda c, s: uvloop.run(closed_loop(embedded, c, s)),
        "rendezvous, over Pulsar": lambda c, s: uvloop.run(closed_loop(pulsar, c, s)),
        "bare bus, two hops over Pulsar": lambda c, s: round_trips(broker.url, c, s),
        UNANSWERED: lambda c, s: uvloop.run(closed_loop(nobody, c, s, gateway_timeouts)),
    }


def _measure(loads: Load, rounds: int, seconds: float) -> list[dict[str, object]]:
    """Return a row for each system and number of clients: medians over the rounds."""
    for name, load in loads.items():
        print(f"warming up: {name}", flush=True)
        load(16, max(3.0, seconds))
    seen: dict[tuple[str, int], list[Figures]] = {}
    began = time.monotonic()
    for turn in range(rounds):  # turn by turn, so that a slow minute hits all systems alike
        for clients in CLIENTS:
            for name, load in loads.items():
                seen.setdefault((name, clients), []).append(load(clients, seconds))
        print(f"round {turn + 1} of {rounds}, {time.monotonic() - began:.0f} s", flush=True)
    return [_row(name, clients, figures) for (name, clients), figures in seen.items()]


def _row(name: str, clients: int, figures: list[Figures]) -> dict[str, object]:
    def median(of: Callable[[Figures], float]) -> float:
        return round(statistics.median(of(each) for each in figures), 3)

    return {
        "system": name,
        "clients": clients,
        "answers_per_second": median(lambda f: f.rate),
        "p50_ms": median(lambda f: f.percentile(0.50)),
        "p99_ms": median(lambda f: f.percentile(0.99)),
        "wrong": sum(f.wrong for f in figures),
        "empty": sum(f.empty for f in figures),
        "failed": sum(f.failed for f in figures),
    }


def _commit() -> str:
    asked = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=systems.ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return asked.stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
