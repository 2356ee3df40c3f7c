"""The loop of a connector, over the memory bus."""

import asyncio
import json
import logging
import random
from contextlib import asynccontextmanager

import pytest

from rendezvous.bus.memory import MemoryBus
from rendezvous.deadletter import KEEPER, dead_letter_topic
from rendezvous.errors import BusUnavailable, SinkError, SinkUnavailable
from rendezvous.sink import runner
from rendezvous.sink.archive import read, verify
from rendezvous.sink.files import FileSink
from rendezvous.sink.port import Rejection, Sink
from rendezvous.sink.runner import Connector
from rendezvous.telemetry import Metrics

LONG = 3600.0


class Shelf(Sink):
    """A sink that can be away, stuck, broken, or refuse a record."""

    def __init__(self):
        self.batches = []
        self.tries = 0
        self.refuses = set()
        self.error = None
        self.free = asyncio.Event()
        self.free.set()
        self.closed = 0

    async def write(self, batch):
        if not batch:
            return []
        self.tries += 1
        await self.free.wait()
        if self.error:
            raise self.error
        self.batches.append([each.id for each in batch if each.id not in self.refuses])
        return [Rejection(each, "too odd") for each in batch if each.id in self.refuses]

    async def aclose(self):
        self.closed += 1

    @property
    def ids(self):
        return [each for batch in self.batches for each in batch]


def message(name, **fields):
    return json.dumps({"messageId": name, **fields}).encode()


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


async def join(bus, *topics, group="archive"):
    """Make the group, so that what is published from now on waits for it."""
    async with bus.subscribe(topics or ["decoy"], group):
        pass


@asynccontextmanager
async def running(connector):
    """Run the connector inside the block, and stop it in order."""
    stop = asyncio.Event()
    task = asyncio.create_task(connector.run(stop))
    try:
        yield task
    finally:
        stop.set()
        await task


async def crash(task):
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.fixture
async def bus():
    bus = MemoryBus()
    await join(bus)
    yield bus
    await bus.aclose()


@pytest.fixture
async def shelf():
    return Shelf()


@pytest.fixture
def make(bus, shelf):
    def make(sink=shelf, topics=("decoy",), **settings):
        return Connector(bus, sink, topics, group="archive", **{"timeout": 0.05, **settings})

    return make


@pytest.fixture
async def dead(bus):
    """What was buried, in its order."""
    buried = []
    await join(bus, dead_letter_topic("decoy"), group="undertaker")

    async def collect():
        topics = [dead_letter_topic("decoy")]
        async with bus.subscribe(topics, "undertaker") as deliveries:
            while True:
                for delivery in await deliveries.receive():
                    buried.append(delivery)
                    await deliveries.ack([delivery])

    task = asyncio.create_task(collect())
    yield buried
    await crash(task)


async def publish(bus, *payloads, topic="decoy"):
    for payload in payloads:
        await bus.publish(topic, payload)


class TestBatches:
    async def test_a_batch_is_stored_when_it_has_the_threshold(self, bus, shelf, make):
        await publish(bus, *(message(f"m{n}") for n in range(7)))
        async with running(make(threshold=3, timeout=LONG)):
            await until(lambda: len(shelf.batches) == 2)
            assert shelf.batches == [["m0", "m1", "m2"], ["m3", "m4", "m5"]]

    async def test_a_batch_that_does_not_fill_is_stored_after_the_timeout(self, bus, shelf, make):
        async with running(make(threshold=1000, timeout=0.2)):
            await publish(bus, message("a"), message("b"))
            await until(lambda: shelf.batches)
            assert shelf.batches == [["a", "b"]]

    async def test_the_timeout_counts_from_the_first_message(self, bus, shelf, make):
        async with running(make(threshold=1000, timeout=0.5)):
            sent = 0
            while not shelf.batches:
                await publish(bus, message(f"m{sent}"))
                sent += 1
                await asyncio.sleep(0.02)
        assert 1 < len(shelf.batches[0]) < 200, "more messages put it off"

    async def test_several_topics_go_to_one_sink_and_are_counted_apart(self, bus, shelf, make):
        await join(bus, "decoy", "score")
        metrics = Metrics()
        await publish(bus, message("a"), message("b"))
        model = {"model": {"modelName": "dt", "modelVersion": 1}}
        await publish(bus, message("a", provenance=model), topic="score")
        async with running(make(topics=["decoy", "score"], observer=metrics)):
            await until(lambda: len(shelf.ids) == 3)
        assert sorted(shelf.ids) == ["a", "a:dt:1", "b"]
        text = metrics.text().decode()
        assert 'rendezvous_archived_total{group="archive",topic="decoy"} 2.0' in text
        assert 'rendezvous_archived_total{group="archive",topic="score"} 1.0' in text

    async def test_the_topics_of_a_family_are_counted_as_one(self, bus, shelf, make):
        await join(bus, "score", "score-*")
        metrics = Metrics()
        for topic in ("score", "score-a-1", "score-a-2"):
            await publish(bus, message(f"of {topic}"), b"poison", topic=topic)
        async with running(make(topics=["score", "score-*"], observer=metrics)):
            await until(lambda: len(shelf.ids) == 3)
            await until(lambda: b'dlq_messages_total{topic="score"} 3.0' in metrics.text())
            await until(lambda: bus.backlog("score-*", "archive") == 0)
        assert b'archived_total{group="archive",topic="score"} 3.0' in metrics.text()
        assert b'topic="score-' not in metrics.text()

    async def test_a_record_that_comes_twice_is_written_once_and_both_are_acked(
        self, bus, shelf, make
    ):
        metrics = Metrics()
        await publish(bus, message("a"), message("b"), message("a"), message("a"))
        task = asyncio.create_task(make(observer=metrics).run(asyncio.Event()))
        await until(lambda: b"archived_total{" in metrics.text())
        await crash(task)
        assert shelf.batches == [["a", "b"]]
        assert bus.backlog("decoy", "archive") == 0
        assert b'archived_total{group="archive",topic="decoy"} 2.0' in metrics.text()

    async def test_says_which_group_and_topics_it_reads(self, make):
        connector = make(topics=["a", "b"])
        assert (connector.group, connector.topics) == ("archive", ["a", "b"])


