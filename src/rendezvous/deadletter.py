"""What becomes of a message that nobody can use: a few tries, then the dead-letter topic."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from rendezvous.bus.topics import DEAD_LETTER, kind
from rendezvous.errors import BusRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rendezvous.bus.port import Bus, Deliveries, Delivery

log = logging.getLogger(__name__)

TRIES = 3

KEEPER = "dead-letter"
"""The group for which the bus keeps dead letters until somebody reads them as its member."""


def dead_letter_topic(topic: str) -> str:
    """Return the name of the topic that keeps what could not be used of ``topic``."""
    return f"{topic}{DEAD_LETTER}"


def keeps_dead_letters(topic: str) -> bool:
    """Return whether ``topic`` keeps what could not be used of another."""
    return topic.endswith(DEAD_LETTER)


def origin(topic: str) -> str:
    """Return the topic whose dead letters ``topic`` keeps."""
    return topic.removesuffix(DEAD_LETTER)


class Undertaker:
    """Hands poison messages back a few times, then buries them with the reason.

    A buried message keeps its bytes, key and properties; ``reason``, ``originTopic`` and
    ``tries`` are added to the properties. It is acked only after the dead-letter topic has it.
    What came from a topic of a family is buried with the others of its kind.

    Args:
        bus: Carries the dead-letter topics.
        buried: Is told of which kind each message was that was buried; mostly its topic.
        topics: What is subscribed to; needed only where there are families among it.
    """

    def __init__(self, bus: Bus, buried: Callable[[str], None], topics: Sequence[str] = ()) -> None:
        self._bus = bus
        self._buried = buried
        self._topics = topics
        self._kept: set[str] = set()

    async def refuse(self, deliveries: Deliveries, delivery: Delivery, reason: str) -> None:
        """Give ``delivery`` another try, or bury it when it had ``TRIES``."""
        if delivery.tries < TRIES:
            await deliveries.nack(delivery)
        else:
            await self.bury(deliveries, delivery, reason)

    async def bury(self, deliveries: Deliveries, delivery: Delivery, reason: str) -> bool:
        """Move ``delivery`` to the dead-letter topic at once.

        Returns:
            Whether it is there. Where the bus refuses that too, it is handed back.

        Raises:
            BusUnavailable: ``delivery`` is neither acked nor handed back.
        """
        properties = {
            **delivery.properties,
            "reason": reason[:500],
            "originTopic": delivery.topic,
            "tries": str(delivery.tries),
        }
        of_kind = kind(delivery.topic, self._topics)
        topic = dead_letter_topic(of_kind)
        try:
            await self._keep(topic)
            await self._bus.publish(
                topic, delivery.payload, key=delivery.key, properties=properties
            )
        except BusRefused as error:
            log.error("can not bury a message of %s: %s", delivery.topic, error)  # noqa: TRY400 - the reason is the message
            await deliveries.nack(delivery)
            return False
        await deliveries.ack([delivery])
        self._buried(of_kind)
        log.warning("buried a message of %s: %s", delivery.topic, reason)
        return True

    async def _keep(self, topic: str) -> None:
        """Make sure that a group is there: a bus may delete what nobody has subscribed to."""
        if topic not in self._kept:
            async with self._bus.subscribe([topic], KEEPER, start="earliest"):
                pass
            self._kept.add(topic)
