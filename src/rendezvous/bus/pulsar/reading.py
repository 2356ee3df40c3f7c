"""From the broker to the loop."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import deque
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import pulsar

from rendezvous.bus.port import PREFETCH, Deliveries, Delivery, Listening
from rendezvous.bus.pulsar.failures import failure
from rendezvous.errors import BusError, BusUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

log = logging.getLogger(__name__)

READ_MS = 500
CLOSE_SECONDS = 5.0
_PARTITION = re.compile(r"-partition-\d+$")


class _PulsarDelivery(Delivery, frozen=True, eq=False):
    """A delivery that knows the vendor's message, to ack it."""

    message: Any = None


class Intake(Listening):
    """Reads ahead in a thread, never further than ``limit``; the loop takes what is there.

    Args:
        source: The vendor's consumer or reader.
        read: Its blocking read of one message, within so many milliseconds.
        topics: Full names of topics, and the short ones for them.
        loop: Where messages are taken.
        limit: How many may wait on this side, beyond those that the client keeps ready.
        linger: Seconds that a message may wait for others, to wake the loop for all at once.
    """

    def __init__(
        self,
        source: pulsar.Consumer | pulsar.Reader,
        read: Callable[[int], pulsar.Message],
        topics: Mapping[str, str],
        loop: asyncio.AbstractEventLoop,
        limit: int = PREFETCH,
        linger: float = 0.0,
    ) -> None:
        self._source = source
        self._linger = linger
        self._read_one = read
        self._topics = topics
        self._short: dict[str, str] = {}
        self._loop = loop
        self._limit = limit
        self._waiting: deque[pulsar.Message] = deque()
        self._arrived = asyncio.Event()
        self._scheduled = False
        self._few = True
        self._room = Event()
        self._ended: BusError | None = None
        self._thread = Thread(target=self._read, name="pulsar-intake", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        together = 0  # messages since the last pause
        while self._ended is None:
            try:
                self._waiting.append(self._read_one(0 if together else READ_MS))
            except pulsar.Timeout:  # closing does not always end a read: look whether it is time
                if together:
                    self._wake()
                together = 0
                continue
            except pulsar.PulsarException as error:
                self._end(f"the subscription has ended: {type(error).__name__}")
                break
            together = self._gathered(together)
            self._await_room()

    def _gathered(self, together: int) -> int:
        """Wake the loop now, or wait for others to come along; return how many have, of those."""
        if not self._linger:
            self._wake()
            return 0
        if not together and self._few:
            time.sleep(self._linger)
        together += 1
        self._few = together < self._limit // 4  # where many wait, no time is lost
        if not self._few:
            self._wake()
        return together

    def _await_room(self) -> None:
        if len(self._waiting) >= self._limit:
            self._room.clear()
            if len(self._waiting) >= self._limit and self._ended is None:
                self._room.wait()

    def _end(self, reason: str) -> None:
        self._ended = self._ended or BusUnavailable(reason)
        self._room.set()
        self._wake()

    def _wake(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            try:
                self._loop.call_soon_threadsafe(self._woken)
            except RuntimeError:  # the loop is closed: nobody reads any more
                self._ended = BusUnavailable("the event loop is closed")

    def _woken(self) -> None:
        self._scheduled = False
        self._arrived.set()

    async def receive(
        self, max_messages: int = PREFETCH, max_wait: float | None = None
    ) -> list[Delivery]:
        """Return what is there, as the port says."""
        await asyncio.sleep(0)  # a full queue must not keep others from their turn
        try:
            async with asyncio.timeout(max_wait):
                while not self._waiting:
                    if self._ended is not None:
                        raise self._ended
                    self._arrived.clear()
                    if not self._waiting and self._ended is None:
                        await self._arrived.wait()
        except TimeoutError:
            return []
        return self._take(max_messages)

    def _take(self, most: int) -> list[Delivery]:
        waiting = self._waiting
        batch: list[Delivery] = []
        while waiting and len(batch) < most:
            batch.append(self._delivery(waiting[0]))
            waiting.popleft()  # only now, so that a failure before loses nothing
        if not self._room.is_set() and len(waiting) < self._limit:
            self._room.set()
        return batch

    def _delivery(self, message: pulsar.Message) -> Delivery:
        name = message.topic_name()
        topic = self._short.get(name)
        if topic is None:
            topic = self._short[name] = self._topics[_PARTITION.sub("", name)]
        key, properties = _described(message, topic)
        return _PulsarDelivery(
            topic=topic,
            payload=message.data(),
            key=key,
            properties=properties,
            tries=message.redelivery_count() + 1,
            message=message,
        )

    def close(self) -> None:
        """Leave; what was not acked goes to the group's others at once. Blocks; once only."""
        self._end("the subscription is closed")
        try:
            self._source.close()
        except pulsar.PulsarException as error:
            log.debug("closing a subscription: %s", error)
        self._thread.join(CLOSE_SECONDS)


def _described(message: pulsar.Message, topic: str) -> tuple[str | None, Mapping[str, str]]:
    """Return key and properties; neither where they are not text, as a foreign client may send."""
    try:
        return message.partition_key() or None, message.properties()
    except UnicodeDecodeError as error:
        log.warning("a message of %s has a key or properties that are no text: %s", topic, error)
        return None, {}


class Member(Intake, Deliveries):
    """A member of a group."""

    def __init__(
        self,
        consumer: pulsar.Consumer,
        topics: Mapping[str, str],
        loop: asyncio.AbstractEventLoop,
        limit: int,
        linger: float,
    ) -> None:
        self._consumer = consumer
        super().__init__(consumer, consumer.receive, topics, loop, limit, linger)

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Tell the broker that these are done with; does not wait for it."""
        try:
            for delivery in deliveries:
                assert isinstance(delivery, _PulsarDelivery)  # noqa: S101 - it came from here
                self._consumer.acknowledge(delivery.message)
        except pulsar.PulsarException as error:
            raise failure("ack", type(error).__name__) from error

    async def nack(self, delivery: Delivery) -> None:
        """Have the broker deliver it again, after a short pause."""
        assert isinstance(delivery, _PulsarDelivery)  # noqa: S101 - it came from here
        try:
            self._consumer.negative_acknowledge(delivery.message)
        except pulsar.PulsarException as error:
            raise failure("nack", type(error).__name__) from error
