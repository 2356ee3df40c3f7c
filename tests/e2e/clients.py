"""Many callers at once, who know the right answers."""

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field

import httpx
from sklearn.datasets import load_iris

EXAMPLE = {"sepalLength": 5.9, "sepalWidth": 3.0, "petalLength": 5.1, "petalWidth": 1.8}
NAMES = tuple(EXAMPLE)
ROWS = [dict(zip(NAMES, map(float, row), strict=True)) for row in load_iris().data]


@dataclass
class Seen:
    """What the callers saw: good answers by model, and all that was not good."""

    answers: list[dict] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)

    @property
    def models(self) -> Counter:
        return Counter(a["modelResult"]["modelName"] for a in self.answers)

    @property
    def ids(self) -> set[str]:
        return {a["messageId"] for a in self.answers}

    def slowest_ms(self) -> float:
        return max(a["decision"]["elapsedMs"] for a in self.answers)


def own_input(seed: int) -> dict[str, float]:
    """Return an input that no other caller sends, near one of the data set."""
    row = ROWS[seed % len(ROWS)]
    return {name: round(value + seed * 1e-6, 9) for name, value in row.items()}


async def ask(client: httpx.AsyncClient, body: dict, seen: Seen) -> None:
    """Send one request; keep what came."""
    try:
        response = await client.post("/predict", json=body)
    except httpx.HTTPError as error:
        seen.bad.append(repr(error))
        return
    answer = response.json()
    if response.status_code != 200 or not answer["modelResult"]:
        seen.bad.append(f"{response.status_code} {response.text[:300]}")
    elif answer["modelInput"] != body:
        seen.bad.append(f"another's answer: {answer['modelInput']} for {body}")
    else:
        seen.answers.append(answer)


async def many(url: str, requests: int, clients: int) -> Seen:
    """Send so many requests, so many at a time, each with an input of its own."""
    seen = Seen()
    todo = iter(range(requests))
    limits = httpx.Limits(max_connections=clients)
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=30) as client:

        async def caller() -> None:
            for number in todo:
                await ask(client, own_input(number), seen)

        await asyncio.gather(*(caller() for _ in range(clients)))
    return seen


async def steadily(url: str, stop: asyncio.Event, seen: Seen, rate: float = 50.0) -> None:
    """Send requests at a fixed rate, whether or not they are answered, until ``stop``."""
    async with httpx.AsyncClient(base_url=url, timeout=30) as client, asyncio.TaskGroup() as group:
        began, number = time.monotonic(), 0
        while not stop.is_set():
            group.create_task(ask(client, own_input(random.randrange(10**6)), seen))
            number += 1
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
