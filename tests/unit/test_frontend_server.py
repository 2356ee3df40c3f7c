"""How the front end is put together from its settings, and where it listens."""

import signal
import socket
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from rendezvous.bus.memory import MemoryBus
from rendezvous.configuration import load
from rendezvous.errors import BusRefused, ConfigurationError
from rendezvous.frontend.server import make_rendezvous, serve
from rendezvous.listening import bind
from rendezvous.settings import FrontEndSettings
from rendezvous.telemetry import Metrics
from rendezvous.testing.processes import free_port

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def configuration():
    return load(ROOT / "rendezvous.yaml")


@pytest.fixture(autouse=True)
def sigterm():
    """``serve`` changes what SIGTERM does; let it be as before."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def made(configuration, **settings):
    """Return the rendezvous server of these settings."""
    return make_rendezvous(configuration, MemoryBus(), FrontEndSettings(**settings), Metrics())


def test_every_endpoint_is_served_with_its_own_deadline(configuration):
    endpoints = made(configuration).endpoints
    assert {name: endpoint.deadline for name, endpoint in endpoints.items()} == {
        name: config.deadline_ms / 1000 for name, config in configuration.endpoints.items()
    }


def test_the_deadline_of_the_environment_is_that_of_every_endpoint(configuration):
    endpoints = made(configuration, deadline=0.25).endpoints
    assert {endpoint.deadline for endpoint in endpoints.values()} == {0.25}


def test_metrics_tell_how_many_requests_are_in_flight(configuration):
    metrics = Metrics()
    make_rendezvous(configuration, MemoryBus(), FrontEndSettings(), metrics)
    assert b"rendezvous_inflight 0.0" in metrics.text()


def test_it_listens_where_it_is_told_to():
    port = free_port()
    with bind("127.0.0.1", port) as listener:
        assert listener.getsockname() == ("127.0.0.1", port)


@pytest.mark.parametrize(
    ("host", "said"),
    [("192.0.2.1", "Cannot assign requested address"), ("no.such.invalid", "not known")],
)
def test_an_address_that_is_not_of_this_machine_is_refused(host, said):
    with pytest.raises(ConfigurationError, match=rf"can not listen on {host}:8000: .*{said}"):
        bind(host, 8000)


def test_a_port_that_is_taken_is_refused_before_anything_is_started(configuration):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = FrontEndSettings(port=taken.getsockname()[1])
        rendezvous = made(configuration)
        with pytest.raises(ConfigurationError, match="Address already in use"):
            serve(configuration, rendezvous, settings, Metrics(), rendezvous.running)
    assert not rendezvous.listening


def test_a_start_that_fails_is_exit_code_3(configuration):
    @asynccontextmanager
    async def running():
        raise BusRefused("no right to subscribe")
        yield

    settings = FrontEndSettings(port=free_port())
    with pytest.raises(SystemExit) as stopped:
        serve(configuration, made(configuration), settings, Metrics(), running)
    assert stopped.value.code == 3
