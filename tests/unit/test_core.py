"""The rendezvous server: each request gets the best score in time, and nobody else's."""

import asyncio
import json
import logging
import math
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from rendezvous.bus.memory import MemoryBus
from rendezvous.contract import decode_request
from rendezvous.core import Rendezvous
from rendezvous.decision import Endpoint
from rendezvous.errors import BusError, BusUnavailable, ConfigurationError, ContractError
from rendezvous.policy import STRANGER, Answer, Newest, Priority, Rank, Wait
from rendezvous.roster import MISSES, SILENCE
from tests.unit.scores import IRIS, announcement, foreign_score, request, scored

LONG = 30.0
"""A deadline that no test gets near: what is answered under it was answered early."""

SHORT = 0.2
MARGIN = 5.0
"""Seconds that a busy machine may add."""


class Seen:
    """An observer that remembers what it was told."""

    def __init__(self):
        self.decisions = []
        self.scores = []
        self.unreadable_of = []
        self.ejections = []
        self.records = []
        self.lost = 0

    def decided(self, endpoint, decision):
        self.decisions.append((endpoint.name, decision))

    def arrived(self, score, state):
        self.scores.append((score.model.model_name, state))

    def unreadable(self, topic):
        self.unreadable_of.append(topic)

    def ejected(self, endpoint, model, version):
        self.ejections.append((endpoint, model, version))

    def recorded(self, endpoint, record):
        self.records.append(record)

    def record_lost(self, endpoint):
        self.lost += 1


@dataclass
class System:
    """A rendezvous server on a memory bus, and the means to play its models."""

    bus: MemoryBus
    rendezvous: Rendezvous
    seen: Seen
    requests: object

    def announce(self, name, version=1, **rest):
        self.bus.publish("models", announcement(name, version, **rest).encode())

    async def live(self, *models):
        """Announce models and wait until they are live."""
        for name, version in models:
            self.announce(name, version)
        await until(lambda: set(models) <= set(self.rendezvous.live("iris")))

    def ask(self, model_input=None, **rest):
        """Start to ask; return the task."""
        asked = self.rendezvous.ask("iris", model_input or IRIS, **rest)
        return asyncio.create_task(asked)

    async def request(self):
        """Return the next request that was published, as bytes."""
        async with asyncio.timeout(MARGIN):
            (delivery,) = await self.requests.receive(1)
            return delivery.payload

    def answer(self, payload, name, version=1, **rest):
        """Publish a model's score of a request, to the request's return address."""
        address = decode_request(payload)[0].score_topic
        self.bus.publish(address, scored(payload, name, version, **rest))


@asynccontextmanager
async def system(policy=None, *, deadline=LONG, bus=None, **rest):
    """Run a rendezvous server with one endpoint, iris; nothing may fail unseen meanwhile."""
    failures = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    bus, seen = bus or MemoryBus(), Seen()
    endpoint = Endpoint("iris", "iris", policy or Newest(), deadline)
    rendezvous = Rendezvous(bus, [endpoint], observer=seen, **rest)
    async with rendezvous.running(), bus.subscribe(["iris"], "models") as requests:
        yield System(bus, rendezvous, seen, requests)
    assert not rendezvous.listening
    assert failures == []


async def until(condition):
    async with asyncio.timeout(MARGIN):
        while not condition():
            await asyncio.sleep(0.001)


async def finished(task):
    """Return a task's result; it must come long before the deadline."""
    async with asyncio.timeout(MARGIN):
        return await task


