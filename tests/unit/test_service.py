"""What every service of its own does: begin again when the bus was away, and stop in order."""

import asyncio
import logging
import os
import signal
import socket
import sys
import time
import urllib.request

import pytest

from rendezvous import service
from rendezvous.bus.factory import connect
from rendezvous.bus.memory import MemoryBus
from rendezvous.errors import (
    BusRefused,
    BusUnavailable,
    ConfigurationError,
    SinkError,
    SinkUnavailable,
)
from rendezvous.service import LONGEST_PAUSE, run_service, supervise, together
from rendezvous.settings import Settings

SOON = 10.0


@pytest.fixture
def stop():
    return asyncio.Event()


@pytest.fixture
def no_pause(monkeypatch):
    monkeypatch.setattr(service, "FIRST_PAUSE", 0.0)


def fails(*errors):
    """Return a part that fails with each of ``errors`` in turn, and then comes to its end."""
    left = list(errors)
    begun = []

    async def run(stop):
        begun.append(stop)
        await asyncio.sleep(0)
        if left:
            raise left.pop(0)

    run.begun = begun
    return run


async def soon(awaitable):
    async with asyncio.timeout(SOON):
        return await awaitable


class TestAPart:
    async def test_that_comes_to_its_end_is_not_begun_again(self, stop):
        part, before = fails(), asyncio.all_tasks()

        await soon(supervise("part", part, stop))
        await asyncio.sleep(0)

        assert part.begun == [stop]
        assert asyncio.all_tasks() == before

    async def test_begins_again_when_what_it_depends_on_was_away(self, stop, no_pause, caplog):
        part = fails(BusUnavailable("no broker"), SinkUnavailable("no disk"), BusUnavailable("no"))

        await soon(supervise("part", part, stop))

        assert len(part.begun) == 4
        assert "part begins again" in caplog.text
        assert "no broker" in caplog.text

    @pytest.mark.parametrize(
        "error",
        [BusRefused("no right"), SinkError("no"), ConfigurationError("no"), KeyError("a bug")],
    )
    async def test_ends_for_a_reason_that_waiting_does_not_mend(self, stop, caplog, error):
        part = fails(error)

        with pytest.raises(type(error)) as raised:
            await soon(supervise("part", part, stop))

        assert raised.value is error
        assert len(part.begun) == 1
        assert "part failed" in caplog.text

    async def test_is_not_begun_after_the_stop(self, stop):
        part = fails()
        stop.set()

        await soon(supervise("part", part, stop))

        assert part.begun == []

    async def test_is_not_begun_again_after_the_stop(self, stop, no_pause):
        async def run(stop):
            begun.append(stop)
            stop.set()
            raise BusUnavailable("no broker")

        begun = []
        await soon(supervise("part", run, stop))

        assert len(begun) == 1

    async def test_that_waits_to_begin_again_stops_at_once(self, stop, monkeypatch, caplog):
        monkeypatch.setattr(service, "FIRST_PAUSE", 1000.0)
        part = fails(BusUnavailable("no broker"))
        supervised = asyncio.create_task(supervise("part", part, stop))
        async with asyncio.timeout(SOON):
            while "begins again" not in caplog.text:
                await asyncio.sleep(0.001)
        stop.set()

        await soon(supervised)
        assert len(part.begun) == 1

    async def test_waits_longer_and_longer_and_never_too_long(self, stop, monkeypatch):
        async def pause(seconds, stop):
            pauses.append(seconds)

        pauses = []
        monkeypatch.setattr(service, "_pause", pause)
        await soon(supervise("part", fails(*[BusUnavailable("no broker")] * 8), stop))

        assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0])
        assert max(pauses) == LONGEST_PAUSE

    async def test_that_had_been_well_waits_a_short_time_again(self, stop, monkeypatch):
        async def run(stop):
            if len(pauses) == 3:
                await asyncio.sleep(0.02)
            if len(pauses) < 5:
                raise BusUnavailable("no broker")

        async def pause(seconds, stop):
            pauses.append(seconds)

        pauses = []
        monkeypatch.setattr(service, "_pause", pause)
        monkeypatch.setattr(service, "FIRST_PAUSE", 0.001)
        monkeypatch.setattr(service, "LONGEST_PAUSE", 0.01)
        await soon(supervise("part", run, stop))

        assert pauses[3] == 0.001
        assert pauses[2] > pauses[3]

    async def test_runs_as_long_as_nobody_stops_it_and_may_then_finish_what_is_in_hand(
        self, stop, monkeypatch
    ):
        async def run(stop):
            await asyncio.sleep(2 * service.LAST_SECONDS)
            stop.set()
            await asyncio.sleep(service.LAST_SECONDS / 10)
            ended.append(True)

        ended = []
        monkeypatch.setattr(service, "LAST_SECONDS", 0.5)
        await soon(supervise("part", run, stop))

        assert ended == [True]

    async def test_does_not_begin_again_all_the_time(self, stop):
        begun = time.monotonic()
        await soon(supervise("part", fails(*[BusUnavailable("no broker")] * 2), stop))

        assert time.monotonic() - begun > 0.5 * (0.1 + 0.2) - 0.01

    async def test_that_does_not_stop_is_given_up(self, stop, monkeypatch, caplog):
        async def run(stop):
            try:
                await asyncio.Event().wait()  # the bus is away for good
            finally:
                ended.append(True)

        ended = []
        monkeypatch.setattr(service, "LAST_SECONDS", 0.01)
        supervised = asyncio.create_task(supervise("part", run, stop))
        await asyncio.sleep(0)
        stop.set()

        await soon(supervised)
        assert ended == [True]
        assert "part did not stop in time" in caplog.text

    async def test_whose_own_wait_took_too_long_has_failed(self, stop):
        with pytest.raises(TimeoutError):
            await soon(supervise("part", fails(TimeoutError()), stop))

    async def test_is_cancelled_with_whoever_supervises_it(self, stop):
        async def run(stop):
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(True)

        begun, ended = asyncio.Event(), []
        supervised = asyncio.create_task(supervise("part", run, stop))
        await soon(begun.wait())
        supervised.cancel()
        with pytest.raises(asyncio.CancelledError):
            await supervised

        assert ended == [True]


