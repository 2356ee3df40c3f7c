"""The pages of a service without a front end: metrics, whether it lives, whether it is ready."""

import json
import socket
import urllib.error
import urllib.request

import pytest

from rendezvous.errors import ConfigurationError
from rendezvous.status import missing_parts, serve_pages
from rendezvous.telemetry import Metrics


@pytest.fixture
def metrics():
    return Metrics()


@pytest.fixture
def get(metrics):
    """Return a function that gets a page: its status and its text."""
    port = free_port()
    serve_pages(metrics, "127.0.0.1", port)

    def get(path):
        url = f"http://127.0.0.1:{port}{path}"
        try:
            with urllib.request.urlopen(url, timeout=10) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    return get


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_show_the_metrics(get, metrics):
    metrics.buried("iris")

    status, text = get("/metrics")

    assert status == 200
    assert 'rendezvous_dlq_messages_total{topic="iris"} 1.0' in text


def test_say_that_the_process_lives(get):
    assert get("/healthz") == (200, '{"status": "ok"}')


@pytest.mark.parametrize("path", ["/", "/predict", "/metrics/more"])
def test_are_three_and_no_more(get, path):
    assert get(path)[0] == 404


class TestReadiness:
    def test_is_not_reached_before_a_part_has_begun(self, get):
        status, text = get("/readyz")

        assert status == 503
        assert json.loads(text) == {"ready": False, "missing": ["no part has begun"]}

    def test_is_reached_when_all_parts_read_and_lost_when_one_does_not_any_more(self, get, metrics):
        metrics.reading("archive", ["decoy"], now=False)
        metrics.reading("archive", ["score"], now=True)
        assert get("/readyz")[0] == 503

        metrics.reading("archive", ["decoy"], now=True)
        assert get("/readyz") == (200, '{"ready": true, "missing": []}')

        metrics.reading("archive", ["score"], now=False)
        status, text = get("/readyz")
        assert status == 503
        assert json.loads(text)["missing"] == ["archive: does not read score"]


def test_a_part_is_named_with_all_its_topics():
    missing = missing_parts({("decoy", "iris", "housing"): False, ("dt-1", "iris"): True})

    assert missing == ["decoy: does not read iris, housing"]


def test_an_address_of_version_6_will_do(metrics):
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
        port = probe.getsockname()[1]
    serve_pages(metrics, "::1", port)

    with urllib.request.urlopen(f"http://[::1]:{port}/healthz", timeout=10) as response:
        assert response.status == 200


def test_an_address_of_another_machine_is_refused(metrics):
    with pytest.raises(ConfigurationError, match="no page of metrics at 192"):
        serve_pages(metrics, "192.0.2.1", free_port())
