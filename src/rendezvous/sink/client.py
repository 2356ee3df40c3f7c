"""The client of Elasticsearch, as all who use it open it."""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import urlsplit

from rendezvous.errors import ConfigurationError

try:
    from elasticsearch import ApiError, AsyncElasticsearch, TransportError
except ImportError as error:
    raise ConfigurationError(
        "Elasticsearch needs the `elastic` extra: pip install 'rendezvous-serving[elastic]'"
    ) from error

__all__ = [
    "FORBIDDEN", "ApiError", "AsyncElasticsearch", "TransportError", "check_url", "open_client",
    "said",
]  # fmt: skip

REQUEST_TIMEOUT = 30.0
FORBIDDEN = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}


def check_url(url: str) -> None:
    """Refuse what is no URL of Elasticsearch. Raises: ConfigurationError, without the password."""
    try:
        parts = urlsplit(url)
        whole = parts.scheme in {"http", "https"} and parts.hostname and parts.port
    except ValueError:
        whole = False
    if not whole:
        raise ConfigurationError("the URL of Elasticsearch must be http(s)://host:port")


def open_client(url: str, api_key: str | None) -> AsyncElasticsearch:
    """Return a client that tries once, for at most 30 s a request; whoever asks tries again."""
    return AsyncElasticsearch(url, api_key=api_key, request_timeout=REQUEST_TIMEOUT, max_retries=0)


def said(error: object) -> str:
    """Return an error in one line, with its cause.

    The client's own words, "Connection error", do not say what became of the connection.
    """
    cause = error.__context__ if isinstance(error, TransportError) else None
    return f"{error}" + (f" ({cause})" if cause else "")
