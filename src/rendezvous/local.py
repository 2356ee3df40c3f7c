"""Every service in one process: on the memory bus for a laptop, or over real servers."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rendezvous.bus.memory import MemoryBus
from rendezvous.deadletter import keeps_dead_letters
from rendezvous.service import supervise

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from rendezvous.bus.port import Bus
    from rendezvous.core import Rendezvous
    from rendezvous.model.decoy import Decoy
    from rendezvous.model.worker import Worker
    from rendezvous.service import Run
    from rendezvous.sink.runner import Connector

log = logging.getLogger(__name__)

DRAIN_SECONDS = 10.0
READY_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Part:
    """One service's loop, and what it reads: ``(topic, group)`` each."""

    name: str
    run: Run
    reads: Sequence[tuple[str, str]] = ()


@dataclass(slots=True)
class Local:
    """A whole system in one event loop.

    Attributes:
        bus: Carries everything.
        rendezvous: The server that is asked.
        workers: One for each model.
        decoy: Records the inputs.
        connectors: Archive them, and the scores.
        failed: Called when a part can not go on.
    """

    bus: Bus
    rendezvous: Rendezvous
    workers: Sequence[Worker]
    decoy: Decoy
    connectors: Sequence[Connector] = ()
    failed: Callable[[], None] = field(default=lambda: None)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Rendezvous]:
        """Run all parts inside the block; it is entered when every endpoint has a model.

        Leaving it stops them in order, each after what it reads has come to an end, so that all
        that was answered is archived: requests in flight, models, decoy, connectors.
        """
        async with AsyncExitStack() as stack:
            for stage in self._stages():
                await stack.enter_async_context(self._stage(stage))
            await self._ready()
            yield self.rendezvous

    def _stages(self) -> list[list[Part]]:
        """Return the parts, downstream first: the first to start, and the last to stop."""
        decoy = self.decoy
        connectors = [
            Part(f"connector {c.group}", c.run, [(topic, c.group) for topic in c.topics])
            for c in self.connectors
        ]
        return [
            [part for part in connectors if _reads_letters(part)],  # the others may bury some
            [part for part in connectors if not _reads_letters(part)],
            [Part("decoy", decoy.run, [(topic, decoy.name) for topic in decoy.topics])],
            [
                Part(f"model {worker.group}", worker.run, [(worker.post.topic, worker.group)])
                for worker in self.workers
            ],
            [Part("rendezvous", self.rendezvous.run)],
        ]

    @asynccontextmanager
    async def _stage(self, parts: Sequence[Part]) -> AsyncIterator[None]:
        stop = asyncio.Event()
        tasks = [
            asyncio.create_task(supervise(part.name, part.run, stop), name=part.name)
            for part in parts
        ]
        for task in tasks:
            task.add_done_callback(self._watch)
        try:
            yield
            await self._drained([read for part in parts for read in part.reads])
        finally:
            stop.set()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _watch(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception():
            log.critical("%s can not go on: %s", task.get_name(), task.exception())
            self.failed()

    async def _drained(self, reads: Sequence[tuple[str, str]]) -> None:
        """Wait until nothing waits for these groups; a bus that keeps it needs no wait."""
        if not isinstance(self.bus, MemoryBus):
            return
        for topic, group in reads:
            try:
                async with asyncio.timeout(DRAIN_SECONDS):
                    while self.bus.backlog(topic, group):
                        await asyncio.sleep(0.01)
            except TimeoutError:
                left = self.bus.backlog(topic, group)
                log.error("%d messages of %s are lost to %s", left, topic, group)  # noqa: TRY400

    async def _ready(self) -> None:
        endpoints = {worker.post.endpoint for worker in self.workers}
        try:
            async with asyncio.timeout(READY_SECONDS):
                while not all(self.rendezvous.live(name) for name in endpoints):
                    await asyncio.sleep(0.01)
        except TimeoutError:
            log.warning("not every endpoint has a live model yet; /readyz tells which")


def _reads_letters(part: Part) -> bool:
    return all(keeps_dead_letters(topic) for topic, _ in part.reads)
