"""What every service of its own does: start, begin again when the bus was away, stop in order."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import random
import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rendezvous.bus.factory import connect
from rendezvous.errors import (
    BusUnavailable,
    RendezvousError,
    SinkUnavailable,
)
from rendezvous.status import serve_pages
from rendezvous.telemetry import Metrics, configure_logging

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from rendezvous.bus.port import Bus
    from rendezvous.settings import Settings

    Run = Callable[[asyncio.Event], Awaitable[None]]

log = logging.getLogger(__name__)

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 2.0

LAST_SECONDS = 8.0
"""What a part has to finish what is in hand when it is stopped; the bus may be away for good."""


def spare_collections() -> None:
    """Have the garbage collector look at what is made by the way less often, and at the rest never.

    To be called when a process is set up: by default it looks after every few requests.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


@dataclass(slots=True)
class Fuse:
    """Stops this process in order, as a signal would, when a part of it can not go on."""

    blown: bool = False

    def blow(self) -> None:
        """Stop it."""
        self.blown = True
        os.kill(os.getpid(), signal.SIGTERM)

    def watch(self, part: asyncio.Task[None]) -> None:
        """Blow if ``part``, which is done, has failed."""
        if not part.cancelled() and part.exception():
            self.blow()


async def supervise(name: str, run: Run, stop: asyncio.Event) -> None:
    """Run a part until ``stop``; when what it depends on is away, begin again, for ever.

    A part that has not come to its end 8 s after ``stop`` is cancelled: what it had in hand is
    not acked, so it comes again.

    Raises:
        RendezvousError: For a reason that waiting does not mend.
    """
    now = asyncio.get_running_loop().time
    pause = FIRST_PAUSE
    while not stop.is_set():
        begun = now()
        try:
            await _run(name, run, stop)
        except (BusUnavailable, SinkUnavailable) as error:
            if now() - begun > LONGEST_PAUSE:  # it had been well in between
                pause = FIRST_PAUSE
            log.warning("%s begins again in %.1f s: %s", name, pause, error)
            await _pause(pause, stop)
            pause = min(2.0 * pause, LONGEST_PAUSE)
        except Exception:
            log.exception("%s failed", name)
            raise
        else:
            return


async def _run(name: str, run: Run, stop: asyncio.Event) -> None:
    async def watch() -> None:
        await stop.wait()
        limit.reschedule(asyncio.get_running_loop().time() + LAST_SECONDS)

    limit = asyncio.timeout(None)
    watching = asyncio.create_task(watch())
    try:
        async with limit:
            await run(stop)
    except TimeoutError:
        if not limit.expired():
            raise
        log.error("%s did not stop in time; what it has in hand comes again", name)  # noqa: TRY400 - the trace says where it waited, not why
    finally:
        watching.cancel()


def together(parts: Sequence[Run]) -> Run:
    """Return one part that is several; when one of them fails, so do all."""

    async def run(stop: asyncio.Event) -> None:
        tasks = [asyncio.ensure_future(part(stop)) for part in parts]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    return run


async def _pause(seconds: float, stop: asyncio.Event) -> None:
    """Wait about so long, so that not all come back at once; not a moment after ``stop``."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds * random.uniform(0.5, 1.0)):  # noqa: S311 - no secret
            await stop.wait()


def run_service(name: str, settings: Settings, build: Callable[[Bus, Metrics], Run]) -> None:
    """Run one service in this process until SIGTERM or SIGINT.

    Args:
        name: Of the service, in the logs.
        settings: The bus, logs and metrics.
        build: Makes the service's loop; nothing is connected before.

    Raises:
        SystemExit: With 1 when the service cannot go on; the log says why.
    """
    configure_logging(settings.log_level, settings.log_format)
    metrics = Metrics()
    try:
        if settings.metrics_port:
            serve_pages(metrics, settings.metrics_host, settings.metrics_port)
        with asyncio.Runner(loop_factory=_loop) as runner:
            runner.run(_until_stopped(name, settings, build, metrics))
    except RendezvousError as error:
        log.error("%s stops: %s", name, error)  # noqa: TRY400 - an expected error needs no trace
        raise SystemExit(1) from error


def _loop() -> asyncio.AbstractEventLoop:
    """Return uvloop's loop, which costs half as much a wake-up, where there is one."""
    if sys.platform == "win32":
        return asyncio.new_event_loop()
    import uvloop  # noqa: PLC0415 - not to be had on Windows

    return uvloop.new_event_loop()


async def _until_stopped(
    name: str, settings: Settings, build: Callable[[Bus, Metrics], Run], metrics: Metrics
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    bus = connect(settings.bus)
    spare_collections()
    try:
        log.info("%s starts on %s", name, settings.bus)
        await supervise(name, build(bus, metrics), stop)
    finally:
        await bus.aclose()
    log.info("%s has stopped", name)
