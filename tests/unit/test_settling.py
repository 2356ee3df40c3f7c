"""Answered requests wait for late scores, never for ever, and each leaves one record."""

import asyncio
import json
import logging

import pytest

from rendezvous import settling as module
from rendezvous.bus.memory import MemoryBus
from rendezvous.decision import Decision, Endpoint
from rendezvous.errors import BusUnavailable
from rendezvous.mailbox import Mailbox
from rendezvous.policy import Candidate, Newest
from rendezvous.settling import TICK, Settling
from tests.unit.scores import candidates, request, score

DT, LR = ("dt", 1), ("lr", 0)
BOTH = candidates(DT, LR)
DEADLINE = 1.0
SHADOWS = {("rf", 9): Candidate("rf", 9, "shadow")}


class Seen:
    """An observer that remembers what it was told."""

    def __init__(self):
        self.records = []
        self.lost = 0

    def recorded(self, endpoint, record):
        self.records.append(record)

    def record_lost(self, endpoint):
        self.lost += 1


class Away(MemoryBus):
    """A bus that takes nothing while it is away."""

    def __init__(self):
        super().__init__()
        self.away = True
        self.under_way = []

    def publish(self, topic, payload, **rest):
        if not self.away:
            return super().publish(topic, payload, **rest)
        self.under_way.append(asyncio.get_running_loop().create_future())
        return self.under_way[-1]

    def fail(self):
        for future in self.under_way:
            future.set_exception(BusUnavailable("no broker"))
        self.under_way.clear()


class Bench:
    """A settling with a clock that stands still until it is put forward, and a reader."""

    def __init__(self, bus, records, topic="decisions"):
        self.now = 100.0
        self.seen = Seen()
        self.records = records
        self.settling = Settling(bus, topic, self.seen, lambda: self.now)
        self.endpoint = Endpoint("iris", "iris", Newest(), DEADLINE)

    def answer(self, message_id="r1", chosen=None, live=BOTH, shadows=None):
        """Keep a request that arrived now and is answered with dt's score."""
        mailbox = Mailbox(message_id, live, self.endpoint.budget, shadows or {})
        chosen = chosen or score("dt", 1, message_id=message_id)
        mailbox.put(chosen, 0.001)
        decision = Decision(
            request(message_id), chosen, "newest", "newest", 0.001, tuple(mailbox.arrivals), ()
        )
        self.settling.keep(self.endpoint, decision, mailbox, self.now)

    def late(self, name="lr", version=0, message_id="r1", **rest):
        return self.settling.late(score(name, version, message_id=message_id, **rest), self.now)

    def pass_by(self, seconds):
        self.now += seconds
        self.settling.sweep(self.now)

    async def published(self):
        """Return the records that went out since the last time."""
        for _ in range(3):
            await asyncio.sleep(0)
        found = await self.records.receive(max_wait=0.01)
        for delivery in found:
            assert delivery.key == json.loads(delivery.payload)["messageId"]
        return [json.loads(delivery.payload) for delivery in found]


@pytest.fixture
async def bench():
    bus = MemoryBus()
    async with bus.subscribe(["decisions"], "test") as records:
        yield Bench(bus, records)


class TestARecordGoesOut:
    async def test_at_once_where_nobody_is_to_come_but_after_the_answer(self, bench):
        bench.answer(live=candidates(DT))
        assert bench.seen.records == []  # not before whoever was answered has gone on

        [record] = await bench.published()

        assert (record["messageId"], record["answeredBy"]) == ("r1", "dt@1")
        assert len(bench.settling) == 0

    async def test_when_the_last_model_has_scored(self, bench):
        bench.answer()
        assert await bench.published() == []
        bench.now += 0.3
        assert bench.late() is True

        [record] = await bench.published()

        assert record["lateModels"] == record["agreeing"] == ["lr@0"]
        assert record["closedMs"] == 300.0
        assert record["scores"][1]["afterMs"] == 300.0

    async def test_when_the_last_model_has_failed(self, bench):
        bench.answer()
        bench.late(error="it failed")

        [record] = await bench.published()

        assert record["failedModels"] == ["lr@0"]

    async def test_when_the_last_shadow_has_scored_too(self, bench):
        bench.answer(live=candidates(DT), shadows=SHADOWS)
        assert await bench.published() == []
        bench.late("rf", 9, role="shadow", result=7)

        [record] = await bench.published()

        assert record["disagreeing"] == ["rf@9"]

    @pytest.mark.parametrize("gone", [LR, ("rf", 9)])
    async def test_when_the_last_model_is_gone(self, bench, gone):
        live = candidates(DT, LR) if gone == LR else candidates(DT)
        bench.answer(live=live, shadows=None if gone == LR else SHADOWS)
        bench.settling.drop("housing", gone)
        assert await bench.published() == []
        bench.settling.drop("iris", gone)

        [record] = await bench.published()

        assert record["missingModels"] == [f"{gone[0]}@{gone[1]}"]

    async def test_soon_after_the_deadline_whoever_is_missing(self, bench):
        bench.answer()
        bench.pass_by(0.9 * DEADLINE)
        assert await bench.published() == []
        bench.pass_by(0.1 * DEADLINE + TICK)

        [record] = await bench.published()

        assert record["missingModels"] == ["lr@0"]
        assert DEADLINE * 1000 <= record["closedMs"] <= (DEADLINE + TICK) * 1000
        assert bench.settling._ticks == {}

    async def test_once_whatever_comes_later(self, bench):
        bench.answer()
        bench.late()
        assert bench.late() is None
        bench.settling.drop("iris", LR)
        bench.pass_by(2 * DEADLINE)

        assert len(await bench.published()) == 1

    async def test_of_each_of_many_in_their_own_time(self, bench):
        for number in range(100):
            bench.answer(f"r{number}")
            bench.pass_by(0.01)
        for number in range(0, 100, 2):
            bench.late(message_id=f"r{number}")
        bench.pass_by(2 * DEADLINE)

        records = await bench.published()

        missing = {r["messageId"] for r in records if "missingModels" in r}
        assert len(records) == len({r["messageId"] for r in records}) == 100
        assert missing == {f"r{number}" for number in range(1, 100, 2)}

    async def test_of_the_one_before_where_an_id_is_used_again(self, bench):
        bench.answer(chosen=score("dt", 1, result=1))
        bench.answer(chosen=score("dt", 1, result=2))
        bench.late()

        records = await bench.published()

        assert [r["chosen"]["result"] for r in records] == [1, 2]

    async def test_early_where_too_many_are_open(self, bench, monkeypatch):
        monkeypatch.setattr(module, "MOST", 10)
        for number in range(25):
            bench.answer(f"r{number}")
            assert len(bench.settling) <= 10

        records = await bench.published()

        assert [r["messageId"] for r in records] == [f"r{number}" for number in range(15)]

    async def test_not_at_all_where_records_are_turned_off(self, bench):
        off = Bench(MemoryBus(), bench.records, topic="")
        off.answer(live=candidates(DT))
        off.answer("r2")

        assert len(off.settling) == 0
        assert await off.published() == []
        assert off.seen.records == []


