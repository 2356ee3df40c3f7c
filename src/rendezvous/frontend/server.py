"""Put the front end together from its settings, and serve it."""

from __future__ import annotations

import math
import signal
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import uvicorn

from rendezvous.core import Rendezvous
from rendezvous.frontend.app import create_app
from rendezvous.frontend.heads import PatientProtocol
from rendezvous.frontend.predictions import Served
from rendezvous.listening import bind

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from rendezvous.bus.port import Bus
    from rendezvous.configuration import Configuration
    from rendezvous.settings import FrontEndSettings
    from rendezvous.telemetry import Metrics


KEEP_ALIVE = 75
"""Seconds that an idle connection is kept: longer than load balancers keep theirs, mostly 60, or
one would send a request into a connection that is just being closed."""


def make_rendezvous(
    configuration: Configuration,
    bus: Bus,
    settings: FrontEndSettings,
    metrics: Metrics,
    worker: int = 1,
) -> Rendezvous:
    """Return the rendezvous server of all endpoints of ``configuration``.

    ``worker`` is the number of this process where several share the port.
    """
    endpoints = [configuration.endpoint(name) for name in configuration.endpoints]
    if settings.deadline is not None:
        endpoints = [replace(endpoint, deadline=settings.deadline) for endpoint in endpoints]
    rendezvous = Rendezvous(
        bus,
        endpoints,
        reply_topic=settings.return_address(configuration.topics.score, worker),
        models_topic=configuration.topics.models,
        decisions_topic=configuration.topics.decisions or "",
        observer=metrics,
    )
    metrics.watch_in_flight(lambda: rendezvous.in_flight)
    for endpoint in endpoints:
        metrics.watch_live(endpoint.name, partial(_number_live, rendezvous, endpoint.name))
    return rendezvous


def _number_live(rendezvous: Rendezvous, endpoint: str) -> int:
    return len(rendezvous.live(endpoint))


def serve(
    configuration: Configuration,
    rendezvous: Rendezvous,
    settings: FrontEndSettings,
    metrics: Metrics,
    running: Callable[[], AbstractAsyncContextManager[Any]],
    listener: socket.socket | None = None,
) -> None:
    """Serve HTTP until SIGTERM or SIGINT; requests in flight are finished first.

    Args:
        configuration: The inputs of the endpoints.
        rendezvous: The server that is asked.
        settings: Where to listen.
        metrics: Shown at ``/metrics``.
        running: Entered before the first request and left after the last.
        listener: Bound to the settings' address; made here if not given.

    Raises:
        ConfigurationError: The address is taken, or not one of this machine's.
        SystemExit: With 3 when it can not start.
    """
    served = [
        Served(rendezvous.endpoints[name], config.input, config.example, config.compat)
        for name, config in configuration.endpoints.items()
    ]
    app = create_app(
        rendezvous,
        served,
        running=running,
        metrics=metrics.text,
        allowed_hosts=settings.allowed_hosts,
    )
    # uvicorn passes a signal on when it has stopped in order; the default would kill us then
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    longest = max(endpoint.deadline for endpoint in rendezvous.endpoints.values())
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            http=PatientProtocol,
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=math.ceil(longest) + 1,
        )
    )
    with listener or bind(settings.host, settings.port) as bound, suppress(KeyboardInterrupt):
        server.run(sockets=[bound])
