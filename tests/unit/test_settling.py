"""A message is acked when what came of it is durable; else it comes again, or is buried."""

import asyncio
from contextlib import asynccontextmanager

from rendezvous.bus.memory import MemoryBus
from rendezvous.bus.settling import PAUSE, settle
from rendezvous.deadletter import KEEPER, Undertaker, dead_letter_topic
from rendezvous.errors import BusRefused, BusUnavailable


@asynccontextmanager
async def in_hand(*payloads, bus=None):
    """Yield a bus, a reader, the deliveries it has in hand, a future for each; and who buries."""
    bus, loop, buried = bus or MemoryBus(), asyncio.get_running_loop(), []
    async with bus.subscribe(["iris"], "decoy") as reader:
        for payload in payloads:
            bus.publish("iris", payload)
        batch = await reader.receive()
        published = [loop.create_future() for _ in batch]
        yield bus, reader, batch, published, Undertaker(bus, buried.append), buried


async def test_each_is_acked_where_its_successor_is_durable():
    async with in_hand(b"a", b"b") as (bus, reader, batch, published, undertaker, _):
        for done in published:
            done.set_result(None)
        await settle(reader, batch, published, undertaker)

    assert bus.backlog("iris", "decoy") == 0


async def test_it_takes_until_the_last_outcome_is_known():
    async with in_hand(b"a", b"b") as (bus, reader, batch, published, undertaker, _):
        settling = asyncio.create_task(settle(reader, batch, published, undertaker))
        published[0].set_result(None)
        done, _ = await asyncio.wait([settling], timeout=0.01)
        assert not done
        published[1].set_result(None)
        await settling

    assert bus.backlog("iris", "decoy") == 0


async def test_those_whose_successors_failed_come_again_and_only_those():
    async with in_hand(b"a", b"b", b"c") as (_, reader, batch, published, undertaker, buried):
        published[0].set_result(None)
        published[1].set_exception(BusUnavailable("outcome unknown"))
        published[2].cancel()
        await settle(reader, batch, published, undertaker)

        again = await reader.receive(max_wait=1.0)
        assert [(d.payload, d.tries) for d in again] == [(b"b", 2), (b"c", 2)]
        assert buried == []


async def test_one_whose_successor_the_bus_refuses_is_buried_for_it_would_be_refused_again():
    async with in_hand(b"a", b"b") as (bus, reader, batch, published, undertaker, buried):
        async with bus.subscribe([dead_letter_topic("iris")], KEEPER) as letters:
            published[0].set_exception(BusRefused("too large"))
            published[1].set_result(None)
            await settle(reader, batch, published, undertaker)

            (letter,) = await letters.receive(max_wait=1.0)
        assert (letter.payload, letter.properties["reason"]) == (b"a", "too large")
        assert buried == ["iris"]

    assert bus.backlog("iris", "decoy") == 0


async def test_one_that_can_not_be_buried_either_comes_again_and_the_others_are_settled():
    bus = MemoryBus(limit=3)
    async with in_hand(b"a", b"b", b"c", bus=bus) as (_, reader, batch, published, _, buried):
        dead = dead_letter_topic("iris")
        async with bus.subscribe([dead], KEEPER):
            await asyncio.gather(*[bus.publish(dead, b"") for _ in range(3)])
        published[0].set_exception(BusRefused("too large"))
        published[1].set_result(None)
        published[2].set_exception(BusUnavailable("outcome unknown"))
        await settle(reader, batch, published, Undertaker(bus, buried.append))

        again = await reader.receive(max_wait=1.0)
        assert [(d.payload, d.tries) for d in again] == [(b"a", 2), (b"c", 2)]
        assert buried == []


async def test_it_takes_its_time_when_something_was_handed_back_so_that_nothing_spins():
    async with in_hand(b"a") as (_, reader, batch, published, undertaker, _):
        published[0].set_exception(BusUnavailable("full"))
        settling = asyncio.create_task(settle(reader, batch, published, undertaker))
        (again,) = await reader.receive(max_wait=1.0)
        assert again.tries == 2
        assert not settling.done()
        began = asyncio.get_running_loop().time()
        await settling
        assert asyncio.get_running_loop().time() - began > PAUSE / 2


async def test_all_come_again_where_the_reader_was_gone_before():
    async with in_hand(b"a", b"b") as (bus, reader, batch, published, undertaker, _):
        settling = asyncio.create_task(settle(reader, batch, published, undertaker))
        await asyncio.sleep(0)
        settling.cancel()
        await asyncio.gather(settling, return_exceptions=True)

    assert bus.backlog("iris", "decoy") == 2