class TestTheAnswer:
    async def test_goes_out_at_once_when_the_newest_live_model_has_scored(self):
        async with system() as s:
            await s.live(("lr", 0), ("dt", 1))
            asked = s.ask()
            s.answer(await s.request(), "dt", 1, result=2)

            decision = await finished(asked)

        assert (decision.score.result.model_name, decision.score.result.result) == ("dt", 2)
        assert (decision.reason, decision.policy) == ("newest", "newest")
        assert [candidate.name for candidate in decision.missing] == ["lr"]
        assert decision.elapsed < MARGIN

    async def test_waits_for_a_newer_model_with_an_older_score_in_hand(self):
        async with system() as s:
            await s.live(("lr", 0), ("dt", 1))
            asked = s.ask()
            payload = await s.request()
            s.answer(payload, "lr", 0, result=1)
            await until(lambda: s.seen.scores == [("lr", "in_time")])
            assert not asked.done()
            s.answer(payload, "dt", 1, result=2)

            decision = await finished(asked)

        assert decision.score.result.result == 2
        assert [a.score.model.model_name for a in decision.arrivals] == ["lr", "dt"]
        assert decision.missing == ()

    async def test_of_the_older_goes_out_at_once_when_the_newer_fails(self):
        async with system() as s:
            await s.live(("lr", 0), ("dt", 1))
            asked = s.ask()
            payload = await s.request()
            s.answer(payload, "lr", 0, result=1)
            s.answer(payload, "dt", 1, error="it failed")

            decision = await finished(asked)

        assert decision.score.result.result == 1
        assert [arrival.valid for arrival in decision.arrivals] == [True, False]
        assert s.seen.scores == [("lr", "in_time"), ("dt", "error")]

    async def test_is_none_at_once_when_every_live_model_has_failed(self):
        async with system() as s:
            await s.live(("dt", 1))
            asked = s.ask()
            s.answer(await s.request(), "dt", 1, error="it failed")

            decision = await finished(asked)

        assert (decision.score, decision.reason) == (None, "exhausted")
        assert decision.arrivals[0].score.error.message == "it failed"

    async def test_is_none_when_the_deadline_passes_without_a_score(self):
        async with system(deadline=SHORT) as s:
            await s.live(("dt", 1))
            decision = await finished(s.ask())

        assert (decision.score, decision.reason) == (None, "exhausted")
        assert [candidate.name for candidate in decision.missing] == ["dt"]
        assert 0.9 * SHORT <= decision.elapsed < SHORT + MARGIN

    async def test_is_the_best_in_hand_when_the_deadline_passes(self):
        async with system(deadline=SHORT) as s:
            await s.live(("lr", 0), ("dt", 1))
            asked = s.ask()
            s.answer(await s.request(), "lr", 0, result=1)

            decision = await finished(asked)

        assert (decision.score.result.result, decision.reason) == (1, "deadline_best")

    async def test_goes_out_at_the_moment_that_the_policy_asked_for(self):
        ranking = Priority([Rank("dt"), Rank("lr", SHORT)])
        async with system(ranking) as s:
            await s.live(("lr", 0), ("dt", 1))
            asked = s.ask()
            s.answer(await s.request(), "lr", 0, result=1)

            decision = await finished(asked)

        assert (decision.score.result.result, decision.reason) == (1, "patience_expired")
        assert SHORT <= decision.elapsed < LONG / 2

    async def test_is_never_a_shadows(self):
        async with system(deadline=SHORT) as s:
            await s.live(("dt", 1))
            asked = s.ask()
            s.answer(await s.request(), "rf", 9, role="shadow")

            decision = await finished(asked)

        assert decision.score is None
        assert [a.score.model.model_name for a in decision.arrivals] == ["rf"]

    async def test_does_not_wait_for_a_shadow(self):
        async with system() as s:
            await s.live(("dt", 1))
            s.announce("rf", 9, role="shadow")
            asked = s.ask()
            s.answer(await s.request(), "dt", 1)

            assert (await finished(asked)).score.model.model_name == "dt"

    async def test_is_told_to_the_observer(self):
        async with system() as s:
            await s.live(("dt", 1))
            asked = s.ask()
            s.answer(await s.request(), "dt", 1)
            decision = await finished(asked)

        assert s.seen.decisions == [("iris", decision)]


