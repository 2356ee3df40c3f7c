"""From the loop to the broker.

What costs is not the bytes but each journey: waking the client's thread, the broker, its disk and
every reader. So messages of a topic travel in bursts. While one burst is under way, what is
published waits, and goes as the next one (Nagle's rule, RFC 896): a lone message leaves at once,
or when it has waited for company as long as it may; the busier the topic, the larger its bursts.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

import pulsar

from rendezvous.bus.pulsar.bursts import Burst, Outgoing
from rendezvous.bus.pulsar.failures import failure
from rendezvous.errors import BusError, BusRefused, BusUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

PENDING = 100_000
"""Messages of a topic that wait for the broker, at most."""

PENDING_BYTES = 256 * 1024 * 1024
"""Their bytes, at most."""

BURST = 1000
"""Messages of a burst, at most."""

BURST_BYTES = 128 * 1024
"""Bytes of a burst, at most; a message that is larger by itself travels alone."""

PATIENCE = 0.02
"""Seconds that one burst holds up the next: a slow partition must not stop the others."""

PRODUCERS = 100
"""Producers that are kept, about at most: what a message says may choose the topic."""

PRODUCER_ENDED = frozenset({
    pulsar.Result.AlreadyClosed, pulsar.Result.ProducerFenced, pulsar.Result.TopicTerminated,
})  # fmt: skip


Opened = tuple[pulsar.Producer, bool]
"""A producer, and whether its topic is one, not several partitions."""


def make_producer(client: pulsar.Client, topic: str, *, together: bool) -> Opened:
    """Return a producer; where messages travel ``together``, one whose batches are the bursts.

    Its own limits lie beyond those of bursts, and none is on what is pending: a burst that is
    refused would use it up. Blocks. Raises: BusError.
    """
    try:
        producer = client.create_producer(
            topic,
            send_timeout_millis=0,  # it sends again for ever; a timeout's outcome is unknown
            max_pending_messages=0,
            block_if_queue_full=False,
            batching_enabled=together,
            batching_max_messages=2 * BURST,
            batching_max_allowed_size_in_bytes=8 * BURST_BYTES,
            batching_max_publish_delay_ms=1000,  # should it not be flushed
        )
        return producer, client.get_topic_partitions(topic) == [topic]
    except pulsar.PulsarException as error:
        raise failure(f"publish to {topic.rpartition('/')[2]}", type(error).__name__) from error


class Outlet:
    """A producer of a topic; what is published while a burst is under way waits, in order.

    Args:
        topic: The short name.
        told: Is called with this outlet and a burst of which all is known.
        together: Whether a burst travels as one, or each of its messages alone.
    """

    def __init__(
        self, topic: str, told: Callable[[Outlet, Burst], None], *, together: bool
    ) -> None:
        self.topic = topic
        self.together = together
        self.producer: pulsar.Producer | None = None
        self._whole = False
        self._told = partial(told, self)
        self._waiting: deque[Outgoing] = deque()
        self._bytes = 0  # of those that wait
        self._leaves = math.inf  # when the first of them must
        self._under_way = 0  # bursts
        self._pending = 0  # messages that wait or are under way
        self._pending_bytes = 0
        self._last = -math.inf  # when the last burst left
        self._planned: tuple[float, asyncio.Handle] | None = None

    @property
    def idle(self) -> bool:
        """Whether it is open, and all that was published through it is settled."""
        return self.producer is not None and not self._pending

    def send(self, message: Outgoing) -> None:
        """Send with the next burst, or refuse."""
        if self._pending >= PENDING or self._pending_bytes >= PENDING_BYTES:
            full = f"publish to {self.topic}: {self._pending} messages wait for the broker"
            fail(message.done, BusUnavailable(full))
            return
        try:
            message.check()
        except (TypeError, ValueError, AttributeError) as error:  # half of a surrogate pair, say
            refused = BusRefused(f"publish to {self.topic}: no such message can be: {error}")
            fail(message.done, refused)
            return
        self._pending += 1
        self._pending_bytes += message.size
        self._waiting.append(message)
        self._bytes += message.size
        self._leaves = min(self._leaves, message.leaves)
        self._plan()

    def opened(self, producer: pulsar.Producer, *, whole: bool) -> None:
        """Send what waited; ``whole``: the topic is one, so that a batch is one."""
        self.producer = producer
        self._whole = whole
        self._plan()

    def failed(self, error: BusError) -> None:
        """Fail what waits."""
        waiting, self._waiting = self._waiting, deque()
        self._bytes, self._leaves = 0, math.inf
        for message in waiting:
            self._settled(message)
            fail(message.done, error)

    def settle(self, burst: Burst) -> None:
        """Tell those who wait what became of a burst, and send the next one."""
        self._under_way -= 1
        together = len(burst.messages) > 1 and self.together
        again: list[Outgoing] = []
        for message, result in zip(burst.messages, burst.results, strict=True):
            if result == pulsar.Result.Ok:
                self._settled(message)
                if not message.done.done():
                    message.done.set_result(None)
                continue
            error = failure(f"publish to {self.topic}", result.name)
            if isinstance(error, BusRefused) and together:  # it may be for another of them
                message.alone = True
                again.append(message)
            else:
                self._settled(message)
                fail(message.done, error)
            if result in PRODUCER_ENDED:
                self.failed(error)
        self._waiting.extendleft(reversed(again))
        self._bytes += sum(message.size for message in again)
        if again:
            self._leaves = -math.inf
        self._plan()

    def _settled(self, message: Outgoing) -> None:
        self._pending -= 1
        self._pending_bytes -= message.size

    def _plan(self) -> None:
        """Let the next burst leave when it must and may.

        At once is at the end of this turn of the loop: what it publishes goes together.
        """
        if self.producer is None or not self._waiting:
            return
        loop = asyncio.get_running_loop()
        full = len(self._waiting) >= BURST or self._bytes >= BURST_BYTES
        when = -math.inf if full else self._leaves
        if self._under_way:
            when = max(when, self._last + PATIENCE)
        if self._planned is not None:
            planned, handle = self._planned
            if planned <= when:
                return
            handle.cancel()
        soon = when <= loop.time()
        self._planned = when, loop.call_soon(self._go) if soon else loop.call_at(when, self._go)

    def _go(self) -> None:
        self._planned = None
        if self.producer is None or not self._waiting:
            return
        burst = Burst(self._take(), self._told)
        self._under_way += 1
        self._last = asyncio.get_running_loop().time()
        (_as_one if self.together and self._whole else _one_by_one)(self.producer, burst)
        if self.together:
            self.producer._producer.flush_async(_nothing)  # noqa: SLF001 - the public one blocks
        self._plan()

    def _take(self) -> list[Outgoing]:
        waiting = self._waiting
        burst = [waiting.popleft()]
        size = burst[0].size
        while waiting and len(burst) < BURST and not burst[0].alone and not waiting[0].alone:
            size += waiting[0].size
            if size > BURST_BYTES:
                size -= waiting[0].size
                break
            burst.append(waiting.popleft())
        self._bytes -= size
        self._leaves = -math.inf if waiting else math.inf  # who is left over has waited
        return burst


def _one_by_one(producer: pulsar.Producer, burst: Burst) -> None:
    """Hand a burst to the client; each message tells what became of it."""
    for place, message in enumerate(burst.messages):
        if not _hand_over(producer, message, partial(burst.came, place)):
            burst.came(place, pulsar.Result.UnknownError)


def _as_one(producer: pulsar.Producer, burst: Burst) -> None:
    """Hand a burst to the client, as one batch: to be told of each costs as much as to send it."""
    last = len(burst.messages) - 1
    for place, message in enumerate(burst.messages):
        if not _hand_over(producer, message, burst.came_as_one if place == last else None):
            burst.lost.add(place)
    if last in burst.lost:  # nobody will tell
        burst.came_as_one(pulsar.Result.UnknownError)


def _hand_over(
    producer: pulsar.Producer,
    message: Outgoing,
    told: Callable[[pulsar.Result, pulsar.MessageId], None] | None,
) -> bool:
    try:
        producer.send_async(
            message.payload,
            told,
            partition_key=message.key,
            properties=dict(message.properties) if message.properties else None,
        )
    except Exception as error:  # noqa: BLE001 - whatever it is costs this message alone
        log.warning("a message could not be handed over: %s", error)
        return False
    return True


def _nothing(_: pulsar.Result) -> None:
    """Take a flush's result."""


