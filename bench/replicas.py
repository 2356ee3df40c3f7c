"""Whether two replicas of one model share its load."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import TYPE_CHECKING, Any

from bench.goals import Goal, at_least
from bench.load import QUESTIONS
from bench.questions import BUNDLE
from bench.slow import ENDPOINT
from bench.systems import Part, services
from rendezvous.bus.factory import connect
from rendezvous.contract import Request, decode_score

if TYPE_CHECKING:
    from pathlib import Path

SECONDS = 3.0
RATE = 200
"""Requests a second: more than two replicas can score."""


def shares(broker: str, logs: Path) -> list[Goal]:
    """Return how many more requests two replicas of a slow model score than one."""
    rates = []
    model = {"RENDEZVOUS_BUNDLE": str(BUNDLE)}
    for number in (1, 2):
        replicas = [
            Part(f"slow model {number}-{n}", "bench.slow", {**model, "RENDEZVOUS_INSTANCE": f"{n}"})
            for n in range(number)
        ]
        with services(replicas, broker, logs):
            rates.append(asyncio.run(_scored(broker)))
    return [at_least("two replicas of a slow model, over one", rates[1] / rates[0], 1.8)]


async def _scored(broker: str) -> float:
    """Return how many scores came a second."""
    bus = connect(broker)
    reply = f"score-{uuid.uuid4().hex[:8]}"
    scores = 0

    async def hear(listener: Any) -> None:
        nonlocal scores
        while True:
            for delivery in await listener.receive():
                scores += decode_score(delivery.payload).result is not None

    try:
        async with bus.listen(reply) as listener:
            hearing = asyncio.create_task(hear(listener))
            until = time.monotonic() + SECONDS
            while time.monotonic() < until:
                now = time.time()
                request = Request(
                    timestamp=now, message_id=str(uuid.uuid4()), score_topic=reply,
                    model_input=dict(QUESTIONS[0].body), deadline=(now + 0.5) * 1000.0,
                    endpoint=ENDPOINT,
                )  # fmt: skip
                await bus.publish(ENDPOINT, request.encode(), linger=0.0)
                await asyncio.sleep(1.0 / RATE)
            hearing.cancel()
    finally:
        await bus.aclose()
    return scores / SECONDS