class TestTheRequest:
    async def test_says_what_a_model_must_know(self):
        async with system(reply_topic="score-a") as s:
            await s.live(("dt", 1))
            before = time.time()
            asked = s.ask(message_id="r7")
            payload = await s.request()
            read, _ = decode_request(payload)
            s.answer(payload, "dt", 1)
            decision = await finished(asked)

        assert (read.message_id, read.model_input, read.endpoint) == ("r7", IRIS, "iris")
        assert (read.score_topic, read.schema_version) == ("score-a", 1)
        assert before <= read.timestamp <= time.time()
        assert read.deadline == pytest.approx((read.timestamp + 0.95 * LONG) * 1000)
        assert decision.request == read

    async def test_gets_an_id_of_its_own_where_none_is_given(self):
        async with system() as s:
            asked = [s.ask() for _ in range(20)]
            payloads = [await s.request() for _ in asked]
            for task in asked:
                task.cancel()

        assert len({decode_request(payload)[0].message_id for payload in payloads}) == 20

    async def test_with_an_id_that_is_in_flight_is_refused_and_harms_nobody(self):
        async with system() as s:
            await s.live(("dt", 1))
            first = s.ask(message_id="r1")
            payload = await s.request()
            with pytest.raises(ConfigurationError, match="r1 is in flight"):
                await s.ask(message_id="r1")
            s.answer(payload, "dt", 1)

            assert (await finished(first)).score is not None

    async def test_may_use_an_id_again_that_is_not_in_flight_any_more(self):
        async with system() as s:
            await s.live(("dt", 1))
            for result in (1, 2):
                asked = s.ask(message_id="r1")
                s.answer(await s.request(), "dt", 1, result=result)
                assert (await finished(asked)).score.result.result == result

    async def test_for_an_endpoint_that_is_not_there_is_refused(self):
        async with system() as s:
            with pytest.raises(ConfigurationError, match="no endpoint 'housing'"):
                await s.rendezvous.ask("housing", IRIS)

    async def test_that_json_can_not_hold_is_refused_and_leaves_nothing_behind(self):
        async with system() as s:
            with pytest.raises(ContractError):
                await s.rendezvous.ask("iris", {"a": "\ud800"})

            assert s.rendezvous.in_flight == 0

    async def test_that_nobody_waits_for_any_more_leaves_nothing_behind(self):
        async with system() as s:
            asked = s.ask()
            await s.request()
            assert s.rendezvous.in_flight == 1
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked

            assert s.rendezvous.in_flight == 0

    async def test_leaves_no_timer_behind(self):
        ranking = Priority([Rank("dt"), Rank("lr", LONG / 2)])
        async with system(ranking) as s:
            await s.live(("lr", 0), ("dt", 1))
            asked = s.ask()
            payload = await s.request()
            s.answer(payload, "lr", 0)  # the timer is set anew
            await until(lambda: s.seen.scores)
            s.answer(payload, "dt", 1)
            await finished(asked)

            assert not pending_timers(s.rendezvous._decide)


def pending_timers(method):
    scheduled = asyncio.get_running_loop()._scheduled
    return [timer for timer in scheduled if timer._callback == method and not timer.cancelled()]


class TestManyRequests:
    async def test_asked_at_the_same_time_each_get_their_own_answers(self):
        async with system() as s:
            await s.live(("lr", 0), ("dt", 1))

            async def serve(name, version, factor):
                async with s.bus.subscribe(["iris"], name) as requests:
                    ready.append(name)
                    while True:
                        batch = list(await requests.receive(7))
                        for delivery in reversed(batch):
                            await asyncio.sleep(0)
                            x = decode_request(delivery.payload)[0].model_input["x"]
                            s.answer(delivery.payload, name, version, result=factor * x)

            ready = []
            models = [
                asyncio.create_task(serve("lr", 0, -1)),
                asyncio.create_task(serve("dt", 1, 10)),
            ]
            await until(lambda: len(ready) == 2)
            decisions = await asyncio.gather(*[s.ask({"x": number}) for number in range(300)])
            for model in models:
                model.cancel()

        assert [d.request.model_input["x"] for d in decisions] == list(range(300))
        assert [d.score.result.result for d in decisions] == [10 * number for number in range(300)]
        assert all(d.score.message_id == d.request.message_id for d in decisions)
        assert s.rendezvous.in_flight == 0


