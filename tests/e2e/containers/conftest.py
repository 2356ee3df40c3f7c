"""The system in containers, brought up once by `make up`, on ports and with volumes of its own."""

import os
import re
import subprocess
import time

import pytest
from testcontainers.core.config import testcontainers_config

from deploy.engine.engine import find
from deploy.engine.errors import EngineUnavailable
from deploy.stack.compose import ROOT, Compose
from deploy.stack.images import choose, official
from deploy.stack.up import STANDINS, Pulling
from rendezvous.testing.processes import free_port
from tests.e2e.containers.stack import Stack
from tests.images.build import build_all
from tests.servers import give_up

PORTS = ("SCORE_PORT", "ELASTICSEARCH_PORT", "PULSAR_BINARY_PORT", "PULSAR_HTTP_PORT",
         "KIBANA_PORT", "PROMETHEUS_PORT", "GRAFANA_PORT")  # fmt: skip
PROJECT = f"rendezvous-test-{os.getpid()}"


RAN = []
"""What was brought up, for the end of the report: whoever reads it must see that it was real."""


def summary(stack, images):
    """Return a line for each thing that a reader of the report would ask."""
    version = stack.compose.engine.must("version", "--format", "{{.Server.Version}}").strip()
    ready = f"{len(stack.compose.containers())} containers ready after {stack.ready_seconds:.0f} s"
    return [
        f"make up, on a Docker engine {version}: {ready}",
        *(f"{name}: {image}" for name, image in images.items()),
    ]


def pytest_terminal_summary(terminalreporter):
    """Say what ran in containers."""
    for lines in RAN:
        terminalreporter.section("containers")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def engine():
    """The Docker engine that is there, also for the libraries that tests use."""
    try:
        found = find()
    except EngineUnavailable as error:
        give_up(str(error))
    with pytest.MonkeyPatch.context() as patch:
        if found.host:
            patch.setenv("DOCKER_HOST", found.host)
        # A reaper cleans up after a run that was cut off, where its image can be had.
        reaper = testcontainers_config.ryuk_image
        if not (found.has(reaper) or Pulling(found).pull(reaper)):
            patch.setattr(testcontainers_config, "ryuk_disabled", True)
        yield found


@pytest.fixture(scope="session")
def images(engine):
    """By variable, images that are on this machine: the official ones, else stand-ins."""
    wanted = official((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    choice = choose(Pulling(engine), wanted, {}, STANDINS)
    if choice.standins:
        build_all(engine)
    return {
        name: choice.standins.get(name, image)
        for name, image in wanted.items()
        if name not in choice.missing
    }


@pytest.fixture(scope="session")
def variables(images):
    """The environment of the test's own system, so that it is in nobody's way."""
    return {
        **images,
        **{name: str(free_port()) for name in PORTS},
        "COMPOSE_PROJECT_NAME": PROJECT,
        "COMPOSE_PROFILES": "prometheus",
    }


@pytest.fixture(scope="package")
def stack(engine, images, variables):
    """The system, ready; its data is dropped afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        for name in ("COVERAGE_PROCESS_CONFIG", "MAKEFLAGS", "MAKELEVEL"):
            patch.delenv(name, raising=False)
        compose = Compose(engine, ["prometheus"])
        try:
            for target in ("train-canary", "train-model"):
                make(target)
            compose.must("build", "--quiet")  # so that what `up` takes is not the building
            began = time.monotonic()
            printed = make("up")
            whole = Stack(
                compose=compose,
                printed=printed,
                ready_seconds=float(re.search(r"^ready after (\d+) s$", printed, re.MULTILINE)[1]),
                up_seconds=time.monotonic() - began,
            )
            RAN.append(summary(whole, images))
            yield whole
        finally:
            Compose(engine, ["*"]).output("down", "--volumes", "--remove-orphans", "--timeout", "5")


def make(target):
    """Run a target of make as a person would; return what it printed."""
    done = subprocess.run(
        ["make", target],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


@pytest.fixture
def whole(stack):
    """The system with every part ready, whatever the test before did."""
    stack.restore()
    yield stack
    stack.restore()
