"""One process of the front end: the only one, or one of several workers."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from rendezvous.bus.factory import connect
from rendezvous.frontend.server import make_rendezvous, serve
from rendezvous.service import Fuse, spare_collections, supervise
from rendezvous.telemetry import Metrics, share_metrics
from rendezvous.workers import end_with_parent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from rendezvous.configuration import Configuration
    from rendezvous.settings import FrontEndSettings
    from rendezvous.workers import Place


def serve_here(
    configuration: Configuration, settings: FrontEndSettings, here: Place | None
) -> None:
    """Serve until SIGTERM or SIGINT, or until the process that started this worker is gone.

    Raises:
        RendezvousError: The settings or the address are not as they must be.
        SystemExit: With 1 when it can not go on.
    """
    if here is not None:
        end_with_parent()
        share_metrics(here.number)
    bus = connect(settings.bus)
    metrics = Metrics(shared=here is not None)
    number = here.number if here else 1
    rendezvous = make_rendezvous(configuration, bus, settings, metrics, number)
    fuse = Fuse()

    @asynccontextmanager
    async def running() -> AsyncIterator[None]:
        stop = asyncio.Event()
        listening = asyncio.create_task(supervise("rendezvous", rendezvous.run, stop))
        listening.add_done_callback(fuse.watch)
        showing = asyncio.create_task(metrics.keep_fresh())
        try:
            yield  # at once: without the bus, /readyz says so and a request gets 503 or 504
        finally:
            showing.cancel()
            stop.set()
            await asyncio.gather(listening, return_exceptions=True)
            await bus.aclose()

    spare_collections()
    serve(configuration, rendezvous, settings, metrics, running, here.listener if here else None)
    if fuse.blown:
        raise SystemExit(1)
