"""Ack what was passed on, hand back what was not, bury what never can be."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from rendezvous.errors import BusRefused, BusUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rendezvous.bus.port import Deliveries, Delivery
    from rendezvous.deadletter import Undertaker

log = logging.getLogger(__name__)

PAUSE = 0.1
"""Seconds after something was handed back; it may come again at once."""


async def settle(
    deliveries: Deliveries,
    batch: Sequence[Delivery],
    published: Sequence[asyncio.Future[None]],
    undertaker: Undertaker,
) -> None:
    """Wait for ``published``, one for each of ``batch``; ack where it is durable, else nack.

    Nothing is lost when a publish fails: its delivery comes again. Where the outcome was unknown,
    the successor may then be on the bus twice. Where the bus refused the successor, it would do so
    again: that delivery is buried.
    """
    outcomes = await asyncio.gather(*published, return_exceptions=True)
    failed: list[tuple[Delivery, BaseException]] = []
    stored: list[Delivery] = []
    for delivery, outcome in zip(batch, outcomes, strict=True):
        if isinstance(outcome, BaseException):
            failed.append((delivery, outcome))
        else:
            stored.append(delivery)
    await deliveries.ack(stored)
    buried = [await _give_up(deliveries, *one, undertaker) for one in failed]
    if not all(buried):
        await asyncio.sleep(PAUSE)


async def _give_up(
    deliveries: Deliveries, delivery: Delivery, outcome: BaseException, undertaker: Undertaker
) -> bool:
    """Bury the delivery or hand it back; return whether it is buried."""
    try:
        if isinstance(outcome, BusRefused):
            return await undertaker.bury(deliveries, delivery, str(outcome))
    except BusUnavailable as error:
        outcome = error
    log.warning("handed back a message of %s: %s", delivery.topic, outcome)
    await deliveries.nack(delivery)
    return False
