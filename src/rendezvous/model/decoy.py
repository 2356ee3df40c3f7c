"""The decoy: looks like a model, but only records the inputs, exactly as the models saw them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rendezvous.bus.settling import settle

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from rendezvous.bus.port import Bus

STOP_CHECK = 0.1


@dataclass(frozen=True, slots=True)
class Decoy:
    """Publishes every input's bytes again, unchanged, and sends no score.

    Guarantee: at least once; an input is acked only after the decoy topic has it. What nobody can
    read is recorded too: the decoy does not look inside.

    Attributes:
        bus: Carries both topics.
        topics: Where the inputs come from.
        output: Where they go.
        name: The decoy's group; stable.
    """

    bus: Bus
    topics: Sequence[str]
    output: str = "decoy"
    name: str = "decoy"

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until ``stop`` is set, then finish what is in hand. Raises: BusError."""
        async with self.bus.subscribe(self.topics, self.name, start="earliest") as deliveries:
            while not stop.is_set():
                batch = await deliveries.receive(max_wait=STOP_CHECK)
                published = [
                    self.bus.publish(self.output, d.payload, key=d.key, properties=d.properties)
                    for d in batch
                ]
                await settle(deliveries, batch, published)
