"""The decoy: looks like a model, but only records the inputs, exactly as the models saw them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from rendezvous.bus.settling import settle
from rendezvous.deadletter import Undertaker
from rendezvous.membership import MembershipObserver, membership

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from rendezvous.bus.port import Bus

STOP_CHECK = 0.1
LINGER = 0.02
"""Seconds that an input may wait for others, twice: the models, which are in a hurry, go first."""


class Observer(MembershipObserver, Protocol):
    """Who is told what happens, to count it."""

    def buried(self, topic: str) -> None:
        """Take note of a message that went to the dead-letter topic of ``topic``."""


class Silent(Observer):
    """Counts nothing."""


@dataclass(frozen=True, slots=True)
class Decoy:
    """Publishes every input's bytes again, unchanged, and sends no score.

    Guarantee: at least once; an input is acked only after the decoy topic has it. What nobody can
    read is recorded too: the decoy does not look inside. What the bus refuses to take is buried.

    Attributes:
        bus: Carries both topics.
        topics: Where the inputs come from.
        output: Where they go.
        name: The decoy's group; stable.
        observer: Is told what happens.
    """

    bus: Bus
    topics: Sequence[str]
    output: str = "decoy"
    name: str = "decoy"
    observer: Observer = field(default_factory=Silent)

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until ``stop`` is set, then finish what is in hand. Raises: BusError."""
        undertaker = Undertaker(self.bus, self.observer.buried)
        with membership(self.observer, self.name, self.topics) as reads:
            async with self.bus.subscribe(
                self.topics, self.name, start="earliest", linger=LINGER
            ) as deliveries:
                reads()
                while not stop.is_set():
                    batch = await deliveries.receive(max_wait=STOP_CHECK)
                    published = [
                        self.bus.publish(
                            self.output,
                            d.payload,
                            key=d.key,
                            properties=d.properties,
                            linger=LINGER,
                        )
                        for d in batch
                    ]
                    await settle(deliveries, batch, published, undertaker)
