"""What a container may do: as little as possible."""

import time
from dataclasses import replace

import pytest

from tests.e2e.containers.stack import OURS

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

MIB = 2**20
BESIDE = ("pulsar", "elastic_search")
PUBLISHED_BEYOND = {"score", "kibana"}
"""Services that PUBLISH_ADDRESS and KIBANA_ADDRESS may open to other machines."""


@pytest.mark.parametrize("service", OURS)
def test_a_service_runs_with_next_to_no_rights(stack, service):
    found = stack.inspect(service)
    host = found["HostConfig"]
    assert found["Config"]["User"] == "10001"
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert host["CapAdd"] is None
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["Privileged"] is False
    assert 0 < host["Memory"] <= 512 * MIB
    assert 0 < host["PidsLimit"] <= 128
    assert found["Config"]["StopSignal"] == "SIGTERM"
    assert found["Config"]["Healthcheck"]["Test"][0] == "CMD"


@pytest.mark.parametrize("service", [*OURS, *BESIDE])
def test_every_part_is_limited_restarted_and_unprivileged(stack, service):
    host = stack.inspect(service)["HostConfig"]
    assert host["Memory"] > 0
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    assert host["CapDrop"] == ["ALL"]
    user = stack.docker("exec", stack.names(service)[0], "id", "-u").strip()
    assert user != "0"


@pytest.mark.parametrize("service", OURS)
@pytest.mark.parametrize("path", ["/written", "/app/services/written", "/opt/venv/written"])
def test_a_service_can_not_write_to_its_image(stack, service, path):
    tried = stack.compose.engine.run("exec", stack.names(service)[0], "touch", path)
    assert tried.returncode != 0
    assert "Read-only file system" in tried.stderr


@pytest.mark.parametrize("service", ["score", "dt_model"])
def test_an_image_has_no_build_tools(stack, service):
    name = stack.names(service)[0]
    paths = stack.docker(
        "exec", name, "sh", "-c", 'ls $(echo "$PATH" | tr ":" " ") 2>/dev/null || true'
    )
    found = set(paths.split())
    assert "python3" in found
    assert not {"gcc", "cc", "make", "uv", "hatchling", "git", "pip", "pip3"} & found
    tried = stack.compose.engine.run("exec", name, "python3", "-m", "pip", "--version")
    assert "No module named pip" in tried.stderr


def test_the_slim_image_is_at_most_120_mb_over_its_base(stack, images):
    slim = stack.inspect("score")["Image"]
    assert size(stack, slim) - size(stack, images["PYTHON_IMAGE"]) <= 120e6


def size(stack, image):
    return int(stack.docker("image", "inspect", "--format", "{{.Size}}", image))


def test_only_the_front_end_and_kibana_can_be_reached_from_other_machines(stack):
    addresses = dict.fromkeys(("PUBLISH_ADDRESS", "KIBANA_ADDRESS"), "192.0.2.1")
    opened = replace(stack.compose, profiles=["*"], variables=addresses)
    services = opened.config()["services"]
    reachable = {
        name
        for name, service in services.items()
        for port in service.get("ports", [])
        if port.get("host_ip") != "127.0.0.1"
    }
    assert reachable == PUBLISHED_BEYOND
    for service in (*OURS, *BESIDE):
        bound = stack.inspect(service)["HostConfig"]["PortBindings"] or {}
        assert {b["HostIp"] for each in bound.values() for b in each} <= {"127.0.0.1"}


def test_no_secret_is_in_an_image_or_in_the_file(stack):
    text = str(replace(stack.compose, profiles=["*"]).config()["services"]).lower()
    assert "password" not in text
    for service in ("score", "dt_model"):
        history = stack.docker("history", "--no-trunc", stack.inspect(service)["Image"]).lower()
        assert "password" not in history
        assert "token" not in history


@pytest.mark.parametrize("service", OURS)
def test_a_service_stops_in_order_within_5_seconds(whole, service):
    name = whole.names(service)[0]
    began = time.monotonic()
    whole.docker("stop", name)
    took = time.monotonic() - began
    state = whole.inspect(service)["State"]
    whole.start(service)
    assert took < 5
    assert state["ExitCode"] == 0