class TestScores:
    async def test_that_come_after_the_answer_are_late(self):
        async with system() as s:
            await s.live(("lr", 0), ("dt", 1))
            asked = s.ask()
            payload = await s.request()
            s.answer(payload, "dt", 1)
            decision = await finished(asked)
            s.answer(payload, "lr", 0)
            await until(lambda: ("lr", "late") in s.seen.scores)

        assert decision.score.model.model_name == "dt"

    async def test_for_requests_that_nobody_here_asked_are_foreign_and_make_no_model_live(self):
        async with system() as s:
            s.answer(request("not ours").encode(), "dt", 1)
            await until(lambda: s.seen.scores == [("dt", "foreign")])

            assert s.rendezvous.live("iris") == {}

    async def test_of_the_same_model_twice_count_once(self):
        async with system() as s:
            await s.live(("lr", 0), ("dt", 1))
            asked = s.ask()
            payload = await s.request()
            s.answer(payload, "lr", 0, result=1)
            s.answer(payload, "lr", 0, result=7)
            await until(lambda: s.seen.scores == [("lr", "in_time"), ("lr", "duplicate")])
            s.answer(payload, "dt", 1, error="no")

            assert (await finished(asked)).score.result.result == 1

    async def test_that_nobody_can_read_are_counted_and_harm_no_other(self):
        async with system() as s:
            await s.live(("dt", 1))
            s.bus.publish("score", b"not a score")
            asked = s.ask()
            s.answer(await s.request(), "dt", 1)

            assert (await finished(asked)).score is not None
            assert s.seen.unreadable_of == ["score"]

    async def test_and_announcements_that_nobody_can_read_are_counted_apart(self):
        async with system() as s:
            s.bus.publish("models", b"{}")
            await until(lambda: s.seen.unreadable_of == ["models"])
            await s.live(("dt", 1))

    async def test_go_to_whoever_asked_where_two_servers_share_a_return_address(self):
        async with system() as one, system(bus=one.bus) as other:
            await one.live(("dt", 1))
            await other.live(("dt", 1))
            for number in range(20):
                asking = one if number % 2 else other
                asked = asking.ask()
                asking.answer(await asking.request(), "dt", 1, result=number)
                assert (await finished(asked)).score.result.result == number


class TestRecords:
    async def test_go_out_once_for_each_request_that_was_answered(self):
        async with system() as s, s.bus.subscribe(["decisions"], "test") as records:
            await s.live(("lr", 0), ("dt", 1))
            for number in range(10):
                asked = s.ask(message_id=f"r{number}")
                payload = await s.request()
                s.answer(payload, "dt", 1)
                await finished(asked)
                s.answer(payload, "lr", 0)
            await until(lambda: len(s.seen.records) == 10)
            found = await records.receive()

        assert [delivery.key for delivery in found] == [f"r{number}" for number in range(10)]
        assert [json.loads(d.payload)["messageId"] for d in found] == [d.key for d in found]
        assert {name for r in s.seen.records for name in r.late_models} == {"lr@0"}
        assert s.seen.lost == 0

    async def test_hold_what_the_answer_was_made_of(self):
        async with system() as s:
            await s.live(("dt", 1))
            asked = s.ask()
            s.answer(await s.request(), "dt", 1, result=7)
            decision = await finished(asked)
            await until(lambda: s.seen.records)

        [record] = s.seen.records
        assert record.message_id == decision.request.message_id
        assert record.model_input == IRIS
        assert record.chosen.result == 7
        assert record.decided_ms == pytest.approx(decision.elapsed * 1000, abs=0.001)

    async def test_wait_for_a_shadow_that_the_answer_did_not_wait_for(self):
        async with system() as s:
            await s.live(("dt", 1))
            s.announce("rf", 9, role="shadow")
            await until(lambda: s.rendezvous._roster.shadows("iris"))
            asked = s.ask()
            payload = await s.request()
            s.answer(payload, "dt", 1, result=2)
            await finished(asked)
            assert s.seen.records == []
            s.answer(payload, "rf", 9, result=1, role="shadow")
            await until(lambda: s.seen.records)

        [record] = s.seen.records
        assert record.disagreeing == ("rf@9",)

    @pytest.mark.parametrize(("name", "role"), [("lr", "canary"), ("rf", "shadow")])
    async def test_wait_no_more_for_a_model_that_says_goodbye(self, name, role):
        async with system() as s:
            await s.live(("dt", 1))
            s.announce(name, 0, role=role)
            s.announce("marker", 0)
            await until(lambda: ("marker", 0) in s.rendezvous.live("iris"))
            s.announce("marker", 0, state="stopped")
            await until(lambda: ("marker", 0) not in s.rendezvous.live("iris"))
            asked = s.ask()
            s.answer(await s.request(), "dt", 1)
            await finished(asked)
            assert s.seen.records == []
            s.announce(name, 0, role=role, state="stopped")
            await until(lambda: s.seen.records)

        [record] = s.seen.records
        assert record.missing_models == (f"{name}@0",)
        assert s.seen.ejections == []

    async def test_go_out_soon_after_the_deadline_whoever_is_missing(self):
        async with system(deadline=SHORT) as s:
            await s.live(("lr", 0), ("dt", 1))
            asked = s.ask()
            s.answer(await s.request(), "dt", 1)
            await finished(asked)
            await until(lambda: s.seen.records)

        [record] = s.seen.records
        assert record.missing_models == ("lr@0",)
        assert SHORT * 1000 <= record.closed_ms < MARGIN * 1000

    async def test_tell_of_a_request_without_an_answer_too(self):
        async with system(deadline=SHORT) as s:
            await s.live(("dt", 1))
            await finished(s.ask())
            await until(lambda: s.seen.records)

        assert [(r.outcome, r.missing_models) for r in s.seen.records] == [("exhausted", ("dt@1",))]

    async def test_are_not_made_of_a_request_that_nobody_waits_for_or_that_was_not_published(self):
        async with system() as s:
            asked = s.ask()
            await s.request()
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)
        async with system(bus=Failing("iris", failed)) as other:
            with pytest.raises(BusError):
                await finished(other.ask())

        assert s.seen.records == other.seen.records == []

    async def test_are_not_made_where_they_are_turned_off(self):
        async with system(decisions_topic="") as s:
            await s.live(("dt", 1))
            asked = s.ask()
            s.answer(await s.request(), "dt", 1)
            assert (await finished(asked)).score is not None

        assert s.seen.records == []

    async def test_that_the_bus_does_not_take_cost_nobody_an_answer(self):
        async with system(bus=Failing("decisions", failed)) as s:
            await s.live(("dt", 1))
            for _ in range(3):
                asked = s.ask()
                s.answer(await s.request(), "dt", 1)
                assert (await finished(asked)).score is not None
            await until(lambda: s.seen.lost == 3)
            assert s.rendezvous.publishing

    async def test_that_are_open_at_the_end_go_out_before_it(self):
        async with system() as s, s.bus.subscribe(["decisions"], "test") as records:
            await s.live(("lr", 0), ("dt", 1))
            asked = s.ask(message_id="r1")
            s.answer(await s.request(), "dt", 1)
            await finished(asked)
            bus = s.bus
        assert len(s.seen.records) == 1
        assert bus.backlog("decisions", "test") == 1
        del records


