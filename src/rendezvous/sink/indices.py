"""The indices on Elasticsearch as an operator sees them: which there are, and deleting one."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

import msgspec

from rendezvous.errors import SinkError, SinkUnavailable
from rendezvous.sink.client import (
    FORBIDDEN,
    ApiError,
    TransportError,
    check_url,
    open_client,
    said,
)
from rendezvous.sink.dated import belongs, check_name, period_end

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from datetime import datetime

    from rendezvous.sink.client import AsyncElasticsearch


@dataclass(frozen=True, slots=True)
class Index:
    """One index on Elasticsearch.

    Attributes:
        name: Its name.
        of: The index it belongs to: the same, or the one that it is a part of.
        documents: That are in it; ``None`` while it is closed.
        size: Bytes on disk, with replicas; ``None`` while it is closed.
        end: When its period ended, UTC; ``None`` where it has none.
    """

    name: str
    of: str
    documents: int | None
    size: int | None
    end: datetime | None


class Indices:
    """Lists and deletes indices; ``opened`` makes one."""

    def __init__(self, client: AsyncElasticsearch) -> None:
        self._client = client

    async def find(self, names: Iterable[str]) -> list[Index]:
        """Return what there is of these indices: each itself, its dated ones, the undated.

        Raises:
            SinkUnavailable: Elasticsearch cannot be reached or is too busy.
            SinkError: It refuses for lack of a right: ``monitor`` on ``<index>*``.
        """
        return [index for name in dict.fromkeys(names) for index in await self._find(name)]

    async def delete(self, index: Index) -> None:
        """Delete an index that has a period, with all that is in it. One that is gone is fine.

        Raises:
            SinkUnavailable: Elasticsearch cannot be reached or is too busy.
            SinkError: It refuses for lack of a right: ``delete_index`` on ``<index>*``; or the
                index has no period.
        """
        if period_end(index.of, index.name) is None:
            raise SinkError(f"{index.name} is no dated index of {index.of}; it is not deleted")
        async with _errors(f"deleting {index.name}"):
            # It is one name, and must not be taken for a pattern whatever it is.
            await self._client.indices.delete(
                index=index.name, ignore_unavailable=True, expand_wildcards="none"
            )

    async def _find(self, name: str) -> list[Index]:
        async with _errors(f"listing {name}*"):
            answer = await self._client.cat.indices(
                index=f"{name}*",
                format="json",
                bytes="b",
                h="index,docs.count,store.size",
                expand_wildcards=["open", "closed"],
            )
            rows = msgspec.convert(answer.body, list[_Row], strict=False)
        return [
            Index(row.index, name, row.documents, row.size, period_end(name, row.index))
            for row in sorted(rows, key=lambda row: row.index)
            if belongs(name, row.index)
        ]


@asynccontextmanager
async def opened(url: str, names: Iterable[str], api_key: str | None) -> AsyncIterator[Indices]:
    """Open the indices on an Elasticsearch; inside the block they can be asked for.

    Args:
        url: As of ``ElasticSink``.
        names: The indices that will be asked for.
        api_key: Where security is on.

    Raises:
        ConfigurationError: The URL or a name is malformed.
    """
    check_url(url)
    for name in names:
        check_name(name)
    client = open_client(url, api_key)
    try:
        yield Indices(client)
    finally:
        await client.close()


class _Row(msgspec.Struct):
    index: str
    documents: int | None = msgspec.field(name="docs.count", default=None)
    size: int | None = msgspec.field(name="store.size", default=None)


@asynccontextmanager
async def _errors(doing: str) -> AsyncIterator[None]:
    """Raise the errors of the client as ours."""
    try:
        yield
    except ApiError as error:
        text = f"Elasticsearch, {doing}: {said(error)}"
        if error.status_code in {*FORBIDDEN, HTTPStatus.BAD_REQUEST}:
            raise SinkError(text) from error
        raise SinkUnavailable(text) from error
    except (TransportError, msgspec.ValidationError) as error:
        raise SinkUnavailable(f"Elasticsearch, {doing}: {said(error)}") from error
