"""The front end as an ASGI application."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, asynccontextmanager
from http import HTTPStatus
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation
from starlette.responses import JSONResponse, Response

from rendezvous.frontend.answers import sample
from rendezvous.frontend.predictions import Predictions, Served, Shortcut
from rendezvous.frontend.problems import Problem
from rendezvous.telemetry import DISTRIBUTION

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from fastapi import FastAPI

    from rendezvous.core import Rendezvous

    Handle = Callable[[Request], Awaitable[Response]]


def create_app(
    rendezvous: Rendezvous,
    served: Sequence[Served],
    *,
    running: Callable[[], AbstractAsyncContextManager[Any]] | None = None,
    metrics: Callable[[], bytes] = bytes,
    allowed_hosts: Sequence[str] = ("*",),
) -> Shortcut:
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
    app.add_exception_handler(HTTPException, _as_problem)
    predictions = _predictions(rendezvous, served)
    _describe(app, predictions)
    _add_operations(app, rendezvous, metrics)
    return Shortcut(app, predictions, allowed_hosts)


def _predictions(rendezvous: Rendezvous, served: Sequence[Served]) -> dict[str, Predictions]:
    by_endpoint = {
        f"/endpoints/{each.endpoint.name}/predict": Predictions(rendezvous, each) for each in served
    }
    return {"/predict": next(iter(by_endpoint.values())), **by_endpoint}


def _describe(app: FastAPI, predictions: Mapping[str, Predictions]) -> None:
    """Put predictions into the documentation; where they are not taken short, they go this way."""
    for path, each in predictions.items():
        app.add_api_route(
            path,
            _as_route(each),
            methods=["POST"],
            summary=f"Ask every model of {each.served.endpoint.name}",
            openapi_extra=_described(each.model.model_json_schema(), each.served.example),
            responses=_responses(each.served),
            operation_id=path.strip("/").replace("/", "_"),
        )


def _as_route(predictions: Predictions) -> Handle:
    # A plain route: FastAPI's own parsing answers 500 to NaN and echoes what it was sent.
    async def predict(request: Request) -> Response:
        return await predictions.respond(request.scope, request.receive)

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
    status = HTTPStatus(getattr(error, "status_code", HTTPStatus.INTERNAL_SERVER_ERROR))
    headers = dict(getattr(error, "headers", None) or {})
    return Problem(status, status.description or status.phrase, headers=headers).response()


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
