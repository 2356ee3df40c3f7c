"""The rendezvous server: publish a request, gather the scores, answer by policy."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections import OrderedDict
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from rendezvous.contract import (
    SCHEMA_VERSION,
    Request,
    Score,
    decode_announcement,
    decode_score,
)
from rendezvous.decision import Decision, Endpoint
from rendezvous.errors import BusUnavailable, ConfigurationError, ContractError
from rendezvous.mailbox import Key, Mailbox
from rendezvous.policy.port import Answer, Exhausted, Wait
from rendezvous.roster import Roster
from rendezvous.settling import RecordObserver, Settling

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping

    from rendezvous.bus.port import Bus, Listening
    from rendezvous.policy.port import Candidate, Verdict
    from rendezvous.record import DecisionRecord

log = logging.getLogger(__name__)

EXPIRY_PERIOD = 0.25
TIMER_RESOLUTION = 0.002
REMEMBERED = 20_000
"""Requests of which a late score is still known to be one of ours."""


class Observer(RecordObserver, Protocol):
    """Who is told what happens, to count it."""

    def decided(self, endpoint: Endpoint, decision: Decision) -> None:
        """Take note of a choice, or that nothing could be chosen."""

    def arrived(self, score: Score, state: str) -> None:
        """Take note of a score.

        ``state``: ``in_time``, ``late``, ``error``, ``duplicate``, or ``foreign`` (not asked here).
        """

    def unreadable(self, topic: str) -> None:
        """Take note of a message of ``topic`` that is no score, or no announcement."""

    def ejected(self, endpoint: str, model: str, version: int) -> None:
        """Take note of a model that was taken out, for it is silent, hangs or misses requests."""


class Silent(Observer):
    """Counts nothing."""

    def decided(self, endpoint: Endpoint, decision: Decision) -> None:
        """Do nothing."""

    def arrived(self, score: Score, state: str) -> None:
        """Do nothing."""

    def unreadable(self, topic: str) -> None:
        """Do nothing."""

    def ejected(self, endpoint: str, model: str, version: int) -> None:
        """Do nothing."""

    def recorded(self, endpoint: Endpoint, record: DecisionRecord) -> None:
        """Do nothing."""

    def record_lost(self, endpoint: Endpoint) -> None:
        """Do nothing."""


class _Open:
    """A request in flight: its mailbox, and the future that its choice is put into."""

    __slots__ = ("arrived", "choice", "endpoint", "mailbox", "timer", "until")

    def __init__(
        self, endpoint: Endpoint, mailbox: Mailbox, choice: asyncio.Future[Verdict], arrived: float
    ) -> None:
        self.endpoint = endpoint
        self.mailbox = mailbox
        self.choice = choice
        self.arrived = arrived
        self.timer: asyncio.TimerHandle | None = None
        self.until = 0.0


class Rendezvous:
    """Asks every model behind ``bus`` and answers as each endpoint's policy decides.

    Args:
        bus: Carries requests and scores.
        endpoints: What can be asked.
        reply_topic: The return address. Several servers may share one: each hears all scores, and
            leaves those of the others' requests. With one each, none has to.
        models_topic: Where workers announce themselves.
        decisions_topic: Where the record of each decision goes; empty for no records.
        observer: Is told what happens.
        clock: Seconds, never falling; only differences are used.
    """

    def __init__(
        self,
        bus: Bus,
        endpoints: Iterable[Endpoint],
        *,
        reply_topic: str = "score",
        models_topic: str = "models",
        decisions_topic: str = "decisions",
        observer: Observer | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.endpoints: Mapping[str, Endpoint] = {e.name: e for e in endpoints}
        self._bus = bus
        self._reply_topic = reply_topic
        self._models_topic = models_topic
        self._observer = observer or Silent()
        self._clock = clock
        self._roster = Roster()
        self._settling = Settling(bus, decisions_topic, self._observer, clock)
        self._seen: dict[str, list[Mapping[Key, Candidate]]] = {}  # live models, and shadows
        self._open: dict[str, _Open] = {}
        self._closed: OrderedDict[str, str] = OrderedDict()  # ids of the last, and endpoints
        self.listening = False
        """Whether scores and announcements are being read."""
        self.publishing = True
        """Whether the bus took the last request of which this is known."""

    @property
    def in_flight(self) -> int:
        """How many requests have no answer yet."""
        return len(self._open)

    def live(self, endpoint: str) -> Mapping[Key, Candidate]:
        """Return the live models that may answer ``endpoint``, by name and version."""
        return self._roster.live(endpoint)

    async def run(self, stop: asyncio.Event) -> None:
        """Listen for scores until ``stop`` is set and requests in flight have their answers.

        Raises:
            BusError: The bus cannot be reached, or no longer delivers.
        """
        async with (
            self._bus.listen(self._reply_topic) as scores,
            self._bus.listen(self._models_topic) as announcements,
        ):
            tasks = [
                asyncio.create_task(self._until_answered(stop)),
                asyncio.create_task(self._hear(scores, self._deliver)),
                asyncio.create_task(self._hear(announcements, self._introduce)),
                asyncio.create_task(self._expire()),
            ]
            self.listening = True
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                self.listening = False
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            for task in done:
                task.result()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run inside the block. Raises: BusError, as ``run``."""
        stop = asyncio.Event()
        task = asyncio.create_task(self.run(stop))
        try:
            while not self.listening and not task.done():
                await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if task.done():
            await task
        try:
            yield
        finally:
            stop.set()
            await task

    async def ask(
        self, endpoint: str, model_input: dict[str, Any], *, message_id: str | None = None
    ) -> Decision:
        """Ask every model of ``endpoint`` and return the choice, within the deadline.

        Args:
            endpoint: The name of one of ``endpoints``.
            model_input: The input's fields, validated; numbers must be finite.
            message_id: An id of the caller's, unique among requests in flight; a new UUID if not
                given.

        Raises:
            BusError: The request could not be published, or not within the deadline.
            ConfigurationError: There is no such endpoint, or ``message_id`` is in flight.
            ContractError: JSON has no way to write a value of ``model_input``.
        """
        arrived = self._clock()
        asked = self.endpoints.get(endpoint)
        message_id = message_id or str(uuid.uuid4())
        if asked is None or message_id in self._open:
            raise ConfigurationError(f"no endpoint {endpoint!r}, or {message_id} is in flight")
        request = self._request(asked, model_input, message_id)
        live, shadows = self._roster.live(endpoint), self._roster.shadows(endpoint)
        mailbox = Mailbox(message_id, live, asked.budget, shadows)
        choice: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        entry = _Open(asked, mailbox, choice, arrived)
        self._open[message_id] = entry  # before publishing: no score can come too early
        try:
            self._set_timer(entry, asked.budget)
            published = self._bus.publish(asked.topic, request.encode(), key=message_id, linger=0.0)
            if published.done():
                self._published(choice, published)
            else:
                published.add_done_callback(partial(self._published, choice))
            verdict = await choice
            if isinstance(verdict, Exhausted) and not published.done():
                self.publishing = False
                raise BusUnavailable("the bus did not take the request within the deadline")
        finally:
            del self._open[message_id]
            self._remember(message_id, endpoint)
            if entry.timer:
                entry.timer.cancel()
        return self._record(entry, request, verdict)

    def _published(self, choice: asyncio.Future[Verdict], published: asyncio.Future[None]) -> None:
        """Fail the request when it could not be published, unless it is answered already."""
        error = None if published.cancelled() else published.exception()
        self.publishing = error is None
        if error is not None and not choice.done():
            choice.set_exception(error)

    def _request(self, endpoint: Endpoint, model_input: dict[str, Any], message_id: str) -> Request:
        now = time.time()
        return Request(
            timestamp=now,
            message_id=message_id,
            model_input=model_input,
            score_topic=self._reply_topic,
            deadline=round((now + endpoint.budget) * 1000.0, 3),
            endpoint=endpoint.name,
            schema_version=SCHEMA_VERSION,
        )

    def _record(self, entry: _Open, request: Request, verdict: Verdict) -> Decision:
        chosen = verdict if isinstance(verdict, Answer) else None
        missing = entry.mailbox.pending
        elapsed = self._clock() - entry.arrived
        if missing and elapsed >= entry.mailbox.budget - TIMER_RESOLUTION:
            self._roster.missed(entry.endpoint.name, missing, self._clock())
            self._drop_gone(entry.endpoint.name)
        decision = Decision(
            request=request,
            score=chosen.score if chosen else None,
            reason=chosen.reason if chosen else "exhausted",
            policy=entry.endpoint.policy.name,
            elapsed=elapsed,
            arrivals=tuple(entry.mailbox.arrivals),
            missing=tuple(missing.values()),
        )
        self._observer.decided(entry.endpoint, decision)
        self._settling.keep(entry.endpoint, decision, entry.mailbox, entry.arrived)
        return decision

    def _decide(self, entry: _Open, elapsed: float) -> None:
        """Ask the policy; put its choice into the future, or set the timer it asks for."""
        if entry.choice.done():
            return
        try:
            verdict = entry.endpoint.policy.decide(entry.mailbox.situation(elapsed))
        except Exception:  # a policy may be a user's: it costs its request the choice, no more
            log.exception("policy %s failed", entry.endpoint.policy.name)
            verdict = Exhausted()
        if not isinstance(verdict, Wait):
            entry.choice.set_result(verdict)
        elif elapsed >= entry.mailbox.budget:  # against the rules: whoever asked must not wait on
            log.error("policy %s would wait beyond the budget", entry.endpoint.policy.name)
            entry.choice.set_result(Exhausted())
        else:
            ahead = elapsed < verdict.until < entry.mailbox.budget
            self._set_timer(entry, verdict.until if ahead else entry.mailbox.budget)

    def _set_timer(self, entry: _Open, until: float) -> None:
        if entry.timer:
            if entry.until == until and entry.timer.when() > asyncio.get_running_loop().time():
                return
            entry.timer.cancel()
        entry.until = until
        delay = max(0.0, entry.arrived + until - self._clock())
        # `until` goes along: a timer may fire a little early, and the policy must not see that
        entry.timer = asyncio.get_running_loop().call_later(delay, self._decide, entry, until)

    async def _hear(self, listener: Listening, take: Callable[[bytes], None]) -> None:
        """Take every message; one that nobody can read is left for the connectors to bury."""
        while True:
            for delivery in await listener.receive():
                try:
                    take(delivery.payload)
                except ContractError as error:
                    self._observer.unreadable(delivery.topic)
                    log.warning("left out a message of %s: %s", delivery.topic, error)

    def _deliver(self, payload: bytes) -> None:
        """Put a score into its mailbox and see whether it settles the choice."""
        score = decode_score(payload)
        entry = self._open.get(score.message_id)
        now = self._clock()
        if entry is None:
            self._deliver_late(score, now)
            return
        self._roster.scored(entry.endpoint.name, score.model, now)
        elapsed = now - entry.arrived
        if not entry.mailbox.put(score, elapsed):
            self._observer.arrived(score, "duplicate")
            return
        self._observer.arrived(score, "error" if score.error else "in_time")
        self._decide(entry, elapsed)

    def _deliver_late(self, score: Score, now: float) -> None:
        """Count a score that nobody waits for: normal, where another model's was good enough."""
        first = self._settling.late(score, now)
        endpoint = self._closed.get(score.message_id)
        if endpoint is not None:
            self._roster.scored(endpoint, score.model, now)
        known = "duplicate" if first is False else "late"
        self._observer.arrived(score, known if endpoint else "foreign")

    def _remember(self, message_id: str, endpoint: str) -> None:
        self._closed[message_id] = endpoint
        if len(self._closed) > REMEMBERED:
            self._closed.popitem(last=False)

    def _introduce(self, payload: bytes) -> None:
        announcement = decode_announcement(payload)
        if announcement.endpoint not in self.endpoints:
            return
        self._roster.announced(announcement, self._clock())
        self._drop_gone(announcement.endpoint)

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(EXPIRY_PERIOD)
            self._settling.sweep(self._clock())
            self._roster.expire(self._clock())
            for name in self.endpoints:
                self._drop_gone(name)

    def _drop_gone(self, endpoint: str) -> None:
        """End the wait of every open request for models that were live and are not any more."""
        now = [self._roster.live(endpoint), self._roster.shadows(endpoint)]
        before, self._seen[endpoint] = self._seen.get(endpoint, now), now
        for key in {key for was, is_ in zip(before, now, strict=True) for key in was.keys() - is_}:
            log.info("model %s version %d of %s is gone", *key, endpoint)
            if self._roster.ejected(endpoint, key):
                self._observer.ejected(endpoint, *key)
            self._settling.drop(endpoint, key)
            for entry in list(self._open.values()):
                if entry.endpoint.name == endpoint and entry.mailbox.drop(key):
                    self._decide(entry, self._clock() - entry.arrived)

    async def _until_answered(self, stop: asyncio.Event) -> None:
        """Wait for ``stop``, then for requests in flight; none takes longer than its deadline.

        Then see to the records of their decisions.
        """
        await stop.wait()
        while self._open:
            await asyncio.sleep(0.005)
        await self._settling.finish()
