"""Elasticsearch: each record is a document under its own id.

Guarantee: when ``write`` returns, Elasticsearch has acknowledged every document, which by its
default is after its log is on the disk of the primary shard. A document is made under the
record's id and never overwritten, so a record that comes again changes nothing, however late.
Elasticsearch is a copy to search in; the archive files are what proves that nothing is lost.

With a period, records go to dated indices by their own ``timestamp``, so that one which comes again
goes to the same; see `rendezvous.sink.dated`. All of them have the index's name for an alias.

The document is the record as it was, save that a ``timestamp`` in seconds becomes ISO 8601 text
with microseconds. Fields of the wire contract are mapped, others are kept but not searchable.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec

from rendezvous.contract import one_line
from rendezvous.errors import ConfigurationError, ContractError, SinkError, SinkUnavailable
from rendezvous.sink.client import (
    FORBIDDEN,
    ApiError,
    TransportError,
    check_url,
    open_client,
    said,
)
from rendezvous.sink.dated import check_name, dated_name
from rendezvous.sink.mapping import lacking, template
from rendezvous.sink.port import Record, Rejection, Sink

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from rendezvous.sink.client import AsyncElasticsearch
    from rendezvous.sink.dated import Period

log = logging.getLogger(__name__)

LARGEST_BODY = 1024 * 1024
"""Bytes of one bulk request; a larger document goes alone. Beyond it the client holds up its loop
while it sends."""

_STORED = {HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.CONFLICT}
_REFUSED = {HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE}
_MENDABLE = {"index_closed_exception", "validation_exception", "invalid_alias_name_exception"}
"""Errors that come as 400 and are not the document's fault. The second says that the cluster has as
many indices as it may, the third that an index has the name which is to be the alias."""

_ALREADY_THERE = "resource_already_exists_exception"

_MANY_INDICES = "no write index is defined for alias"
"""How an error begins that is not the document's fault either; its type says nothing."""


