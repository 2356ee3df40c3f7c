"""A whole system in one process: it is ready when it says so, and leaves nothing behind."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from rendezvous import local as module
from rendezvous.bus.memory import MemoryBus
from rendezvous.contract import record_id
from rendezvous.core import Rendezvous
from rendezvous.decision import Endpoint
from rendezvous.errors import BusUnavailable, SinkError
from rendezvous.local import Local
from rendezvous.model.decoy import Decoy
from rendezvous.model.worker import Post, Worker
from rendezvous.policy import Newest
from rendezvous.sink.port import Rejection
from rendezvous.sink.runner import Connector
from tests.unit.scores import IRIS, Summing

LONG = 30.0


class Shelf:
    """A sink that keeps records in memory."""

    def __init__(self):
        self.records = []

    async def write(self, batch):
        self.records += batch
        return []

    async def aclose(self):
        pass


class Broken(Shelf):
    """A sink that can not go on."""

    async def write(self, batch):
        raise SinkError("the disk is gone")


class Elsewhere:
    """A bus that keeps what waits, as one across a network does; here it is a memory bus."""

    def __init__(self):
        self.memory = MemoryBus()
        self.publish = self.memory.publish
        self.subscribe = self.memory.subscribe
        self.listen = self.memory.listen
        self.aclose = self.memory.aclose


def assemble(bus=None, *, models=(("lr", 0), ("dt", 1)), sinks=(), **rest):
    """Return a system with an endpoint, iris; ``sinks`` by the topic that they archive."""
    bus = bus or MemoryBus()
    return Local(
        bus=bus,
        rendezvous=Rendezvous(bus, [Endpoint("iris", "iris", Newest(), LONG)]),
        workers=[Worker(Summing(*model), bus, Post("iris", "iris")) for model in models],
        decoy=Decoy(bus, ["iris"]),
        connectors=[
            Connector(bus, sink, [topic], group=f"{topic} connector", timeout=0.05)
            for topic, sink in dict(sinks).items()
        ],
        **rest,
    )


@asynccontextmanager
async def in_time():
    async with asyncio.timeout(LONG):
        yield


def ids(shelf):
    return sorted(record_id(record.payload) for record in shelf.records)


class TestRunning:
    async def test_answers_from_the_first_moment_on(self):
        async with in_time(), assemble().running() as rendezvous:
            assert set(rendezvous.live("iris")) == {("lr", 0), ("dt", 1)}
            decision = await rendezvous.ask("iris", IRIS)

        assert decision.score.result.model_name == "dt"
        assert decision.score.result.result == sum(IRIS.values())
        assert decision.reason == "newest"

    async def test_answers_with_the_newer_of_two_versions_of_a_model(self):
        local = assemble(models=[("dt", 1), ("dt", 2)])
        async with in_time(), local.running() as rendezvous:
            decisions = [await rendezvous.ask("iris", IRIS) for _ in range(5)]

        assert {d.score.model.model_version for d in decisions} == {2}
        assert {d.reason for d in decisions} == {"newest"}

    async def test_archives_every_input_and_every_score_of_what_was_answered(self):
        inputs, scores = Shelf(), Shelf()
        local = assemble(sinks={"decoy": inputs, "score": scores})
        async with in_time(), local.running() as rendezvous:
            asked = [rendezvous.ask("iris", IRIS, message_id=f"r{n}") for n in range(50)]
            decisions = await asyncio.gather(*asked)  # and leave at once

        requests = [d.request.message_id for d in decisions]
        assert ids(inputs) == sorted(requests)
        models = ("dt:1", "lr:0")
        assert ids(scores) == sorted(f"{one}:{model}" for one in requests for model in models)
        assert local.bus.backlog("decoy", "decoy connector") == 0

    async def test_archives_one_record_of_each_decision(self):
        records = Shelf()
        local = assemble(sinks={"decisions": records})
        async with in_time(), local.running() as rendezvous:
            asked = [rendezvous.ask("iris", IRIS, message_id=f"r{n}") for n in range(50)]
            await asyncio.gather(*asked)  # and leave at once

        assert ids(records) == sorted(f"r{n}" for n in range(50))
        for record in records.records:
            read = json.loads(record.payload)
            assert read["answeredBy"] == "dt@1"
            assert read["agreeing"] == ["lr@0"]

    async def test_archives_also_what_its_connectors_bury(self):
        class Picky(Shelf):
            async def write(self, batch):
                return [Rejection(record, "too odd") for record in batch]

        letters = Shelf()
        local = assemble(sinks={"decoy-dead-letter": letters, "decoy": Picky()})
        async with in_time(), local.running() as rendezvous:
            await asyncio.gather(*[rendezvous.ask("iris", IRIS) for _ in range(5)])

        assert len(letters.records) == 5

    async def test_can_be_done_again(self):
        inputs = Shelf()
        local = assemble(sinks={"decoy": inputs})
        for message_id in ("r1", "r2"):
            async with in_time(), local.running() as rendezvous:
                await rendezvous.ask("iris", IRIS, message_id=message_id)

        assert ids(inputs) == ["r1", "r2"]

    async def test_stops_every_part_when_the_block_fails(self):
        async def fail_inside():
            async with in_time(), local.running() as rendezvous:
                assert rendezvous.listening
                raise ZeroDivisionError

        local = assemble()
        before = asyncio.all_tasks()
        with pytest.raises(ZeroDivisionError):
            await fail_inside()

        assert not local.rendezvous.listening
        assert asyncio.all_tasks() == before

    async def test_stops_downstream_last_so_that_all_is_passed_on(self):
        class Watched(MemoryBus):
            @asynccontextmanager
            async def subscribe(self, topics, group, **rest):
                async with super().subscribe(topics, group, **rest) as deliveries:
                    if not group.startswith("listener"):
                        order.append(f"+{group}")
                    yield deliveries
                if not group.startswith("listener"):
                    order.append(f"-{group}")

        order = []
        local = assemble(Watched(), models=[("dt", 1)], sinks={"decoy": Shelf()})
        async with in_time(), local.running():
            pass

        assert order == [
            "+decoy connector",
            "+decoy",
            "+dt-1",
            "-dt-1",
            "-decoy",
            "-decoy connector",
        ]


class TestAPartThatCanNotGoOn:
    async def test_is_told_and_the_others_go_on(self, caplog, monkeypatch):
        monkeypatch.setattr(module, "DRAIN_SECONDS", 0.05)
        failed = asyncio.Event()
        local = assemble(sinks={"decoy": Broken()}, failed=failed.set)
        async with in_time(), local.running() as rendezvous:
            await failed.wait()
            decision = await rendezvous.ask("iris", IRIS)

        assert decision.score is not None
        assert "connector decoy connector can not go on: the disk is gone" in caplog.text

    async def test_loses_what_waits_for_it_and_says_how_much(self, caplog, monkeypatch):
        monkeypatch.setattr(module, "DRAIN_SECONDS", 0.05)
        failed = asyncio.Event()
        local = assemble(sinks={"decoy": Broken()}, failed=failed.set)
        async with in_time(), local.running() as rendezvous:
            await failed.wait()
            await asyncio.gather(*[rendezvous.ask("iris", IRIS) for _ in range(3)])

        assert "3 messages of decoy are lost to decoy connector" in caplog.text

    async def test_need_tell_nobody(self, caplog):
        local = assemble(sinks={"decoy": Broken()})
        async with in_time(), local.running():
            while "can not go on" not in caplog.text:
                await asyncio.sleep(0.001)

    async def test_is_begun_again_when_what_it_depends_on_was_away(self):
        class Flaky(MemoryBus):
            def subscribe(self, topics, group, **rest):
                if group == "dt-1" and len(tries) < 2:
                    tries.append(group)
                    raise BusUnavailable("the broker is away")
                return super().subscribe(topics, group, **rest)

        tries = []
        local = assemble(Flaky(), models=[("dt", 1)])
        async with in_time(), local.running() as rendezvous:
            assert (await rendezvous.ask("iris", IRIS)).score is not None

        assert len(tries) == 2


class TestReadiness:
    async def test_is_not_waited_for_for_ever(self, monkeypatch, caplog):
        class Deaf(MemoryBus):
            def subscribe(self, topics, group, **rest):
                if group == "dt-1":
                    raise BusUnavailable("the broker is away")
                return super().subscribe(topics, group, **rest)

        monkeypatch.setattr(module, "READY_SECONDS", 0.05)
        async with in_time(), assemble(Deaf(), models=[("dt", 1)]).running() as rendezvous:
            assert rendezvous.listening
            assert rendezvous.live("iris") == {}

        assert "not every endpoint has a live model yet" in caplog.text

    async def test_needs_no_models_where_there_are_none(self):
        async with in_time(), assemble(models=()).running() as rendezvous:
            while not rendezvous.listening:
                await asyncio.sleep(0.001)


class TestABusThatKeepsWhatWaits:
    async def test_is_left_at_once_for_nothing_is_lost(self, monkeypatch):
        monkeypatch.setattr(module, "DRAIN_SECONDS", 10 * LONG)
        bus = Elsewhere()
        async with bus.subscribe(["decoy"], "decoy connector"):
            pass
        failed = asyncio.Event()
        local = assemble(bus, sinks={"decoy": Broken()}, failed=failed.set)
        async with in_time(), local.running() as rendezvous:
            await failed.wait()
            await rendezvous.ask("iris", IRIS)

        assert bus.memory.backlog("decoy", "decoy connector") == 1
