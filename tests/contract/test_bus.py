"""Every bus does what the port says."""

import asyncio
import ssl
import subprocess
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
import pulsar
import pytest
from _pulsar import MessageBuilder

from rendezvous.bus.factory import connect
from rendezvous.bus.memory import MemoryBus
from rendezvous.bus.pulsar import writing
from rendezvous.bus.topics import family
from rendezvous.errors import BusRefused, BusUnavailable, ConfigurationError
from rendezvous.testing.bus_suite import BusSuite, numbered, payloads, take, topic  # noqa: F401 - a fixture
from rendezvous.testing.processes import free_port


class TestMemoryBus(BusSuite):
    @pytest.fixture
    async def bus(self):
        bus = connect("memory://")
        assert isinstance(bus, MemoryBus)
        yield bus
        await bus.aclose()

    async def test_what_nobody_reads_is_kept_up_to_a_limit_and_then_refused_for_all(self, topic):  # noqa: F811
        bus = MemoryBus(limit=3)
        async with bus.subscribe([topic], "reads") as reads, bus.subscribe([topic], "sleeps"):
            await asyncio.gather(*[bus.publish(topic, payload) for payload in numbered(3)])
            assert payloads(await take(reads, 3)) == numbered(3)
            with pytest.raises(BusUnavailable, match="wait for sleeps"):
                await bus.publish(topic, b"too many")
            await bus.publish(f"{topic}-other", b"another topic")
            assert list(await reads.receive(max_wait=0.0)) == []
            assert bus.backlog(topic, "sleeps") == 3
            async with bus.subscribe([topic], "sleeps") as wakes:
                await wakes.ack(await take(wakes, 1))
            await bus.publish(topic, b"there is room again")
            assert payloads(await take(reads, 1)) == [b"there is room again"]

    async def test_what_is_handed_back_to_a_full_group_is_kept(self, topic):  # noqa: F811
        bus = MemoryBus(limit=2)
        async with bus.subscribe([topic], "g") as stays:
            async with bus.subscribe([topic], "g") as leaves:
                await asyncio.gather(*[bus.publish(topic, payload) for payload in numbered(2)])
                nacked, _ = await take(leaves, 2)
                await asyncio.gather(*[bus.publish(topic, payload) for payload in (b"2", b"3")])
                await leaves.nack(nacked)
            assert sorted(payloads(await take(stays, 4))) == numbered(4)


