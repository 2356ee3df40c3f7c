"""The bus on Apache Pulsar: at least once, durable, groups kept by the broker.

The vendor's client is used in the ways that were found to hold (each was seen to fail otherwise):
every result is looked at in the send callback, for a full queue does not raise; sends never time
out, for a timed-out one may have been stored; no read is ever cancelled, for that swallows the next
message; consumers are Shared, for the other kinds redeliver for ever; a client is always closed,
for else the process aborts; and none is made before the first use, so that a fork can come before.
"""

from __future__ import annotations

import asyncio
import logging
import re
import weakref
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pulsar

from rendezvous.bus.port import Bus, Deliveries, Delivery, Start
from rendezvous.errors import BusError, BusRefused, BusUnavailable, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    Send = Callable[[pulsar.Producer], None]

log = logging.getLogger(__name__)

OPERATION_SECONDS = 5  # also bounds how late a client notices that the broker is back
REDELIVERY_MS = 200
PREFETCH = 1000
"""Messages that the client keeps ready for a member; as many again wait on this side."""
PENDING = 100_000
"""Messages of a topic that wait for the broker, at most: minutes of an outage."""
CLOSE_SECONDS = 10.0

_REFUSED = frozenset({
    "AuthenticationError", "AuthorizationError", "CryptoError", "IncompatibleSchema",
    "InvalidConfiguration", "InvalidMessage", "InvalidTopicName", "InvalidUrl", "MessageTooBig",
    "NotAllowedError", "OperationNotSupported", "TopicNotFound", "TopicTerminated",
    "UnsupportedVersionError",
})  # fmt: skip
_PRODUCER_ENDED = frozenset({
    pulsar.Result.AlreadyClosed, pulsar.Result.ProducerFenced, pulsar.Result.TopicTerminated,
})  # fmt: skip
_PARTITION = re.compile(r"-partition-\d+$")


def _failure(what: str, name: str) -> BusError:
    """Return our error for the vendor's of this name."""
    return (BusRefused if name in _REFUSED else BusUnavailable)(f"{what}: {name}")


@dataclass(frozen=True, slots=True, eq=False)
class _PulsarDelivery(Delivery):
    """A delivery that knows the vendor's message, to ack it."""

    message: Any = None


class _Outcomes:
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
                done.set_exception(_failure(f"publish to {topic}", result.name))
                if result in _PRODUCER_ENDED:
                    self._producer_ended(topic)


class _Outlet:
    """The one producer of a topic; what is published before it is open waits, in order."""

    def __init__(self) -> None:
        self.producer: pulsar.Producer | None = None
        self.waiting: list[tuple[Send, asyncio.Future[None]]] = []

    def send(self, send: Send, done: asyncio.Future[None]) -> None:
        if self.producer is None:
            self.waiting.append((send, done))
        else:
            _try_send(send, self.producer, done)

    def opened(self, producer: pulsar.Producer) -> None:
        self.producer = producer
        for send, done in self.waiting:
            _try_send(send, producer, done)
        self.waiting.clear()

    def failed(self, error: BusError) -> None:
        for _, done in self.waiting:
            if not done.done():
                done.set_exception(error)
        self.waiting.clear()


def _try_send(send: Send, producer: pulsar.Producer, done: asyncio.Future[None]) -> None:
    try:
        send(producer)
    except pulsar.PulsarException as error:
        if not done.done():
            done.set_exception(_failure("publish", type(error).__name__))


