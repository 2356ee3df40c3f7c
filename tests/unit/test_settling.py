"""A message is acked when what came of it is durable, and handed back when it is not."""

import asyncio
from contextlib import asynccontextmanager

from rendezvous.bus.memory import MemoryBus
from rendezvous.bus.settling import settle
from rendezvous.errors import BusRefused, BusUnavailable


@asynccontextmanager
async def in_hand(*payloads):
    """Yield a bus, a reader, the deliveries that it has in hand, and a future for each."""
    bus, loop = MemoryBus(), asyncio.get_running_loop()
    async with bus.subscribe(["iris"], "decoy") as reader:
        for payload in payloads:
            bus.publish("iris", payload)
        batch = await reader.receive()
        yield bus, reader, batch, [loop.create_future() for _ in batch]


async def test_each_is_acked_where_its_successor_is_durable():
    async with in_hand(b"a", b"b") as (bus, reader, batch, published):
        for done in published:
            done.set_result(None)
        await settle(reader, batch, published)

    assert bus.backlog("iris", "decoy") == 0


async def test_it_takes_until_the_last_outcome_is_known():
    async with in_hand(b"a", b"b") as (bus, reader, batch, published):
        settling = asyncio.create_task(settle(reader, batch, published))
        published[0].set_result(None)
        done, _ = await asyncio.wait([settling], timeout=0.01)
        assert not done
        published[1].set_result(None)
        await settling

    assert bus.backlog("iris", "decoy") == 0


async def test_those_whose_successors_failed_come_again_and_only_those():
    async with in_hand(b"a", b"b", b"c", b"d") as (_, reader, batch, published):
        published[0].set_result(None)
        published[1].set_exception(BusUnavailable("outcome unknown"))
        published[2].set_exception(BusRefused("too large"))
        published[3].cancel()
        await settle(reader, batch, published)

        again = await reader.receive(max_wait=1.0)
        assert [(d.payload, d.tries) for d in again] == [(b"b", 2), (b"c", 2), (b"d", 2)]


async def test_all_come_again_where_the_reader_was_gone_before():
    async with in_hand(b"a", b"b") as (bus, reader, batch, published):
        settling = asyncio.create_task(settle(reader, batch, published))
        await asyncio.sleep(0)
        settling.cancel()
        await asyncio.gather(settling, return_exceptions=True)

    assert bus.backlog("iris", "decoy") == 2