@pytest.mark.pulsar
class TestPulsarBus(BusSuite):
    keeps_history = True

    @pytest.fixture
    async def bus(self, pulsar_url):
        bus = connect(pulsar_url)
        yield bus
        await bus.aclose()

    async def test_a_message_too_large_for_the_broker_is_refused(self, bus, topic):  # noqa: F811
        with pytest.raises(BusRefused, match="MessageTooBig"):
            await bus.publish(topic, b"x" * (6 << 20))
        await bus.publish(topic, b"the next one goes")

    async def test_an_unknown_tenant_is_refused(self, pulsar_url, topic):  # noqa: F811
        bus = connect(f"{pulsar_url}/nobody/nowhere")
        with pytest.raises(BusRefused):
            await bus.publish(topic, b"x")
        await bus.aclose()

    async def test_what_is_no_message_is_refused_and_harms_no_other(self, bus, topic):  # noqa: F811
        async with bus.subscribe([topic], "g") as member:
            before, refused, after = [
                bus.publish(topic, payload, key=key)
                for payload, key in [(b"before", "k"), (b"x", "\ud800"), (b"after", "k")]
            ]
            await asyncio.gather(before, after)
            with pytest.raises(BusRefused, match="no such message"):
                await refused
            assert payloads(await take(member, 2)) == [b"before", b"after"]

    @pytest.mark.parametrize("spoilt", ["key", "name", "value"])
    async def test_a_message_whose_key_or_properties_are_no_text_comes_without_them(
        self,
        bus,
        pulsar_url,
        topic,  # noqa: F811
        caplog,
        spoilt,
    ):
        foreign = MessageBuilder().content(b"foreign")
        if spoilt == "key":
            foreign.partition_key(b"\xff").property("why", "weil")
        else:
            foreign.partition_key("k")
            foreign.property(b"\xff", "v") if spoilt == "name" else foreign.property("n", b"\xff")
        async with bus.subscribe([topic], "g") as member, bus.listen(topic) as listener:
            await bus.publish(topic, b"before", key="k", properties={"why": "weil"})
            await asyncio.to_thread(send_raw, pulsar_url, topic, foreign)
            await bus.publish(topic, b"after", key="k", properties={"why": "weil"})
            for reader in (member, listener):
                got = await take(reader, 3)
                assert payloads(got) == [b"before", b"foreign", b"after"]
                assert [d.key for d in got] == ["k", None, "k"]
                assert [dict(d.properties) for d in got] == [{"why": "weil"}, {}, {"why": "weil"}]
                assert f"a message of {topic}" in caplog.text
                caplog.clear()
                if reader is member:
                    await member.ack([got[0], got[2]])
                    await member.nack(got[1])
            (again,) = await take(member, 1)
            assert (again.payload, again.tries) == (b"foreign", 2)

    async def test_a_member_of_several_topics_leaves_what_it_can_not_take_too(self, bus, topic):  # noqa: F811
        topics = [f"{topic}-a", f"{topic}-b"]
        async with bus.subscribe(topics, "g", prefetch=10):
            for name in topics:
                await asyncio.gather(*[bus.publish(name, payload) for payload in numbered(50)])
            async with bus.subscribe(topics, "g", prefetch=10) as other:
                assert len(await take(other, 100 - 10)) == 100 - 10

    async def test_keeps_the_producers_of_few_topics_and_loses_nothing(
        self,
        bus,
        topic,  # noqa: F811
        monkeypatch,
    ):
        monkeypatch.setattr(writing, "PRODUCERS", 3)
        topics = [f"{topic}-{number}" for number in range(8)]
        outlets = bus._outlets
        async with bus.subscribe(topics, "g") as member:
            used = [outlets.of(name) for name in topics]
            sent = [(name, payload) for payload in numbered(20) for name in topics]
            await asyncio.gather(*[bus.publish(name, payload) for name, payload in sent])
            await until(lambda: sum(outlet.producer.is_connected() for outlet in used) == 3)
            assert len(outlets) == 3

            await bus.publish(topics[0], b"x")
            often_used = outlets.of(topics[0])
            for name in topics[1:]:
                await bus.publish(name, b"x")
                await bus.publish(topics[0], b"y")
                assert outlets.of(topics[0]) is often_used
            got = await take(member, len(sent) + 15)
        for name in topics:
            came = [d.payload for d in got if d.topic == name and d.payload.isdigit()]
            assert came == numbered(20)
        assert len(got) == len(sent) + 15

    async def test_a_producer_of_which_something_is_under_way_is_not_closed(
        self,
        bus,
        topic,  # noqa: F811
        monkeypatch,
    ):
        monkeypatch.setattr(writing, "PRODUCERS", 0)
        async with bus.subscribe([topic], "g") as member:
            for payload in numbered(50):
                bus.publish(topic, payload).cancel()  # nobody waits, yet it is under way
            assert payloads(await take(member, 50)) == numbered(50)
        await until(lambda: len(bus._outlets) == 0)

    async def test_only_the_outlet_that_failed_is_forgotten(self, bus, topic):  # noqa: F811
        await bus.publish(topic, b"first")
        failed = bus._outlets.of(topic)
        bus._outlets.drop(failed)
        await bus.publish(topic, b"second")
        current = bus._outlets.of(topic)
        assert current is not failed
        bus._outlets.drop(failed)  # its second failure comes late
        assert bus._outlets.of(topic) is current

    async def test_a_cancelled_subscribe_leaves_no_member_behind(self, bus, topic):  # noqa: F811
        async def join():
            async with bus.subscribe([topic], "g"):
                raise AssertionError("was cancelled before")

        joining = asyncio.create_task(join())
        await asyncio.sleep(0)
        joining.cancel()
        await asyncio.gather(joining, return_exceptions=True)
        async with bus.subscribe([topic], "g") as member:
            for payload in numbered(50):
                await bus.publish(topic, payload)
            got = []
            while len(got) < 50 and (batch := await member.receive(max_wait=10)):
                got += payloads(batch)
        assert sorted(got) == sorted(numbered(50))

    def test_a_process_that_forgets_to_close_ends_well(self, pulsar_url, topic):  # noqa: F811
        script = f"""
import asyncio
from rendezvous.bus.factory import connect
async def main():
    bus = connect({pulsar_url!r})
    async with bus.subscribe([{topic!r}], "g") as member:
        await bus.publish({topic!r}, b"x")
        await member.receive()
        raise SystemExit(7)
asyncio.run(main())
"""
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, timeout=60, check=False
        )
        assert done.returncode == 7, done.stderr.decode()


