"""Elasticsearch: each record is a document under its own id.

Guarantee: when ``write`` returns, Elasticsearch has acknowledged every document, which by its
default is after its log is on the disk of the primary shard. A document is made under the
record's id and never overwritten, so a record that comes again changes nothing, however late.
Elasticsearch is a copy to search in; the archive files are what proves that nothing is lost.

The document is the record as it was, save that a ``timestamp`` in seconds becomes ISO 8601 text
with microseconds. Fields of the wire contract are mapped, others are kept but not searchable.
"""

from __future__ import annotations

import asyncio
import logging
import re
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from rendezvous.contract import one_line
from rendezvous.errors import ConfigurationError, ContractError, SinkError, SinkUnavailable
from rendezvous.sink.mapping import TEMPLATE, lacking
from rendezvous.sink.port import Record, Rejection, Sink

try:
    from elasticsearch import ApiError, AsyncElasticsearch, TransportError
except ImportError as error:
    raise ConfigurationError(
        "Elasticsearch needs the `elastic` extra: pip install 'rendezvous-serving[elastic]'"
    ) from error

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

log = logging.getLogger(__name__)

REQUEST_TIMEOUT = 30.0
LARGEST_BODY = 1024 * 1024
"""Bytes of one bulk request; a larger document goes alone. Beyond it the client holds up its loop
while it sends."""

_INDEX_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,199}")
_STORED = {HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.CONFLICT}
_REFUSED = {HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE}
_FORBIDDEN = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
_MENDABLE = {"index_closed_exception", "validation_exception"}
"""Errors that come as 400 and are not the document's fault: the last says that the index cannot be
made, as the cluster has as many as it may."""


class ElasticSink(Sink):
    """Stores records in one index, whose template it installs with its first write.

    Args:
        url: ``http://host:port`` or ``https://host:port``; may hold ``user:password@``.
        index: The index, and the name of its template.
        api_key: Where security is on. It needs ``create_doc``, ``auto_configure`` and
            ``view_index_metadata`` on the index and ``manage_index_templates``; with the index
            made beforehand, ``create_doc`` and ``view_index_metadata`` are enough. To give an
            index of an earlier version the new fields it needs ``manage`` on it.

    Raises:
        ConfigurationError: The URL or the index's name is malformed.
    """

    def __init__(self, url: str, index: str, *, api_key: str | None = None) -> None:
        _check(url, index)
        self._url = url
        self._index = index
        self._api_key = api_key
        self._client: AsyncElasticsearch | None = None
        self._ready = False
        self._preparing = asyncio.Lock()

    async def write(self, batch: Sequence[Record]) -> Sequence[Rejection]:
        """Store the batch; what Elasticsearch can never take comes back.

        Raises:
            SinkUnavailable: It cannot be reached, is too busy, or refuses for lack of a right.
            SinkError: It refuses the index's template.
        """
        client = self._client = self._client or AsyncElasticsearch(
            self._url, api_key=self._api_key, request_timeout=REQUEST_TIMEOUT, max_retries=0
        )
        try:
            async with self._preparing:
                if not self._ready:
                    await self._prepare(client)
                    self._ready = True
            documents, rejections = _documents(batch)
            for chunk in _chunks(documents):
                rejections += await self._create(client, chunk)
        except (ApiError, TransportError) as error:
            raise SinkUnavailable(self._said(error)) from error
        return rejections

    async def aclose(self) -> None:
        """Close the connections."""
        client, self._client, self._ready = self._client, None, False
        if client is not None:
            await client.close()

    async def _prepare(self, client: AsyncElasticsearch) -> None:
        """Install the template, and give an index that is there the fields that it lacks."""
        present = await self._mappings(client)
        try:
            await client.indices.put_index_template(
                name=self._index, index_patterns=[self._index], **TEMPLATE
            )
        except ApiError as error:
            if error.status_code == HTTPStatus.BAD_REQUEST:
                raise SinkError(f"no template for the index: {self._said(error)}") from error
            if error.status_code not in _FORBIDDEN or not present:
                raise
            log.info("index %s is there; its template is left to who may change it", self._index)
        for name, properties in present.items():
            await self._add_fields(client, name, lacking(properties))

    async def _mappings(self, client: AsyncElasticsearch) -> dict[str, dict[str, Any]]:
        """Return the mapped fields of the index, by its name; nothing where it is not there."""
        try:
            answer = await client.indices.get_mapping(index=self._index)
        except ApiError as error:
            if error.status_code not in {*_FORBIDDEN, HTTPStatus.NOT_FOUND}:
                raise
            return {}  # a server that lets us do nothing says why to the request that matters
        try:
            indices = msgspec.convert(answer.body, dict[str, _Index])
        except msgspec.ValidationError as error:
            raise SinkUnavailable(self._said(f"no mapping: {error}")) from error
        return {name: index.mappings.properties for name, index in indices.items()}

    async def _add_fields(
        self, client: AsyncElasticsearch, name: str, fields: dict[str, Any]
    ) -> None:
        if not fields:
            return
        try:
            await client.indices.put_mapping(index=name, properties=fields)
        except ApiError as error:
            if error.status_code not in {*_FORBIDDEN, HTTPStatus.BAD_REQUEST}:
                raise
            log.warning(
                "index %s: %s cannot be searched: %s", name, ", ".join(fields), self._said(error)
            )
        else:
            log.info("index %s: %s can be searched from now on", name, ", ".join(fields))

    async def _create(
        self, client: AsyncElasticsearch, documents: Sequence[_Document]
    ) -> list[Rejection]:
        """Store some documents; a request that is refused as a whole is halved."""
        body: list[Any] = [line for document in documents for line in document.lines]
        try:
            answer = await client.bulk(index=self._index, operations=body)
        except ApiError as error:
            if error.status_code not in _REFUSED:
                raise
            if len(documents) == 1:
                return [Rejection(documents[0].record, self._said(error))]
            half = len(documents) // 2
            return [
                *await self._create(client, documents[:half]),
                *await self._create(client, documents[half:]),
            ]
        return self._rejections(documents, answer.body)

    def _rejections(self, documents: Sequence[_Document], answer: Any) -> list[Rejection]:
        """Return what a bulk answer says will never do. Raises: SinkUnavailable."""
        try:
            outcomes = msgspec.convert(answer, _Answer).items
            reasons = [outcome.create.refused() for outcome in outcomes]
            return [
                Rejection(document.record, reason)
                for document, reason in zip(documents, reasons, strict=True)
                if reason
            ]
        except _NotNowError as error:
            raise SinkUnavailable(self._said(error)) from error
        except (msgspec.ValidationError, ValueError) as error:
            raise SinkUnavailable(self._said(f"no answer to a bulk request: {error}")) from error

    def _said(self, error: object) -> str:
        # The client's own words, "Connection error", do not say what became of the connection.
        cause = error.__context__ if isinstance(error, TransportError) else None
        return f"Elasticsearch, index {self._index}: {error}" + (f" ({cause})" if cause else "")