class ElasticSink(Sink):
    """Stores records in one index, whose template it installs with its first write.

    It makes the index then, too, where it may: who searches it finds its fields though there is no
    record yet. Without that right, and with a period, the first record makes it.

    Args:
        url: ``http://host:port`` or ``https://host:port``; may hold ``user:password@``.
        index: The index; with a period, the alias of the dated ones.
        api_key: Where security is on. It needs ``create_doc``, ``auto_configure`` and
            ``view_index_metadata`` on the index and ``manage_index_templates``, and
            ``create_index`` to make an index that has no record yet; with the index
            made beforehand, ``create_doc`` and ``view_index_metadata`` are enough. To give an
            index of an earlier version the new fields it needs ``manage`` on it. With a period
            the index is ``<index>*``.
        period: Of dated indices; ``none`` for one index.

    Raises:
        ConfigurationError: The URL or the index's name is malformed.
    """

    def __init__(
        self, url: str, index: str, *, api_key: str | None = None, period: Period = "none"
    ) -> None:
        check_url(url)
        check_name(index)
        self._url = url
        self._index = index
        self._api_key = api_key
        self._period = period
        self._client: AsyncElasticsearch | None = None
        self._ready = False
        self._preparing = asyncio.Lock()

    async def write(self, batch: Sequence[Record]) -> Sequence[Rejection]:
        """Store the batch; what Elasticsearch can never take comes back.

        Raises:
            SinkUnavailable: It cannot be reached, is too busy, or refuses for lack of a right.
            SinkError: It refuses the index's template.
            ConfigurationError: The index is one where it must be an alias, or the other way round.
        """
        client = self._client = self._client or open_client(self._url, self._api_key)
        try:
            async with self._preparing:
                if not self._ready:
                    await self._prepare(client)
                    self._ready = True
            documents, rejections = self._documents(batch)
            for chunk in _chunks(documents):
                rejections += await self._create(client, chunk)
        except (ApiError, TransportError) as error:
            self._ready = False  # who knows what it is like when it is back
            raise SinkUnavailable(self._said(error)) from error
        except SinkUnavailable:
            self._ready = False
            raise
        return rejections

    async def aclose(self) -> None:
        """Close the connections."""
        client, self._client, self._ready = self._client, None, False
        if client is not None:
            await client.close()

    async def _prepare(self, client: AsyncElasticsearch) -> None:
        """Install the template, give indices that are there the fields that they lack; make one."""
        present = await self._mappings(client)
        self._check_kind(present)
        try:
            await client.indices.put_index_template(**template(self._index, self._period))
        except ApiError as error:
            if error.status_code == HTTPStatus.BAD_REQUEST:
                raise SinkError(f"no template for the index: {self._said(error)}") from error
            if error.status_code not in FORBIDDEN or not present:
                raise
            log.info("index %s is there; its template is left to who may change it", self._index)
        for name, properties in present.items():
            await self._add_fields(client, name, lacking(properties))
        if self._period == "none" and not present:
            await self._make_index(client)

    async def _make_index(self, client: AsyncElasticsearch) -> None:
        """Make the index, of its template, unless another has made it meanwhile."""
        try:
            await client.indices.create(index=self._index)
        except ApiError as error:
            if error.status_code in FORBIDDEN:
                log.debug("%s; the first record makes the index", self._said(error))
            elif error.message != _ALREADY_THERE:
                raise

    def _check_kind(self, present: Collection[str]) -> None:
        """Refuse to write into an alias as if it were an index, or to make one of an index."""
        is_index = self._index in present
        if self._period == "none" and present and not is_index:
            raise ConfigurationError(
                f"{self._index} is an alias of {len(present)} indices on Elasticsearch, and can not"
                " be written to as one index: set RENDEZVOUS_INDEX_PERIOD as it was, or"
                " RENDEZVOUS_INDEX to another name (docs/retention.md)"
            )
        if self._period != "none" and is_index:
            raise ConfigurationError(
                f"{self._index} is an index on Elasticsearch, and can not be the alias of dated"
                " ones: set RENDEZVOUS_INDEX_PERIOD to none, or RENDEZVOUS_INDEX to another name,"
                " or rename the index (docs/retention.md)"
            )

    async def _mappings(self, client: AsyncElasticsearch) -> dict[str, dict[str, Any]]:
        """Return the mapped fields of each index that has the name; nothing where none has it."""
        try:
            answer = await client.indices.get_mapping(index=self._index)
        except ApiError as error:
            if error.status_code not in {*FORBIDDEN, HTTPStatus.NOT_FOUND}:
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
            if error.status_code not in {*FORBIDDEN, HTTPStatus.BAD_REQUEST}:
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
            answer = await client.bulk(
                index=self._index if self._period == "none" else None, operations=body
            )
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

    def _documents(self, batch: Sequence[Record]) -> tuple[list[_Document], list[Rejection]]:
        """Return what to send, and what is no document at all."""
        documents, rejections = [], []
        for record in batch:
            try:
                line, moment = dated_document(record.payload)
            except ContractError as error:
                rejections.append(Rejection(record, str(error)))
                continue
            action = {"_id": record.id}
            if self._period != "none":
                action["_index"] = dated_name(self._index, self._period, moment)
            lines = (msgspec.json.encode({"create": action}), line)
            documents.append(_Document(record, lines))
        return documents, rejections

    def _said(self, error: object) -> str:
        return f"Elasticsearch, index {self._index}: {said(error)}"


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
        innocent = self.error.type in _MENDABLE or _MANY_INDICES in (self.error.reason or "")
        if self.status not in _REFUSED or innocent:
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


def document(payload: bytes) -> bytes:
    """Return the document of a record: one line of JSON, its ``timestamp`` as text.

    All other values stay as they were written, to the last digit.

    Raises:
        ContractError: It is no JSON object, or its ``timestamp`` is no moment.
    """
    return dated_document(payload)[0]


def dated_document(payload: bytes) -> tuple[bytes, datetime | None]:
    """Return the document of a record, and the moment of its ``timestamp`` where that is seconds.

    Raises:
        ContractError: As ``document``.
    """
    line = one_line(payload)
    fields = _decode(line)
    timestamp = fields.get("timestamp")
    if timestamp is None:
        return line, None
    try:
        seconds = msgspec.json.decode(timestamp)
        if not isinstance(seconds, int | float) or isinstance(seconds, bool):
            return line, None
        moment = datetime.fromtimestamp(seconds, UTC)
    except (msgspec.MsgspecError, ValueError, OverflowError, OSError) as error:
        raise ContractError(f"the timestamp is no moment: {error}") from error
    text = msgspec.json.encode(moment.isoformat(timespec="microseconds"))
    return msgspec.json.encode({**fields, "timestamp": msgspec.Raw(text)}), moment


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