@asynccontextmanager
async def joined(bus, name):
    """Join as services do, which begin again: this broker may just have been killed and started."""
    async with AsyncExitStack() as stack:
        async with asyncio.timeout(60):
            while True:
                try:
                    member = await stack.enter_async_context(bus.subscribe([name], "g"))
                    break
                except BusUnavailable:
                    await asyncio.sleep(0.5)
        yield member


@pytest.mark.pulsar
@pytest.mark.timeout(180)
async def test_a_killed_broker_costs_nothing_that_was_confirmed(broker, topic):  # noqa: F811
    bus = connect(broker.url)
    under_way, confirmed, seen, stop = [], [], [], asyncio.Event()

    async def publishes():
        number = 0
        while not stop.is_set():
            payload = b"%d" % number
            done = bus.publish(topic, payload)
            done.add_done_callback(
                lambda done, payload=payload: done.exception() or confirmed.append(payload)
            )
            under_way.append(done)
            number += 1
            await asyncio.sleep(0.002)

    async def reads(member):
        while True:
            batch = await member.receive()
            seen.extend(payloads(batch))
            await member.ack(batch)

    async with joined(bus, topic) as member:
        tasks = [asyncio.create_task(publishes()), asyncio.create_task(reads(member))]
        await until(lambda: len(seen) > 200)
        await asyncio.to_thread(broker.kill9)
        await asyncio.sleep(1)
        await asyncio.to_thread(broker.start)
        after = len(seen)
        await until(lambda: len(seen) > after + 1000)
        stop.set()
        await tasks[0]
        await asyncio.gather(*under_way, return_exceptions=True)
        await until(lambda: set(confirmed) <= set(seen))
        tasks[1].cancel()
    await bus.aclose()
    assert set(confirmed) <= set(seen)
    assert len(confirmed) > 1000


@pytest.mark.pulsar
async def test_a_partitioned_topic_of_a_family_is_one_topic(broker, topic):  # noqa: F811
    for name in (f"{topic}-a", f"{topic}-a-dead-letter"):
        url = f"{broker.http_url}/admin/v2/persistent/public/default/{name}"
        await asyncio.to_thread(partition, url, 3)
    bus = connect(broker.url)
    async with bus.subscribe([family(topic)], "g") as member:
        for name in (f"{topic}-a", f"{topic}-a-dead-letter"):
            await asyncio.gather(*[bus.publish(name, payload) for payload in numbered(30)])
        got = await take(member, 31, 3.0)
        assert sorted(payloads(got)) == sorted(numbered(30))
        assert {delivery.topic for delivery in got} == {f"{topic}-a"}
        await member.ack(got)
    await bus.aclose()


@pytest.mark.pulsar
async def test_bursts_reach_every_partition_of_a_topic(broker, topic):  # noqa: F811
    url = f"{broker.http_url}/admin/v2/persistent/public/default/{topic}"
    await asyncio.to_thread(partition, url, 3)
    bus = connect(broker.url)
    async with bus.subscribe([topic], "g") as member:
        for some in (numbered(600)[:300], numbered(600)[300:]):
            sent = [bus.publish(topic, each, key=each.decode(), linger=0.0) for each in some]
            await asyncio.gather(*sent)
        got = await take(member, 600)
        assert sorted(payloads(got)) == sorted(numbered(600))
        await member.ack(got)
    await bus.aclose()


