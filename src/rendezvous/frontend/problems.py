"""Errors as HTTP tells them: problem details (RFC 9457), and 422 in the original's form."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.responses import Response

if TYPE_CHECKING:
    from pydantic import ValidationError

MOST_DETAILS = 20
"""Faults of an input that are listed; a longer list helps nobody but an attacker."""


class Problem(Exception):  # noqa: N818 - the word of RFC 9457
    """A request that gets no answer, and why.

    Attributes:
        status: The HTTP status.
        detail: One sentence for the caller.
        more: Further members of the problem.
        headers: Further headers of the response.
    """

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        *,
        headers: dict[str, str] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.more = more
        self.headers = headers

    def response(self) -> Response:
        """Return it as ``application/problem+json``."""
        body = {
            "type": "about:blank",
            "title": self.status.phrase,
            "status": self.status.value,
            "detail": self.detail,
            **self.more,
        }
        return Response(
            msgspec.json.encode(body),
            self.status.value,
            headers=self.headers,
            media_type="application/problem+json",
        )


def unprocessable(error: ValidationError) -> Response:
    """Return 422 with ``detail`` as FastAPI gives it, each fault naming field and rule.

    What was sent is not sent back: it may be large, or not be JSON at all.
    """
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    detail = [
        {"type": fault["type"], "loc": ["body", *fault["loc"]], "msg": fault["msg"]}
        for fault in faults[:MOST_DETAILS]
    ]
    return Response(
        msgspec.json.encode({"detail": detail}),
        HTTPStatus.UNPROCESSABLE_ENTITY.value,
        media_type="application/json",
    )
