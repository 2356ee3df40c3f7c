"""From the bytes of a body to a validated input."""

from __future__ import annotations

import asyncio
import json
from codecs import BOM_UTF8
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    create_model,
)
from pydantic_core import PydanticCustomError

from rendezvous.frontend.heads import WHOLE
from rendezvous.frontend.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.types import Receive, Scope

    from rendezvous.schema import InputField

BODY_MOST = 64 * 1024
BODY_SECONDS = 10.0


def input_model(name: str, fields: Sequence[InputField]) -> type[BaseModel]:
    """Return the validator of an endpoint's input.

    Strict: a number is a JSON number (1 will do for 1.0, and 1.0 for 1), finite and within its
    bounds; a text, a bool or null is none. Unknown fields are ignored, as the original does.
    """
    config = ConfigDict(strict=True, extra="ignore", frozen=True, allow_inf_nan=False)
    kinds: dict[str, Any] = {}
    for field in fields:
        bounds = Field(ge=field.minimum, le=field.maximum)
        integer = (AfterValidator(_integer), WithJsonSchema(_integer_schema(field)))
        kind = (
            Annotated[float, bounds, *integer]
            if field.type == "integer"
            else Annotated[float, bounds]
        )
        kinds[field.name] = (kind, ...)
    return create_model(f"{name.capitalize()}Input", __config__=config, **kinds)


def _integer(value: float) -> int:
    """Accept 1.0 for 1, as tables of floats have it."""
    if value != int(value):
        raise PydanticCustomError("int_from_float", "Input should be an integer")
    return int(value)


def _integer_schema(field: InputField) -> dict[str, Any]:
    return {"type": "integer", "minimum": field.minimum, "maximum": field.maximum}


async def read_body(scope: Scope, receive: Receive) -> bytes:
    """Return the body of a JSON request.

    Raises:
        Problem: 415 for another type, 413 for more than 64 KiB, 408 for a body that does not
            come within 10 s, 400 for one that ends too early.
    """
    headers = dict(scope["headers"])
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if kind != b"application/json":
        raise Problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "the body must be JSON: Content-Type: application/json",
        )
    if _declared_length(headers) > BODY_MOST:
        raise _too_large()
    if WHOLE in scope:  # the common case, in which there is nothing to wait for
        return await _read_at_most(receive, BODY_MOST)
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await _read_at_most(receive, BODY_MOST)
    except TimeoutError:
        raise Problem(
            HTTPStatus.REQUEST_TIMEOUT,
            f"the body did not come within {BODY_SECONDS:.0f} s",
            headers={"connection": "close"},
        ) from None


def validate(model: type[BaseModel], body: bytes) -> dict[str, Any]:
    """Return the input's fields by name; of a name that comes twice, the last counts.

    Raises:
        Problem: 400 where the body is no JSON, 415 where it is UTF-16 or UTF-32. A byte order
            mark of UTF-8 is skipped, and a charset beside the type has no meaning (RFC 8259).
        ValidationError: A field is missing, of the wrong kind, not finite or out of bounds.
    """
    if not json.detect_encoding(body).startswith("utf-8"):
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the body must be UTF-8")
    try:
        return vars(model.model_validate_json(body.removeprefix(BOM_UTF8)))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        if first["type"] == "json_invalid":
            raise Problem(HTTPStatus.BAD_REQUEST, f"the body is no JSON: {first['msg']}") from None
        raise


def _declared_length(headers: Mapping[bytes, bytes]) -> int:
    try:
        return int(headers.get(b"content-length", b"0"))
    except ValueError:
        raise Problem(HTTPStatus.BAD_REQUEST, "Content-Length is no number") from None


async def _read_at_most(receive: Receive, most: int) -> bytes:
    body = b""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":  # nobody reads this, but it is no fault of ours
            raise Problem(HTTPStatus.BAD_REQUEST, "the body ended too early")
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > most:
            raise _too_large()
    return body


def _too_large() -> Problem:
    return Problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"the body is larger than {BODY_MOST} bytes",
        headers={"connection": "close"},
    )