class TestModelsThatAreTakenOut:
    async def test_for_their_silence_are_told(self):
        hours = Hours()
        async with system(clock=hours) as s:
            await s.live(("dt", 1))
            hours.forward(SILENCE + 0.1)
            await until(lambda: s.seen.ejections)

        assert s.seen.ejections == [("iris", "dt", 1)]

    async def test_for_missing_requests_are_told(self):
        async with system(deadline=SHORT) as s:
            asked = s.ask()
            s.answer(await s.request(), "dt", 1)
            await finished(asked)
            s.announce("marker", 0)
            await until(lambda: ("marker", 0) in s.rendezvous.live("iris"))
            for _ in range(MISSES):
                await finished(s.ask())

        assert s.seen.ejections == [("iris", "dt", 1)]

    async def test_are_not_those_that_say_goodbye(self):
        async with system() as s:
            await s.live(("dt", 1))
            s.announce("dt", 1, state="stopped")
            await until(lambda: not s.rendezvous.live("iris"))

        assert s.seen.ejections == []


class TestModels:
    async def test_that_leave_are_not_awaited_any_more(self):
        async with system() as s:
            await s.live(("lr", 0), ("dt", 1))
            asked = s.ask()
            s.answer(await s.request(), "lr", 0, result=1)
            await until(lambda: s.seen.scores)
            s.announce("dt", 1, state="stopped")

            decision = await finished(asked)

        assert (decision.score.result.result, decision.missing) == (1, ())

    async def test_that_fall_silent_are_not_awaited_any_more(self):
        hours = Hours()
        async with system(clock=hours) as s:
            await s.live(("lr", 0), ("dt", 1))
            asked = s.ask()
            s.answer(await s.request(), "lr", 0, result=1)
            await until(lambda: s.seen.scores)
            hours.forward(SILENCE - 0.5)
            s.announce("lr", 0)
            hours.forward(1.0)

            assert (await finished(asked)).score.result.result == 1

    async def test_that_fall_silent_are_dropped_whatever_makes_it_known(self):
        hours = Hours()
        async with system(clock=hours) as s:
            await s.live(("dt", 1))
            asked = s.ask()
            payload = await s.request()
            hours.forward(SILENCE + 0.1)
            # a model that was not known yet: the roster is looked through on its score
            s.answer(payload, "rf", 0, result=3)

            assert (await finished(asked)).score.result.result == 3

    async def test_that_all_fall_silent_at_once_are_not_awaited_any_more(self):
        hours = Hours()
        async with system(clock=hours) as s:
            await s.live(("lr", 0), ("dt", 1))
            asked = s.ask()
            s.answer(await s.request(), "lr", 0, result=1)
            await until(lambda: s.seen.scores)
            hours.forward(SILENCE + 0.1)

            assert (await finished(asked)).score.result.result == 1
            assert s.rendezvous.live("iris") == {}

    async def test_that_never_announce_themselves_are_learned_from_their_scores(self):
        async with system(deadline=SHORT) as s:
            asked = s.ask()
            s.bus.publish("score", foreign_score(await s.request(), "dt", 1, result=2))
            first = await finished(asked)
            asked = s.ask()
            s.bus.publish("score", foreign_score(await s.request(), "dt", 1, result=2))
            second = await finished(asked)

        assert (first.score.result.result, first.reason) == (2, "deadline_best")
        assert first.missing == (STRANGER,)
        assert (second.score.result.result, second.reason) == (2, "newest")
        assert second.missing == ()

    async def test_that_never_announce_themselves_and_miss_a_few_requests_are_out(self):
        async with system(deadline=SHORT) as s:
            asked = s.ask()
            s.answer(await s.request(), "dt", 1)
            await finished(asked)
            assert set(s.rendezvous.live("iris")) == {("dt", 1)}
            for _ in range(MISSES):
                await finished(s.ask())

            assert s.rendezvous.live("iris") == {}

    async def test_that_never_announce_themselves_and_are_out_are_not_awaited_any_more(self):
        async with system(deadline=2 * SHORT) as s:
            asked = s.ask()
            s.answer(await s.request(), "dt", 1)
            await finished(asked)
            missing = [s.ask() for _ in range(MISSES)]
            await asyncio.sleep(SHORT)
            last = s.ask()
            for task in missing:
                assert (await finished(task)).missing[0].name == "dt"

            assert (await finished(last)).missing == ()  # long before its own deadline

    async def test_that_never_announce_themselves_may_be_slower_than_the_answer(self):
        async with system() as s:
            await s.live(("dt", 1))
            asked = s.ask()
            payload = await s.request()
            s.answer(payload, "dt", 1)
            await finished(asked)
            s.bus.publish("score", foreign_score(payload, "lr", 0))
            await until(lambda: ("lr", 0) in s.rendezvous.live("iris"))
            for _ in range(2 * MISSES):
                asked = s.ask()
                s.answer(await s.request(), "dt", 1)
                assert [c.name for c in (await finished(asked)).missing] == ["lr"]

            assert ("lr", 0) in s.rendezvous.live("iris")

    async def test_that_are_unknown_when_a_late_score_comes_are_live_from_then_on(self):
        async with system(deadline=SHORT) as s:
            asked = s.ask()
            payload = await s.request()
            await finished(asked)
            s.answer(payload, "dt", 1)
            await until(lambda: set(s.rendezvous.live("iris")) == {("dt", 1)})

    async def test_of_an_endpoint_that_is_not_served_are_not_remembered(self):
        async with system() as s:
            for number in range(50):
                s.announce("dt", 1, endpoint=f"elsewhere-{number}")
            await s.live(("dt", 1))

            assert s.rendezvous.live("elsewhere-0") == {}

    async def test_of_another_endpoint_leave_this_ones_requests_alone(self):
        async with system() as s:
            await s.live(("dt", 1))
            asked = s.ask()
            payload = await s.request()
            s.announce("dt", 1, endpoint="housing")
            s.announce("dt", 1, endpoint="housing", state="stopped")
            s.announce("marker", 0)
            await until(lambda: ("marker", 0) in s.rendezvous.live("iris"))
            assert not asked.done()
            s.answer(payload, "dt", 1)

            assert (await finished(asked)).score is not None


