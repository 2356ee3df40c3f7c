"""The service that brings the dashboards into Kibana, against a stand-in for Kibana."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rendezvous.testing.processes import free_port
from tests.unit.stand_in_kibana import AVAILABLE, STARTING, StandIn

ROOT = Path(__file__).resolve().parent.parent.parent
OBJECTS = ROOT / "deploy" / "dashboards" / "kibana" / "rendezvous.ndjson"


def run(folder=ROOT, **env):
    """Run the service to its end."""
    return subprocess.run(
        [sys.executable, "-m", "services.kibana_setup"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_waits_for_kibana_brings_the_dashboards_and_ends():
    with StandIn() as kibana:
        kibana.statuses = [STARTING, AVAILABLE]
        done = run(RENDEZVOUS_KIBANA=kibana.url)
        assert done.returncode == 0, done.stderr
        assert ("dashboard", "rendezvous-models") in kibana.objects
    assert "Kibana has dashboard rendezvous-models: Rendezvous: models" in done.stdout + done.stderr


def test_may_run_again():
    with StandIn() as kibana:
        assert [run(RENDEZVOUS_KIBANA=kibana.url).returncode for _ in range(2)] == [0, 0]


def test_takes_the_file_from_wherever_it_is_mounted(tmp_path):
    mounted = tmp_path / "objects.ndjson"
    mounted.write_bytes(OBJECTS.read_bytes())
    with StandIn() as kibana:
        done = run(tmp_path, RENDEZVOUS_KIBANA=kibana.url, RENDEZVOUS_KIBANA_OBJECTS=str(mounted))
        assert done.returncode == 0, done.stderr
        assert kibana.objects


def test_shows_an_api_key_to_kibana_only():
    with StandIn() as kibana:
        kibana.api_key = "a2V5"
        done = run(RENDEZVOUS_KIBANA=kibana.url, RENDEZVOUS_KIBANA_API_KEY="a2V5")
    assert done.returncode == 0, done.stderr
    assert "a2V5" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"RENDEZVOUS_KIBANA": "nowhere"}, "the URL of Kibana must be"),
        ({"RENDEZVOUS_KIBANA_WAIT": "long"}, "RENDEZVOUS_KIBANA_WAIT"),
        ({"RENDEZVOUS_LOG_LEVEL": "LOUD"}, "RENDEZVOUS_LOG_LEVEL"),
        ({"RENDEZVOUS_KIBANA_OBJECTS": "none.ndjson"}, "none.ndjson"),
        ({"RENDEZVOUS_KIBANA_WAIT": "0"}, "no answer"),
    ],
)
def test_says_in_one_line_why_it_can_not(env, said):
    done = run(**{"RENDEZVOUS_KIBANA": f"http://127.0.0.1:{free_port()}", **env})
    assert done.returncode == 1
    assert said in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
