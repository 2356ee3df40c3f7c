"""The decoy records every input exactly as the models saw it, and sends no score."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rendezvous.bus.memory import MemoryBus
from rendezvous.errors import BusRefused, BusUnavailable
from rendezvous.model.decoy import STOP_CHECK, Decoy
from tests.unit.scores import request

SOON = 10.0


@asynccontextmanager
async def recording(bus, topics=("iris",), **rest):
    """Run a decoy inside the block; yield a reader of what it records."""
    stop = asyncio.Event()
    async with bus.subscribe([rest.get("output", "decoy")], "test") as records:
        for topic in topics:
            async with bus.subscribe([topic], rest.get("name", "decoy")):
                pass  # the group is there from now on
        task = asyncio.create_task(Decoy(bus, topics, **rest).run(stop))
        try:
            yield records
        finally:
            stop.set()
            async with asyncio.timeout(SOON):
                await task


async def next_records(records, number):
    found = []
    async with asyncio.timeout(SOON):
        while len(found) < number:
            found += await records.receive()
    return found


async def record(payloads):
    bus = MemoryBus()
    async with recording(bus) as records:
        for payload in payloads:
            bus.publish("iris", payload)
        return [delivery.payload for delivery in await next_records(records, len(payloads))]


class Seen:
    """An observer that remembers what it was told."""

    def __init__(self):
        self.buried_of = []
        self.reads = []

    def buried(self, topic):
        self.buried_of.append(topic)

    def reading(self, group, topics, *, now):
        self.reads.append((group, *topics, now))


class TestWhatIsRecorded:
    @given(payloads=st.lists(st.binary(max_size=50), min_size=1, max_size=10))
    def test_is_what_came_byte_for_byte_and_in_order_readable_or_not(self, payloads):
        assert asyncio.run(record(payloads)) == payloads

    async def test_keeps_its_key_and_properties(self):
        bus = MemoryBus()
        async with recording(bus) as records:
            bus.publish("iris", request("r1").encode(), key="r1", properties={"trace": "t"})
            (delivery,) = await next_records(records, 1)

        assert (delivery.key, delivery.properties) == ("r1", {"trace": "t"})

    async def test_is_of_every_topic_it_listens_to(self):
        bus = MemoryBus()
        async with recording(bus, ("iris", "housing"), output="inputs", name="shade") as records:
            bus.publish("iris", b"flower")
            bus.publish("housing", b"house")
            found = await next_records(records, 2)

        assert {(delivery.topic, delivery.payload) for delivery in found} == {
            ("inputs", b"flower"),
            ("inputs", b"house"),
        }

    async def test_is_also_what_comes_after_a_time_without_any(self):
        bus = MemoryBus()
        async with recording(bus) as records:
            await asyncio.sleep(2 * STOP_CHECK)
            bus.publish("iris", b"at last")
            (delivery,) = await next_records(records, 1)

        assert delivery.payload == b"at last"

    async def test_is_no_score(self):
        bus = MemoryBus()
        async with bus.subscribe(["score", "models"], "test") as others:
            async with recording(bus) as records:
                bus.publish("iris", request("r1").encode())
                await next_records(records, 1)

            assert await others.receive(max_wait=0.0) == []


class TestNothingIsLost:
    async def test_an_input_is_acked_only_when_its_record_is_durable(self):
        class Held(MemoryBus):
            def publish(self, topic, payload, **rest):
                done = super().publish(topic, payload, **rest)
                return done if topic == "iris" else asyncio.get_running_loop().create_future()

        bus = Held()
        async with (
            bus.subscribe(["decoy"], "test") as records,
            bus.subscribe(["iris"], "decoy"),
        ):
            bus.publish("iris", b"input")
            dying = asyncio.create_task(Decoy(bus, ["iris"]).run(asyncio.Event()))
            await next_records(records, 1)
            dying.cancel()
            await asyncio.gather(dying, return_exceptions=True)

        assert bus.backlog("iris", "decoy") == 1

    async def test_an_input_whose_record_failed_is_recorded_again(self):
        class Flaky(MemoryBus):
            def publish(self, topic, payload, **rest):
                if topic == "decoy" and not failures:
                    failures.append(payload)
                    done = asyncio.get_running_loop().create_future()
                    done.set_exception(BusUnavailable("the broker is away"))
                    return done
                return super().publish(topic, payload, **rest)

        failures = []
        bus = Flaky()
        async with recording(bus) as records:
            bus.publish("iris", b"a")
            bus.publish("iris", b"b")
            found = await next_records(records, 2)

        assert failures == [b"a"]
        assert sorted(delivery.payload for delivery in found) == [b"a", b"b"]
        assert bus.backlog("iris", "decoy") == 0

    async def test_an_input_that_can_never_be_recorded_is_buried_and_the_others_go_on(self):
        class Small(MemoryBus):
            def publish(self, topic, payload, **rest):
                if topic == "decoy" and len(payload) > 3:
                    done = asyncio.get_running_loop().create_future()
                    done.set_exception(BusRefused("too large"))
                    return done
                return super().publish(topic, payload, **rest)

        bus, seen = Small(), Seen()
        async with (
            bus.subscribe(["iris-dead-letter"], "test") as letters,
            recording(bus, observer=seen) as records,
        ):
            bus.publish("iris", b"large")
            bus.publish("iris", b"fit")
            (record,) = await next_records(records, 1)
            (letter,) = await next_records(letters, 1)

        assert (record.payload, letter.payload) == (b"fit", b"large")
        assert letter.properties["reason"] == "too large"
        assert seen.buried_of == ["iris"]
        assert bus.backlog("iris", "decoy") == 0

    async def test_what_came_while_it_was_down_is_recorded_when_it_is_up_again(self):
        bus = MemoryBus()
        async with recording(bus):
            pass
        bus.publish("iris", b"meanwhile")

        async with recording(bus) as records:
            (delivery,) = await next_records(records, 1)

        assert delivery.payload == b"meanwhile"

    async def test_it_tells_when_it_reads_and_when_it_does_not_any_more(self):
        seen = Seen()
        async with recording(MemoryBus(), observer=seen):
            async with asyncio.timeout(SOON):
                while len(seen.reads) < 2:
                    await asyncio.sleep(0.001)

            assert seen.reads == [("decoy", "iris", False), ("decoy", "iris", True)]
        assert seen.reads[2:] == [("decoy", "iris", False)]

    async def test_a_bus_that_goes_away_ends_it(self):
        bus = MemoryBus()
        running = asyncio.create_task(Decoy(bus, ["iris"]).run(asyncio.Event()))
        await asyncio.sleep(0)
        await bus.aclose()

        with pytest.raises(BusUnavailable):
            async with asyncio.timeout(SOON):
                await running