class Hours:
    """A clock that can be put forward."""

    def __init__(self):
        self.ahead = 0.0

    def __call__(self):
        return time.monotonic() + self.ahead

    def forward(self, seconds):
        self.ahead += seconds


class Says:
    """A policy that always says the same, and counts how often it was asked."""

    name = "says"

    def __init__(self, say):
        self.say = say
        self.asked = 0

    def decide(self, situation):
        self.asked += 1
        return self.say(situation)


class TestAPolicyOfAUsers:
    async def test_that_raises_costs_its_request_the_choice_and_no_more(self, caplog):
        def fail(situation):
            raise ZeroDivisionError

        async with system(Says(fail)) as s:
            await s.live(("dt", 1))
            for _ in range(2):
                asked = s.ask()
                s.answer(await s.request(), "dt", 1)
                decision = await finished(asked)
                assert (decision.score, decision.reason) == (None, "exhausted")

        assert "policy says failed" in caplog.text

    async def test_that_would_wait_for_ever_is_ended_at_the_deadline(self, caplog):
        waiting = Says(lambda situation: Wait(math.inf))
        async with system(waiting, deadline=SHORT) as s:
            await s.live(("dt", 1))
            asked = s.ask()
            s.answer(await s.request(), "dt", 1)
            decision = await finished(asked)

        assert (decision.score, decision.reason) == (None, "exhausted")
        assert "would wait beyond the budget" in caplog.text

    @pytest.mark.parametrize("until", [0.0, -1.0, math.nan])
    async def test_that_would_wait_for_the_past_is_asked_at_the_deadline_and_not_all_the_time(
        self, until
    ):
        def say(situation):
            return Answer(situation.scores[0], "late") if situation.final else Wait(until)

        policy = Says(say)
        async with system(policy, deadline=SHORT) as s:
            await s.live(("lr", 0), ("dt", 1))
            asked = s.ask()
            s.answer(await s.request(), "lr", 0)
            decision = await finished(asked)

        assert decision.reason == "late"
        assert policy.asked <= 3

    async def test_is_asked_again_on_every_arrival(self):
        def say(situation):
            come = len(situation.scores) == 2
            return Answer(situation.scores[1], "second") if come else Wait(situation.budget)

        async with system(Says(say)) as s:
            await s.live(("lr", 0), ("dt", 1))
            asked = s.ask()
            payload = await s.request()
            s.answer(payload, "lr", 0, result=1)
            s.answer(payload, "dt", 1, result=2)

            assert (await finished(asked)).score.result.result == 2