class TestAcks:
    async def test_nothing_is_acked_before_it_is_stored(self, bus, shelf, make):
        shelf.free.clear()
        await publish(bus, message("a"), message("b"))
        task = asyncio.create_task(make().run(asyncio.Event()))
        await until(lambda: shelf.tries)
        assert bus.backlog("decoy", "archive") == 0
        await crash(task)
        assert bus.backlog("decoy", "archive") == 2
        shelf.free.set()
        async with running(make()):
            await until(lambda: shelf.batches)
        assert shelf.ids == ["a", "b"]

    async def test_what_is_stored_is_acked(self, bus, shelf, make):
        await publish(bus, message("a"), message("b"))
        metrics = Metrics()
        task = asyncio.create_task(make(observer=metrics).run(asyncio.Event()))
        await until(lambda: b"archived_total{" in metrics.text())
        await crash(task)
        assert bus.backlog("decoy", "archive") == 0

    async def test_crashes_at_random_moments_lose_nothing_and_store_nothing_twice(
        self, bus, make, tmp_path
    ):
        sink = FileSink(tmp_path / "archive")
        sent = [f"m{n}" for n in range(2000)]
        rng = random.Random(1)
        for start in range(0, 2000, 100):
            await publish(bus, *(message(name) for name in sent[start : start + 100]))
            run = make(sink, threshold=30, timeout=0.01).run(asyncio.Event())
            task = asyncio.create_task(run)
            await asyncio.sleep(rng.uniform(0, 0.05))
            await crash(task)
        async with running(make(sink)):
            await until(lambda: bus.backlog("decoy", "archive") == 0)
        stored = [json.loads(line)["messageId"] for line in read(tmp_path / "archive")]
        assert sorted(stored) == sorted(sent)
        assert list(verify(tmp_path / "archive")) == []


class TestAwaySink:
    async def test_is_tried_again_until_it_is_back_and_no_more_is_read_meanwhile(
        self, bus, shelf, make, caplog
    ):
        caplog.set_level(logging.INFO, logger="rendezvous")
        shelf.error = SinkUnavailable("the disk is full")
        metrics = Metrics()
        await publish(bus, *(message(f"m{n}") for n in range(6)))
        async with running(make(threshold=2, observer=metrics)):
            await until(lambda: shelf.tries >= 3)
            assert bus.backlog("decoy", "archive") == 4
            shelf.error = None
            await until(lambda: len(shelf.ids) == 6)
        assert shelf.ids == [f"m{n}" for n in range(6)]
        retries = [
            sample.value
            for family in metrics.registry.collect()
            for sample in family.samples
            if sample.name == "rendezvous_sink_retries_total"
        ]
        assert retries[0] >= 3
        said = [(r.levelname, r.getMessage()) for r in caplog.records if r.name == runner.__name__]
        assert [level for level, _ in said] == ["WARNING", "INFO"]
        assert "the disk is full" in said[0][1]

    async def test_a_sink_that_can_never_be_used_ends_the_run_and_the_messages_stay(
        self, bus, shelf, make
    ):
        shelf.error = SinkError("another's")
        await publish(bus, message("a"))
        with pytest.raises(SinkError, match="another's"):
            await make().run(asyncio.Event())
        assert bus.backlog("decoy", "archive") == 1
        assert shelf.closed == 1


