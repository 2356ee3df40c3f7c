"""The head of a request, its line and headers: how large and how slow it may be."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from rendezvous.frontend.problems import Problem

if TYPE_CHECKING:
    import asyncio

    from starlette.types import ASGIApp, Receive, Scope, Send

HEAD_MOST = 8 * 1024
HEAD_SECONDS = 10.0
UNFINISHED_MOST = 1024 * 1024
"""Bytes of a head that has no end yet; more than one read from a socket can be."""


class HeadLimit:
    """Answers 431 to a request whose path and headers are larger than 8 KiB in all."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and head_size(scope) > HEAD_MOST:
            problem = Problem(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                f"path and headers are larger than {HEAD_MOST} bytes",
                headers={"connection": "close"},
            )
            await problem.response()(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def head_size(scope: Scope) -> int:
    """Return the bytes of path, query and headers."""
    size = len(scope.get("raw_path") or b"") + len(scope["query_string"])
    return size + sum(len(name) + len(value) for name, value in scope["headers"])


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1, which by itself waits for the end of a head for ever.

    A connection on which no head is complete within 10 s of its first byte (or of connecting) is
    closed, and so is one that sends a head without an end.
    """

    _timer: asyncio.TimerHandle | None = None
    _unfinished = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to wait for the first head."""
        super().connection_made(transport)
        self._expect_head()

    def on_message_begin(self) -> None:
        """Start to wait for the end of a head."""
        super().on_message_begin()
        self._expect_head()

    def on_headers_complete(self) -> None:
        """Wait no more: from here on the body's own limits hold."""
        self._forget_head()
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        """Close on a head that has become too large without an end."""
        super().data_received(data)
        if self._timer is not None:
            self._unfinished += len(data)
            if self._unfinished > UNFINISHED_MOST:
                self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of the timer."""
        self._forget_head()
        super().connection_lost(exc)

    def _expect_head(self) -> None:
        self._forget_head()
        self._unfinished = 0
        self._timer = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _forget_head(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
