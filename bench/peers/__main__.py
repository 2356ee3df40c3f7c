"""``python -m bench.peers [NAME ...]``: peers that serve one model, beside all of ours."""

from __future__ import annotations

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from bench import measure, systems
from bench.goals import BASE, EMBEDDED, PULSAR
from bench.peers import PEERS, install, serve, version
from bench.report import Report, about, keep, markdown
from deploy.servers.pulsar import Pulsar

if TYPE_CHECKING:
    from bench.systems import System

CLIENTS = 64


def main() -> None:
    """Measure and report. Raises: PeerFailed."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PEERS)}")
    parser.add_argument("--rounds", type=int, default=5, help="the median of so many is reported")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one measurement")
    parser.add_argument("--output", type=Path, help="keep table, figures and plot in this folder")
    options = parser.parse_args()
    names = options.names or PEERS
    for name in names:
        install(name)
    report = about(options.rounds, options.seconds) | {"capacity": [], "uses": {}}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        logs = Path(folder)
        with systems.bare(logs) as bare:
            for name in names:
                _add(report, bare, *_peer(name, logs))
            _add_ours(report, bare, logs)
    print(markdown(report))
    if options.output:
        keep(report, options.output, "-peers")


def _peer(name: str, logs: Path) -> tuple[str, ExitStack, System]:
    """Start a peer; it ends with the stack."""
    stack = ExitStack()
    peer, port, pids = stack.enter_context(serve(name, logs))
    exchanges = [(body.decode(), mark.decode()) for body, mark in peer.bodies]
    system = systems.System(port, {"service": tuple(pids)}, exchanges, peer.path)
    return f"{peer.name} {version(name)}", stack, system


def _add_ours(report: Report, bare: System, logs: Path) -> None:
    stack = ExitStack()
    _add(report, bare, EMBEDDED, stack, stack.enter_context(systems.embedded(logs)))
    stack = ExitStack()
    broker = Pulsar(logs / "pulsar")
    broker.start()
    stack.callback(broker.remove)
    ours = stack.enter_context(systems.over_pulsar(logs, broker.url, systems.pids(broker)))
    measure.warm_up({PULSAR: ours}, 3 * measure.WARM_UP)
    _add(report, bare, PULSAR, stack, ours)


def _add(report: Report, bare: System, name: str, stack: ExitStack, system: System) -> None:
    """Measure a system beside the bare service, no other running, and end it."""
    print(name, flush=True)
    with stack:
        compared = {BASE: bare, name: system}
        measure.warm_up(compared)
        rows, uses = measure.capacity(compared, BASE, CLIENTS, report["rounds"], report["seconds"])
    report["capacity"] += rows[1:] if report["capacity"] else rows
    report["uses"] |= uses


if __name__ == "__main__":
    main()