class Failing(MemoryBus):
    """A bus on which publishing to one topic ends as ``outcome`` says."""

    def __init__(self, topic, outcome):
        super().__init__()
        self.topic = topic
        self.outcome = outcome

    def publish(self, topic, payload, **rest):
        if topic != self.topic:
            return super().publish(topic, payload, **rest)
        return self.outcome(super().publish(topic, payload, **rest))


def failed(_published):
    future = asyncio.get_running_loop().create_future()
    future.set_exception(BusUnavailable("the broker is away"))
    return future


class TestTheBus:
    async def test_that_takes_no_request_fails_it_at_once(self):
        async with system(bus=Failing("iris", failed)) as s:
            with pytest.raises(BusError, match="the broker is away"):
                await finished(s.ask())

            assert s.rendezvous.in_flight == 0

    async def test_that_has_not_taken_it_by_the_deadline_is_named_and_not_the_models(self):
        under_way = []

        def never(published):
            under_way.append(asyncio.get_running_loop().create_future())
            return under_way[-1]

        async with system(bus=Failing("iris", never), deadline=SHORT) as s:
            await s.live(("dt", 1))
            with pytest.raises(BusUnavailable, match="did not take the request"):
                await finished(s.ask())

            assert not s.rendezvous.publishing
            assert s.seen.decisions == []
            under_way[0].set_result(None)  # the client sends it again by itself
            await until(lambda: s.rendezvous.publishing)

    async def test_that_fails_after_the_answer_came_does_not_matter(self):
        publishing = []

        def later(_published):
            publishing.append(asyncio.get_running_loop().create_future())
            return publishing[-1]

        async with system(bus=Failing("iris", later)) as s:
            await s.live(("dt", 1))
            asked = s.ask()
            s.answer(await s.request(), "dt", 1)
            decision = await finished(asked)
            publishing[0].set_exception(BusUnavailable("outcome unknown"))
            await asyncio.sleep(0)

        assert decision.score is not None

    async def test_that_gave_up_publishing_leaves_the_request_to_its_deadline(self):
        def cancelled(published):
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            return future

        async with system(bus=Failing("iris", cancelled), deadline=SHORT) as s:
            assert (await finished(s.ask())).score is None

    async def test_that_is_away_ends_the_run(self):
        bus = MemoryBus()
        rendezvous = Rendezvous(bus, [])
        running = asyncio.create_task(rendezvous.run(asyncio.Event()))
        await until(lambda: rendezvous.listening)
        await bus.aclose()

        with pytest.raises(BusUnavailable):
            await finished(running)
        assert not rendezvous.listening

    async def test_that_is_away_at_the_start_is_said_at_the_start(self):
        bus = MemoryBus()
        await bus.aclose()

        with pytest.raises(BusUnavailable):
            await Rendezvous(bus, []).running().__aenter__()

    async def test_that_never_gets_ready_can_be_given_up(self):
        class Slow(MemoryBus):
            @asynccontextmanager
            async def subscribe(self, topics, group, *, start="latest"):
                waiting.append(group)
                try:
                    await asyncio.Event().wait()
                    yield
                finally:
                    waiting.remove(group)

        waiting = []
        starting = asyncio.create_task(Rendezvous(Slow(), []).running().__aenter__())
        await until(lambda: waiting)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting

        await until(lambda: not waiting)


