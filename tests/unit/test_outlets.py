"""How messages travel to the broker in bursts: with a client that does as the test says."""

import asyncio
from dataclasses import dataclass, field

import pulsar
import pytest

from rendezvous.bus.pulsar import writing
from rendezvous.bus.pulsar.bursts import Outgoing
from rendezvous.bus.pulsar.writing import Outlet, Outlets
from rendezvous.errors import BusRefused, BusUnavailable

OK = pulsar.Result.Ok


@dataclass
class Id:
    """What the vendor calls a stored message: its place in its batch."""

    place: int

    def batch_index(self):
        return self.place


@dataclass
class Client:
    """A vendor's producer: keeps what is handed over until the test says what became of it."""

    bursts: list = field(default_factory=list)
    handed: list = field(default_factory=list)
    told: dict = field(default_factory=dict)

    @property
    def _producer(self):
        return self

    def send_async(self, payload, told, **_):
        if payload == b"raises":
            raise RuntimeError("no memory")
        self.handed.append(payload)
        if told is not None:
            self.told[payload] = (told, Id(len(self.handed) - 1))

    def flush_async(self, told):
        self.bursts.append([*self.handed])
        self.handed.clear()
        told(OK)  # whatever becomes of the messages

    async def say(self, result, *payloads):
        """Tell what became of these, or of all that is under way, and let the loop go on."""
        for payload in payloads or [*self.told]:
            told, place = self.told.pop(payload)
            told(result, place)
        await turns()


async def turns():
    for _ in range(5):
        await asyncio.sleep(0)


async def opened(client, *, together, whole=True):
    outlets = Outlets(lambda _topic, _together: (client, whole))
    outlet = outlets.of("iris", together=together)
    while outlet.producer is None:
        await asyncio.sleep(0.001)
    return outlet


def message(payload, linger=0.0):
    loop = asyncio.get_running_loop()
    return Outgoing(payload, None, None, loop.time() + linger, loop.create_future())


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
        good, bad = send(outlet, b"good", b"bad", linger=60.0)
        send(outlet, b"hurries")
        await turns()
        await client.say(pulsar.Result.MessageTooBig)
        assert client.bursts == [[b"good", b"bad", b"hurries"], [b"good"]]
        await client.say(OK)
        await client.say(pulsar.Result.MessageTooBig)
        await client.say(OK)
        assert client.bursts[2:] == [[b"bad"], [b"hurries"]]
        assert good.exception() is None
        assert isinstance(bad.exception(), BusRefused)
        assert outlet.idle

    async def test_of_several_partitions_each_says_what_became_of_its_own(self):
        client = Client()
        outlet = await opened(client, together=True, whole=False)
        stored, lost = send(outlet, b"stored", b"lost")
        await turns()
        await client.say(pulsar.Result.AlreadyClosed, b"lost")
        assert not stored.done()
        await client.say(OK, b"stored")
        assert stored.exception() is None
        assert isinstance(lost.exception(), BusUnavailable)

    async def test_of_a_burst_that_was_parted_only_the_last_is_known_to_be_stored(self):
        client = Client()
        outlet = await opened(client, together=True)
        first, last = send(outlet, b"first", b"last")
        await turns()
        told, _ = client.told.pop(b"last")
        told(OK, Id(0))  # the first one of another batch
        await turns()
        assert isinstance(first.exception(), BusUnavailable)
        assert last.exception() is None

    async def test_a_burst_that_is_long_under_way_does_not_hold_up_the_others(self, monkeypatch):
        monkeypatch.setattr(writing, "PATIENCE", 0.05)
        client = Client()
        outlet = await opened(client, together=True)
        (stuck,) = send(outlet, b"stuck")
        await turns()
        (other,) = send(outlet, b"other")
        await turns()
        assert client.bursts == [[b"stuck"]]
        await asyncio.sleep(0.1)
        await client.say(OK, b"other")
        assert other.done()
        assert not stuck.done()
        await client.say(OK)
        assert stuck.done()
        assert outlet.idle

    async def test_what_a_full_burst_leaves_over_waits_for_no_company(self, monkeypatch):
        monkeypatch.setattr(writing, "BURST_BYTES", 3000)
        client = Client()
        outlet = await opened(client, together=True)
        send(outlet, *[b"%d" % n + b"x" * 1000 for n in range(5)], linger=60.0)
        await turns()
        assert [len(burst) for burst in client.bursts] == [2]
        await client.say(OK)
        await client.say(OK)
        assert [len(burst) for burst in client.bursts] == [2, 2, 1]

    async def test_a_message_that_can_not_be_handed_over_harms_no_other(self):
        client = Client()
        outlet = await opened(client, together=True)
        before, raises, after = send(outlet, b"before", b"raises", b"after")
        await turns()
        await client.say(OK)
        assert isinstance(raises.exception(), BusUnavailable)
        assert before.exception() is None
        assert after.exception() is None
        (later,) = send(outlet, b"later")
        await turns()
        await client.say(OK)
        assert later.exception() is None

    async def test_what_is_no_text_harms_no_other(self):
        client = Client()
        outlet = await opened(client, together=True)
        wrong = message(b"x")
        wrong.key = "\ud800"
        text = message("x")
        for each in (wrong, text):
            outlet.send(each)
        (right,) = send(outlet, b"right")
        await turns()
        await client.say(OK)
        assert isinstance(wrong.done.exception(), BusRefused)
        assert isinstance(text.done.exception(), BusRefused)
        assert right.exception() is None

    async def test_where_nobody_can_tell_the_outcome_is_unknown(self):
        client = Client()
        outlet = await opened(client, together=True)
        before, raises = send(outlet, b"before", b"raises")
        await turns()
        assert isinstance(before.exception(), BusUnavailable)
        assert isinstance(raises.exception(), BusUnavailable)
        assert outlet.idle

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
        outlets = Outlets(lambda _topic, _together: (next(made), True))
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
        await client.say(pulsar.Result.MessageTooBig, b"bad")
        await client.say(OK, b"good")
        assert good.exception() is None
        assert isinstance(bad.exception(), BusRefused)
