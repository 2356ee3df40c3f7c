"""``python -m bench.growth``: whether a request costs more with more models, or after a million.

Takes about twenty minutes.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from bench import measure, systems
from bench.closed import closed_loop
from bench.goals import EMBEDDED, PULSAR, Goal, at_most
from bench.report import Report, about, keep, markdown
from bench.usage import Use, since, uses
from deploy.servers.pulsar import Pulsar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.systems import System

CLIENTS = 64
MODELS = (1, 2, 5, 10)
REQUESTS = (10_000, 100_000, 1_000_000)
SLICE = 10.0
"""Seconds of load between two looks at how many answers there were."""


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description=__doc__)
    parser.add_argument("--requests", type=int, default=REQUESTS[-1], help="of each system")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each number of models")
    parser.add_argument("--rounds", type=int, default=3, help="for each number of models")
    parser.add_argument("--output", type=Path, help="keep table, figures and plot in this folder")
    options = parser.parse_args()
    report = about(options.rounds, options.seconds)
    report |= {"goals": [], "capacity": [], "uses": {}}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, ExitStack() as stack:
        broker = Pulsar(Path(folder) / "pulsar")
        broker.start()
        stack.callback(broker.stop)
        _more_models(report, Path(folder), broker, options.rounds, options.seconds)
        _more_requests(report, Path(folder), broker, options.requests)
    print(markdown(report))
    if options.output:
        keep(report, options.output, "-growth")


def _more_models(report: Report, logs: Path, broker: Pulsar, rounds: int, seconds: float) -> None:
    """Measure each number of models after the other, each with a system of its own."""
    costs: dict[int, dict[str, dict[str, float]]] = {}
    for number in MODELS:
        print(f"{number} models", flush=True)
        place = logs / f"models-{number}"
        place.mkdir()
        with systems.over_pulsar(place, broker.url, systems.pids(broker), models=number) as system:
            name = f"rendezvous, over Pulsar, {number} models"
            measure.warm_up({name: system}, 3 * measure.WARM_UP)
            rows, used = measure.capacity({name: system}, name, CLIENTS, rounds, seconds)
        report["capacity"] += [{**row, "ratio": None} for row in rows]  # to no other
        report["uses"] |= used
        costs[number] = used[name]
    first, last = costs[MODELS[0]], costs[MODELS[-1]]
    added = (last["front end"]["cpu_us"] - first["front end"]["cpu_us"]) / (MODELS[-1] - 1)
    report["goals"] += [
        at_most("a worker's CPU a request, of ten over of one",
                last["model 1"]["cpu_us"] / first["model 1"]["cpu_us"], 1.1),
        at_most("front end's CPU for each model more, over for the request with one",
                added / first["front end"]["cpu_us"], 0.15),
    ]  # fmt: skip


def _more_requests(report: Report, logs: Path, broker: Pulsar, requests: int) -> None:
    marks = [number for number in REQUESTS if number < requests] + [requests]
    with systems.embedded(logs) as system:
        report["goals"] += _endured(EMBEDDED, system, marks)
    with systems.over_pulsar(logs, broker.url, systems.pids(broker)) as system:
        report["goals"] += _endured(PULSAR, system, marks)


def _endured(name: str, system: System, marks: Sequence[int]) -> list[Goal]:
    """Load until each number of answers is reached, and compare the first stretch with the last.

    What is compared: CPU an answer, over all processes but the broker; and the memory of each at a
    tenth of the answers, when every store of bounded size is full, with that at the end.
    """
    print(f"{name}: {marks[-1]:,} requests", flush=True)
    measure.warm_up({name: system})
    answers, wrong = 0, 0
    begun, stretches = uses(system.pids), []
    for mark in marks:
        before, counted = uses(system.pids), answers
        while answers < mark:
            figures = closed_loop(system, CLIENTS, SLICE)
            answers += figures.answers
            wrong += figures.wrong + figures.empty + figures.failed
            print(f"  {answers:,} answers", flush=True)
        stretches.append((answers - counted, since(before, uses(system.pids))))
    first, last = (_cost(*stretches[place]) for place in (0, -1))
    full, end = stretches[-2][1] if len(stretches) > 1 else begun, stretches[-1][1]
    grown = max(end[part].memory_mib / full[part].memory_mib for part in end if part != "broker")
    return [
        at_most(f"{name}: not right of {answers:,}", wrong, 0),
        at_most(f"{name}: CPU an answer, last stretch over first", last / first, 1.1),
        at_most(f"{name}: memory, at the end over at a tenth", grown, 1.1),
    ]


def _cost(answers: int, used: Mapping[str, Use]) -> float:
    return sum(u.cpu_seconds for part, u in used.items() if part != "broker") / answers


if __name__ == "__main__":
    main()
