"""The loop of a connector: gather messages, store them, and only then ack them.

Guarantee: at least once from the bus, and each record once in the sink, as far as the sink knows
its ids. A message is acked after the sink has it durably, or after a dead-letter topic has it; so
a crash at any moment, of any part, repeats work and loses none.

Of a dead-letter topic each message is a record, whatever is in it. One that the sink refuses is
acked all the same and logged: it is a dead letter already, and the bus keeps it for the group
``deadletter.KEEPER``.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Protocol

import stamina

from rendezvous.bus.topics import kind
from rendezvous.contract import record_id
from rendezvous.deadletter import Undertaker, keeps_dead_letters
from rendezvous.errors import ContractError, SinkUnavailable
from rendezvous.membership import MembershipObserver, membership
from rendezvous.sink.letters import letter_record
from rendezvous.sink.port import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rendezvous.bus.port import Bus, Deliveries, Delivery
    from rendezvous.sink.port import Rejection, Sink

log = logging.getLogger(__name__)

STOP_CHECK = 0.1
LINGER = 0.02
"""Seconds that a message may wait for others; the batch, for longer."""

LAST_WRITE = 5.0
"""Seconds that the sink has for what is in hand when the connector stops."""

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 30.0
JITTER = 0.2


class Observer(MembershipObserver, Protocol):
    """Who is told what happens, to count it."""

    def archived(self, group: str, topic: str, number: int) -> None:
        """Take note of records of ``topic`` that are stored durably; of a family, its kind."""

    def retried(self, group: str) -> None:
        """Take note of a write that failed and is tried again."""

    def buried(self, topic: str) -> None:
        """Take note of a message that went to the dead-letter topic of ``topic``."""

    def holding(self, group: str, topics: Sequence[str], *, since: float | None) -> None:
        """Take note since when the oldest message in hand waits to be stored.

        ``since``: by ``time.monotonic``; ``None`` when nothing is in hand.
        """


class Silent(Observer):
    """Counts nothing."""


@dataclass(slots=True)
class _Batch:
    """What is in hand: each record once, with every delivery that brought it."""

    records: dict[str, Record] = field(default_factory=dict)
    deliveries: dict[str, list[Delivery]] = field(default_factory=dict)
    messages: int = 0

    def add(self, record: Record, delivery: Delivery) -> None:
        self.records.setdefault(record.id, record)
        self.deliveries.setdefault(record.id, []).append(delivery)
        self.messages += 1

    def __len__(self) -> int:
        return self.messages


@dataclass(slots=True)
class Connector:
    """Archives topics in one sink; its replicas share the group.

    While the sink is away its batch is tried again for ever, and nothing more is read: the bus
    keeps the rest. A message that is no record is buried after a few tries, one that the sink
    refuses at once; the others go on.

    Attributes:
        bus: Brings the messages.
        sink: Takes them; closed whenever ``run`` ends, and opened again by its next write.
        topics: What is archived; may name families of topics.
        group: The name under which the bus keeps the connector's place.
        threshold: Messages in a batch, at most.
        timeout: Seconds that the first message of a batch waits for others, at most.
        observer: Is told what happens.
    """

    bus: Bus
    sink: Sink
    topics: Sequence[str]
    _: KW_ONLY
    group: str
    threshold: int = 1000
    timeout: float = 5.0
    observer: Observer = field(default_factory=Silent)

    async def run(self, stop: asyncio.Event) -> None:
        """Archive until ``stop`` is set, then store what is in hand.

        What cannot be stored within 5 s then stays unacked: it comes again at the next start.

        Raises:
            BusError: The bus cannot be reached, or refuses.
            SinkError: The sink cannot go on, and waiting does not mend it.
            ConfigurationError: The sink is not what the configuration says.
        """
        try:
            with membership(self.observer, self.group, self.topics) as reads:
                await self._read(reads, stop)
        finally:
            self._hold(None)
            await self.sink.aclose()

    async def _read(self, reads: Callable[[], None], stop: asyncio.Event) -> None:
        undertaker = Undertaker(self.bus, self.observer.buried, self.topics)
        async with self.bus.subscribe(
            self.topics, self.group, start="earliest", linger=LINGER
        ) as deliveries:
            await self._store((), stop)  # what is wrong with the sink shows at the start
            reads()
            while not stop.is_set():
                batch = await self._gather(deliveries, undertaker, stop)
                if batch:
                    await self._archive(batch, deliveries, undertaker, stop)
                    self._hold(None)

    def _hold(self, since: float | None) -> None:
        self.observer.holding(self.group, self.topics, since=since)

    async def _gather(
        self, deliveries: Deliveries, undertaker: Undertaker, stop: asyncio.Event
    ) -> _Batch:
        """Return what comes until the threshold, the timeout, or ``stop``; it may be nothing."""
        batch = _Batch()
        now = asyncio.get_running_loop().time
        full = float("inf")
        while not stop.is_set() and (room := self.threshold - len(batch)) > 0 and now() < full:
            taken = await deliveries.receive(room, max(0.0, min(STOP_CHECK, full - now())))
            for delivery in taken:
                try:
                    record = _record(delivery)
                except ContractError as error:
                    await undertaker.refuse(deliveries, delivery, str(error))
                    continue
                batch.add(record, delivery)
            if batch and full == float("inf"):
                full = now() + self.timeout
                self._hold(time.monotonic())
        return batch

    async def _archive(
        self,
        batch: _Batch,
        deliveries: Deliveries,
        undertaker: Undertaker,
        stop: asyncio.Event,
    ) -> None:
        """Store the batch, then ack it; bury what the sink can never store."""
        rejections = await self._store(list(batch.records.values()), stop)
        if rejections is None:
            log.warning(
                "%s stops with %d messages that are not stored; they come again",
                self.group,
                len(batch),
            )
            return
        refused = {rejection.record.id: rejection.reason for rejection in rejections}
        done: list[Delivery] = []
        stored: Counter[str] = Counter()
        for record, brought in batch.deliveries.items():
            if record in refused:
                done += brought[1:]
            else:
                done += brought
                stored[kind(batch.records[record].topic, self.topics)] += 1
        await deliveries.ack(done)
        for topic, number in stored.items():
            self.observer.archived(self.group, topic, number)
        for record, reason in refused.items():
            await self._give_up(batch.deliveries[record][0], reason, deliveries, undertaker)

    async def _give_up(
        self, delivery: Delivery, reason: str, deliveries: Deliveries, undertaker: Undertaker
    ) -> None:
        """Bury what the sink refuses; a dead letter would only be buried again, and so for ever."""
        if keeps_dead_letters(delivery.topic):
            log.error("%s can not store a letter of %s: %s", self.group, delivery.topic, reason)
            await deliveries.ack([delivery])
        else:
            await undertaker.bury(deliveries, delivery, reason)

    async def _store(
        self, records: Sequence[Record], stop: asyncio.Event
    ) -> Sequence[Rejection] | None:
        """Write for as long as it takes; ``None`` when stopped and the sink did not take it."""
        if not stop.is_set():
            writing = asyncio.create_task(self._write(records))
            stopped = asyncio.create_task(stop.wait())
            try:
                await asyncio.wait((writing, stopped), return_when=asyncio.FIRST_COMPLETED)
                if writing.done():
                    return writing.result()
            finally:
                writing.cancel()
                stopped.cancel()
                await asyncio.gather(writing, stopped, return_exceptions=True)
        try:
            async with asyncio.timeout(LAST_WRITE):
                return await self.sink.write(records)
        except (SinkUnavailable, TimeoutError) as error:
            log.warning("%s: the last write failed: %s", self.group, error or "no answer in time")
            return None

    async def _write(self, records: Sequence[Record]) -> Sequence[Rejection]:
        """Write, again and again while the sink is unavailable."""
        failures = 0
        async for attempt in stamina.retry_context(
            on=SinkUnavailable,
            attempts=None,
            timeout=None,
            wait_initial=FIRST_PAUSE,
            wait_max=LONGEST_PAUSE,
            wait_jitter=JITTER,
        ):
            with attempt:
                try:
                    rejections = await self.sink.write(records)
                except SinkUnavailable as error:
                    if not failures:
                        log.warning("%s: the sink is away: %s", self.group, error)
                    failures += 1
                    self.observer.retried(self.group)
                    raise
        if failures:
            log.info("%s: the sink is back after %d tries", self.group, failures)
        return rejections


def _record(delivery: Delivery) -> Record:
    """Return what to store of a message. Raises: ContractError, where it is no record."""
    if keeps_dead_letters(delivery.topic):
        return letter_record(delivery, time.time())
    return Record(record_id(delivery.payload), delivery.topic, delivery.payload)
