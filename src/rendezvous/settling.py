"""Answered requests whose record is still open, and their records on the way to the bus.

Off the path of every answer: a record is built and published after the answer has gone out, when
each model that was live at the request's arrival has scored, failed or left, or the deadline has
passed. What is kept costs the same for each request, however many there are: no task, no timer.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

from rendezvous.errors import BusUnavailable
from rendezvous.record import make_record

if TYPE_CHECKING:
    from collections.abc import Callable

    from rendezvous.bus.port import Bus
    from rendezvous.contract import Score
    from rendezvous.decision import Decision, Endpoint
    from rendezvous.mailbox import Key, Mailbox
    from rendezvous.record import DecisionRecord

log = logging.getLogger(__name__)

LINGER = 0.02
"""Seconds that a record may wait for others, to travel with them: nobody is in a hurry for it."""

TICK = 0.25
"""Seconds within which a record is closed once its deadline has passed."""

MOST = 10_000
"""Records that are open at a time; beyond, the one whose answer is the oldest is closed early."""

LAST_SCORES = 0.25
"""Seconds that late scores have when the server stops."""

LAST_RECORDS = 2.0
"""Seconds that the bus then has to take the records."""


class RecordObserver(Protocol):
    """Who is told what becomes of records, to count it."""

    def recorded(self, endpoint: Endpoint, record: DecisionRecord) -> None:
        """Take note of a record that is on its way to the bus."""

    def record_lost(self, endpoint: Endpoint) -> None:
        """Take note of a record that the bus did not take."""


@dataclass(slots=True, eq=False)
class _Unsettled:
    endpoint: Endpoint
    decision: Decision
    mailbox: Mailbox
    arrived: float
    tick: int


class Settling:
    """Keeps what was answered until its record can be closed, and publishes the record.

    Args:
        bus: Carries the records.
        topic: Where they go; empty for no records at all.
        observer: Is told what happens.
        clock: Seconds, never falling.
    """

    def __init__(
        self, bus: Bus, topic: str, observer: RecordObserver, clock: Callable[[], float]
    ) -> None:
        self._bus = bus
        self._topic = topic
        self._observer = observer
        self._clock = clock
        self._open: dict[str, _Unsettled] = {}
        self._ticks: dict[int, dict[str, _Unsettled]] = {}  # what is open, by its closing time
        self._under_way = 0
        self._lost = 0

    def __len__(self) -> int:
        return len(self._open)

    def keep(
        self, endpoint: Endpoint, decision: Decision, mailbox: Mailbox, arrived: float
    ) -> None:
        """Take an answered request that arrived at ``arrived``; close it at once if it can be."""
        if not self._topic:
            return
        message_id = mailbox.message_id
        if message_id in self._open:  # the caller has used its id again
            self._close(self._open[message_id])
        tick = int((arrived + endpoint.deadline) / TICK) + 1
        entry = _Unsettled(endpoint, decision, mailbox, arrived, tick)
        if mailbox.settled:
            self._release(entry)
            return
        self._open[message_id] = entry
        self._ticks.setdefault(tick, {})[message_id] = entry
        if len(self._open) > MOST:
            self._close(next(iter(self._open.values())))

    def late(self, score: Score, now: float) -> bool | None:
        """Take a score that came after the answer.

        Returns:
            Whether it is the first of its model; ``None`` where no such record is open.
        """
        entry = self._open.get(score.message_id)
        if entry is None:
            return None
        first = entry.mailbox.put(score, now - entry.arrived)
        if entry.mailbox.settled:
            self._close(entry)
        return first

    def drop(self, endpoint: str, key: Key) -> None:
        """Wait no more for a model of ``endpoint``, for it is gone."""
        for entry in list(self._open.values()):
            if entry.endpoint.name == endpoint:
                entry.mailbox.drop(key)
                if entry.mailbox.settled:
                    self._close(entry)

    def sweep(self, now: float) -> None:
        """Close the records whose deadline has passed; to be called once a ``TICK`` or so."""
        for tick in [tick for tick in self._ticks if tick * TICK <= now]:
            for entry in list(self._ticks[tick].values()):
                self._close(entry)
            self._ticks.pop(tick, None)

    async def finish(self) -> None:
        """Close every record, after a moment for late scores, and wait for the bus, but not long.

        The last scores must still be heard, and models that leave be dropped, meanwhile.
        """
        await _until(lambda: not self._open, LAST_SCORES)
        for entry in list(self._open.values()):
            self._close(entry)
        await _until(lambda: not self._under_way, LAST_RECORDS)
        if self._under_way:
            log.warning("%d decision records may be lost: the bus is away", self._under_way)

    def _close(self, entry: _Unsettled) -> None:
        """Take no more scores."""
        message_id = entry.mailbox.message_id
        del self._open[message_id]
        of_tick = self._ticks[entry.tick]
        del of_tick[message_id]
        if not of_tick:
            del self._ticks[entry.tick]
        self._release(entry)

    def _release(self, entry: _Unsettled) -> None:
        """Let the record go out when the loop has gone on: the answer goes first."""
        self._under_way += 1
        closed = self._clock() - entry.arrived
        asyncio.get_running_loop().call_soon(self._publish, entry, closed)

    def _publish(self, entry: _Unsettled, closed: float) -> None:
        try:
            record = make_record(entry.endpoint, entry.decision, entry.mailbox, closed)
            self._observer.recorded(entry.endpoint, record)
            published = self._bus.publish(
                self._topic, record.encode(), key=record.message_id, linger=LINGER
            )
        except Exception as error:  # noqa: BLE001 - whatever it is costs its record, and is counted
            self._settled(entry.endpoint, error)
            return
        if published.done():
            self._published(entry.endpoint, published)
        else:
            published.add_done_callback(partial(self._published, entry.endpoint))

    def _published(self, endpoint: Endpoint, published: asyncio.Future[None]) -> None:
        gone = BusUnavailable("the bus gave up")
        self._settled(endpoint, gone if published.cancelled() else published.exception())

    def _settled(self, endpoint: Endpoint, error: BaseException | None) -> None:
        """Count what was lost, and say so once an outage."""
        self._under_way -= 1
        if error is not None:
            self._observer.record_lost(endpoint)
            if not self._lost:
                log.warning("decision records are lost: %s", error)
            self._lost += 1
        elif self._lost:
            log.warning("the bus takes decision records again; %d are lost", self._lost)
            self._lost = 0


async def _until(condition: Callable[[], bool], seconds: float) -> None:
    """Wait until ``condition`` is true, so many seconds at most."""
    end = asyncio.get_running_loop().time() + seconds
    while not condition() and asyncio.get_running_loop().time() < end:
        await asyncio.sleep(0.005)