class TestStopping:
    async def test_waits_for_the_requests_in_flight(self):
        bus, stop = MemoryBus(), asyncio.Event()
        endpoint = Endpoint("iris", "iris", Newest(), LONG)
        rendezvous = Rendezvous(bus, [endpoint])
        async with bus.subscribe(["iris"], "models") as requests:
            running = asyncio.create_task(rendezvous.run(stop))
            await until(lambda: rendezvous.listening)
            s = System(bus, rendezvous, Seen(), requests)
            await s.live(("dt", 1))
            asked = s.ask()
            payload = await s.request()
            stop.set()
            await s.live(("lr", 0))  # it listens on
            assert not running.done()
            s.answer(payload, "dt", 1)

            assert (await finished(asked)).score is not None
            await finished(running)
            assert not rendezvous.listening

    async def test_with_nothing_in_flight_is_at_once(self):
        stop = asyncio.Event()
        rendezvous = Rendezvous(MemoryBus(), [])
        running = asyncio.create_task(rendezvous.run(stop))
        await until(lambda: rendezvous.listening)
        stop.set()

        await finished(running)

    async def test_acks_the_scores_that_it_took(self):
        async with system() as s:
            await s.live(("dt", 1))
            asked = s.ask()
            s.answer(await s.request(), "dt", 1)
            await finished(asked)

        assert s.bus.backlog("score", "rendezvous") == 0
        assert s.bus.backlog("models", "rendezvous") == 0


@pytest.mark.parametrize(
    ("deadline", "budget"), [(1.0, 0.95), (0.02, 0.018), (0.1, 0.09), (0.05, 0.045)]
)
def test_the_budget_is_the_deadline_less_a_reserve_for_the_way_back(deadline, budget):
    assert Endpoint("iris", "iris", Newest(), deadline).budget == pytest.approx(budget)


@pytest.mark.parametrize("deadline", [0.002, 0.0, -1.0, math.nan, math.inf])
def test_a_deadline_that_leaves_no_time_or_never_comes_is_a_configuration_error(deadline):
    with pytest.raises(ConfigurationError, match="deadline: must be more than 2 ms"):
        Endpoint("iris", "iris", Newest(), deadline)


async def test_a_model_that_leaves_is_logged(caplog):
    caplog.set_level(logging.INFO)
    async with system() as s:
        await s.live(("dt", 1))
        s.announce("dt", 1, state="stopped")
        await until(lambda: not s.rendezvous.live("iris"))

    assert "model dt version 1 of iris is gone" in caplog.text