class TestSeveralPartsTogether:
    async def test_run_at_once_and_end_when_all_have_come_to_their_end(self, stop):
        async def run(stop):
            await soon(barrier.wait())
            ended.append(True)

        barrier, ended = asyncio.Barrier(2), []
        await soon(together([run, run])(stop))

        assert ended == [True, True]

    async def test_are_told_to_stop_by_the_same_event(self, stop):
        async def run(stop):
            await stop.wait()
            ended.append(True)

        ended = []
        running = asyncio.create_task(together([run, run])(stop))
        await asyncio.sleep(0)
        stop.set()

        await soon(running)
        assert ended == [True, True]

    async def test_all_end_when_one_fails_and_its_error_is_the_one_that_is_raised(self, stop):
        async def run(stop):
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                ended.append(True)

        ended = []
        with pytest.raises(BusUnavailable, match="no broker"):
            await soon(together([run, fails(BusUnavailable("no broker")), run])(stop))

        assert ended == [True, True]

    async def test_all_begin_again_when_one_of_them_was_away(self, stop, no_pause):
        well, away = fails(), fails(BusUnavailable("no broker"))
        await soon(supervise("parts", together([well, away]), stop))

        assert (len(well.begun), len(away.begun)) == (2, 2)


@pytest.fixture
def logging_restored():
    """Give back the root logger as it was, for a service sets it up for itself."""
    root, noisy = logging.getLogger(), ("elastic_transport", "httpx", "uvicorn.error")
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in noisy}
    root.handlers[:] = []
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)


def settings(**rest):
    return Settings(bus="memory://", **rest)


@pytest.mark.usefixtures("logging_restored")
class TestAService:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_runs_until_it_is_told_to_stop_and_closes_its_bus(self, capsys, number):
        def build(bus, metrics):
            async def run(stop):
                buses.append(bus)
                assert not bus.closed
                os.kill(os.getpid(), number)
                await soon(stop.wait())

            return run

        buses = []
        run_service("decoy", settings(), build)

        assert [bus.closed for bus in buses] == [True]
        logged = capsys.readouterr().err
        assert "decoy starts on memory://" in logged
        assert "decoy has stopped" in logged

    def test_that_can_not_go_on_exits_with_1_and_says_why(self, capsys):
        buses = []

        def build(bus, metrics):
            buses.append(bus)
            return fails(BusRefused("no right to read iris"))

        with pytest.raises(SystemExit) as exited:
            run_service("decoy", settings(), build)

        assert exited.value.code == 1
        assert "decoy stops: no right to read iris" in capsys.readouterr().err
        assert buses[0].closed

    def test_whose_bus_is_none_that_we_know_exits_with_1_and_says_which_there_are(self, capsys):
        with pytest.raises(SystemExit) as exited:
            run_service("decoy", Settings(bus="carrier-pigeon://coop"), fails)

        assert exited.value.code == 1
        logged = capsys.readouterr().err
        assert "unknown bus 'carrier-pigeon://coop'" in logged
        assert "memory://, pulsar://host:port" in logged

    def test_shows_its_metrics_where_the_settings_say(self):
        def build(bus, metrics):
            async def run(stop):
                metrics.worked("dt", 1, "ok", 3)
                pages.append(await asyncio.to_thread(get, f"http://127.0.0.1:{port}/metrics"))

            return run

        pages, port = [], free_port()
        run_service("decoy", settings(metrics_port=port), build)

        assert (
            'rendezvous_worker_requests_total{model="dt",outcome="ok",version="1"} 3.0' in pages[0]
        )

    def test_whose_metrics_can_not_be_shown_exits_with_1_and_says_where(self, capsys):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(SystemExit) as exited:
                run_service("decoy", settings(metrics_port=port), lambda bus, metrics: fails())

        assert exited.value.code == 1
        assert f"no page of metrics at 127.0.0.1:{port}" in capsys.readouterr().err

    def test_logs_as_the_settings_say(self, capsys):
        run_service(
            "decoy",
            settings(log_level="DEBUG", log_format="json"),
            lambda bus, metrics: fails(),
        )

        assert '"message": "decoy starts on memory://"' in capsys.readouterr().err


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def get(url):
    with urllib.request.urlopen(url, timeout=SOON) as response:  # noqa: S310 - our own page
        return response.read().decode()


class TestConnect:
    def test_returns_the_bus_that_the_url_names(self):
        assert isinstance(connect("memory://"), MemoryBus)

    async def test_connects_to_pulsar_at_the_first_use_only(self):
        pytest.importorskip("pulsar")
        for url in ("pulsar://127.0.0.1:1", "pulsar+ssl://127.0.0.1:1/public/default"):
            await connect(url).aclose()

    def test_says_which_extra_is_missing(self, monkeypatch):
        for name in [name for name in sys.modules if name.startswith("rendezvous.bus.pulsar")]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "pulsar", None)  # as if it were not installed

        with pytest.raises(ConfigurationError, match=r"needs rendezvous-serving\[pulsar\]"):
            connect("pulsar://127.0.0.1:6650")

    @pytest.mark.parametrize("url", ["", "memory", "kafka://host:1", "http://host", "://"])
    def test_refuses_what_it_does_not_know(self, url):
        with pytest.raises(ConfigurationError, match="unknown bus"):
            connect(url)
