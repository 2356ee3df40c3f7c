"""A closed loop by wrk, which costs the machine little: for the highest rate. Bodies are checked.

``wrk`` is a program of its own: Debian has it as a package, and so do others.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from bench.history import Figures
from bench.load import PRODUCTION, QUESTIONS

if TYPE_CHECKING:
    from bench.systems import System

SCRIPT = Path(__file__).with_name("closed.lua")

Exchange = tuple[str, ...]
"""The body of a request, and texts that must all be in the answer to it, not in another's."""

BARE: tuple[Exchange, ...] = tuple(
    (json.dumps(q.body), f'"result":{q.labels[PRODUCTION]}') for q in QUESTIONS
)
OWN: tuple[Exchange, ...] = tuple(
    (
        json.dumps(q.body),
        f'"modelName":"{PRODUCTION}","result":{q.labels[PRODUCTION]}',
        json.dumps(q.body, separators=(",", ":")),
    )
    for q in QUESTIONS
)


ANY_COPY: tuple[Exchange, ...] = tuple(
    (body, label, echo) for (body, label), (_, _, echo) in zip(BARE, OWN, strict=True)
)


def closed_loop(system: System, clients: int, seconds: float) -> Figures:
    """Load a system with ``clients``, each with one request at a time, for ``seconds``.

    Raises:
        RuntimeError: There is no ``wrk``, or it failed.
    """
    if shutil.which("wrk") is None:
        raise RuntimeError("the bench needs wrk, an HTTP load generator: install package `wrk`")
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as file:
        file.write("".join("\t".join(exchange) + "\n" for exchange in system.exchanges))
        file.flush()
        command = [
            "wrk",
            "-t1",
            f"-c{clients}",
            f"-d{max(1, round(seconds))}s",
            "--latency",
            "--timeout",
            "10s",
        ]
        command += ["-s", str(SCRIPT), f"http://127.0.0.1:{system.port}{system.path}"]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False,
            env={**os.environ, "BENCH_EXCHANGES": file.name},
        )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"wrk failed: {done.stdout} {done.stderr}")
    return Figures(**json.loads(done.stderr.splitlines()[-1]))
