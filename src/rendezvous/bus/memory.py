"""The bus inside one process: the embedded default, and the reference for every other bus.

Guarantee: at least once, in order within a group of one member, as long as the process lives.
What nobody reads is kept up to a limit; then it is the publisher that is told.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import msgspec

from rendezvous.bus.port import PREFETCH, Bus, Deliveries, Delivery, Listening, Start
from rendezvous.bus.topics import covers, is_family
from rendezvous.errors import BusUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

_NO_PROPERTIES: Mapping[str, str] = {}

LIMIT = 100_000
"""Messages that may wait for one group on one topic."""


class _Queue:
    """What waits for one group on one topic, and the members that wait for it."""

    def __init__(self) -> None:
        self.waiting: deque[Delivery] = deque()
        self.sleepers: deque[asyncio.Future[None]] = deque()

    def put(self, delivery: Delivery) -> None:
        self.waiting.append(delivery)
        self.wake()

    def put_back(self, deliveries: Sequence[Delivery]) -> None:
        self.waiting.extendleft(reversed(deliveries))
        self.wake()

    def take(self, most: int) -> list[Delivery]:
        waiting = self.waiting
        return [waiting.popleft() for _ in range(min(most, len(waiting)))]

    def wake(self) -> None:
        while self.waiting and self.sleepers:
            sleeper = self.sleepers.popleft()
            if not sleeper.done():
                sleeper.set_result(None)
                return


class _Member(Deliveries):
    def __init__(self, bus: MemoryBus, queues: dict[str, _Queue]) -> None:
        self._bus = bus
        self._queues = queues
        self._in_hand: dict[int, Delivery] = {}
        self._sleeper: asyncio.Future[None] | None = None

    async def receive(
        self, max_messages: int = 1000, max_wait: float | None = None
    ) -> list[Delivery]:
        await asyncio.sleep(0)  # a bus across a network yields here; so does this one, always
        try:
            async with asyncio.timeout(max_wait):
                while not (batch := self._take(max_messages)):
                    await self._arrival()
        except TimeoutError:
            return []
        for delivery in batch:
            self._in_hand[id(delivery)] = delivery
        return batch

    def _take(self, most: int) -> list[Delivery]:
        batch: list[Delivery] = []
        for queue in self._queues.values():
            batch += queue.take(most - len(batch))
        return batch

    async def _arrival(self) -> None:
        """Return when something may be waiting on one of the queues."""
        if self._bus.closed:
            raise BusUnavailable("the memory bus is closed")
        sleeper = self._sleeper = asyncio.get_running_loop().create_future()
        self._bus.sleepers.add(sleeper)
        for queue in self._queues.values():
            queue.sleepers.append(sleeper)
        try:
            await sleeper
        finally:
            self._bus.sleepers.discard(sleeper)
            for queue in self._queues.values():
                if sleeper in queue.sleepers:
                    queue.sleepers.remove(sleeper)
                queue.wake()  # if this one was woken and is cancelled, the next shall go

    def read_too(self, topic: str, queue: _Queue) -> None:
        """Read a topic that has come to a family."""
        self._queues[topic] = queue
        if self._sleeper is not None and not self._sleeper.done():
            self._sleeper.set_result(None)  # and sleep again, on this queue too

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            self._in_hand.pop(id(delivery), None)

    async def nack(self, delivery: Delivery) -> None:
        if self._in_hand.pop(id(delivery), None) is not None:
            again = msgspec.structs.replace(delivery, tries=delivery.tries + 1)
            self._queues[delivery.topic].put(again)

    def leave(self) -> None:
        """Give back what is still in hand, in its order and without counting a try."""
        for topic, queue in self._queues.items():
            queue.put_back([d for d in self._in_hand.values() if d.topic == topic])
        self._in_hand.clear()


class _Listener(Listening):
    """A member of a group of its own that acks what it takes."""

    def __init__(self, member: Deliveries) -> None:
        self._member = member

    async def receive(
        self, max_messages: int = 1000, max_wait: float | None = None
    ) -> Sequence[Delivery]:
        batch = await self._member.receive(max_messages, max_wait)
        await self._member.ack(batch)
        return batch


class MemoryBus(Bus):
    """Keeps one queue for each group of each topic. Belongs to the event loop that uses it.

    Args:
        limit: How many messages may wait for one group, or one listener, on one topic. While one
            of a topic's is full, a publish to that topic fails with ``BusUnavailable`` and
            reaches none of them, so that trying again gives nobody a message twice. What is
            handed back comes on top: it was taken once.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._topics: dict[str, dict[str, _Queue]] = {}
        self._families: dict[tuple[str, str], list[_Member]] = {}  # by family and group
        self.sleepers: set[asyncio.Future[None]] = set()
        self.closed = False
        self._taken: asyncio.Future[None] | None = None  # one for all: it is done from the start

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        key: str | None = None,
        properties: Mapping[str, str] | None = None,
        linger: float | None = None,
    ) -> asyncio.Future[None]:
        """Put the message into the queue of every group of ``topic``, or of none if one is full."""
        del linger  # nothing travels
        if self.closed:
            return _failed("the memory bus is closed")
        queues = self._topics.get(topic)
        if queues is None:
            queues = self._met(topic)
        for group, queue in queues.items():
            if len(queue.waiting) >= self._limit:
                full = f"{len(queue.waiting)} messages of {topic} wait for {group}"
                return _failed(f"{full}: the memory bus takes no more of it")
        for queue in queues.values():
            queue.put(Delivery(topic, payload, key, properties or _NO_PROPERTIES))
        if self._taken is None:
            self._taken = asyncio.get_running_loop().create_future()
            self._taken.set_result(None)
        return self._taken

    @asynccontextmanager
    async def subscribe(
        self,
        topics: Sequence[str],
        group: str,
        *,
        start: Start = "latest",
        prefetch: int = PREFETCH,
        linger: float = 0.0,
    ) -> AsyncIterator[Deliveries]:
        """Join ``group``.

        There is no history, so ``start`` makes no difference here; nor does ``prefetch``, for a
        member has nothing ready beyond what it was given: all else is any member's to take. Nor
        does ``linger``: to be woken costs nothing in one's own loop.
        """
        del start, prefetch, linger
        if self.closed:
            raise BusUnavailable("the memory bus is closed")
        families = [topic for topic in topics if is_family(topic)]
        names = [topic for topic in topics if not is_family(topic)]
        names += [name for name in self._topics if any(covers(each, name) for each in families)]
        queues = {}
        for name in names:
            if name not in self._topics:
                self._topics[name] = self._met(name)
            queues[name] = self._topics[name].setdefault(group, _Queue())
        member = _Member(self, queues)
        for each in families:
            self._families.setdefault((each, group), []).append(member)
        try:
            yield member
        finally:
            for each in families:
                self._families[each, group].remove(member)
            member.leave()

    def _met(self, topic: str) -> dict[str, _Queue]:
        """Return the groups of a topic that is new: those that read a family which it is of.

        One that nobody reads is not kept: any message may name another return address.
        """
        groups: dict[str, _Queue] = {}
        for (each, group), members in self._families.items():
            if covers(each, topic):
                queue = groups.setdefault(group, _Queue())
                for member in members:
                    member.read_too(topic, queue)
        if groups:
            self._topics[topic] = groups
        return groups

    @asynccontextmanager
    async def listen(self, topic: str) -> AsyncIterator[Listening]:
        """Hear ``topic`` through a queue of one's own, which is taken away at the end."""
        group = f"listener-{uuid.uuid4()}"
        try:
            async with self.subscribe([topic], group) as member:
                yield _Listener(member)
        finally:
            self._topics.get(topic, {}).pop(group, None)

    def backlog(self, topic: str, group: str) -> int:
        """Return how many messages wait for ``group`` on ``topic``, those in hand not counted.

        Of a family it is the sum over its topics.
        """
        read = [groups for name, groups in self._topics.items() if covers(topic, name)]
        return sum(len(groups[group].waiting) for groups in read if group in groups)

    async def aclose(self) -> None:
        """End every read; what waits is forgotten, for memory is all there is."""
        self.closed = True
        for sleeper in self.sleepers:
            if not sleeper.done():
                sleeper.set_exception(BusUnavailable("the memory bus is closed"))


def _failed(reason: str) -> asyncio.Future[None]:
    failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    failed.set_exception(BusUnavailable(reason))
    return failed