class Outlets:
    """The outlets in use. Beyond ``PRODUCERS`` the least recently used idle ones are closed.

    One that is not idle is never closed, for that would lose what is under way, nor replaced by
    another beside it, for that would mix up the order.

    Args:
        make: Makes a producer of a topic, for messages that travel together or for others; called
            in a thread. It raises ``BusError``.
    """

    def __init__(self, make: Callable[[str, bool], Opened]) -> None:
        self._make = make
        self._outlets: dict[tuple[str, bool], Outlet] = {}
        self._outcomes: Outcomes | None = None
        self.changing: set[asyncio.Task[Opened] | asyncio.Task[None]] = set()
        """What opens and closes producers at present."""

    def __len__(self) -> int:
        return len(self._outlets)

    def of(self, topic: str, *, together: bool = False) -> Outlet:
        """Return an outlet of ``topic``, the most recently used one from now on."""
        key = (topic, together)
        outlet = self._outlets.pop(key, None)
        if outlet is not None:
            self._outlets[key] = outlet
            return outlet
        if self._outcomes is None:
            self._outcomes = Outcomes(asyncio.get_running_loop(), self._settled)
        outlet = self._outlets[key] = Outlet(topic, self._outcomes.put, together=together)
        opening = asyncio.create_task(asyncio.to_thread(self._make, topic, together))
        self.changing.add(opening)

        def opened(made: asyncio.Task[Opened]) -> None:
            self.changing.discard(made)
            error = BusUnavailable("cancelled") if made.cancelled() else made.exception()
            if error is None:
                producer, whole = made.result()
                outlet.opened(producer, whole=whole)
            else:
                self.drop(outlet)
                outlet.failed(error if isinstance(error, BusError) else BusError(str(error)))

        opening.add_done_callback(opened)
        self.trim()
        return outlet

    def _settled(self, outlet: Outlet, burst: Burst) -> None:
        if not PRODUCER_ENDED.isdisjoint(burst.results):
            self.drop(outlet)
        outlet.settle(burst)
        self.trim()

    def drop(self, outlet: Outlet) -> None:
        """Let the next message of its topic make a new producer, if ``outlet`` is still the one."""
        key = (outlet.topic, outlet.together)
        if self._outlets.get(key) is outlet:
            del self._outlets[key]

    def trim(self) -> None:
        """Close idle outlets where there are too many."""
        too_many = len(self._outlets) - PRODUCERS
        if too_many <= 0:
            return
        idle = [outlet for outlet in self._outlets.values() if outlet.idle]
        for outlet in idle[:too_many]:
            self.drop(outlet)
            closing = asyncio.create_task(asyncio.to_thread(_close, outlet.producer))
            self.changing.add(closing)
            closing.add_done_callback(self.changing.discard)


class Outcomes:
    """Brings what became of bursts from the client's threads to the loop."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, settle: Callable[[Outlet, Burst], None]
    ) -> None:
        self._loop = loop
        self._settle = settle
        self._waiting: deque[tuple[Outlet, Burst]] = deque()
        self._scheduled = False

    def put(self, outlet: Outlet, burst: Burst) -> None:
        """Take a burst; called by the client's thread, so it must not block nor raise."""
        self._waiting.append((outlet, burst))
        if not self._scheduled:
            self._scheduled = True
            try:
                self._loop.call_soon_threadsafe(self._drain)
            except RuntimeError:  # the loop is closed: nobody waits any more
                self._waiting.clear()

    def _drain(self) -> None:
        self._scheduled = False
        while self._waiting:
            self._settle(*self._waiting.popleft())


def fail(done: asyncio.Future[None], error: BusError) -> None:
    """Put ``error`` into ``done``, unless the caller has cancelled it and so looks away."""
    if not done.done():
        done.set_exception(error)


def _close(producer: pulsar.Producer) -> None:
    try:
        producer.close()
    except pulsar.PulsarException as error:
        log.debug("closing a producer: %s", error)
