"""Run services as processes of their own, load them over HTTP, stop or kill them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

STOP_SECONDS = 20.0


def free_port() -> int:
    """Return a port of the loopback interface that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(slots=True)
class Process:
    """``python <arguments>`` as a process that can be stopped, killed and started again.

    Attributes:
        name: Names its log file, ``<logs>/<name>.log``; what it prints is appended there.
        arguments: Of the interpreter, such as ``-m services.decoy``.
        logs: Folder of the log file.
        cwd: Where it runs.
        env: Variables beside those of this process.
    """

    name: str
    arguments: Sequence[str]
    logs: Path
    cwd: Path
    env: Mapping[str, str] = field(default_factory=dict)
    _running: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> Process:
        """Start it, and return it."""
        with (self.logs / f"{self.name}.log").open("ab") as out:
            self._running = subprocess.Popen(  # noqa: S603 - the project's own services
                [sys.executable, *self.arguments],
                cwd=self.cwd,
                env={**os.environ, **self.env},
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        return self

    @property
    def running(self) -> subprocess.Popen[bytes]:
        """The process. Raises: RuntimeError when it was not started."""
        if self._running is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._running

    def stop(self) -> int:
        """End it with SIGTERM and return its exit code; after 20 s it is killed."""
        self.running.terminate()
        try:
            return self.running.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """End it with SIGKILL, and return its exit code."""
        self.running.kill()
        return self.running.wait()

    def log(self) -> str:
        """Return what it has printed."""
        return (self.logs / f"{self.name}.log").read_text(encoding="utf-8", errors="replace")

    def wait_ready(self, url: str, seconds: float = 60.0) -> None:
        """Wait until ``url`` answers 200.

        Raises:
            RuntimeError: It ended, or was not ready in time; the text has the end of its log.
        """
        until = time.monotonic() + seconds
        while time.monotonic() < until and self.running.poll() is None:
            if answers(url):
                return
            time.sleep(0.05)
        raise RuntimeError(f"{self.name} is not ready at {url}:\n{self.log()[-3000:]}")


def answers(url: str) -> bool:
    """Return whether ``url`` answers 200 at once."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310 - http, loopback
            return bool(response.status == HTTPStatus.OK)
    except (urllib.error.URLError, OSError):
        return False


@contextmanager
def running(processes: Sequence[Process]) -> Iterator[None]:
    """Run all inside the block; at the end stop those that still run, the last first."""
    try:
        for process in processes:
            process.start()
        yield
    finally:
        for process in reversed(processes):
            if process._running is not None and process._running.poll() is None:  # noqa: SLF001 - our own
                process.stop()
