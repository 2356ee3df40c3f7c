"""From the loop to the broker."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import pulsar

from rendezvous.bus.pulsar.failures import failure

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from rendezvous.errors import BusError

    Send = Callable[[pulsar.Producer], None]

PRODUCER_ENDED = frozenset({
    pulsar.Result.AlreadyClosed, pulsar.Result.ProducerFenced, pulsar.Result.TopicTerminated,
})  # fmt: skip


class Outcomes:
    """Brings results of sends from the client's thread to the loop: one wake-up a burst."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, producer_ended: Callable[[str], None]
    ) -> None:
        self._loop = loop
        self._producer_ended = producer_ended
        self._waiting: deque[tuple[asyncio.Future[None], str, pulsar.Result]] = deque()
        self._scheduled = False

    def put(
        self, done: asyncio.Future[None], topic: str, result: pulsar.Result, _id: object
    ) -> None:
        """Take a result; called by the client's thread, so it must not block nor raise."""
        self._waiting.append((done, topic, result))
        if not self._scheduled:
            self._scheduled = True
            try:
                self._loop.call_soon_threadsafe(self._settle)
            except RuntimeError:  # the loop is closed: nobody waits any more
                self._waiting.clear()

    def _settle(self) -> None:
        self._scheduled = False
        while self._waiting:
            done, topic, result = self._waiting.popleft()
            if done.done():
                continue
            if result == pulsar.Result.Ok:
                done.set_result(None)
            else:
                done.set_exception(failure(f"publish to {topic}", result.name))
                if result in PRODUCER_ENDED:
                    self._producer_ended(topic)


class Outlet:
    """The one producer of a topic; what is published before it is open waits, in order."""

    def __init__(self) -> None:
        self.producer: pulsar.Producer | None = None
        self.waiting: list[tuple[Send, asyncio.Future[None]]] = []

    def send(self, send: Send, done: asyncio.Future[None]) -> None:
        """Send now, or when the producer is there."""
        if self.producer is None:
            self.waiting.append((send, done))
        else:
            _try_send(send, self.producer, done)

    def opened(self, producer: pulsar.Producer) -> None:
        """Send what waited."""
        self.producer = producer
        for send, done in self.waiting:
            _try_send(send, producer, done)
        self.waiting.clear()

    def failed(self, error: BusError) -> None:
        """Fail what waited."""
        for _, done in self.waiting:
            if not done.done():
                done.set_exception(error)
        self.waiting.clear()


def _try_send(send: Send, producer: pulsar.Producer, done: asyncio.Future[None]) -> None:
    try:
        send(producer)
    except pulsar.PulsarException as error:
        if not done.done():
            done.set_exception(failure("publish", type(error).__name__))