class TestWhatItTells:
    async def test_is_that_it_reads_once_its_sink_is_ready_and_that_it_ends(self, shelf, make):
        class Slow(Shelf):
            async def write(self, batch):
                await self.free.wait()
                return []

        metrics, sink = Metrics(), Slow()
        sink.free.clear()
        async with running(make(sink, observer=metrics)):
            await until(metrics.parts)
            await asyncio.sleep(0.05)
            assert metrics.parts() == {("archive", "decoy"): False}
            sink.free.set()
            await until(lambda: metrics.parts()["archive", "decoy"])
        assert metrics.parts() == {("archive", "decoy"): False}

    async def test_is_that_it_does_not_read_when_its_bus_is_away(self, bus, make):
        metrics = Metrics()
        await bus.aclose()
        with pytest.raises(BusUnavailable):
            await make(observer=metrics).run(asyncio.Event())
        assert metrics.parts() == {("archive", "decoy"): False}

    async def test_is_how_long_the_oldest_message_in_hand_has_waited(self, bus, shelf, make):
        def lag():
            name = "rendezvous_sink_lag_seconds"
            return metrics.registry.get_sample_value(name, {"group": "archive"})

        metrics = Metrics()
        shelf.error = SinkUnavailable("the disk is full")
        async with running(make(observer=metrics)):
            assert not lag()
            await publish(bus, message("a"))
            await until(lambda: lag() and lag() > 0.2)
            shelf.error = None
            await until(lambda: lag() == 0)
        assert shelf.ids == ["a"]

    async def test_is_that_it_holds_nothing_when_it_has_stopped(self, bus, shelf, make):
        metrics = Metrics()
        shelf.error = SinkUnavailable("the disk is full")
        await publish(bus, message("a"))
        async with running(make(observer=metrics)):
            await until(lambda: shelf.tries)
        assert b'sink_lag_seconds{group="archive"} 0.0' in metrics.text()


class TestPoison:
    @pytest.mark.parametrize("payload", [b"\xff\xfe", b"", b"[]", b'{"messageId": 5}', b'{"x":1}'])
    async def test_is_buried_after_three_tries_while_the_others_go_on(
        self, bus, shelf, make, dead, payload
    ):
        metrics = Metrics()
        await publish(bus, message("a"), payload, message("b"))
        async with running(make(observer=metrics)):
            await until(lambda: dead and len(shelf.ids) == 2)
        [buried] = dead
        assert buried.payload == payload
        assert buried.properties["tries"] == "3"
        assert buried.properties["originTopic"] == "decoy"
        assert buried.properties["reason"]
        assert shelf.ids == ["a", "b"]
        assert bus.backlog("decoy", "archive") == 0
        assert 'dlq_messages_total{topic="decoy"} 1.0' in metrics.text().decode()

    async def test_what_the_sink_refuses_is_buried_at_once_and_the_rest_is_stored(
        self, bus, shelf, make, dead
    ):
        shelf.refuses = {"bad"}
        metrics = Metrics()
        await publish(bus, message("a"), message("bad"), message("b"), message("bad"))
        async with running(make(observer=metrics)):
            await until(lambda: dead)
        [buried] = dead
        assert buried.payload == message("bad")
        assert buried.properties["tries"] == "1"
        assert buried.properties["reason"] == "too odd"
        assert shelf.batches == [["a", "b"]]
        assert bus.backlog("decoy", "archive") == 0
        assert b'archived_total{group="archive",topic="decoy"} 2.0' in metrics.text()


