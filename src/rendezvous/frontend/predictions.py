"""The way of a prediction through HTTP.

It leaves the web framework aside, which has the pages, the documentation and the operations: the
layers in which a framework wraps every request take longer than all that a prediction needs.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from pydantic import ValidationError
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import Response

from rendezvous.errors import BusError
from rendezvous.frontend.answers import reply, why_not
from rendezvous.frontend.heads import HeadLimit
from rendezvous.frontend.inputs import input_model, read_body, validate
from rendezvous.frontend.problems import Problem, unprocessable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fastapi import FastAPI
    from starlette.types import Receive, Scope, Send

    from rendezvous.core import Rendezvous
    from rendezvous.decision import Endpoint
    from rendezvous.schema import InputField

log = logging.getLogger(__name__)

HOSTS_MOST = 100
"""Host headers that are known to be allowed, at most; any other is looked at each time."""


@dataclass(frozen=True, slots=True)
class Served:
    """An endpoint as it is served over HTTP.

    Attributes:
        endpoint: The core's view of it.
        fields: Its input's fields.
        example: An input to show in the documentation.
        compat: Answer 200 with an empty ``modelResult`` where nothing acceptable came, not 504.
    """

    endpoint: Endpoint
    fields: Sequence[InputField]
    example: Mapping[str, float] | None = None
    compat: bool = False


class _Answer(Response):
    """200 with JSON; its headers are the same each time, so they are not put together each time."""

    def __init__(self, body: bytes) -> None:
        self.status_code = HTTPStatus.OK.value
        self.body = body
        self.background = None
        self.raw_headers = [
            (b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)),
        ]  # fmt: skip


class Predictions:
    """Asks every model of one endpoint: an ASGI application for ``POST``.

    Args:
        rendezvous: The server that is asked.
        served: The endpoint.
    """

    def __init__(self, rendezvous: Rendezvous, served: Served) -> None:
        self._rendezvous = rendezvous
        self.served = served
        self.model = input_model(served.endpoint.name, served.fields)
        """What an input must be."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        response = await self.respond(scope, receive)
        await response(scope, receive, send)

    async def respond(self, scope: Scope, receive: Receive) -> Response:
        """Return the answer, or the problem in its place."""
        try:
            return await self._answer(await read_body(scope, receive))
        except Problem as problem:
            return problem.response()
        except ValidationError as error:
            return unprocessable(error)
        except BusError as error:
            log.warning("a request could not be published: %s", error)
            return Problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "the bus did not take the request",
                headers={"retry-after": "1"},
            ).response()

    async def _answer(self, body: bytes) -> Response:
        endpoint = self.served.endpoint
        decision = await self._rendezvous.ask(endpoint.name, validate(self.model, body))
        if decision.score is None and not self.served.compat:
            return Problem(  # not raised: where one is too late, many are, and at the same moment
                HTTPStatus.GATEWAY_TIMEOUT,
                f"no acceptable score within {endpoint.deadline * 1000:.0f} ms",
                messageId=decision.request.message_id,
                reasons=why_not(decision),
            ).response()
        return _Answer(reply(endpoint, decision))


class Shortcut:
    """ASGI: takes predictions the short way, and all else through ``framework``.

    Args:
        framework: The application that has everything else.
        predictions: By their paths.
        allowed_hosts: Names that the Host header may have; ``*`` for any.
    """

    def __init__(
        self,
        framework: FastAPI,
        predictions: Mapping[str, Predictions],
        allowed_hosts: Sequence[str],
    ) -> None:
        self.framework = framework
        self._predictions = {path: HeadLimit(each) for path, each in predictions.items()}
        self._hosts: set[bytes] = set()  # some that were allowed
        self._guarded = TrustedHostMiddleware(self._route, allowed_hosts=list(allowed_hosts))
        self._head_limit = HeadLimit(framework)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the application's start and stop."""
        if scope["type"] == "http" and _host(scope) in self._hosts:
            await self._route(scope, receive, send)
        else:
            await self._guarded(scope, receive, send)

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve what an allowed host is asked."""
        app = self._head_limit
        if scope["type"] == "http":
            if len(self._hosts) < HOSTS_MOST:
                self._hosts.add(_host(scope))
            if scope["method"] == "POST":
                app = self._predictions.get(scope["path"], app)
        await app(scope, receive, send)


def _host(scope: Scope) -> bytes:
    """Return the Host header as it came; the first, as whoever checks it takes."""
    for name, value in scope["headers"]:
        if name == b"host":
            return bytes(value)
    return b""
