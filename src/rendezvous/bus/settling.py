"""Ack what was passed on, hand back what was not."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rendezvous.bus.port import Deliveries, Delivery

log = logging.getLogger(__name__)


async def settle(
    deliveries: Deliveries, batch: Sequence[Delivery], published: Sequence[asyncio.Future[None]]
) -> None:
    """Wait for ``published``, one for each of ``batch``; ack where it is durable, else nack.

    Nothing is lost when a publish fails: its delivery comes again. Where the outcome was unknown,
    the successor may then be on the bus twice.
    """
    outcomes = await asyncio.gather(*published, return_exceptions=True)
    stored = []
    for delivery, outcome in zip(batch, outcomes, strict=True):
        if isinstance(outcome, BaseException):
            log.warning("handed back a message of %s: %s", delivery.topic, outcome)
            await deliveries.nack(delivery)
        else:
            stored.append(delivery)
    await deliveries.ack(stored)
