"""What the rest of the package asks of a message bus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

import msgspec

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

Start = Literal["latest", "earliest"]

PREFETCH = 1000
"""Messages that a member has ready beyond those in hand, where it does not say how many."""


class Delivery(msgspec.Struct, frozen=True, eq=False):
    """One message. A member of a group calls exactly one of ``ack`` and ``nack`` with it.

    Attributes:
        topic: The short name of the topic; of a family it is the one that the message came from.
        payload: The bytes, as they were published.
        key: The key it was published with, or ``None``.
        properties: Text properties it was published with.
        tries: 1 when it comes for the first time, one more after each ``nack``. A bus may forget
            the count when it restarts, so it is a lower bound.
    """

    topic: str
    payload: bytes
    key: str | None = None
    properties: Mapping[str, str] = {}
    tries: int = 1


class Listening(Protocol):
    """One that hears what is published while it is there, and of which nobody keeps account."""

    async def receive(
        self, max_messages: int = 1000, max_wait: float | None = None
    ) -> Sequence[Delivery]:
        """Wait for the first message, then return it with what is there already.

        Args:
            max_messages: At most so many; never waits for more than the first.
            max_wait: Seconds to wait for the first; ``None`` waits for ever.

        Returns:
            The messages in the order of the bus; empty when ``max_wait`` went by. A cancelled
            ``receive`` loses nothing: the messages come with the next one.

        Raises:
            BusError: The bus is closed or refuses to deliver.
        """
        ...


class Deliveries(Listening, Protocol):
    """A member of a group, reading. One task receives; any task of the loop may ack and nack."""

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Say that these are done with; they do not come again (save for a crash of the bus)."""
        ...

    async def nack(self, delivery: Delivery) -> None:
        """Hand the message back: it comes again soon, to this member or another."""
        ...


class Bus(Protocol):
    """A publish-subscribe bus that delivers at least once."""

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        key: str | None = None,
        properties: Mapping[str, str] | None = None,
        linger: float | None = None,
    ) -> asyncio.Future[None]:
        """Start to publish, in the order of the calls, without waiting.

        Args:
            topic: The short name.
            payload: The bytes.
            key: What the message is about, or ``None``.
            properties: Text properties.
            linger: Seconds that it may wait for others of its topic, to travel as one with them,
                which is far cheaper: 0 for those that are published at the same time. But a
                member then gets them together, beyond its ``prefetch`` too, and handing one back
                may bring back the others. ``None``: it travels alone; between the two kinds there
                is no order.

        Returns:
            A future, done when the bus has durably taken the message. It may be left unawaited
            only by a caller that looks at its exception. It fails with ``BusUnavailable`` when
            the outcome is *unknown* and with ``BusRefused`` when the message was not taken.
        """
        ...

    def subscribe(
        self,
        topics: Sequence[str],
        group: str,
        *,
        start: Start = "latest",
        prefetch: int = PREFETCH,
        linger: float = 0.0,
    ) -> AbstractAsyncContextManager[Deliveries]:
        """Read ``topics`` as a member of ``group`` while inside the block.

        Each group gets every message, and each message goes to one member. A group, once made,
        keeps its place while it has no member; what a member had in hand when it left goes to
        the others, or waits.

        A name that ends in ``-*`` stands for a family (`rendezvous.bus.topics`): every topic that
        is called so, those that come later too, within seconds. One that comes while a member is
        there is read from its beginning.

        Args:
            topics: Short names of topics, and of families.
            group: The group's name.
            start: Where a *new* group begins, and an old one on topics of a family that are new to
                it; a bus without history begins at ``latest`` always.
            prefetch: How many messages the member may have ready beyond those in hand, about at
                most and at least one; of a family, for each of its topics. What one member has
                ready no other gets until it leaves: a slow member wants few, one that archives
                what there is wants many.
            linger: Seconds that a message may wait for others, for a member that is in no hurry:
                waking up for each costs more than what is done with it.

        Raises:
            BusError: The bus cannot be reached, or refuses.
        """
        ...

    def listen(self, topic: str) -> AbstractAsyncContextManager[Listening]:
        """Hear every message that is published on ``topic`` while inside the block.

        For what is of use only now, such as an answer that somebody waits for: no group, nothing
        to ack, and nothing is kept for a listener that is gone.

        Raises:
            BusError: The bus cannot be reached, or refuses.
        """
        ...

    async def aclose(self) -> None:
        """Finish what was published, then let go of every connection. Idempotent."""
        ...
