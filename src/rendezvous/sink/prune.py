"""Deleting the dated indices whose time is over: once, or as a job that never ends.

Only whole indices are deleted, and of these only such whose name is exactly that of a day or month
of the index; the one of undated records and an index without a period never are.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from rendezvous.errors import SinkError
from rendezvous.sink.dated import LONGEST_KEPT, due
from rendezvous.sink.indices import opened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rendezvous.sink.indices import Index, Indices

    Action = Literal["keep", "would delete", "deleted", "failed"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done with an index, or would have been; ``reason`` where it failed."""

    index: Index
    action: Action
    reason: str = ""


async def prune(
    indices: Indices, names: Sequence[str], *, keep_days: int, now: datetime, apply: bool
) -> list[Outcome]:
    """Delete the dated indices of ``names`` whose period ended more than ``keep_days`` days ago.

    One that cannot be deleted does not keep the others.

    Args:
        indices: Where they are.
        names: The indices, without a date.
        keep_days: 1 to `LONGEST_KEPT`.
        now: This moment, UTC.
        apply: Whether to delete; otherwise it only says what it would do.

    Raises:
        SinkUnavailable: Elasticsearch cannot say which there are; nothing was deleted.
        SinkError: It refuses to say.
    """
    if not 1 <= keep_days <= LONGEST_KEPT:
        raise ValueError(f"keep_days is {keep_days}, not within 1..{LONGEST_KEPT}")
    outcomes = []
    for index in await indices.find(names):
        if not due(index.of, [index.name], now, keep_days):
            outcomes.append(Outcome(index, "keep"))
        elif not apply:
            outcomes.append(Outcome(index, "would delete"))
        else:
            outcomes.append(await _deleted(indices, index))
    return outcomes


async def _deleted(indices: Indices, index: Index) -> Outcome:
    try:
        await indices.delete(index)
    except SinkError as error:
        return Outcome(index, "failed", str(error))
    return Outcome(index, "deleted")


@dataclass(frozen=True, slots=True)
class Pruner:
    """A job that prunes every so often.

    Attributes:
        url: Of Elasticsearch.
        names: The indices, without a date.
        api_key: Where security is on.
        keep_days: 0: it does nothing, until it is stopped.
        apply: Whether to delete; otherwise it only logs what it would.
        every: Hours between the beginnings of two rounds; 0: one round.
    """

    url: str
    names: Sequence[str]
    api_key: str | None
    keep_days: int
    apply: bool
    every: float

    async def run(self, stop: asyncio.Event) -> None:
        """Prune until ``stop`` is set.

        Raises:
            SinkUnavailable: Elasticsearch cannot be reached.
            SinkError: It refuses to say which indices there are, or, in the only round, to delete.
            ConfigurationError: The URL or a name is malformed.
        """
        if not self.keep_days:
            log.info("pruning is off (RENDEZVOUS_KEEP_DAYS is 0): nothing is ever deleted")
            await stop.wait()  # an end would have a container start it again for ever
            return
        async with opened(self.url, self.names, self.api_key) as indices:
            while not stop.is_set():
                failures = await self._round(indices)
                if not self.every:
                    if failures:
                        raise SinkError("; ".join(failures))
                    return
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self.every * 3600.0):
                        await stop.wait()

    async def _round(self, indices: Indices) -> list[str]:
        """Prune once, and tell the log; return why indices were not deleted that are due."""
        outcomes = await prune(
            indices,
            self.names,
            keep_days=self.keep_days,
            now=datetime.now(UTC),
            apply=self.apply,
        )
        for outcome in outcomes:
            index = outcome.index
            if outcome.action == "failed":
                log.error("%s is due and was not deleted: %s", index.name, outcome.reason)
            elif outcome.action != "keep":
                log.info("%s %s (%s documents)", outcome.action, index.name, index.documents)
        kept = sum(outcome.action == "keep" for outcome in outcomes)
        log.info("%d of %d indices are within %d days", kept, len(outcomes), self.keep_days)
        return [outcome.reason for outcome in outcomes if outcome.action == "failed"]
