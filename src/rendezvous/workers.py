"""Several processes of one service that share a port: start them, keep them, stop them in order.

The one that keeps them serves nothing and connects to nothing; it holds the port. Each worker is a
fresh process, never a fork, for a client of the bus does not survive one. Each listens on a socket
of its own, and the kernel gives every connection to one of them by chance: on a socket that all
listen on, whoever wakes first takes all that wait, and of 16 connections one worker had 14. What
waits for a worker that is killed is reset, as are the connections that it has.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import socket
import tempfile
from dataclasses import dataclass
from threading import Thread
from typing import TYPE_CHECKING

from rendezvous.listening import beside
from rendezvous.telemetry import SHARED, forget_worker

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logging.getLogger(__name__)

PAUSE = 1.0
"""Seconds until a worker that died is started again."""

STDIN = 0

LAST_SECONDS = 60
"""What a worker has to stop in order when the process that started it is gone."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a worker is given by the process that started it.

    Attributes:
        number: Which of the workers it is; 1 for the first.
        listener: The socket that it listens on, bound.
    """

    number: int
    listener: socket.socket


def place(arguments: Sequence[str]) -> Place | None:
    """Return the place of this process; ``None`` where it is not one of several workers."""
    parser = argparse.ArgumentParser(description="What one of several workers is told.")
    parser.add_argument("--worker", type=int)
    parser.add_argument("--listener", type=int)
    told = parser.parse_args(arguments)
    if told.worker is None or told.listener is None:
        return None
    return Place(told.worker, socket.socket(fileno=told.listener))


def end_with_parent() -> None:
    """Stop this process in order, as a signal would, when the one that started it is gone.

    However that one ends, the pipe that it holds to our standard input ends with it.
    """

    def watch() -> None:
        while os.read(STDIN, 1):
            pass
        log.error("the process that started this one is gone")
        signal.alarm(LAST_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    Thread(target=watch, name="parent", daemon=True).start()


@dataclass(slots=True)
class Workers:
    """The workers of one service.

    A worker that is killed, or ends without need, is started again after a second. One that ends
    with an exit code says that it can not go on: then all are stopped, as the service would be if
    it were one process.

    Attributes:
        command: What starts one; ``--worker`` and ``--listener`` are added.
        number: How many there are.
        bound: Holds the address that they listen on; does not listen.
    """

    command: Sequence[str]
    number: int
    bound: socket.socket

    def run(self) -> int:
        """Keep them until SIGTERM or SIGINT; return the exit code: 0, or that of who gave up."""
        with tempfile.TemporaryDirectory(prefix="rendezvous-metrics-") as shared:
            return asyncio.run(self._run(shared))

    async def _run(self, shared: str) -> int:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        log.info("%d workers start", self.number)
        numbers = range(1, self.number + 1)
        codes = await asyncio.gather(*(self._keep(number, shared, stop) for number in numbers))
        log.info("all workers have stopped")
        return max(0, *codes)

    async def _keep(self, number: int, shared: str, stop: asyncio.Event) -> int:
        """Have a worker of this number until ``stop``; return the last one's exit code."""
        code = 0
        while not stop.is_set():
            process = await self._start(number, shared)
            code = await _ended(process, stop)
            forget_worker(shared, number)
            if code > 0:
                log.error("worker %d can not go on: exit code %d", number, code)
                stop.set()
            elif not stop.is_set():
                log.error("worker %d has died (%d) and is started again", number, code)
                await _pause(stop)
        return code

    async def _start(self, number: int, shared: str) -> asyncio.subprocess.Process:
        with beside(self.bound) as listener:  # it is the worker's from now on, and ends with it
            given = ("--worker", str(number), "--listener", str(listener.fileno()))
            return await asyncio.create_subprocess_exec(
                *self.command,
                *given,
                stdin=asyncio.subprocess.PIPE,  # see `end_with_parent`
                env={**os.environ, SHARED: shared},
                pass_fds=[listener.fileno()],
            )


async def _ended(process: asyncio.subprocess.Process, stop: asyncio.Event) -> int:
    """Wait for the end of a process, after ``stop`` with a signal; return its exit code."""
    ending = asyncio.ensure_future(process.wait())
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait((ending, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not ending.done():
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            process.terminate()
    return await ending


async def _pause(stop: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(PAUSE):
            await stop.wait()
    except TimeoutError:
        return
