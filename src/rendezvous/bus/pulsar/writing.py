"""From the loop to the broker."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING

import pulsar

from rendezvous.bus.pulsar.failures import failure
from rendezvous.errors import BusError, BusRefused, BusUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    Send = Callable[[pulsar.Producer], None]

log = logging.getLogger(__name__)

PRODUCERS = 100
"""Producers that are kept, about at most: what a message says may choose the topic."""
PRODUCER_ENDED = frozenset({
    pulsar.Result.AlreadyClosed, pulsar.Result.ProducerFenced, pulsar.Result.TopicTerminated,
})  # fmt: skip


class Outlet:
    """The one producer of a topic; what is published before it is open waits, in order."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.producer: pulsar.Producer | None = None
        self.waiting: list[tuple[Send, asyncio.Future[None]]] = []
        self.under_way = 0
        """Messages of which the broker has not yet said what became of them."""

    @property
    def idle(self) -> bool:
        """Whether it is open, and all that was published through it is settled."""
        return self.producer is not None and not self.under_way

    def send(self, send: Send, done: asyncio.Future[None]) -> None:
        """Send now, or when the producer is there."""
        if self.producer is None:
            self.waiting.append((send, done))
        else:
            self._try(send, self.producer, done)

    def opened(self, producer: pulsar.Producer) -> None:
        """Send what waited."""
        self.producer = producer
        for send, done in self.waiting:
            self._try(send, producer, done)
        self.waiting.clear()

    def failed(self, error: BusError) -> None:
        """Fail what waited."""
        for _, done in self.waiting:
            _fail(done, error)
        self.waiting.clear()

    def _try(self, send: Send, producer: pulsar.Producer, done: asyncio.Future[None]) -> None:
        self.under_way += 1
        try:
            send(producer)
        except pulsar.PulsarException as error:
            self.under_way -= 1
            _fail(done, failure(f"publish to {self.topic}", type(error).__name__))
        except (TypeError, ValueError) as error:  # half of a surrogate pair, for one
            self.under_way -= 1
            _fail(done, BusRefused(f"publish to {self.topic}: no such message can be: {error}"))


class Outlets:
    """The outlets in use. Beyond ``PRODUCERS`` the least recently used idle ones are closed.

    One that is not idle is never closed, for that would lose what is under way, nor replaced by
    another beside it, for that would mix up the order.

    Args:
        make: Makes the producer of a topic; called in a thread. It raises ``BusError``.
    """

    def __init__(self, make: Callable[[str], pulsar.Producer]) -> None:
        self._make = make
        self._outlets: dict[str, Outlet] = {}
        self.changing: set[asyncio.Task[pulsar.Producer] | asyncio.Task[None]] = set()
        """What opens and closes producers at present."""

    def __len__(self) -> int:
        return len(self._outlets)

    def of(self, topic: str) -> Outlet:
        """Return the outlet of ``topic``, the most recently used one from now on."""
        outlet = self._outlets.pop(topic, None)
        if outlet is not None:
            self._outlets[topic] = outlet
            return outlet
        outlet = self._outlets[topic] = Outlet(topic)
        opening = asyncio.create_task(asyncio.to_thread(self._make, topic))
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

    def drop(self, outlet: Outlet) -> None:
        """Let the next message of its topic make a new producer, if ``outlet`` is still the one."""
        if self._outlets.get(outlet.topic) is outlet:
            del self._outlets[outlet.topic]

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
    """Brings results of sends from the client's thread to the loop: one wake-up a burst."""

    def __init__(self, loop: asyncio.AbstractEventLoop, outlets: Outlets) -> None:
        self._loop = loop
        self._outlets = outlets
        self._waiting: deque[tuple[asyncio.Future[None], Outlet, pulsar.Result]] = deque()
        self._scheduled = False

    def put(
        self, done: asyncio.Future[None], outlet: Outlet, result: pulsar.Result, _id: object
    ) -> None:
        """Take a result; called by the client's thread, so it must not block nor raise."""
        self._waiting.append((done, outlet, result))
        if not self._scheduled:
            self._scheduled = True
            try:
                self._loop.call_soon_threadsafe(self._settle)
            except RuntimeError:  # the loop is closed: nobody waits any more
                self._waiting.clear()

    def _settle(self) -> None:
        self._scheduled = False
        while self._waiting:
            done, outlet, result = self._waiting.popleft()
            outlet.under_way -= 1  # also where the caller has cancelled, and so looks away
            if result in PRODUCER_ENDED:
                self._outlets.drop(outlet)
            if result != pulsar.Result.Ok:
                _fail(done, failure(f"publish to {outlet.topic}", result.name))
            elif not done.done():
                done.set_result(None)
        self._outlets.trim()


def _fail(done: asyncio.Future[None], error: BusError) -> None:
    if not done.done():
        done.set_exception(error)


def _close(producer: pulsar.Producer) -> None:
    try:
        producer.close()
    except pulsar.PulsarException as error:
        log.debug("closing a producer: %s", error)
