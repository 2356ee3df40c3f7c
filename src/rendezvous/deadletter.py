"""What becomes of a message that nobody can use: a few tries, then the dead-letter topic."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from rendezvous.bus.port import Bus, Deliveries, Delivery

log = logging.getLogger(__name__)

TRIES = 3


def dead_letter_topic(topic: str) -> str:
    """Return the name of the topic that keeps what could not be used of ``topic``."""
    return f"{topic}-dead-letter"


class Undertaker:
    """Hands poison messages back a few times, then buries them with the reason.

    A buried message keeps its bytes, key and properties; ``reason``, ``originTopic`` and
    ``tries`` are added to the properties. It is acked only after the dead-letter topic has it.

    Args:
        bus: Carries the dead-letter topics.
        buried: Is told the topic of each message that was buried.
    """

    def __init__(self, bus: Bus, buried: Callable[[str], None]) -> None:
        self._bus = bus
        self._buried = buried

    async def refuse(self, deliveries: Deliveries, delivery: Delivery, reason: str) -> None:
        """Give ``delivery`` another try, or bury it when it had ``TRIES``."""
        if delivery.tries < TRIES:
            await deliveries.nack(delivery)
        else:
            await self.bury(deliveries, delivery, reason)

    async def bury(self, deliveries: Deliveries, delivery: Delivery, reason: str) -> None:
        """Move ``delivery`` to the dead-letter topic at once. Raises: BusError."""
        properties = {
            **delivery.properties,
            "reason": reason[:500],
            "originTopic": delivery.topic,
            "tries": str(delivery.tries),
        }
        await self._bus.publish(
            dead_letter_topic(delivery.topic),
            delivery.payload,
            key=delivery.key,
            properties=properties,
        )
        await deliveries.ack([delivery])
        self._buried(delivery.topic)
        log.warning("buried a message of %s: %s", delivery.topic, reason)
