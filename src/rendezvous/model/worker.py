"""The loop around one model: read requests, predict once a batch, publish the scores."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import re
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from rendezvous.bus.settling import settle
from rendezvous.contract import (
    REPLY_TOPICS,
    Announcement,
    ModelProvenance,
    ScoreError,
    decode_request,
    encode_score,
)
from rendezvous.deadletter import Undertaker
from rendezvous.errors import BusError, ContractError
from rendezvous.membership import MembershipObserver, membership
from rendezvous.model.evaluation import Outcome, evaluate
from rendezvous.model.quick import Evaluations

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from rendezvous.bus.port import Bus, Deliveries, Delivery
    from rendezvous.contract import Request, Result
    from rendezvous.model.port import Model

log = logging.getLogger(__name__)

HEARTBEAT = 0.5
HANG = 0.5
"""Seconds of one evaluation after which the model is taken to hang, and is not announced."""
COMPLAINT_PERIOD = 60.0
STOP_CHECK = 0.1
BATCHES_UNDER_WAY = 4
"""Batches whose scores are published and not yet known to be stored."""

LAST_WORD = 1.0
"""Seconds that the bus has for the goodbye."""


@dataclass(frozen=True, slots=True)
class Post:
    """Where a worker reads and writes, and what it calls itself.

    Attributes:
        endpoint: The endpoint's name.
        topic: Where its requests come from.
        models_topic: Where the worker announces itself.
        role: ``production``, ``canary``, ``shadow`` or ``backup``.
        instance: Which replica this is; must differ between replicas.
        reply_topics: A pattern that a request's return address must match as a whole; anything
            else is refused, so that no message can make a worker write where it likes.
        max_batch: Requests scored at once, at most.
        alone: Whether the process has nothing else to do: then a quick model is evaluated in its
            event loop, and the process ends if the model hangs there.
    """

    endpoint: str
    topic: str
    models_topic: str = "models"
    role: str = "production"
    instance: str = "0"
    reply_topics: str = REPLY_TOPICS
    max_batch: int = 256
    alone: bool = False


class Observer(MembershipObserver, Protocol):
    """Who is told what happens, to count it."""

    def worked(self, model: str, version: int, outcome: str, number: int) -> None:
        """Take note of requests; ``outcome``: ``ok``, ``error`` or ``expired`` (not scored)."""

    def evaluated(self, model: str, version: int, seconds: float, rows: int) -> None:
        """Take note that the model took ``seconds`` for a batch of ``rows``."""

    def buried(self, topic: str) -> None:
        """Take note of a message that went to the dead-letter topic of ``topic``."""


class Silent(Observer):
    """Counts nothing."""


@dataclass(frozen=True, slots=True)
class _Job:
    """A request in hand."""

    delivery: Delivery
    request: Request
    fields: dict[str, Any]


@dataclass(slots=True)
class Worker:
    """Serves one version of a model on one endpoint; its replicas share the group.

    Each request is acked only after its score is durably on the bus. A request past its deadline
    is dropped and counted; a model that fails answers with an error score, so nobody waits for
    it; a request that nobody can read is buried after a few tries.
    """

    model: Model
    bus: Bus
    post: Post
    observer: Observer = field(default_factory=Silent)
    _settling: set[asyncio.Task[None]] = field(default_factory=set, init=False)
    _evaluating_since: float = field(default=math.inf, init=False)
    _complained: float = field(default=-math.inf, init=False)
    _reply_topics: re.Pattern[str] = field(init=False)

    def __post_init__(self) -> None:
        self._reply_topics = re.compile(self.post.reply_topics)

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model.manifest.name

    @property
    def group(self) -> str:
        """The group's name: one for each version, for each scores every request."""
        return f"{self.name}-{self.model.manifest.version}"

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until ``stop`` is set, then finish what is in hand, and say goodbye.

        Raises:
            BusError: The bus cannot be reached, or refuses.
        """
        undertaker = Undertaker(self.bus, self.observer.buried)
        topics = [self.post.topic]
        prefetch = 2 * self.post.max_batch  # the rest is left to other replicas
        with membership(self.observer, self.group, topics) as reads:
            async with self.bus.subscribe(topics, self.group, prefetch=prefetch) as deliveries:
                evaluations: Evaluations[list[Outcome]] = Evaluations(
                    self.group, in_loop=self.post.alone
                )
                reads()
                try:
                    await self._serve(deliveries, undertaker, evaluations, stop)
                finally:
                    evaluations.close()
                    for task in self._settling:
                        task.cancel()

    async def _serve(
        self,
        deliveries: Deliveries,
        undertaker: Undertaker,
        evaluations: Evaluations[list[Outcome]],
        stop: asyncio.Event,
    ) -> None:
        async with self._announced() as up_to_date:
            while not stop.is_set():
                if await self._room():
                    batch = await deliveries.receive(self.post.max_batch, STOP_CHECK)
                    jobs = await self._open(batch, deliveries, undertaker)
                    if jobs or not batch:
                        up_to_date.set()
                    await self._work(jobs, deliveries, undertaker, evaluations)
            # before the goodbye: that ends the wait for what is not there yet
            await asyncio.gather(*self._settling)

    @asynccontextmanager
    async def _announced(self) -> AsyncIterator[asyncio.Event]:
        """Say twice a second that this replica serves, and at the end that it has stopped.

        Not before the event is set: a worker that was away first goes through what has become
        too old, and nobody should wait for it meanwhile.
        """
        up_to_date = asyncio.Event()
        heart = asyncio.create_task(self._beat(up_to_date))
        try:
            yield up_to_date
        finally:
            heart.cancel()
            with contextlib.suppress(BusError, TimeoutError):
                async with asyncio.timeout(LAST_WORD):
                    await self._announce("stopped")

    async def _beat(self, up_to_date: asyncio.Event) -> None:
        """Announce for ever; fall silent while the model hangs."""
        await up_to_date.wait()
        while True:
            if time.monotonic() - self._evaluating_since < HANG:
                with contextlib.suppress(BusError):  # the bus tells of its troubles itself
                    await self._announce("serving")
            await asyncio.sleep(HEARTBEAT)

    def _announce(self, state: str) -> asyncio.Future[None]:
        manifest, post = self.model.manifest, self.post
        announcement = Announcement(
            timestamp=time.time(),
            endpoint=post.endpoint,
            instance=post.instance,
            model_name=manifest.name,
            model_version=manifest.version,
            role=post.role,
            state=state,
            digest=manifest.digest,
        )
        key = f"{post.endpoint}/{manifest.name}@{manifest.version}/{post.instance}"
        return self.bus.publish(post.models_topic, announcement.encode(), key=key)

    async def _open(
        self, batch: Sequence[Delivery], deliveries: Deliveries, undertaker: Undertaker
    ) -> list[_Job]:
        """Decode; refuse what nobody can read, drop what nobody waits for any more."""
        jobs: list[_Job] = []
        expired: list[Delivery] = []
        now = time.time() * 1000.0
        for delivery in batch:
            try:
                request, fields = self._read(delivery.payload)
            except ContractError as error:
                await undertaker.refuse(deliveries, delivery, str(error))
                continue
            if request.deadline is not None and request.deadline < now:
                expired.append(delivery)
            else:
                jobs.append(_Job(delivery, request, fields))
        if expired:
            await deliveries.ack(expired)
            self._count("expired", len(expired))
            self._complain(len(expired))
        return jobs

    def _complain(self, expired: int) -> None:
        now = time.monotonic()
        if now - self._complained > COMPLAINT_PERIOD:
            self._complained = now
            log.warning(
                "%s was too late for %d requests: it was away, is too slow, or its clock is ahead",
                self.group,
                expired,
            )

    def _read(self, payload: bytes) -> tuple[Request, dict[str, Any]]:
        request, fields = decode_request(payload)
        if not self._reply_topics.fullmatch(request.score_topic):
            raise ContractError(f"scoreTopic {request.score_topic!r} is not allowed")
        return request, fields

    async def _work(
        self,
        jobs: Sequence[_Job],
        deliveries: Deliveries,
        undertaker: Undertaker,
        evaluations: Evaluations[list[Outcome]],
    ) -> None:
        """Predict once for all, start to publish the scores, and go on."""
        if not jobs:
            return
        manifest = self.model.manifest
        started = time.time()
        inputs = [job.request.model_input for job in jobs]
        self._evaluating_since = time.monotonic()
        try:
            outcomes = await evaluations.run(partial(evaluate, self.model, inputs))
        finally:
            self._evaluating_since = math.inf
        seconds = time.time() - started
        self.observer.evaluated(manifest.name, manifest.version, seconds, len(jobs))
        published = [
            self._publish(job, outcome, started, seconds)
            for job, outcome in zip(jobs, outcomes, strict=True)
        ]
        errors = sum(isinstance(outcome, ScoreError) for outcome in outcomes)
        self._count("error", errors)
        self._count("ok", len(jobs) - errors)
        settling = settle(deliveries, [job.delivery for job in jobs], published, undertaker)
        task = asyncio.create_task(settling)  # the next batch need not wait for it
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    def _publish(
        self, job: _Job, outcome: Result | ScoreError, started: float, seconds: float
    ) -> asyncio.Future[None]:
        manifest, request = self.model.manifest, job.request
        provenance = ModelProvenance(
            model_name=manifest.name,
            model_version=manifest.version,
            elapsed_time_after_request=(time.time() - request.timestamp) * 1000.0,
            role=self.post.role,
            digest=manifest.digest,
            evaluated_ms=seconds * 1000.0,
            queue_ms=(started - request.timestamp) * 1000.0,
        )
        payload = encode_score(job.fields, provenance, outcome)
        return self.bus.publish(request.score_topic, payload, key=request.message_id, linger=0.0)

    async def _room(self) -> bool:
        """Return whether another batch may be taken, after a moment if not."""
        if len(self._settling) >= BATCHES_UNDER_WAY:
            await asyncio.wait(
                self._settling, timeout=STOP_CHECK, return_when=asyncio.FIRST_COMPLETED
            )
        return len(self._settling) < BATCHES_UNDER_WAY

    def _count(self, outcome: str, number: int) -> None:
        if number:
            manifest = self.model.manifest
            self.observer.worked(manifest.name, manifest.version, outcome, number)
