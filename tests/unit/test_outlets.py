"""How messages travel to the broker in bursts: with a client that does as the test says."""

import asyncio
from dataclasses import dataclass, field

import pulsar
import pytest

from rendezvous.bus.pulsar import writing
from rendezvous.bus.pulsar.writing import BURST_BYTES, Outgoing, Outlet, Outlets
from rendezvous.errors import BusRefused, BusUnavailable

OK = pulsar.Result.Ok


@dataclass
class Client:
    """A vendor's producer: keeps what is handed over until the test says what became of it."""

    bursts: list = field(default_factory=list)
    handed: list = field(default_factory=list)
    told: list = field(default_factory=list)

    @property
    def _producer(self):
        return self

    def send_async(self, payload, told, **_):
        self.handed.append(payload)
        if told is not None:
            self.told.append(lambda result: told(result, None))

    def flush_async(self, told):
        self.bursts.append([*self.handed])
        self.handed.clear()
        self.told.append(told)

    async def say(self, result):
        """Tell what became of all that is under way, and let the loop go on."""
        told, self.told = self.told, []
        for each in told:
            each(result)
        await turns()


async def turns():
    for _ in range(5):
        await asyncio.sleep(0)


async def opened(client, *, together):
    outlets = Outlets(lambda _topic, _together: client)
    outlet = outlets.of("iris", together=together)
    while outlet.producer is None:
        await asyncio.sleep(0.001)
    return outlet


def message(payload, linger=0.0):
    return Outgoing(payload, None, None, linger, asyncio.get_running_loop().create_future())


def send(outlet, *payloads, linger=0.0):
    sent = [message(payload, linger) for payload in payloads]
    for each in sent:
        outlet.send(each)
    return [each.done for each in sent]


class TestTogether:
    async def test_what_one_turn_of_the_loop_publishes_is_one_burst(self):
        client = Client()
        outlet = await opened(client, together=True)
        done = send(outlet, b"a", b"b", b"c")
        await turns()
        assert client.bursts == [[b"a", b"b", b"c"]]
        assert not any(each.done() for each in done)
        await client.say(OK)
        assert all(each.done() for each in done)
        assert outlet.idle

    async def test_what_comes_while_a_burst_is_under_way_is_the_next_one(self):
        client = Client()
        outlet = await opened(client, together=True)
        send(outlet, b"a")
        await turns()
        send(outlet, b"b")
        await turns()
        send(outlet, b"c")
        await turns()
        assert client.bursts == [[b"a"]]
        await client.say(OK)
        assert client.bursts == [[b"a"], [b"b", b"c"]]

    async def test_a_message_may_wait_for_company_but_not_longer(self):
        client = Client()
        outlet = await opened(client, together=True)
        send(outlet, b"a", linger=0.05)
        await turns()
        assert client.bursts == []
        send(outlet, b"b", linger=0.05)
        await asyncio.sleep(0.1)
        assert client.bursts == [[b"a", b"b"]]

    async def test_one_that_is_in_a_hurry_takes_the_others_along(self):
        client = Client()
        outlet = await opened(client, together=True)
        send(outlet, b"a", linger=60.0)
        send(outlet, b"b", linger=0.0)
        await turns()
        assert client.bursts == [[b"a", b"b"]]

    async def test_of_a_burst_that_is_refused_only_those_fail_that_are_refused_alone(self):
        client = Client()
        outlet = await opened(client, together=True)
        good, bad = send(outlet, b"good", b"bad")
        await turns()
        await client.say(pulsar.Result.MessageTooBig)
        assert client.bursts == [[b"good", b"bad"], [b"good"]]
        await client.say(OK)
        assert client.bursts[2:] == [[b"bad"]]
        await client.say(pulsar.Result.MessageTooBig)
        assert good.exception() is None
        assert isinstance(bad.exception(), BusRefused)

    async def test_a_large_message_travels_alone_and_says_itself_what_became_of_it(self):
        client = Client()
        outlet = await opened(client, together=True)
        large = b"x" * (BURST_BYTES + 1)
        (done,) = send(outlet, large)
        await turns()
        own, flush = client.told
        flush(OK)  # it knows nothing of a message that was never accepted
        await turns()
        assert not done.done()
        own(pulsar.Result.MessageTooBig)
        await turns()
        assert isinstance(done.exception(), BusRefused)

    async def test_what_is_no_text_harms_no_other(self):
        client = Client()
        outlet = await opened(client, together=True)
        wrong = Outgoing(b"x", "\ud800", None, 0.0, asyncio.get_running_loop().create_future())
        outlet.send(wrong)
        (right,) = send(outlet, b"right")
        await turns()
        await client.say(OK)
        assert isinstance(wrong.done.exception(), BusRefused)
        assert right.exception() is None

    async def test_a_cancelled_message_goes_and_the_others_are_told(self):
        client = Client()
        outlet = await opened(client, together=True)
        cancelled, other = send(outlet, b"a", b"b")
        cancelled.cancel()
        await turns()
        await client.say(OK)
        assert client.bursts == [[b"a", b"b"]]
        assert other.exception() is None


class TestEitherWay:
    @pytest.mark.parametrize("together", [True, False])
    async def test_when_the_producer_has_ended_all_that_wait_are_told_and_the_next_gets_another(
        self, together
    ):
        clients = [Client(), Client()]
        made = iter(clients)
        outlets = Outlets(lambda _topic, _together: next(made))
        outlet = outlets.of("iris", together=together)
        while outlet.producer is None:
            await asyncio.sleep(0.001)
        (first,) = send(outlet, b"first")
        await turns()
        (waiting,) = send(outlet, b"waiting")
        await turns()
        await clients[0].say(pulsar.Result.AlreadyClosed)
        assert isinstance(first.exception(), BusUnavailable)
        assert isinstance(waiting.exception(), BusUnavailable)
        assert outlets.of("iris", together=together) is not outlet

    async def test_too_many_are_refused_while_the_broker_is_away(self, monkeypatch):
        monkeypatch.setattr(writing, "PENDING", 2)
        outlet = Outlet("iris", lambda *_: None, together=True)
        kept, also, refused = send(outlet, b"a", b"b", b"c")
        assert isinstance(refused.exception(), BusUnavailable)
        assert not kept.done()
        assert not also.done()


class TestAlone:
    async def test_each_has_an_outcome_of_its_own(self):
        client = Client()
        outlet = await opened(client, together=False)
        good, bad = send(outlet, b"good", b"bad")
        await turns()
        assert client.bursts == []
        first, second = client.told
        second(pulsar.Result.MessageTooBig)
        first(OK)
        await turns()
        assert good.exception() is None
        assert isinstance(bad.exception(), BusRefused)
