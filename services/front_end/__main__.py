"""Run the front end: ``python -m services.front_end``."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from rendezvous.bus.factory import connect
from rendezvous.configuration import load
from rendezvous.errors import RendezvousError
from rendezvous.frontend.server import make_rendezvous, serve
from rendezvous.service import Fuse, supervise
from rendezvous.settings import FrontEndSettings, read
from rendezvous.telemetry import Metrics, configure_logging

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def main() -> None:
    settings = read(FrontEndSettings)
    configure_logging(settings.log_level, settings.log_format)
    configuration = load(settings.config)
    bus = connect(settings.bus)
    metrics = Metrics()
    rendezvous = make_rendezvous(configuration, bus, settings, metrics)
    fuse = Fuse()

    @asynccontextmanager
    async def running() -> AsyncIterator[None]:
        stop = asyncio.Event()
        listening = asyncio.create_task(supervise("rendezvous", rendezvous.run, stop))
        listening.add_done_callback(fuse.watch)
        try:
            yield  # at once: without the bus, /readyz says so and a request gets 503 or 504
        finally:
            stop.set()
            await asyncio.gather(listening, return_exceptions=True)
            await bus.aclose()

    serve(configuration, rendezvous, settings, metrics, running)
    if fuse.blown:
        raise SystemExit(1)


if __name__ == "__main__":
    try:
        main()
    except RendezvousError as error:
        raise SystemExit(f"front end: {error}") from error
