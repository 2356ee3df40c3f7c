"""The pages of a service that has no front end: its metrics, and whether it lives and is ready."""

from __future__ import annotations

import json
import socket
import threading
from http import HTTPStatus
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import make_wsgi_app

from rendezvous.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from rendezvous.telemetry import Metrics

PATIENCE = 10.0
"""Seconds that a caller may take for a request."""


def missing_parts(reading: Mapping[tuple[str, ...], bool]) -> list[str]:
    """Return one sentence for each part that does not read.

    Args:
        reading: Whether it does, by its group and its topics.
    """
    if not reading:
        return ["no part has begun"]
    return [
        f"{group}: does not read {', '.join(topics)}"
        for (group, *topics), reads in reading.items()
        if not reads
    ]


def make_pages(metrics: Metrics) -> WSGIApplication:
    """Return ``/metrics``, ``/healthz`` and ``/readyz`` as a WSGI application, for any thread."""
    page_of_metrics: WSGIApplication = make_wsgi_app(metrics.registry)

    def pages(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            return page_of_metrics(environ, start_response)
        if path == "/healthz":
            return _json(start_response, HTTPStatus.OK, {"status": "ok"})
        if path == "/readyz":
            missing = missing_parts(metrics.parts())
            status = HTTPStatus.SERVICE_UNAVAILABLE if missing else HTTPStatus.OK
            return _json(start_response, status, {"ready": not missing, "missing": missing})
        return _json(start_response, HTTPStatus.NOT_FOUND, {"pages": "/metrics /healthz /readyz"})

    return pages


def serve_pages(metrics: Metrics, host: str, port: int) -> None:
    """Serve the pages from a thread of their own, until the process ends.

    Raises:
        ConfigurationError: The address is taken, or not one of this machine's.
    """
    kind = _Server6 if ":" in host else _Server
    try:
        server = kind((host, port), _Quiet)
    except OSError as error:
        raise ConfigurationError(f"no page of metrics at {host}:{port}: {error}") from error
    server.set_app(make_pages(metrics))
    threading.Thread(target=server.serve_forever, name="status", daemon=True).start()


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Quiet(WSGIRequestHandler):
    """Logs no access."""

    timeout = PATIENCE

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Do nothing."""


def _json(start_response: StartResponse, status: HTTPStatus, body: Any) -> list[bytes]:
    content = json.dumps(body).encode()
    head = [("Content-Type", "application/json"), ("Content-Length", str(len(content)))]
    start_response(f"{status.value} {status.phrase}", head)
    return [content]
