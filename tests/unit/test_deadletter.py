"""What nobody can use is handed back a few times, then kept with the reason."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from rendezvous.bus.memory import MemoryBus
from rendezvous.deadletter import (
    KEEPER,
    TRIES,
    Undertaker,
    dead_letter_topic,
    keeps_dead_letters,
    origin,
)
from rendezvous.errors import BusRefused, BusUnavailable


@asynccontextmanager
async def poisoned(bus=None):
    """Yield an undertaker, a reader with one poison message to come, and the dead letters."""
    bus, buried = bus or MemoryBus(), []
    async with (
        bus.subscribe(["iris"], "dt") as reader,
        bus.subscribe([dead_letter_topic("iris")], "test") as letters,
    ):
        bus.publish("iris", b"poison", key="k", properties={"from": "a foreigner"})
        yield Undertaker(bus, buried.append), reader, letters, buried


def test_a_topics_dead_letters_are_kept_on_a_topic_beside_it():
    assert dead_letter_topic("iris") == "iris-dead-letter"
    assert keeps_dead_letters("iris-dead-letter")
    assert not keeps_dead_letters("iris")
    assert origin("iris-dead-letter") == "iris"


async def test_a_message_is_handed_back_until_it_had_its_tries():
    async with poisoned() as (undertaker, reader, letters, buried):
        for expected in range(1, TRIES + 1):
            (delivery,) = await reader.receive(max_wait=1.0)
            assert (delivery.payload, delivery.tries) == (b"poison", expected)
            assert await letters.receive(max_wait=0.0) == []
            await undertaker.refuse(reader, delivery, "nobody can read it")

        assert await reader.receive(max_wait=0.0) == []
        assert len(await letters.receive(max_wait=1.0)) == 1
        assert buried == ["iris"]


async def test_a_buried_message_keeps_what_it_was_and_says_why():
    bus = MemoryBus()
    async with poisoned(bus) as (undertaker, reader, letters, _):
        (delivery,) = await reader.receive()
        await undertaker.bury(reader, delivery, "nobody can read it")

        (letter,) = await letters.receive(max_wait=1.0)

    assert bus.backlog("iris", "dt") == 0
    assert (letter.payload, letter.key) == (b"poison", "k")
    assert letter.properties == {
        "from": "a foreigner",
        "reason": "nobody can read it",
        "originTopic": "iris",
        "tries": "1",
    }


async def test_what_came_from_a_topic_of_a_family_is_buried_with_its_kind():
    bus, buried = MemoryBus(), []
    topics = ["score", "score-*"]
    async with (
        bus.subscribe(topics, "g") as reader,
        bus.subscribe([dead_letter_topic("score")], "test") as letters,
    ):
        undertaker = Undertaker(bus, buried.append, topics)
        for topic in ("score", "score-a-1", "score-b-2"):
            bus.publish(topic, b"poison")
            (delivery,) = await reader.receive(max_wait=1.0)
            assert await undertaker.bury(reader, delivery, "nobody can read it")

        came = await letters.receive(max_wait=1.0)

    assert [letter.properties["originTopic"] for letter in came] == [
        "score",
        "score-a-1",
        "score-b-2",
    ]
    assert buried == ["score"] * 3


async def test_a_reason_of_any_length_is_cut():
    async with poisoned() as (undertaker, reader, letters, _):
        (delivery,) = await reader.receive()
        await undertaker.bury(reader, delivery, "x" * 10_000)

        (letter,) = await letters.receive(max_wait=1.0)

    assert letter.properties["reason"] == "x" * 500


async def test_a_message_that_can_not_be_buried_is_not_acked():
    class NoGrave(MemoryBus):
        def publish(self, topic, payload, **rest):
            if topic == "iris":
                return super().publish(topic, payload, **rest)
            done = asyncio.get_running_loop().create_future()
            done.set_exception(BusUnavailable("the broker is away"))
            return done

    bus = NoGrave()
    async with poisoned(bus) as (undertaker, reader, _, buried):
        (delivery,) = await reader.receive()
        with pytest.raises(BusUnavailable):
            await undertaker.bury(reader, delivery, "nobody can read it")

    assert bus.backlog("iris", "dt") == 1
    assert buried == []


async def test_dead_letters_wait_for_somebody_to_read_them():
    bus = MemoryBus()
    async with bus.subscribe(["iris"], "dt") as reader:
        for payload in (b"one", b"two"):
            bus.publish("iris", payload)
        undertaker = Undertaker(bus, [].append)
        for delivery in await reader.receive():
            assert await undertaker.bury(reader, delivery, "nobody can read it")

    async with bus.subscribe([dead_letter_topic("iris")], KEEPER) as late:
        assert [d.payload for d in await late.receive(max_wait=1.0)] == [b"one", b"two"]


async def test_a_message_whose_burial_is_refused_is_handed_back(caplog):
    class NoGrave(MemoryBus):
        def publish(self, topic, payload, **rest):
            if topic == "iris":
                return super().publish(topic, payload, **rest)
            done = asyncio.get_running_loop().create_future()
            done.set_exception(BusRefused("too large"))
            return done

    async with poisoned(NoGrave()) as (undertaker, reader, _, buried):
        (delivery,) = await reader.receive()
        assert not await undertaker.bury(reader, delivery, "nobody can read it")

        (again,) = await reader.receive(max_wait=1.0)
    assert again.tries == delivery.tries + 1
    assert buried == []
    assert "can not bury a message of iris: too large" in caplog.text


async def test_a_message_is_handed_back_where_its_topic_of_dead_letters_is_refused():
    class NoGraveyard(MemoryBus):
        def subscribe(self, topics, group, **rest):
            if group == KEEPER:
                raise BusRefused("no right")
            return super().subscribe(topics, group, **rest)

    async with poisoned(NoGraveyard()) as (undertaker, reader, letters, buried):
        (delivery,) = await reader.receive()
        assert not await undertaker.bury(reader, delivery, "nobody can read it")

        assert len(await reader.receive(max_wait=1.0)) == 1
        assert await letters.receive(max_wait=0.0) == []
    assert buried == []
