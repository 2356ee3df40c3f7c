"""The front end as an ASGI application."""

from __future__ import annotations

import logging
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, cast

from fastapi_offline import FastAPIOffline
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation
from starlette.responses import JSONResponse, Response

from rendezvous.errors import BusError
from rendezvous.frontend.answers import reply, sample, why_not
from rendezvous.frontend.heads import HeadLimit
from rendezvous.frontend.inputs import input_model, read_body, validate
from rendezvous.frontend.problems import Problem, unprocessable
from rendezvous.telemetry import DISTRIBUTION

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from fastapi import FastAPI

    from rendezvous.core import Rendezvous
    from rendezvous.decision import Endpoint
    from rendezvous.schema import InputField

    Handle = Callable[[Request], Awaitable[Response]]

log = logging.getLogger(__name__)


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


def create_app(
    rendezvous: Rendezvous,
    served: Sequence[Served],
    *,
    running: Callable[[], AbstractAsyncContextManager[Any]] | None = None,
    metrics: Callable[[], bytes] = bytes,
    allowed_hosts: Sequence[str] = ("*",),
) -> FastAPI:
    """Return the application.

    Args:
        rendezvous: The server that is asked.
        served: The endpoints; the first also answers ``POST /predict``.
        running: Entered at start and left at stop; ``rendezvous.running`` if not given.
        metrics: The page of ``GET /metrics``.
        allowed_hosts: Names that the Host header may have; ``*`` for any.
    """
    enter = running or rendezvous.running

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with enter():
            yield

    # /docs with its assets from here: FastAPI's own page loads them from a foreign host
    app: FastAPI = FastAPIOffline(
        title="rendezvous", version=version(DISTRIBUTION), lifespan=lifespan, redoc_url=None
    )
    app.add_middleware(HeadLimit)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(allowed_hosts))
    app.add_exception_handler(Problem, _as_problem)
    app.add_exception_handler(HTTPException, _as_problem)
    app.add_exception_handler(ValidationError, _as_unprocessable)
    app.add_exception_handler(BusError, _as_unavailable)
    _add_predictions(app, rendezvous, served)
    _add_operations(app, rendezvous, metrics)
    return app


def _add_predictions(app: FastAPI, rendezvous: Rendezvous, served: Sequence[Served]) -> None:
    routes: dict[str, Served] = {"/predict": served[0]}
    routes |= {f"/endpoints/{each.endpoint.name}/predict": each for each in served}
    for path, each in routes.items():
        model = input_model(each.endpoint.name, each.fields)
        # A plain route: FastAPI's own parsing answers 500 to NaN and echoes what it was sent.
        app.add_api_route(
            path,
            _predict(rendezvous, each, model),
            methods=["POST"],
            summary=f"Ask every model of {each.endpoint.name}",
            openapi_extra=_described(model.model_json_schema(), each.example),
            responses=_responses(each),
            operation_id=path.strip("/").replace("/", "_"),
        )


def _predict(rendezvous: Rendezvous, each: Served, model: type[Any]) -> Handle:
    async def predict(request: Request) -> Response:
        model_input = validate(model, await read_body(request))
        decision = await rendezvous.ask(each.endpoint.name, model_input)
        if decision.score is None and not each.compat:
            return Problem(  # not raised: where one is too late, many are, and at the same moment
                HTTPStatus.GATEWAY_TIMEOUT,
                f"no acceptable score within {each.endpoint.deadline * 1000:.0f} ms",
                messageId=decision.request.message_id,
                reasons=why_not(decision),
            ).response()
        return Response(reply(each.endpoint, decision), media_type="application/json")

    return predict


def _add_operations(app: FastAPI, rendezvous: Rendezvous, metrics: Callable[[], bytes]) -> None:
    @app.get("/ping", summary="Answer, as the original does")
    async def ping() -> dict[str, str]:
        return {"ping": "pong"}

    @app.get("/healthz", summary="Whether the process lives")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", summary="Whether every endpoint can be answered, and what is missing")
    async def readyz() -> JSONResponse:
        models = {
            name: [f"{c.name}@{c.version}" for c in rendezvous.live(name).values()]
            for name in rendezvous.endpoints
        }
        missing = missing_parts(
            listening=rendezvous.listening, publishing=rendezvous.publishing, models=models
        )
        status = HTTPStatus.SERVICE_UNAVAILABLE if missing else HTTPStatus.OK
        return JSONResponse(
            {"ready": not missing, "missing": missing, "models": models}, status.value
        )

    @app.get("/metrics", summary="Metrics in the text format of Prometheus")
    async def page() -> Response:
        return Response(metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")


def missing_parts(
    *, listening: bool, publishing: bool, models: Mapping[str, Sequence[str]]
) -> list[str]:
    """Return one sentence for each part without which some request cannot be answered."""
    missing = [] if listening else ["bus: scores are not being read"]
    missing += [] if publishing else ["bus: did not take the last request"]
    missing += [f"endpoint {name}: no live model" for name, live in models.items() if not live]
    return missing


async def _as_problem(_: Request, error: Exception) -> Response:
    if isinstance(error, Problem):
        return error.response()
    status = HTTPStatus(getattr(error, "status_code", HTTPStatus.INTERNAL_SERVER_ERROR))
    headers = dict(getattr(error, "headers", None) or {})
    return Problem(status, status.description or status.phrase, headers=headers).response()


async def _as_unprocessable(_: Request, error: Exception) -> Response:
    return unprocessable(cast("ValidationError", error))


async def _as_unavailable(_: Request, error: Exception) -> Response:
    log.warning("a request could not be published: %s", error)
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "the bus did not take the request",
        headers={"retry-after": "1"},
    ).response()


def _described(schema: dict[str, Any], example: Mapping[str, float] | None) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": schema}
    if example:
        content["example"] = dict(example)
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


def _responses(each: Served) -> dict[int | str, dict[str, Any]]:
    example = sample(each.endpoint, dict(each.example or {}))
    answer = {
        "description": "The best score, and why it was chosen",
        "content": {"application/json": {"example": example}},
    }
    return {200: answer, **_PROBLEMS}


def _problem(description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/problem+json": {}}}


_PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: _problem("The body is no JSON"),
    408: _problem("The body did not come in time"),
    413: _problem("The body is too large"),
    415: _problem("The body is of another type than JSON"),
    422: {"description": "A field is missing, of the wrong kind, or out of bounds"},
    431: _problem("Path and headers are too large"),
    503: _problem("The bus did not take the request"),
    504: _problem("Nothing acceptable came within the deadline"),
}
