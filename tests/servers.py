"""Pytest plugin: real servers on the loopback interface, each started when a test first asks.

A running server is used instead where `RENDEZVOUS_TEST_PULSAR_URL` or
`RENDEZVOUS_TEST_ELASTICSEARCH_URL` names one. Where a server cannot be had, the tests that need it
are skipped; with `CI=true` they fail.
"""

import os
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from deploy.servers.elasticsearch import Elasticsearch
from deploy.servers.errors import ServerUnavailable
from deploy.servers.pulsar import Pulsar

ROOT = Path(__file__).resolve().parent.parent
PULSAR_URL = Pulsar.url_variable
ELASTICSEARCH_URL = Elasticsearch.url_variable
_RAN = ("passed", "failed", "xfailed", "xpassed", "error")


@pytest.fixture(scope="session")
def pulsar_server(tmp_path_factory):
    """The Pulsar that tests share. Never stop it; `broker` is for that."""
    with own(Pulsar(tmp_path_factory.mktemp("shared") / "pulsar")) as server:
        yield server


@pytest.fixture(scope="session")
def elasticsearch_server(tmp_path_factory):
    """The Elasticsearch that tests share. Never stop it."""
    with own(Elasticsearch(tmp_path_factory.mktemp("shared") / "elasticsearch")) as server:
        yield server


@pytest.fixture(scope="session")
def pulsar_url(request):
    """Where a Pulsar is that tests share."""
    named = os.environ.get(PULSAR_URL)
    return named or request.getfixturevalue("pulsar_server").url


@pytest.fixture(scope="session")
def elasticsearch_url(request):
    """Where an Elasticsearch is that tests share."""
    named = os.environ.get(ELASTICSEARCH_URL)
    return named or request.getfixturevalue("elasticsearch_server").url


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    """A Pulsar of the module's own, to stop, kill and start again at will."""
    with own(Pulsar(tmp_path_factory.mktemp("broker") / "pulsar")) as server:
        yield server


@contextmanager
def own(server):
    """Run a server inside the block, and delete it afterwards."""
    with dies_with_us(server):
        try:
            server.start()
        except ServerUnavailable as error:
            give_up(str(error))
        try:
            yield server
        finally:
            server.remove()


@contextmanager
def dies_with_us(server):
    """Kill the server when the test run ends without coming to its end: it is detached."""
    kill = ["-m", "deploy.servers", server.name, "kill9", "--directory", server.directory.parent]
    waits = ["sh", "-c", 'read -r _; exec "$@"', "sh", sys.executable, *map(str, kill)]
    with subprocess.Popen(waits, cwd=ROOT, stdin=subprocess.PIPE, start_new_session=True) as guard:
        try:
            yield
        finally:
            guard.kill()


def give_up(reason):
    """Skip the test; in CI, fail it."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def pytest_collection_finish(session):
    """Download what is missing now, outside of the tests' time limits."""
    if session.config.option.collectonly:
        return
    wanted = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    wanted -= {"pulsar_url"} if PULSAR_URL in os.environ else set()
    wanted -= {"elasticsearch_url"} if ELASTICSEARCH_URL in os.environ else set()
    with suppress(ServerUnavailable):  # the fixture says it, for each test
        if wanted & {"pulsar_server", "pulsar_url", "broker"}:
            Pulsar.fetch()
        if wanted & {"elasticsearch_server", "elasticsearch_url"}:
            Elasticsearch.fetch()


def pytest_unconfigure(config):
    """Print how many tests ran as the very last line."""
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal is None or config.option.collectonly or not terminal.stats:
        return
    ran = {report.nodeid for kind in _RAN for report in terminal.stats.get(kind, ())}
    skipped = {report.nodeid for report in terminal.stats.get("skipped", ())} - ran
    terminal.write_line(f"ran {len(ran)} tests, {len(skipped)} skipped")
