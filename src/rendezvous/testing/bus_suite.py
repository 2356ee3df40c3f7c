"""What every bus must do, as tests: an adapter's tests inherit ``BusSuite``.

Give a fixture ``bus`` that makes a fresh bus and closes it after the test. Needs pytest and
pytest-asyncio in auto mode.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import TYPE_CHECKING

import pytest

from rendezvous.bus.topics import family
from rendezvous.errors import BusUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rendezvous.bus.port import Bus, Deliveries, Delivery

WAIT = 10.0
COMES = 3.0
"""Seconds, more than a bus takes to find a topic that has come to a family."""


async def publish(bus: Bus, topic: str, payloads: Sequence[bytes]) -> None:
    """Publish all, and wait until all are durable."""
    await asyncio.gather(*[bus.publish(topic, payload) for payload in payloads])


async def take(deliveries: Deliveries, number: int, seconds: float = WAIT) -> list[Delivery]:
    """Return so many deliveries, fewer if ``seconds`` go by; none is acked."""
    taken: list[Delivery] = []
    until = time.monotonic() + seconds
    while len(taken) < number and (left := until - time.monotonic()) > 0:
        taken += await deliveries.receive(number - len(taken), left)
    return taken


def payloads(deliveries: Sequence[Delivery]) -> list[bytes]:
    """Return what the deliveries carry."""
    return [delivery.payload for delivery in deliveries]


def numbered(number: int) -> list[bytes]:
    """Return so many different payloads, in their order."""
    return [b"%d" % n for n in range(number)]


@pytest.fixture
def topic() -> str:
    """Return a topic's name that no other test uses."""
    return f"suite-{uuid.uuid4().hex[:12]}"


