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


WHOLE = "rendezvous.whole"
"""Key of a request's scope that is there when all of it, body included, came in one read of no more
than ``HEAD_MOST`` bytes: such a request has no head that is too large, and no body to wait for."""


class HeadLimit:
    """Answers 431 to a request whose path and headers are larger than 8 KiB in all."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if WHOLE not in scope and scope["type"] == "http" and head_size(scope) > HEAD_MOST:
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
    _in_head = False
    _in_one_read = False
    _large = False
    _unfinished = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to wait for the first head."""
        super().connection_made(transport)
        self._expect_head()

    def on_message_begin(self) -> None:
        """Take note that a head has begun."""
        super().on_message_begin()
        self._forget_head()
        self._in_head = True
        self._in_one_read = not self._large

    def on_headers_complete(self) -> None:
        """Wait no more: from here on the body's own limits hold."""
        self._in_head = False
        self._forget_head()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Mark a request that needs no waiting for."""
        super().on_message_complete()
        if self._in_one_read:
            self.scope[WHOLE] = True  # type: ignore[literal-required]  # ASGI lets a server add keys

    def data_received(self, data: bytes) -> None:
        """Wait for the end of a head that has none yet; close on one that has become too large.

        Nearly every head comes as a whole: that one needs no timer.
        """
        self._large = len(data) > HEAD_MOST
        self._in_one_read = False
        super().data_received(data)
        if self._in_head or self.cycle is None or self.cycle.response_complete:
            if self._timer is None:
                self._expect_head()
            self._unfinished += len(data)
            if self._unfinished > UNFINISHED_MOST:
                self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of the timer."""
        self._forget_head()
        super().connection_lost(exc)

    def _expect_head(self) -> None:
        self._timer = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _forget_head(self) -> None:
        self._unfinished = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
