"""``python -m bench.profile``: where a request's microseconds go in each service, over Pulsar.

Two views of the same load. Threads: the processor's time of each, as the system counts it; the
client of Pulsar has threads of its own, in C++. Work: what the Python thread that has the
interpreter is at, sampled by py-spy, by the file whose code it is.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from bench import measure, systems
from bench.closed import closed_loop
from bench.report import table
from deploy.servers.pulsar import Pulsar

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.systems import System

CLIENTS = 64
RATE = 200
"""Samples a second."""

WORK = (
    ("bus", ("rendezvous/bus/", "pulsar/")),
    ("metrics", ("rendezvous/telemetry.py", "prometheus_client/")),
    ("JSON", ("rendezvous/contract.py", "rendezvous/record.py", "frontend/answers.py")),
    ("input", ("frontend/inputs.py", "pydantic")),
    ("HTTP", ("uvicorn/", "starlette/", "fastapi/", "rendezvous/frontend/")),
    ("model", ("rendezvous/model/quick.py", "model/evaluation.py", "model/onnx.py", "onnxruntime")),
    ("worker", ("rendezvous/model/",)),
    ("archive", ("rendezvous/sink/",)),
    ("rendezvous", ("rendezvous/",)),
)
"""What code is at, by the innermost of its frames in one of these files; the first that fits."""

LOOP = "event loop, rest"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.profile", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="for each service")
    options = parser.parse_args()
    with ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        broker = Pulsar(logs / "pulsar")
        broker.start()
        stack.callback(broker.remove)
        system = stack.enter_context(systems.over_pulsar(logs, broker.url, systems.pids(broker)))
        measure.warm_up({"over Pulsar": system}, 4 * measure.WARM_UP)
        for name, (pid, *_) in system.pids.items():
            if name != "broker":
                _profile(name, pid, system, options.seconds, logs)


def _profile(name: str, pid: int, system: System, seconds: float, logs: Path) -> None:
    before = _threads(pid)
    plain = closed_loop(system, CLIENTS, seconds)
    spent = _threads(pid)
    spent.subtract(before)
    samples = _sampled(pid, system, seconds, logs)
    print(f"\n## {name}\n\n{_shares('thread', spent, 1e6 / plain.answers, 'µs an answer')}")
    print(f"\n{_shares('work', samples, 100.0 / max(1, samples.total()), '%')}", flush=True)


def _threads(pid: int) -> Counter[str]:
    """Return the seconds of a core that each thread has taken so far; the first is the loop's."""
    spent: Counter[str] = Counter()
    for thread in psutil.Process(pid).threads():
        name = Path(f"/proc/{pid}/task/{thread.id}/comm").read_text(encoding="utf-8").strip()
        label = "event loop" if thread.id == pid else f"another ({name})"
        spent[label] += thread.user_time + thread.system_time
    return spent


def _sampled(pid: int, system: System, seconds: float, logs: Path) -> Counter[str]:
    """Return samples by what the interpreter is at, under the same load."""
    raw = logs / f"{pid}.samples"
    spy = Path(sys.executable).with_name("py-spy")
    command = [str(spy), "record", "--gil", "--format", "raw", "--rate", str(RATE)]
    command += ["--pid", str(pid), "--duration", str(int(seconds)), "--output", str(raw)]
    loading = threading.Thread(target=closed_loop, args=(system, CLIENTS, seconds + 1))
    loading.start()
    subprocess.run(command, check=True, capture_output=True, env=os.environ)
    loading.join()
    work: Counter[str] = Counter()
    for line in raw.read_text(encoding="utf-8").splitlines():
        stack, count = line.rsplit(" ", 1)
        work[_at(stack.split(";"))] += int(count)
    return work


def _at(stack: list[str]) -> str:
    for frame in reversed(stack):
        for label, files in WORK:
            if any(file in frame for file in files):
                return label
    return LOOP


def _shares(what: str, amounts: Mapping[str, float], scale: float, unit: str) -> str:
    ordered = sorted(amounts.items(), key=lambda item: -item[1])
    return table((what, unit), [(name, f"{amount * scale:.0f}") for name, amount in ordered])


if __name__ == "__main__":
    main()