class BusSuite:
    """The behaviour of a bus."""

    keeps_history = False
    """Whether a new group may begin with what was published before it."""

    async def test_every_group_gets_every_message(self, bus: Bus, topic: str) -> None:
        async with bus.subscribe([topic], "a") as a, bus.subscribe([topic], "b") as b:
            await publish(bus, topic, [b"one", b"two"])
            assert payloads(await take(a, 2)) == [b"one", b"two"]
            assert payloads(await take(b, 2)) == [b"one", b"two"]

    async def test_a_delivery_carries_all_that_was_published(self, bus: Bus, topic: str) -> None:
        async with bus.subscribe([topic], "g") as member:
            payload = bytes(range(256)) * 4000  # a megabyte, and no text
            await bus.publish(topic, payload, key="Schlüssel", properties={"why": "weil"})
            await bus.publish(topic, b"")
            full, empty = await take(member, 2)
        assert (full.topic, full.payload, full.key) == (topic, payload, "Schlüssel")
        assert (dict(full.properties), full.tries) == ({"why": "weil"}, 1)
        assert (empty.payload, empty.key, dict(empty.properties)) == (b"", None, {})

    async def test_messages_that_travel_together_all_come_and_what_is_acked_stays_away(
        self, bus: Bus, topic: str
    ) -> None:
        sent = numbered(300)
        async with bus.subscribe([topic], "g") as member:
            await asyncio.gather(
                *[bus.publish(topic, payload, key="k", linger=0.0) for payload in sent],
                bus.publish(topic, b"alone"),
            )
            got = await take(member, 301)
            assert sorted(payloads(got)) == sorted([*sent, b"alone"])
            await member.ack([each for each in got if each.payload != b"7"])
            (handed_back,) = [each for each in got if each.payload == b"7"]
            await member.nack(handed_back)
            again = await member.receive(max_wait=WAIT)
            assert b"7" in payloads(again)
            await member.ack(again)
        async with bus.subscribe([topic], "g") as successor:
            assert list(await successor.receive(max_wait=1.0)) == []

    async def test_members_of_a_group_share_its_messages(self, bus: Bus, topic: str) -> None:
        async with bus.subscribe([topic], "g") as one, bus.subscribe([topic], "g") as other:
            members = (one, other)
            reads = [asyncio.create_task(member.receive(1)) for member in members]
            taken: list[list[bytes]] = [[], []]
            for payload in numbered(20):
                await publish(bus, topic, [payload])
                async with asyncio.timeout(WAIT):
                    await asyncio.wait(reads, return_when=asyncio.FIRST_COMPLETED)
                for which, member in enumerate(members):
                    if reads[which].done():
                        batch = reads[which].result()
                        await member.ack(batch)
                        taken[which] += payloads(batch)
                        reads[which] = asyncio.create_task(member.receive(1))
            for read in reads:
                read.cancel()
        assert sorted(taken[0] + taken[1]) == sorted(numbered(20))
        assert all(taken)

    async def test_messages_come_in_their_order(self, bus: Bus, topic: str) -> None:
        async with bus.subscribe([topic], "g") as member:
            await publish(bus, topic, numbered(500))
            assert payloads(await take(member, 500)) == numbered(500)

    async def test_one_member_may_read_several_topics(self, bus: Bus, topic: str) -> None:
        topics = [f"{topic}-a", f"{topic}-b"]
        async with bus.subscribe(topics, "g") as member:
            for name in topics:
                await publish(bus, name, [name.encode()])
            got = await take(member, 2)
            await member.ack(got)
        assert {(d.topic, d.payload) for d in got} == {(t, t.encode()) for t in topics}

    async def test_one_who_reads_a_family_reads_each_topic_that_is_called_so_and_no_other(
        self, bus: Bus, topic: str
    ) -> None:
        of_it = [f"{topic}-a", f"{topic}-b.1"]
        others = [topic, f"{topic}board", f"{topic}-dead-letter", f"{topic}-a-dead-letter"]
        for name in of_it:  # so that they are there, on any bus
            async with bus.subscribe([name], "g"):
                pass
        async with bus.subscribe([family(topic)], "g") as member:
            for name in [*others, *of_it]:
                await publish(bus, name, [name.encode()])
            got = await take(member, 2)
            await member.ack(got)
            assert {(d.topic, d.payload) for d in got} == {(t, t.encode()) for t in of_it}
            assert list(await member.receive(max_wait=COMES)) == []

    async def test_a_topic_that_comes_to_a_family_is_read_from_its_beginning(
        self, bus: Bus, topic: str
    ) -> None:
        async with bus.subscribe([family(topic)], "g", start="latest") as member:
            for name in (f"{topic}-a", f"{topic}-b"):
                waiting = asyncio.create_task(take(member, 100))
                await asyncio.sleep(0.05)
                await publish(bus, name, numbered(100))
                got = await waiting
                assert payloads(got) == numbered(100)
                assert {delivery.topic for delivery in got} == {name}
                await member.ack(got)

    async def test_one_member_may_read_a_topic_and_its_family(self, bus: Bus, topic: str) -> None:
        topics = [topic, family(topic)]
        async with (
            bus.subscribe(topics, "g", start="earliest") as one,
            bus.subscribe(topics, "g", start="earliest") as other,
        ):
            names = [topic, f"{topic}-a", f"{topic}-b"]
            for name in names:
                await publish(bus, name, numbered(50))
            got: list[Delivery] = []
            async with asyncio.timeout(WAIT):
                while len(got) < 150:
                    got += await one.receive(max_wait=0.1)
                    got += await other.receive(max_wait=0.1)
            assert list(await one.receive(max_wait=0.3)) == []
        came = sorted((d.topic, d.payload) for d in got)
        assert came == sorted((name, payload) for name in names for payload in numbered(50))

    async def test_what_is_handed_back_to_a_family_comes_again_and_is_counted(
        self, bus: Bus, topic: str
    ) -> None:
        async with bus.subscribe([family(topic)], "g", start="earliest") as member:
            await publish(bus, f"{topic}-a", [b"good"])
            await publish(bus, f"{topic}-b", [b"poison"])
            for tries in (1, 2, 3):
                batch = await take(member, 2 if tries == 1 else 1)
                await member.ack([d for d in batch if d.payload == b"good"])
                (poison,) = [d for d in batch if d.payload == b"poison"]
                assert (poison.topic, poison.tries) == (f"{topic}-b", tries)
                await member.nack(poison)
            await member.ack(await take(member, 1))
        async with bus.subscribe([family(topic)], "g", start="earliest") as member:
            assert list(await member.receive(max_wait=1.0)) == []

    async def test_a_group_that_reads_a_family_keeps_its_place_while_it_has_no_member(
        self, bus: Bus, topic: str
    ) -> None:
        async with bus.subscribe([family(topic)], "g", start="earliest") as member:
            await publish(bus, f"{topic}-a", [b"1", b"2", b"3"])
            first = await take(member, 3)
            await member.ack(first[:2])
        await publish(bus, f"{topic}-a", [b"4"])
        await publish(bus, f"{topic}-b", [b"5"])  # which was not there
        async with bus.subscribe([family(topic)], "g", start="earliest") as member:
            assert sorted(payloads(await take(member, 3))) == [b"3", b"4", b"5"]
            assert list(await member.receive(max_wait=0.3)) == []

    async def test_a_batch_is_what_is_there_and_no_more(self, bus: Bus, topic: str) -> None:
        async with bus.subscribe([topic], "g") as member:
            await publish(bus, topic, numbered(10))
            assert payloads(await take(member, 4)) == numbered(4)
            rest: list[Delivery] = []
            while len(rest) < 6:
                batch = await member.receive(100, WAIT)  # does not wait to fill up
                assert batch
                rest += batch
            assert payloads(rest) == numbered(10)[4:]

    async def test_an_empty_batch_says_that_nothing_came(self, bus: Bus, topic: str) -> None:
        async with bus.subscribe([topic], "g") as member:
            assert list(await member.receive(max_wait=0.05)) == []

    async def test_a_read_waits_for_a_message(self, bus: Bus, topic: str) -> None:
        async with bus.subscribe([topic], "g") as member:
            read = asyncio.create_task(member.receive())
            await asyncio.sleep(0.05)
            assert not read.done()
            await publish(bus, topic, [b"came"])
            assert payloads(await asyncio.wait_for(read, WAIT)) == [b"came"]

    async def test_a_cancelled_read_loses_nothing(self, bus: Bus, topic: str) -> None:
        async with bus.subscribe([topic], "g") as member:
            for payload in numbered(20):
                read = asyncio.create_task(member.receive(1))
                await asyncio.sleep(0)
                read.cancel()
                await asyncio.gather(read, return_exceptions=True)
                await publish(bus, topic, [payload])
                assert payloads(await take(member, 1)) == [payload]

    async def test_what_is_handed_back_comes_again_and_is_counted(
        self, bus: Bus, topic: str
    ) -> None:
        async with bus.subscribe([topic], "g") as member:
            await publish(bus, topic, [b"poison", b"good"])
            for tries in (1, 2, 3):
                batch = await take(member, 2 if tries == 1 else 1)
                await member.ack([d for d in batch if d.payload == b"good"])
                (poison,) = [d for d in batch if d.payload == b"poison"]
                assert poison.tries == tries
                await member.nack(poison)
            (poison,) = await take(member, 1)
            await member.ack([poison])
            assert list(await member.receive(max_wait=0.5)) == []

    async def test_what_was_acked_does_not_come_again(self, bus: Bus, topic: str) -> None:
        async with bus.subscribe([topic], "g") as member:
            await publish(bus, topic, numbered(10))
            got = await take(member, 10)
            await member.ack(got[:7])
        async with bus.subscribe([topic], "g") as member:
            again = await take(member, 3)
            assert sorted(payloads(again)) == sorted(payloads(got[7:]))
            assert {delivery.tries for delivery in again} == {1}
            await member.ack(again)
            assert list(await member.receive(max_wait=0.3)) == []

    async def test_what_a_member_had_in_hand_goes_to_the_others(self, bus: Bus, topic: str) -> None:
        async with bus.subscribe([topic], "g") as stays:
            async with bus.subscribe([topic], "g") as leaves:
                await publish(bus, topic, numbered(20))
                mine, theirs = await asyncio.gather(take(stays, 20, 1.0), take(leaves, 20, 1.0))
                assert sorted(payloads(mine + theirs)) == sorted(numbered(20))
                await stays.ack(mine)
            assert sorted(payloads(await take(stays, len(theirs)))) == sorted(payloads(theirs))

    async def test_a_member_that_is_slow_leaves_what_it_can_not_take_to_the_others(
        self, bus: Bus, topic: str
    ) -> None:
        async with bus.subscribe([topic], "g", prefetch=10) as slow:
            await publish(bus, topic, numbered(200))
            held = await take(slow, 5)
            async with bus.subscribe([topic], "g", prefetch=10) as other:
                rest = await take(other, 200 - 5 - 10)
                assert len(held) == 5
                assert len(rest) >= 200 - 5 - 10
                assert not set(payloads(held)) & set(payloads(rest))

    async def test_a_member_that_has_but_one_ready_gets_all(self, bus: Bus, topic: str) -> None:
        topics = [topic, f"{topic}-other"]
        async with bus.subscribe(topics, "g", prefetch=1) as member:
            for name in topics:
                await publish(bus, name, numbered(100))
            got = await take(member, 200)
        for name in topics:
            came = payloads([d for d in got if d.topic == name])
            assert sorted(came) == sorted(numbered(100))

    async def test_a_group_keeps_its_place_while_it_has_no_member(
        self, bus: Bus, topic: str
    ) -> None:
        async with bus.subscribe([topic], "g"):
            pass
        await publish(bus, topic, numbered(5))
        async with bus.subscribe([topic], "g") as member:
            assert payloads(await take(member, 5)) == numbered(5)

    async def test_a_new_group_begins_where_it_asks_to(self, bus: Bus, topic: str) -> None:
        async with bus.subscribe([topic], "first") as first:
            await publish(bus, topic, [b"old"])
            assert payloads(await take(first, 1)) == [b"old"]
            async with (
                bus.subscribe([topic], "latest") as latest,
                bus.subscribe([topic], "earliest", start="earliest") as earliest,
            ):
                await publish(bus, topic, [b"new"])
                assert payloads(await take(latest, 1)) == [b"new"]
                expected = [b"old", b"new"] if self.keeps_history else [b"new"]
                assert payloads(await take(earliest, len(expected))) == expected

    async def test_every_listener_hears_what_is_published_while_it_is_there(
        self, bus: Bus, topic: str
    ) -> None:
        await publish(bus, topic, [b"before"])
        async with bus.listen(topic) as one, bus.listen(topic) as other:
            await publish(bus, topic, [b"one", b"two"])
            for listener in (one, other):
                heard: list[bytes] = []
                while len(heard) < 2:
                    heard += payloads(await listener.receive(1, WAIT))
                assert heard == [b"one", b"two"]
                assert list(await listener.receive(max_wait=0.05)) == []
        await publish(bus, topic, [b"between"])
        async with bus.listen(topic) as again:
            await publish(bus, topic, [b"now"])
            assert payloads(await again.receive(max_wait=WAIT)) == [b"now"]

    async def test_a_listener_takes_nothing_from_a_group(self, bus: Bus, topic: str) -> None:
        async with bus.subscribe([topic], "g") as member, bus.listen(topic) as listener:
            await publish(bus, topic, [b"both"])
            assert payloads(await listener.receive(max_wait=WAIT)) == [b"both"]
            assert payloads(await take(member, 1)) == [b"both"]

    async def test_nobody_needs_to_listen(self, bus: Bus, topic: str) -> None:
        await asyncio.wait_for(bus.publish(topic, b"unheard"), WAIT)

    async def test_10_000_messages_come_once_each(self, bus: Bus, topic: str) -> None:
        seen: list[bytes] = []
        async with bus.subscribe([topic], "g") as member:
            published = asyncio.create_task(publish(bus, topic, numbered(10_000)))
            while len(seen) < 10_000:
                batch = await member.receive(max_wait=WAIT)
                assert batch, f"only {len(seen)} came"
                seen += payloads(batch)
                await member.ack(batch)
            await published
            assert list(await member.receive(max_wait=0.3)) == []
        assert sorted(seen) == sorted(numbered(10_000))

    async def test_closing_finishes_what_was_published(self, bus: Bus, topic: str) -> None:
        async with bus.subscribe([topic], "g"):
            under_way = [bus.publish(topic, payload) for payload in numbered(100)]
        await bus.aclose()
        assert [future.exception() for future in under_way] == [None] * 100

    async def test_closing_with_messages_in_hand_ends_every_read(
        self, bus: Bus, topic: str
    ) -> None:
        async with bus.subscribe([topic], "g") as member:
            await publish(bus, topic, [b"in hand"])
            await take(member, 1)
            read = asyncio.create_task(member.receive())
            await asyncio.sleep(0.05)
            await bus.aclose()
            with pytest.raises(BusUnavailable):
                await asyncio.wait_for(read, WAIT)

    async def test_a_closed_bus_says_so(self, bus: Bus, topic: str) -> None:
        await bus.aclose()
        await bus.aclose()
        with pytest.raises(BusUnavailable):
            await bus.publish(topic, b"late")
        with pytest.raises(BusUnavailable):
            async with bus.subscribe([topic], "g"):
                pass
