"""From the loop to the broker.

What costs is not the bytes but each journey: waking the client's thread, the broker, its disk and
every reader. So messages of a topic travel in bursts. While one burst is under way, what is
published waits, and goes as the next one (Nagle's rule, RFC 896): a lone message leaves at once,
or when it has waited for company as long as it may; the busier the topic, the larger its bursts.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import pulsar

from rendezvous.bus.pulsar.failures import failure
from rendezvous.errors import BusError, BusRefused, BusUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger(__name__)

PENDING = 100_000
"""Messages of a topic that wait for the broker, at most: minutes of an outage."""

BURST = 1000
"""Messages of a burst, at most."""

BURST_BYTES = 128 * 1024
"""Bytes of a burst, at most; a message that is larger by itself travels alone."""

PRODUCERS = 100
"""Producers that are kept, about at most: what a message says may choose the topic."""

PRODUCER_ENDED = frozenset({
    pulsar.Result.AlreadyClosed, pulsar.Result.ProducerFenced, pulsar.Result.TopicTerminated,
})  # fmt: skip


class Outgoing(NamedTuple):
    """A message, and the future that is done when the broker has stored it."""

    payload: bytes
    key: str | None
    properties: Mapping[str, str] | None
    linger: float
    done: asyncio.Future[None]


Told = Callable[["Outlet", Sequence[pulsar.Result]], None]
"""Takes the outcome of a burst, a result for each message; called by the client's thread."""

Results = Callable[[Sequence[pulsar.Result]], None]
"""Likewise, of a burst that is known."""


def make_producer(client: pulsar.Client, topic: str, *, together: bool) -> pulsar.Producer:
    """Return a producer; where messages travel ``together``, one whose batches are the bursts.

    The limits of its batches lie beyond those of bursts. Blocks. Raises: BusError.
    """
    try:
        return client.create_producer(
            topic,
            send_timeout_millis=0,  # it sends again for ever; a timeout's outcome is unknown
            max_pending_messages=2 * BURST,
            block_if_queue_full=False,
            batching_enabled=together,
            batching_max_messages=2 * BURST,
            batching_max_allowed_size_in_bytes=8 * BURST_BYTES,
            batching_max_publish_delay_ms=1000,
        )
    except pulsar.PulsarException as error:
        raise failure(f"publish to {topic.rpartition('/')[2]}", type(error).__name__) from error


class Outlet:
    """A producer of a topic; what is published while a burst is under way waits, in order.

    Args:
        topic: The short name.
        together: Whether a burst travels as one, or each of its messages alone.
        told: Is called with this outlet and what became of its burst.
    """

    def __init__(self, topic: str, told: Told, *, together: bool) -> None:
        self.topic = topic
        self.together = together
        self.producer: pulsar.Producer | None = None
        self._told = told
        self._waiting: deque[Outgoing] = deque()
        self._under_way: Sequence[Outgoing] = ()
        self._alone = 0  # so many of those that wait were refused as one
        self._planned: asyncio.Handle | None = None
        self._leaves = 0.0  # when, by the loop's time

    @property
    def idle(self) -> bool:
        """Whether it is open, and all that was published through it is settled."""
        return self.producer is not None and not self._under_way and not self._waiting

    def send(self, message: Outgoing) -> None:
        """Send with the next burst."""
        if len(self._waiting) >= PENDING:
            full = f"publish to {self.topic}: {PENDING} messages wait for the broker"
            fail(message.done, BusUnavailable(full))
            return
        try:
            _check_text(message)
        except (TypeError, ValueError, AttributeError) as error:  # half of a surrogate pair
            refused = BusRefused(f"publish to {self.topic}: no such message can be: {error}")
            fail(message.done, refused)
            return
        self._waiting.append(message)
        self._plan(message)

    def opened(self, producer: pulsar.Producer) -> None:
        """Send what waited."""
        self.producer = producer
        self._plan_next()

    def failed(self, error: BusError) -> None:
        """Fail what waits."""
        while self._waiting:
            fail(self._waiting.popleft().done, error)

    def settle(self, results: Sequence[pulsar.Result]) -> None:
        """Tell those who wait what became of the burst, and send the next one."""
        burst, self._under_way = self._under_way, ()
        again: list[Outgoing] = []
        for message, result in zip(burst, results, strict=True):
            if result == pulsar.Result.Ok:
                if not message.done.done():
                    message.done.set_result(None)
                continue
            error = failure(f"publish to {self.topic}", result.name)
            if isinstance(error, BusRefused) and self.together and len(burst) > 1:
                again.append(message)  # it may be for another of them
            else:
                fail(message.done, error)
            if result in PRODUCER_ENDED:
                self.failed(error)
        self._waiting.extendleft(reversed(again))
        self._alone = self._alone or len(again)
        self._plan_next()

    def _plan_next(self) -> None:
        if self._waiting:
            self._plan(self._waiting[0])

    def _plan(self, message: Outgoing) -> None:
        """Let the next burst leave when ``message``, one of those that wait, must.

        At once is at the end of this turn of the loop: what it publishes goes together.
        """
        if self._under_way or self.producer is None:
            return
        loop = asyncio.get_running_loop()
        linger = 0.0 if len(self._waiting) >= BURST else message.linger
        leaves = loop.time() + linger
        if self._planned is not None:
            if self._leaves <= leaves:
                return
            self._planned.cancel()
        self._leaves = leaves
        self._planned = loop.call_at(leaves, self._go) if linger else loop.call_soon(self._go)

    def _go(self) -> None:
        self._planned = None
        if self._under_way or self.producer is None or not self._waiting:
            return
        burst = self._under_way = self._take()
        try:
            send = _as_one if self.together else _one_by_one
            send(self.producer, burst, partial(self._told, self))
        except pulsar.PulsarException as error:  # of some of them the outcome is unknown
            self._under_way = ()
            unknown = BusUnavailable(f"publish to {self.topic}: {type(error).__name__}")
            for message in burst:
                fail(message.done, unknown)
            self._plan_next()

    def _take(self) -> list[Outgoing]:
        waiting = self._waiting
        burst = [waiting.popleft()]
        if self._alone:
            self._alone -= 1
            return burst
        size = len(burst[0].payload)
        while waiting and len(burst) < BURST:
            size += len(waiting[0].payload)
            if size > BURST_BYTES:
                break
            burst.append(waiting.popleft())
        return burst


