"""Every bus does what the port says."""

import asyncio
import subprocess
import sys
import time

import pytest

from rendezvous.bus.factory import connect
from rendezvous.bus.memory import MemoryBus
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


@pytest.mark.pulsar
@pytest.mark.timeout(180)
async def test_a_killed_broker_costs_nothing_that_was_confirmed(broker, topic):  # noqa: F811
    bus = connect(broker.url)
    confirmed, seen, stop = [], [], asyncio.Event()

    async def publishes():
        number = 0
        while not stop.is_set():
            payload = b"%d" % number
            done = bus.publish(topic, payload)
            done.add_done_callback(
                lambda done, payload=payload: done.exception() or confirmed.append(payload)
            )
            number += 1
            await asyncio.sleep(0.002)

    async def reads(member):
        while True:
            batch = await member.receive()
            seen.extend(payloads(batch))
            await member.ack(batch)

    async with bus.subscribe([topic], "g") as member:
        tasks = [asyncio.create_task(publishes()), asyncio.create_task(reads(member))]
        await until(lambda: len(seen) > 200)
        await asyncio.to_thread(broker.kill9)
        await asyncio.sleep(1)
        await asyncio.to_thread(broker.start)
        after = len(seen)
        await until(lambda: len(seen) > after + 1000)
        stop.set()
        await tasks[0]
        await until(lambda: set(confirmed) <= set(seen))
        tasks[1].cancel()
    await bus.aclose()
    assert set(confirmed) <= set(seen)
    assert len(confirmed) > 1000


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


async def until(condition, seconds=60.0):
    """Wait until ``condition`` is true."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)
