"""``python -m bench``: capacity, latency, and what it takes; all systems in one run."""

from __future__ import annotations

import argparse
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop

from bench import backlog, goals, measure, systems
from bench.goals import BASE, ELASTIC, EMBEDDED, PULSAR, TWO_HOPS
from bench.load import bare_answer, crowd, own_answer, paced
from bench.questions import different
from bench.replicas import shares
from bench.report import Report, about, keep, markdown
from bench.scoring import rows_per_second
from bench.systems import pids
from bench.two_hops import paced_round_trips
from deploy.servers.elasticsearch import Elasticsearch
from deploy.servers.pulsar import Pulsar
from rendezvous.testing.processes import running

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bench.history import Figures
    from bench.load import Judge
    from bench.systems import System

CLIENTS = 64
CROWD = 1000
CROWD_SECONDS = 8.0
DEADLINE_MS = 1000.0
RATE = 100.0


def main() -> None:
    """Measure and report."""
    options = _options()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        print(f"logs in {folder}", flush=True)
        report = about(options.rounds, options.seconds)
        report |= _run(Path(folder), options.rounds, options.seconds)
    print(f"took {time.monotonic() - began:.0f} s\n\n{markdown(report)}")
    if options.output:
        keep(report, options.output)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="the median of so many is reported")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one measurement")
    parser.add_argument("--output", type=Path, help="keep table, figures and plot in this folder")
    return parser.parse_args()


def _run(logs: Path, rounds: int, seconds: float) -> Report:
    with ExitStack() as stack:
        broker = Pulsar(logs / "pulsar")
        broker.start()
        stack.callback(broker.stop)
        report = _systems(logs, broker, rounds, seconds)
        elastic = Elasticsearch(logs / "elasticsearch")
        stack.callback(elastic.remove)
        _with_elasticsearch(report, logs, broker, elastic, rounds, seconds)
        _parts(report, logs, broker, elastic)
    return report


def _systems(logs: Path, broker: Pulsar, rounds: int, seconds: float) -> Report:
    """Measure the systems side by side, each with its processes."""
    print("capacity and latency", flush=True)
    with ExitStack() as stack:
        compared = {
            BASE: stack.enter_context(systems.bare(logs)),
            EMBEDDED: stack.enter_context(systems.embedded(logs)),
            PULSAR: stack.enter_context(systems.over_pulsar(logs, broker.url, pids(broker))),
        }
        echo = systems.process("echo", ["-m", "bench.two_hops", broker.url], logs)
        stack.enter_context(running([echo]))
        measure.warm_up(compared)
        measure.warm_up({PULSAR: compared[PULSAR]}, 3 * measure.WARM_UP)
        capacity, uses = measure.capacity(compared, BASE, CLIENTS, rounds, seconds)
        latency = _latency(compared, broker, rounds, seconds)
        print(f"{CROWD} clients", flush=True)
        port = compared[PULSAR].port
        history = uvloop.run(crowd(port, CROWD, CROWD_SECONDS, different(20 * CROWD)))
    crowded = history.figures(CROWD_SECONDS)
    found = [
        *goals.ratios(capacity),
        *goals.latencies(latency),
        *goals.crowded(crowded, CROWD, DEADLINE_MS),
    ]
    return {"goals": found, "capacity": capacity, "latency": latency, "uses": uses}


def _latency(
    compared: Mapping[str, System], broker: Pulsar, rounds: int, seconds: float
) -> list[dict[str, Any]]:
    print("  open loop", flush=True)

    def over_http(name: str, judge: Judge) -> Callable[[], Figures]:
        port = compared[name].port
        return lambda: uvloop.run(paced(port, RATE, seconds, judge=judge)).figures(seconds)

    return measure.latency(
        {
            TWO_HOPS: lambda: paced_round_trips(broker.url, RATE, seconds).figures(seconds),
            BASE: over_http(BASE, bare_answer),
            EMBEDDED: over_http(EMBEDDED, own_answer),
            PULSAR: over_http(PULSAR, own_answer),
        },
        rounds,
    )


def _with_elasticsearch(
    report: Report, logs: Path, broker: Pulsar, elastic: Elasticsearch, rounds: int, seconds: float
) -> None:
    """Measure the whole with Elasticsearch on the same machine."""
    print("with Elasticsearch", flush=True)
    elastic.start()
    with ExitStack() as stack:
        bare = stack.enter_context(systems.bare(logs))
        pulsar = stack.enter_context(systems.over_pulsar(logs, broker.url, pids(broker)))
        connectors = [
            systems.elasticsearch_connector(f"Elasticsearch connector, {what}", topic, elastic.url)
            for what, topic in [("inputs", "decoy"), ("scores", "score")]
        ]
        more = stack.enter_context(systems.services(connectors, broker.url, logs))
        whole = systems.System(pulsar.port, {**pulsar.pids, **more, "Elasticsearch": pids(elastic)})
        compared: Mapping[str, System] = {BASE: bare, ELASTIC: whole}
        measure.warm_up(compared, 3 * measure.WARM_UP)
        capacity, uses = measure.capacity(compared, BASE, CLIENTS, rounds, seconds)
    report["goals"] += goals.ratios(capacity)
    report["capacity"] += capacity[1:]
    report["uses"][ELASTIC] = uses[ELASTIC]


def _parts(report: Report, logs: Path, broker: Pulsar, elastic: Elasticsearch) -> None:
    """Measure the services alone."""
    print("the services alone, from a backlog", flush=True)
    report["goals"] += goals.parts(
        rows_per_second(1.0),
        backlog.worker(broker.url, logs, 30_000),
        backlog.archive(broker.url, logs, 150_000),
        backlog.index(broker.url, logs, 25_000, elastic.url),
    )
    report["goals"] += goals.memory(report["uses"])
    report["goals"] += shares(broker.url, logs)


if __name__ == "__main__":
    main()