class _Reader(Deliveries):
    """A member of a group: one thread reads ahead, the loop takes what is there."""

    def __init__(
        self,
        consumer: pulsar.Consumer,
        topics: Mapping[str, str],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._consumer = consumer
        self._topics = topics
        self._loop = loop
        self._waiting: deque[pulsar.Message] = deque()
        self._arrived = asyncio.Event()
        self._scheduled = False
        self._room = Event()
        self._ended: BusError | None = None
        self._thread = Thread(target=self._read, name="pulsar-reader", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        """Read until the consumer is closed, never further ahead than ``PREFETCH``."""
        ended = "closed"
        try:
            while self._ended is None:
                self._waiting.append(self._consumer.receive())
                self._wake()
                if len(self._waiting) >= PREFETCH:
                    self._room.clear()
                    if len(self._waiting) >= PREFETCH:
                        self._room.wait()
        except pulsar.PulsarException as error:
            ended = type(error).__name__
        self._ended = self._ended or BusUnavailable(f"the subscription has ended: {ended}")
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
        batch = [waiting.popleft() for _ in range(min(most, len(waiting)))]
        if not self._room.is_set() and len(waiting) < PREFETCH:
            self._room.set()
        return [self._delivery(message) for message in batch]

    def _delivery(self, message: pulsar.Message) -> Delivery:
        return _PulsarDelivery(
            topic=self._topics[_PARTITION.sub("", message.topic_name())],
            payload=message.data(),
            key=message.partition_key() or None,
            properties=message.properties(),
            tries=message.redelivery_count() + 1,
            message=message,
        )

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        try:
            for delivery in deliveries:
                assert isinstance(delivery, _PulsarDelivery)  # noqa: S101 - it came from here
                self._consumer.acknowledge(delivery.message)
        except pulsar.PulsarException as error:
            raise _failure("ack", type(error).__name__) from error

    async def nack(self, delivery: Delivery) -> None:
        assert isinstance(delivery, _PulsarDelivery)  # noqa: S101 - it came from here
        try:
            self._consumer.negative_acknowledge(delivery.message)
        except pulsar.PulsarException as error:
            raise _failure("nack", type(error).__name__) from error

    def close(self) -> None:
        """Leave the group; what was not acked goes to the others at once. Blocks."""
        self._ended = self._ended or BusUnavailable("the subscription is closed")
        self._room.set()
        try:
            self._consumer.close()
        except pulsar.PulsarException as error:
            log.debug("closing a subscription: %s", error)
        self._thread.join(CLOSE_SECONDS)


class PulsarBus(Bus):
    """Connects at the first use, and again by itself whenever the broker was away.

    Args:
        url: ``pulsar://host:port`` or ``pulsar+ssl://host:port``, with ``/tenant/namespace``
            where they are not ``public/default``.

    Raises:
        ConfigurationError: ``url`` is not of that form.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        path = parts.path.strip("/").split("/") if parts.path.strip("/") else ["public", "default"]
        if parts.scheme not in {"pulsar", "pulsar+ssl"} or not parts.hostname or len(path) != 2:  # noqa: PLR2004 - tenant, namespace
            raise ConfigurationError(
                f"bus {url!r}: must be pulsar://host:port or pulsar://host:port/tenant/namespace"
            )
        self._service = f"{parts.scheme}://{parts.netloc}"
        self._prefix = f"persistent://{path[0]}/{path[1]}/"
        self._client: pulsar.Client | None = None
        self._close_at_exit: weakref.finalize[Any, Any] | None = None
        self._outcomes: _Outcomes | None = None
        self._outlets: dict[str, _Outlet] = {}
        self._under_way: set[asyncio.Future[None]] = set()
        self._openings: set[asyncio.Task[pulsar.Producer]] = set()
        self._connecting = Lock()
        self._closed = False

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        key: str | None = None,
        properties: Mapping[str, str] | None = None,
    ) -> asyncio.Future[None]:
        """Hand the message to the client; it is sent again by itself after an outage."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._closed:
            done.set_exception(BusUnavailable("the bus is closed"))
            return done
        outlet = self._outlets.get(topic) or self._open_outlet(topic)
        self._under_way.add(done)
        done.add_done_callback(self._under_way.discard)
        told = partial(self._settled_by().put, done, topic)
        outlet.send(
            lambda producer: producer.send_async(
                payload, told, partition_key=key, properties=dict(properties or {}) or None
            ),
            done,
        )
        return done

    def _settled_by(self) -> _Outcomes:
        if self._outcomes is None:
            self._outcomes = _Outcomes(asyncio.get_running_loop(), self._forget)
        return self._outcomes

    def _open_outlet(self, topic: str) -> _Outlet:
        outlet = self._outlets[topic] = _Outlet()
        opening = asyncio.create_task(asyncio.to_thread(self._make_producer, topic))
        self._openings.add(opening)

        def opened(made: asyncio.Task[pulsar.Producer]) -> None:
            self._openings.discard(made)
            error = BusUnavailable("cancelled") if made.cancelled() else made.exception()
            if error is None:
                outlet.opened(made.result())
            else:
                self._forget(topic)
                outlet.failed(error if isinstance(error, BusError) else BusError(str(error)))

        opening.add_done_callback(opened)
        return outlet

    def _forget(self, topic: str) -> None:
        """Let the next message of ``topic`` make a new producer."""
        self._outlets.pop(topic, None)

    def _connected(self) -> pulsar.Client:
        with self._connecting:
            if self._client is None:
                try:
                    self._client = pulsar.Client(
                        self._service,
                        operation_timeout_seconds=OPERATION_SECONDS,
                        logger=pulsar.ConsoleLogger(pulsar.LoggerLevel.Error),
                    )
                except (pulsar.PulsarException, RuntimeError) as error:
                    raise BusRefused(f"{self._service}: {error}") from error
                self._close_at_exit = weakref.finalize(self, _shut, self._client)
            return self._client

    def _make_producer(self, topic: str) -> pulsar.Producer:
        try:
            return self._connected().create_producer(
                self._prefix + topic,
                send_timeout_millis=0,
                max_pending_messages=PENDING,
                block_if_queue_full=False,
                batching_enabled=False,
            )
        except pulsar.PulsarException as error:
            raise _failure(f"publish to {topic}", type(error).__name__) from error

    @asynccontextmanager
    async def subscribe(
        self, topics: Sequence[str], group: str, *, start: Start = "latest"
    ) -> AsyncIterator[Deliveries]:
        """Join ``group``, a shared subscription of that name on each topic."""
        if self._closed:
            raise BusUnavailable("the bus is closed")
        loop = asyncio.get_running_loop()
        joining = asyncio.ensure_future(asyncio.to_thread(self._join, topics, group, start, loop))
        try:
            reader = await asyncio.shield(joining)
        except asyncio.CancelledError:
            joining.add_done_callback(_leave)  # a member that nobody reads would hoard messages
            raise
        try:
            yield reader
        finally:
            await asyncio.shield(asyncio.to_thread(reader.close))

    def _join(
        self, topics: Sequence[str], group: str, start: Start, loop: asyncio.AbstractEventLoop
    ) -> _Reader:
        names = {self._prefix + topic: topic for topic in topics}
        position = pulsar.InitialPosition
        try:
            consumer = self._connected().subscribe(
                list(names) if len(names) > 1 else next(iter(names)),
                group,
                consumer_type=pulsar.ConsumerType.Shared,
                initial_position=position.Earliest if start == "earliest" else position.Latest,
                negative_ack_redelivery_delay_ms=REDELIVERY_MS,
                receiver_queue_size=PREFETCH,
            )
        except pulsar.PulsarException as error:
            what = f"subscribe to {', '.join(topics)} as {group}"
            raise _failure(what, type(error).__name__) from error
        return _Reader(consumer, names, loop)

    async def aclose(self) -> None:
        """Wait a while for what was published to be stored, then close. Idempotent."""
        self._closed = True
        if waiting := [*self._openings, *self._under_way]:
            await asyncio.wait(waiting, timeout=CLOSE_SECONDS)
        if self._close_at_exit is not None:
            await asyncio.to_thread(self._close_at_exit)
        for done in [*self._under_way]:
            if not done.done():
                done.set_exception(BusUnavailable("closed before the broker had taken it"))


def _shut(client: pulsar.Client) -> None:
    try:
        client.close()
    except pulsar.PulsarException as error:
        log.debug("closing the client: %s", error)


def _leave(joining: asyncio.Future[_Reader]) -> None:
    if not joining.cancelled() and joining.exception() is None:
        Thread(target=joining.result().close, daemon=True).start()