class _NotNowError(Exception):
    """A document was not stored, and it is not its fault."""


class _Reason(msgspec.Struct):
    type: str = ""
    reason: str | None = None


class _Outcome(msgspec.Struct):
    status: int
    error: _Reason = msgspec.field(default_factory=_Reason)

    def refused(self) -> str:
        """Return why the document can never be stored; empty when it is. Raises: _NotNowError."""
        if self.status in _STORED:
            return ""
        reason = f"{self.status} {self.error.type}: {self.error.reason}"
        if self.status not in _REFUSED or self.error.type in _MENDABLE:
            raise _NotNowError(reason)
        return reason


class _Mappings(msgspec.Struct):
    properties: dict[str, dict[str, Any]] = {}


class _Index(msgspec.Struct):
    mappings: _Mappings


class _Item(msgspec.Struct):
    create: _Outcome


class _Answer(msgspec.Struct):
    items: list[_Item]


class _Document(msgspec.Struct):
    """A record with its two lines of a bulk request."""

    record: Record
    lines: tuple[bytes, bytes]


def _check(url: str, index: str) -> None:
    try:
        parts = urlsplit(url)
        whole = parts.scheme in {"http", "https"} and parts.hostname and parts.port
    except ValueError:
        whole = False
    if not whole:
        raise ConfigurationError("the URL of Elasticsearch must be http(s)://host:port")
    if not _INDEX_NAME.fullmatch(index):
        raise ConfigurationError(f"{index!r} can not be the name of an index")


def _documents(batch: Sequence[Record]) -> tuple[list[_Document], list[Rejection]]:
    """Return what to send, and what is no document at all."""
    documents, rejections = [], []
    for record in batch:
        action = msgspec.json.encode({"create": {"_id": record.id}})
        try:
            documents.append(_Document(record, (action, document(record.payload))))
        except ContractError as error:
            rejections.append(Rejection(record, str(error)))
    return documents, rejections


def document(payload: bytes) -> bytes:
    """Return the document of a record: one line of JSON, its ``timestamp`` as text.

    All other values stay as they were written, to the last digit.

    Raises:
        ContractError: It is no JSON object, or its ``timestamp`` is no moment.
    """
    line = one_line(payload)
    fields = _decode(line)
    timestamp = fields.get("timestamp")
    if timestamp is None:
        return line
    try:
        seconds = msgspec.json.decode(timestamp)
        if not isinstance(seconds, int | float) or isinstance(seconds, bool):
            return line
        moment = datetime.fromtimestamp(seconds, UTC)
    except (msgspec.MsgspecError, ValueError, OverflowError, OSError) as error:
        raise ContractError(f"the timestamp is no moment: {error}") from error
    text = msgspec.json.encode(moment.isoformat(timespec="microseconds"))
    return msgspec.json.encode({**fields, "timestamp": msgspec.Raw(text)})


_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def _chunks(documents: Sequence[_Document]) -> Iterator[list[_Document]]:
    """Yield the documents in their order, in parts of at most ``LARGEST_BODY``."""
    chunk: list[_Document] = []
    size = 0
    for each in documents:
        length = sum(len(line) + 1 for line in each.lines)
        if chunk and size + length > LARGEST_BODY:
            yield chunk
            chunk, size = [], 0
        chunk.append(each)
        size += length
    if chunk:
        yield chunk