class TestALateScore:
    async def test_of_the_same_model_again_is_a_duplicate(self, bench):
        bench.answer(shadows=SHADOWS)
        assert bench.late() is True
        assert bench.late() is False

        bench.pass_by(2 * DEADLINE)
        [record] = await bench.published()
        assert len(record["scores"]) == 2

    async def test_of_a_request_that_is_not_open_is_nobodys(self, bench):
        assert bench.late(message_id="another's") is None


class TestABusThatIsAway:
    async def test_costs_the_record_and_is_told_once_an_outage(self, caplog):
        caplog.set_level(logging.INFO, logger="rendezvous")
        bus = Away()
        async with bus.subscribe(["decisions"], "test") as records:
            bench = Bench(bus, records)
            for outage in (1, 2):
                bus.away = True
                for number in range(5):
                    bench.answer(f"r{outage}{number}", live=candidates(DT))
                assert await bench.published() == []
                bus.fail()
                await asyncio.sleep(0)
                assert bench.seen.lost == 5 * outage
                bus.away = False
                bench.answer(f"well{outage}", live=candidates(DT))
                assert len(await bench.published()) == 1

        said = [r.getMessage() for r in caplog.records if r.name == module.__name__]
        assert (
            said
            == [
                "decision records are lost: no broker",
                "the bus takes decision records again; 5 are lost",
            ]
            * 2
        )

    async def test_that_gives_up_costs_it_too(self):
        bus = Away()
        async with bus.subscribe(["decisions"], "test") as records:
            bench = Bench(bus, records)
            bench.answer(live=candidates(DT))
            await bench.published()
            bus.under_way[0].cancel()
            await asyncio.sleep(0)

        assert bench.seen.lost == 1

    async def test_and_a_result_that_json_can_not_hold_harm_nobody(self, bench):
        bench.answer(chosen=score("dt", 1, result="\ud800"), live=candidates(DT))
        assert await bench.published() == []
        bench.answer("r2", live=candidates(DT))

        assert len(await bench.published()) == 1
        assert bench.seen.lost == 1


class TestTheEnd:
    async def test_is_waited_for_by_nobody_where_nothing_is_open(self, bench, monkeypatch):
        monkeypatch.setattr(module, "LAST_SCORES", 3600.0)
        monkeypatch.setattr(module, "LAST_RECORDS", 3600.0)
        async with asyncio.timeout(10):
            await bench.settling.finish()

    async def test_leaves_late_scores_a_moment(self, bench, monkeypatch):
        monkeypatch.setattr(module, "LAST_SCORES", 3600.0)
        bench.answer()
        finishing = asyncio.create_task(bench.settling.finish())
        await asyncio.sleep(0.01)
        bench.late()
        async with asyncio.timeout(10):
            await finishing

        [record] = await bench.published()
        assert record["lateModels"] == ["lr@0"]

    async def test_closes_what_is_open_and_sees_it_published(self, bench, monkeypatch):
        monkeypatch.setattr(module, "LAST_SCORES", 0.01)
        for number in range(50):
            bench.answer(f"r{number}")
        async with asyncio.timeout(10):
            await bench.settling.finish()

        assert len(await bench.published()) == 50
        assert len(bench.settling) == 0

    async def test_does_not_wait_for_ever_for_a_bus_that_is_away(self, monkeypatch, caplog):
        monkeypatch.setattr(module, "LAST_SCORES", 0.01)
        monkeypatch.setattr(module, "LAST_RECORDS", 0.05)
        bench = Bench(Away(), None)
        bench.answer()
        async with asyncio.timeout(10):
            await bench.settling.finish()

        assert "1 decision records may be lost" in caplog.text
