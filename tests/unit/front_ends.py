"""A front end on the memory bus, with models that answer as a script says."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx

from rendezvous.bus.memory import MemoryBus
from rendezvous.contract import (
    Announcement,
    ModelProvenance,
    Result,
    ScoreError,
    decode_request,
    encode_score,
)
from rendezvous.core import Rendezvous
from rendezvous.decision import Endpoint
from rendezvous.frontend.app import create_app
from rendezvous.frontend.predictions import Served, Shortcut
from rendezvous.policy import Newest
from rendezvous.schema import InputField
from rendezvous.telemetry import Metrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

EXAMPLE = {"sepalLength": 5.9, "sepalWidth": 3.0, "petalLength": 5.1, "petalWidth": 1.8}
IRIS = [InputField(name=name, minimum=-1000, maximum=1000) for name in EXAMPLE]
HOUSE = [
    InputField(name="rooms", type="integer", minimum=0, maximum=100),
    InputField(name="age", minimum=0, maximum=500),
]
HEARTBEAT = 0.5


def total(model_input: dict[str, Any]) -> float:
    """Return the sum of an input's fields: an answer that tells inputs apart."""
    return sum(model_input.values())


@dataclass
class Script:
    """A model: what it says of an input; ``None`` where it says nothing.

    ``say`` may raise ``ValueError``: the model then answers with an error score.
    """

    name: str = "dt"
    version: int = 1
    role: str = "production"
    topic: str = "iris"
    say: Callable[[dict[str, Any]], Any] = total

    async def run(self, bus: MemoryBus) -> None:
        """Serve until cancelled."""
        async with (
            bus.subscribe([self.topic], self.name) as deliveries,
            asyncio.TaskGroup() as group,
        ):
            group.create_task(self._announce(bus))
            while True:
                for delivery in await deliveries.receive():
                    self._answer(bus, delivery.payload)

    async def _announce(self, bus: MemoryBus) -> None:
        while True:
            hello = Announcement(
                timestamp=time.time(), endpoint=self.topic, instance="0", model_name=self.name,
                model_version=self.version, role=self.role, state="serving",
            )  # fmt: skip
            bus.publish("models", hello.encode())
            await asyncio.sleep(HEARTBEAT)

    def _answer(self, bus: MemoryBus, payload: bytes) -> None:
        request, fields = decode_request(payload)
        provenance = ModelProvenance(
            model_name=self.name, model_version=self.version, role=self.role,
            elapsed_time_after_request=1.0,
        )  # fmt: skip
        try:
            said = self.say(request.model_input)
        except ValueError as error:
            outcome = ScoreError(type="ModelError", message=str(error))
        else:
            if said is None:
                return
            outcome = Result(model_name=self.name, result=said)
        bus.publish(request.score_topic, encode_score(fields, provenance, outcome))


@dataclass
class FrontEnd:
    """What a test gets in hand."""

    app: Shortcut
    client: httpx.AsyncClient
    rendezvous: Rendezvous
    bus: MemoryBus
    metrics: Metrics

    async def predict(self, body: Any = None, path: str = "/predict") -> httpx.Response:
        """Ask, by default with the example."""
        return await self.client.post(path, json=EXAMPLE if body is None else body)

    async def post(self, content: Any, **headers: str) -> httpx.Response:
        """Send bytes, or an iterator of bytes, to /predict as JSON."""
        kind = {"content-type": "application/json"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        return await self.client.post("/predict", content=content, headers=kind)


@dataclass
class Plan:
    """What a front end is made of."""

    models: Sequence[Script] = field(default_factory=lambda: [Script()])
    deadline: float = 5.0
    compat: bool = False
    allowed_hosts: Sequence[str] = ("localhost",)

    def served(self) -> list[Served]:
        """Return two endpoints, iris and housing."""
        iris = Endpoint("iris", "iris", Newest(), self.deadline)
        housing = Endpoint("housing", "housing", Newest(), self.deadline)
        return [
            Served(iris, IRIS, EXAMPLE, compat=self.compat),
            Served(housing, HOUSE, None, compat=self.compat),
        ]


@asynccontextmanager
async def front_end(*models: Script, **plan: Any) -> AsyncIterator[FrontEnd]:
    """Serve inside the block, with the models live."""
    planned = Plan(models, **plan) if models else Plan(**plan)
    bus, metrics, served = MemoryBus(), Metrics(), planned.served()
    rendezvous = Rendezvous(bus, [each.endpoint for each in served], observer=metrics)
    metrics.watch_in_flight(lambda: rendezvous.in_flight)
    app = create_app(rendezvous, served, metrics=metrics.text, allowed_hosts=planned.allowed_hosts)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(app.framework.router.lifespan_context(app))
        await stack.enter_async_context(_running(planned.models, bus))
        await _live(rendezvous, planned.models)
        client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://localhost", timeout=30
        )
        yield FrontEnd(app, await stack.enter_async_context(client), rendezvous, bus, metrics)


@asynccontextmanager
async def _running(models: Sequence[Script], bus: MemoryBus) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(model.run(bus)) for model in models]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _live(rendezvous: Rendezvous, models: Sequence[Script]) -> None:
    expected = {(m.topic, m.name) for m in models if m.role != "shadow"}
    async with asyncio.timeout(10):
        while not all(
            any(name == candidate for candidate, _ in rendezvous.live(topic))
            for topic, name in expected
        ):
            await asyncio.sleep(0.001)