def _as_one(producer: pulsar.Producer, burst: Sequence[Outgoing], told: Results) -> None:
    """Send a burst as one batch, of which all is stored or nothing."""
    flush = producer._producer.flush_async  # noqa: SLF001 - the public one blocks
    if len(burst) == 1 and len(burst[0].payload) > BURST_BYTES:
        # it may be too large for the broker, of which a flush knows nothing
        _hand_over(producer, burst[0], lambda result, _: told([result]))
        flush(_nothing)
        return
    for message in burst:
        _hand_over(producer, message, None)
    flush(lambda result: told([result] * len(burst)))


def _one_by_one(producer: pulsar.Producer, burst: Sequence[Outgoing], told: Results) -> None:
    results: dict[int, pulsar.Result] = {}

    def one(place: int, result: pulsar.Result, _: object) -> None:
        results[place] = result  # in any order: one that is too large is told at once
        if len(results) == len(burst):
            told([results[place] for place in range(len(burst))])

    for place, message in enumerate(burst):
        _hand_over(producer, message, partial(one, place))


def _nothing(_: pulsar.Result) -> None:
    """Take a flush's result: the message itself has said what became of it."""


def _hand_over(
    producer: pulsar.Producer,
    message: Outgoing,
    told: Callable[[pulsar.Result, pulsar.MessageId], None] | None,
) -> None:
    producer.send_async(
        message.payload,
        told,
        partition_key=message.key,
        properties=dict(message.properties) if message.properties else None,
    )


def _check_text(message: Outgoing) -> None:
    """Raise ValueError, TypeError or AttributeError for what can not be written as UTF-8."""
    if message.key:
        message.key.encode()
    for name, value in (message.properties or {}).items():
        name.encode()
        value.encode()


class Outlets:
    """The outlets in use. Beyond ``PRODUCERS`` the least recently used idle ones are closed.

    One that is not idle is never closed, for that would lose what is under way, nor replaced by
    another beside it, for that would mix up the order.

    Args:
        make: Makes a producer of a topic, for messages that travel together or for others; called
            in a thread. It raises ``BusError``.
    """

    def __init__(self, make: Callable[[str, bool], pulsar.Producer]) -> None:
        self._make = make
        self._outlets: dict[tuple[str, bool], Outlet] = {}
        self._outcomes: Outcomes | None = None
        self.changing: set[asyncio.Task[pulsar.Producer] | asyncio.Task[None]] = set()
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

        def opened(made: asyncio.Task[pulsar.Producer]) -> None:
            self.changing.discard(made)
            error = BusUnavailable("cancelled") if made.cancelled() else made.exception()
            if error is None:
                outlet.opened(made.result())
            else:
                self.drop(outlet)
                outlet.failed(error if isinstance(error, BusError) else BusError(str(error)))

        opening.add_done_callback(opened)
        self.trim()
        return outlet

    def _settled(self, outlet: Outlet, results: Sequence[pulsar.Result]) -> None:
        if not PRODUCER_ENDED.isdisjoint(results):
            self.drop(outlet)
        outlet.settle(results)
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

    def __init__(self, loop: asyncio.AbstractEventLoop, settle: Told) -> None:
        self._loop = loop
        self._settle = settle
        self._waiting: deque[tuple[Outlet, Sequence[pulsar.Result]]] = deque()
        self._scheduled = False

    def put(self, outlet: Outlet, results: Sequence[pulsar.Result]) -> None:
        """Take results; called by the client's thread, so it must not block nor raise."""
        self._waiting.append((outlet, results))
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
