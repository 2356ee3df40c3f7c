"""The bus itself: the client, its producers and its readers."""

from __future__ import annotations

import asyncio
import logging
import weakref
from contextlib import asynccontextmanager
from functools import partial
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import pulsar

from rendezvous.bus.port import PREFETCH, Bus, Deliveries, Listening, Start
from rendezvous.bus.pulsar.bursts import Outgoing
from rendezvous.bus.pulsar.failures import failure
from rendezvous.bus.pulsar.families import ShortNames, discovering, join
from rendezvous.bus.pulsar.reading import CLOSE_SECONDS, Intake, Member
from rendezvous.bus.pulsar.writing import Opened, Outlets, make_producer
from rendezvous.bus.topics import is_family
from rendezvous.errors import BusRefused, BusUnavailable, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

IntakeT = TypeVar("IntakeT", bound=Intake)

log = logging.getLogger(__name__)

OPERATION_SECONDS = 5  # also bounds how late a client notices that the broker is back
REDELIVERY_MS = 200


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
        self._outlets = Outlets(self._make_producer)
        self._under_way: set[asyncio.Future[None]] = set()
        self._intakes: set[Intake] = set()
        self._connecting = Lock()
        self._closed = False

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        key: str | None = None,
        properties: Mapping[str, str] | None = None,
        linger: float | None = None,
    ) -> asyncio.Future[None]:
        """Hand the message to the client; it is sent again by itself after an outage."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._closed:
            done.set_exception(BusUnavailable("the bus is closed"))
            return done
        self._under_way.add(done)
        done.add_done_callback(self._under_way.discard)
        outlet = self._outlets.of(topic, together=linger is not None)
        leaves = asyncio.get_running_loop().time() + (linger or 0.0)
        outlet.send(Outgoing(payload, key, properties, leaves, done))
        return done

    def _connected(self) -> pulsar.Client:
        with self._connecting:
            if self._client is None:
                try:
                    self._client = discovering(
                        pulsar.Client(
                            self._service,
                            operation_timeout_seconds=OPERATION_SECONDS,
                            tls_validate_hostname=True,  # without TLS it has no effect
                            logger=pulsar.ConsoleLogger(pulsar.LoggerLevel.Error),
                        )
                    )
                except (pulsar.PulsarException, RuntimeError) as error:
                    raise BusRefused(f"{self._service}: {error}") from error
                self._close_at_exit = weakref.finalize(self, _shut, self._client)
            return self._client

    def _make_producer(self, topic: str, together: bool) -> Opened:  # noqa: FBT001 - as `Outlets` calls it
        return make_producer(self._connected(), self._prefix + topic, together=together)

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
        """Join ``group``, a shared subscription of that name on each topic."""
        loop = asyncio.get_running_loop()
        join = partial(self._join, topics, group, start, prefetch, linger, loop)
        async with self._intake(join) as member:
            yield member

    @asynccontextmanager
    async def listen(self, topic: str) -> AsyncIterator[Listening]:
        """Hear ``topic`` through a reader, of which the broker keeps nothing when it is gone."""
        loop = asyncio.get_running_loop()
        async with self._intake(partial(self._attend, topic, loop)) as listener:
            yield listener

    @asynccontextmanager
    async def _intake(self, make: Callable[[], IntakeT]) -> AsyncIterator[IntakeT]:
        """Make an intake in a thread, and close it at the end."""
        if self._closed:
            raise BusUnavailable("the bus is closed")
        making = asyncio.create_task(asyncio.to_thread(make))
        try:
            intake = await asyncio.shield(making)
        except asyncio.CancelledError:
            making.add_done_callback(_leave)  # a member that nobody reads would hoard messages
            raise
        self._intakes.add(intake)
        try:
            yield intake
        finally:
            if intake in self._intakes:  # else the bus has closed it
                self._intakes.remove(intake)
                await asyncio.shield(asyncio.to_thread(intake.close))

    def _join(
        self,
        topics: Sequence[str],
        group: str,
        start: Start,
        prefetch: int,
        linger: float,
        loop: asyncio.AbstractEventLoop,
    ) -> Member:
        # half is kept by the client, in a queue for each topic, and half by the intake
        half = max(1, prefetch // 2)
        position = pulsar.InitialPosition
        begin = position.Earliest if start == "earliest" else position.Latest
        names = ShortNames(self._prefix, topics)
        try:
            subscribe = partial(
                self._connected().subscribe,
                subscription_name=group,
                consumer_type=pulsar.ConsumerType.Shared,
                negative_ack_redelivery_delay_ms=REDELIVERY_MS,
                receiver_queue_size=max(1, half // len(topics)),
                batch_index_ack_enabled=True,  # of a batch, what was acked does not come again
            )
            if any(map(is_family, topics)):
                consumer = join(subscribe, self._prefix, topics, begin)
            else:
                each = list(names) if len(names) > 1 else next(iter(names))
                consumer = subscribe(each, initial_position=begin)
        except pulsar.PulsarException as error:
            what = f"subscribe to {', '.join(topics)} as {group}"
            raise failure(what, type(error).__name__) from error
        return Member(consumer, names, loop, half, linger)

    def _attend(self, topic: str, loop: asyncio.AbstractEventLoop) -> Intake:
        name = self._prefix + topic
        try:
            reader = self._connected().create_reader(
                name, pulsar.MessageId.latest, receiver_queue_size=PREFETCH
            )
        except pulsar.PulsarException as error:
            raise failure(f"listen to {topic}", type(error).__name__) from error
        return Intake(reader, reader.read_next, {name: topic}, loop)

    async def aclose(self) -> None:
        """Wait a while for what was published to be stored, then close. Idempotent."""
        self._closed = True
        if waiting := [*self._outlets.changing, *self._under_way]:
            await asyncio.wait(waiting, timeout=CLOSE_SECONDS)
        intakes, self._intakes = self._intakes, set()
        await asyncio.gather(*(asyncio.to_thread(intake.close) for intake in intakes))
        if self._close_at_exit is not None:
            await asyncio.to_thread(self._close_at_exit)
        for done in [*self._under_way]:
            if not done.done():
                done.set_exception(BusUnavailable("closed before the broker had taken it"))


def _shut(client: pulsar.Client) -> None:
    """Close; where the broker does not answer let go of all the same, or the process aborts."""
    try:
        client.close()
    except pulsar.PulsarException as error:
        log.debug("closing the client: %s", error)
    client.shutdown()


def _leave(making: asyncio.Task[IntakeT]) -> None:
    if not making.cancelled() and making.exception() is None:
        Thread(target=making.result().close, daemon=True).start()