class TestDeadLetters:
    async def test_are_stored_with_what_they_were_and_why_whatever_is_in_them(self, bus):
        letters, kept = Shelf(), []

        class Keeping(Shelf):
            async def write(self, batch):
                kept.extend(batch)
                return []

        await join(bus, "decoy-dead-letter", group="letters")
        reader = Connector(bus, Keeping(), ["decoy-dead-letter"], group="letters", timeout=0.05)
        poison = Connector(bus, letters, ["decoy"], group="archive", timeout=0.05)
        await publish(bus, b"\xff no record")
        async with running(reader), running(poison):
            await until(lambda: kept)

        [record] = kept
        read = json.loads(record.payload)
        assert read["messageId"] == record.id
        assert read["deadLetter"]["topic"] == "decoy"
        assert read["deadLetter"]["payload"] == "\ufffd no record"
        assert read["deadLetter"]["tries"] == 3
        assert read["deadLetter"]["reason"].startswith("neither a request nor a score")
        assert letters.ids == []
        assert bus.backlog("decoy-dead-letter", "letters") == 0

    async def test_are_read_as_they_are_beside_topics_whose_messages_are_records(self, bus, shelf):
        topics = ["decoy", "decoy-dead-letter"]
        await join(bus, *topics)
        await publish(bus, message("a"))
        await publish(bus, message("a"), topic="decoy-dead-letter")
        async with running(Connector(bus, shelf, topics, group="archive", timeout=0.05)):
            await until(lambda: len(shelf.ids) == 2)

        assert shelf.ids[0] == "a"
        assert len(shelf.ids[1]) == 32

    async def test_that_the_sink_refuses_are_not_buried_again_and_stay_with_their_keeper(
        self, bus, shelf, caplog
    ):
        class Refusing(Shelf):
            async def write(self, batch):
                self.tries += len(batch)
                return [Rejection(each, "too odd") for each in batch]

        topic, sink, metrics = "decoy-dead-letter", Refusing(), Metrics()
        await join(bus, topic)
        await join(bus, topic, group=KEEPER)
        await publish(bus, b"odd", topic=topic)
        connector = Connector(bus, sink, [topic], group="archive", timeout=0.05, observer=metrics)
        async with (
            bus.subscribe([dead_letter_topic(topic)], "test") as deeper,
            running(connector),
        ):
            await until(
                lambda: "can not store a letter of decoy-dead-letter: too odd" in caplog.text
            )
            assert await deeper.receive(max_wait=0.1) == []

        assert sink.tries == 1
        assert bus.backlog(topic, "archive") == 0
        assert bus.backlog(topic, KEEPER) == 1
        assert b"dlq_messages_total{" not in metrics.text()


class TestStopping:
    async def test_stores_what_is_in_hand(self, bus, shelf, make):
        async with running(make(timeout=LONG)):
            await publish(bus, message("a"), message("b"))
            await until(lambda: bus.backlog("decoy", "archive") == 0)
            assert shelf.batches == []
        assert shelf.batches == [["a", "b"]]
        assert bus.backlog("decoy", "archive") == 0
        assert shelf.closed == 1

    async def test_leaves_what_an_away_sink_does_not_take_for_the_next_run(
        self, bus, shelf, make, caplog
    ):
        connector = make()
        shelf.error = SinkUnavailable("away")
        await publish(bus, message("a"), message("b"))
        async with running(connector):
            await until(lambda: shelf.tries >= 2)
        assert bus.backlog("decoy", "archive") == 2
        assert "2 messages that are not stored" in caplog.text
        shelf.error = None
        async with running(connector):
            await until(lambda: shelf.batches)
        assert shelf.ids == ["a", "b"]
        assert shelf.closed == 2

    async def test_gives_a_sink_that_is_back_a_last_chance(self, bus, shelf, make, monkeypatch):
        monkeypatch.setattr(runner, "FIRST_PAUSE", LONG)
        monkeypatch.setattr(runner, "LONGEST_PAUSE", LONG)
        shelf.error = SinkUnavailable("away")
        await publish(bus, message("a"))
        async with running(make()):
            await until(lambda: shelf.tries)
            shelf.error = None
        assert shelf.ids == ["a"]

    async def test_does_not_wait_for_a_sink_that_hangs(self, bus, shelf, make, monkeypatch):
        monkeypatch.setattr(runner, "LAST_WRITE", 0.05)
        shelf.free.clear()
        await publish(bus, message("a"))
        async with running(make()):
            await until(lambda: shelf.tries)
        assert bus.backlog("decoy", "archive") == 1

    async def test_ends_at_once_when_nothing_is_in_hand(self, shelf, make):
        async with running(make(timeout=LONG)):
            pass
        assert shelf.batches == []

    async def test_a_bus_that_goes_away_ends_the_run_and_closes_the_sink(self, bus, shelf, make):
        task = asyncio.create_task(make().run(asyncio.Event()))
        await until(lambda: bus.sleepers)
        await bus.aclose()
        with pytest.raises(BusUnavailable):
            await task
        assert shelf.closed == 1


class TestStarting:
    async def test_makes_an_archive_ready_before_the_first_message(self, make, tmp_path):
        async with running(make(FileSink(tmp_path / "archive"))):
            await until((tmp_path / "archive").is_dir)

    async def test_the_same_connector_can_run_again(self, bus, make, tmp_path):
        connector = make(FileSink(tmp_path / "archive"))
        for name in ("a", "b"):
            await publish(bus, message(name))
            async with running(connector):
                await until(lambda: bus.backlog("decoy", "archive") == 0)
        assert list(read(tmp_path / "archive")) == [message("a"), message("b")]
