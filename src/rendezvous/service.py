"""What every service of its own does: start, begin again when the bus was away, stop in order."""

from __future__ import annotations

import asyncio
import logging
import signal
from typing import TYPE_CHECKING

import stamina
from prometheus_client import start_http_server

from rendezvous.bus.factory import connect
from rendezvous.errors import BusUnavailable, RendezvousError, SinkUnavailable
from rendezvous.telemetry import Metrics, configure_logging

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from rendezvous.bus.port import Bus
    from rendezvous.settings import Settings

    Run = Callable[[asyncio.Event], Awaitable[None]]

log = logging.getLogger(__name__)

LONGEST_PAUSE = 2.0


async def supervise(name: str, run: Run, stop: asyncio.Event) -> None:
    """Run a part until ``stop``; when what it depends on is away, begin again, for ever.

    Raises:
        RendezvousError: For a reason that waiting does not mend.
    """
    try:
        async for attempt in stamina.retry_context(
            on=(BusUnavailable, SinkUnavailable),
            attempts=None,
            timeout=None,
            wait_initial=0.1,
            wait_max=LONGEST_PAUSE,
        ):
            with attempt:
                if not stop.is_set():
                    await run(stop)
    except Exception:
        log.exception("%s failed", name)
        raise


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
    if settings.metrics_port:
        start_http_server(settings.metrics_port, settings.metrics_host, metrics.registry)
    try:
        asyncio.run(_until_stopped(name, settings, build, metrics))
    except RendezvousError as error:
        log.error("%s stops: %s", name, error)  # noqa: TRY400 - an expected error needs no trace
        raise SystemExit(1) from error


async def _until_stopped(
    name: str, settings: Settings, build: Callable[[Bus, Metrics], Run], metrics: Metrics
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    bus = connect(settings.bus)
    try:
        log.info("%s starts on %s", name, settings.bus)
        await supervise(name, build(bus, metrics), stop)
    finally:
        await bus.aclose()
    log.info("%s has stopped", name)