@pytest.mark.pulsar
@pytest.mark.timeout(180)
async def test_a_family_is_read_on_when_the_broker_was_killed(broker, topic):  # noqa: F811
    bus = connect(broker.url)
    async with bus.subscribe([topic, family(topic)], "g", start="earliest") as member:
        names = [topic, f"{topic}-a"]
        for name in names:
            await bus.publish(name, b"before")
        await member.ack(await take(member, 2))
        await asyncio.to_thread(broker.kill9)
        await asyncio.sleep(1)
        await asyncio.to_thread(broker.start)
        for name in [*names, f"{topic}-b"]:
            await bus.publish(name, b"after")
        came = set()
        async with asyncio.timeout(60):
            while len(came) < 3:
                got = await member.receive()
                came |= {delivery.topic for delivery in got if delivery.payload == b"after"}
                await member.ack(got)
    await bus.aclose()
    assert came == {*names, f"{topic}-b"}


@pytest.mark.pulsar
@pytest.mark.timeout(180)
async def test_a_stop_while_the_broker_is_dead_is_prompt(broker, topic):  # noqa: F811
    bus = connect(broker.url)
    async with joined(bus, topic) as member:
        await bus.publish(topic, b"x")
        assert payloads(await take(member, 1)) == [b"x"]
        await asyncio.to_thread(broker.kill9)
        try:
            pending = bus.publish(topic, b"y")
            opening = bus.publish(f"{topic}-new", b"z")
            began = time.monotonic()
            await bus.aclose()
            assert time.monotonic() - began < 8
        finally:
            await asyncio.to_thread(broker.start)
    for publish in (pending, opening):
        assert isinstance(publish.exception(), BusUnavailable)


@pytest.mark.parametrize(("name", "trusted"), [("IP:127.0.0.1", True), ("DNS:localhost", False)])
async def test_a_broker_whose_certificate_is_another_hosts_is_not_spoken_to(
    tmp_path, monkeypatch, name, trusted
):
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    command += ["-subj", "/CN=broker", "-addext", f"subjectAltName={name}"]
    command += ["-keyout", key, "-out", certificate]
    await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)
    monkeypatch.setattr("certifi.where", lambda: str(certificate))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    heard = []

    async def listens(reader, writer):
        heard.append(await reader.read(1))
        writer.close()

    async with await asyncio.start_server(listens, "127.0.0.1", 0, ssl=tls) as server:
        bus = connect(f"pulsar+ssl://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        with pytest.raises(BusUnavailable):
            await bus.publish("iris", b"secret")
        await bus.aclose()
    assert any(heard) == trusted


async def test_a_broker_that_is_away_is_unavailable_and_does_not_hold_up_the_end():
    bus = connect(f"pulsar://127.0.0.1:{free_port()}")
    began = time.monotonic()
    publishing = bus.publish("iris", b"x")
    with pytest.raises(BusUnavailable):
        async with bus.subscribe(["iris"], "g"):
            pass
    with pytest.raises(BusUnavailable):
        await publishing
    await bus.aclose()
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    "url", ["", "kafka://x", "pulsar://", "pulsar://h:6650/tenant", "http://127.0.0.1:6650"]
)
def test_a_wrong_url_is_a_clear_error(url):
    with pytest.raises(ConfigurationError, match="pulsar://"):
        connect(url)


def partition(url, number):
    """Make a topic of so many partitions."""
    kind = {"content-type": "application/json"}
    made = httpx.put(f"{url}/partitions", content=str(number), headers=kind)
    assert made.status_code == 204


def send_raw(url, topic, builder):  # noqa: F811
    """Publish what only a foreign client would."""
    client = pulsar.Client(url, logger=pulsar.ConsoleLogger(pulsar.LoggerLevel.Error))
    try:
        client.create_producer(f"persistent://public/default/{topic}")._producer.send(
            builder.build()
        )
    finally:
        client.close()


async def until(condition, seconds=60.0):
    """Wait until ``condition`` is true."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)
