"""Kibana: takes the dashboards and what they need, as saved objects.

Guarantee: when ``install`` returns, Kibana has said that every object of the file is stored. The
objects have ids of their own and are overwritten, so it may be done again at any time.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import msgspec

from rendezvous.errors import ConfigurationError, KibanaError

try:
    import urllib3
except ImportError as error:
    raise ConfigurationError(
        "Kibana needs the `elastic` extra: pip install 'rendezvous-serving[elastic]'"
    ) from error

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

T = TypeVar("T")

log = logging.getLogger(__name__)

REQUEST_TIMEOUT = 60.0
PAUSE = 1.0
"""Seconds between two tries while Kibana is away or starts."""

_AWAY = {HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT}


class Meta(msgspec.Struct):
    """What Kibana shows of an object."""

    title: str = ""


class Imported(msgspec.Struct):
    """An object that Kibana has stored.

    Attributes:
        type: Such as ``dashboard``.
        id: Its id, of which there is one for each type.
        meta: Its title.
    """

    type: str
    id: str
    meta: Meta = msgspec.field(default_factory=Meta)


@dataclass(frozen=True, slots=True)
class Kibana:
    """One Kibana.

    Args:
        url: ``http(s)://host:port``, with the path that it is served under, if any.
        api_key: Where security is on. It needs the right to manage saved objects.

    Raises:
        ConfigurationError: The URL is malformed.
    """

    url: str
    api_key: str | None = None

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            whole = parts.scheme in {"http", "https"} and parts.hostname and parts.port
        except ValueError:
            whole = False
        if not whole:
            raise ConfigurationError("the URL of Kibana must be http(s)://host:port")

    def install(self, objects: Path, *, wait: float) -> Sequence[Imported]:
        """Wait until Kibana is available, then import the saved objects of a file.

        Args:
            objects: A file of one object a line, ``.ndjson``.
            wait: Seconds in which Kibana must be available and have taken them; it is asked at
                least once.

        Returns:
            What is stored now.

        Raises:
            ConfigurationError: The file cannot be read.
            KibanaError: Kibana was not available in time, or did not take every object: each that
                it did not take is named, with the reason.
        """
        try:
            content = objects.read_bytes()
        except OSError as error:
            raise ConfigurationError(f"no objects for Kibana: {error}") from error
        until = time.monotonic() + wait
        with urllib3.PoolManager(
            headers=self._headers(), timeout=REQUEST_TIMEOUT, retries=False
        ) as pool:
            while True:
                try:
                    self._check_available(pool)
                    return self._import(pool, f"{objects.stem}.ndjson", content)
                except _NotYetError as error:
                    if time.monotonic() + PAUSE > until:
                        raise KibanaError(f"Kibana at {self._shown()}: {error}") from error
                    log.info("Kibana at %s: %s", self._shown(), error)
                time.sleep(PAUSE)

    def _headers(self) -> dict[str, str]:
        headers = {"kbn-xsrf": "true"}  # which Kibana wants against forged requests
        if self.api_key:
            headers["Authorization"] = f"ApiKey {self.api_key}"
        return headers

    def _check_available(self, pool: urllib3.PoolManager) -> None:
        """Raises: _NotYetError; KibanaError, where it is no Kibana or lets nobody in."""
        answer = self._asked(pool, "GET", "/api/status")
        level = _decoded(answer, _Status).status.overall.level
        if level != "available":
            raise _NotYetError(f"it says that it is {level}")

    def _import(self, pool: urllib3.PoolManager, name: str, content: bytes) -> Sequence[Imported]:
        """Raises: _NotYetError, KibanaError."""
        path = "/api/saved_objects/_import?overwrite=true"
        fields = {"file": (name, content, "application/ndjson")}
        outcome = _decoded(self._asked(pool, "POST", path, fields), _Outcome)
        if not outcome.success:
            failures = "".join(f"\n  {each}" for each in outcome.errors)
            raise KibanaError(f"Kibana did not take every object:{failures or ' no reason given'}")
        return outcome.stored

    def _asked(
        self,
        pool: urllib3.PoolManager,
        method: str,
        path: str,
        fields: dict[str, tuple[str, bytes, str]] | None = None,
    ) -> bytes:
        """Return the body of an answer that is 200. Raises: _NotYetError, KibanaError."""
        try:
            answer = pool.request(method, f"{self.url.rstrip('/')}{path}", fields=fields)
        except urllib3.exceptions.HTTPError as error:
            raise _NotYetError(f"no answer: {error}") from error
        if answer.status in _AWAY:
            raise _NotYetError(f"it is not ready: {answer.status}")
        if answer.status != HTTPStatus.OK:
            reason = answer.data.decode(errors="replace")[:500]
            raise KibanaError(f"Kibana refuses {method} {path}: {answer.status} {reason}")
        return answer.data

    def _shown(self) -> str:
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.hostname}:{parts.port}{parts.path}"


class _NotYetError(Exception):
    """Kibana can not do it at present."""


class _Level(msgspec.Struct):
    level: str


class _Overall(msgspec.Struct):
    overall: _Level


class _Status(msgspec.Struct):
    status: _Overall


class _Missing(msgspec.Struct):
    type: str
    id: str


class _Reason(msgspec.Struct):
    type: str
    message: str = ""
    references: list[_Missing] = msgspec.field(default_factory=list)


class _Failure(msgspec.Struct):
    type: str
    id: str
    error: _Reason

    def __str__(self) -> str:
        missing = ", ".join(f"{each.type} {each.id}" for each in self.error.references)
        said = " ".join(filter(None, (self.error.message, missing)))
        return f"{self.type} {self.id}: {self.error.type}{': ' if said else ''}{said}"


class _Outcome(msgspec.Struct, rename="camel"):
    success: bool
    errors: list[_Failure] = msgspec.field(default_factory=list)
    stored: list[Imported] = msgspec.field(default_factory=list, name="successResults")


def _decoded(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise KibanaError(f"this is no answer of a Kibana: {error}") from error
