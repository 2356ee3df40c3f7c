"""Start the whole system: images, models, ports, containers, and then wait until it is ready."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from deploy.engine.engine import find
from deploy.servers.ports import in_use
from deploy.stack.compose import FILE, ROOT, Compose
from deploy.stack.errors import StackError
from deploy.stack.images import choose, chosen_here, official, remember, without_old_standins
from deploy.stack.waiting import wait_ready
from rendezvous.cli.run import train_missing
from rendezvous.configuration import load
from tests.images import build as standins

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from deploy.engine.engine import Engine

_LOG = logging.getLogger(__name__)
READY_SECONDS = 300.0
_PORT = re.compile(r"\$\{([A-Z_]+_PORT):-(\d+)\}")
CONFIGURATION = ROOT / "rendezvous.yaml"
ENV_FILE = ROOT / ".env"
STANDINS = {
    "PULSAR_IMAGE": standins.PULSAR,
    "ELASTICSEARCH_IMAGE": standins.ELASTICSEARCH,
    "PYTHON_IMAGE": standins.PYTHON,
    "PROMETHEUS_IMAGE": standins.PROMETHEUS,
}
GROUPS = {"observability": {"prometheus", "grafana"}}
"""Profiles that are several: where the image of one can not be had, the others still run."""
OPTIONAL = {
    "KIBANA_IMAGE": ("kibana", "Kibana"),
    "PROMETHEUS_IMAGE": ("prometheus", "Prometheus"),
    "GRAFANA_IMAGE": ("grafana", "Grafana"),
}
"""By variable: the profile without which the image is not needed, and what it is."""


@dataclass(frozen=True, slots=True)
class Pulling:
    """The engine, as a store of images."""

    engine: Engine

    def has(self, image: str) -> bool:
        """Return whether the image is here already."""
        return self.engine.has(image)

    def pull(self, image: str) -> bool:
        """Get the image; return whether that was possible."""
        _LOG.info("pulling %s ...", image)
        done = self.engine.run("pull", "--quiet", image)
        if done.returncode:
            _LOG.info("  %s", done.stderr.strip().replace("\n", " "))
        return done.returncode == 0


def start() -> None:
    """Start it, wait, and say where it is.

    Raises:
        RendezvousError: Something is missing or in use, or it did not get ready; the text says
            what to do.
    """
    compose = with_images(Compose(find(), profiles_wanted()))
    refuse_ports_in_use(compose)
    train_missing(load(CONFIGURATION))
    _LOG.info("building the services' images ...")
    compose.must("build", "--quiet")
    starting = compose.begin("up", "--detach", "--no-build", "--remove-orphans")
    seconds = wait_ready(compose.containers, starting.done, READY_SECONDS)
    _LOG.info("%s", announcement(compose, seconds))


def profiles_wanted() -> list[str]:
    """Return the profiles that COMPOSE_PROFILES names, each by itself, and Kibana's."""
    text = chosen_here(ENV_FILE, ["COMPOSE_PROFILES"]).get("COMPOSE_PROFILES", "")
    named = [name.strip() for name in text.split(",") if name.strip()]
    return sorted({"kibana"}.union(*(GROUPS.get(name, {name}) for name in named)))


def with_images(compose: Compose) -> Compose:
    """Return the project with the profiles whose images can be had; build what must be built."""
    images = _needed(compose.profiles)
    chosen = without_old_standins(chosen_here(ENV_FILE, images), STANDINS)
    choice = choose(Pulling(compose.engine), images, chosen, STANDINS)
    lacking = {name: image for name, image in choice.missing.items() if name not in OPTIONAL}
    if lacking:
        wrong = ", ".join(f"{image} ({name})" for name, image in lacking.items())
        raise StackError(f"these images are not here and can not be pulled: {wrong}")
    if choice.standins or set(chosen.values()) & set(STANDINS.values()):
        standins.build_all(compose.engine)
    remember(ENV_FILE, choice.standins)
    left_out = {OPTIONAL[name][0] for name in choice.missing}
    for name, image in choice.missing.items():
        _LOG.info("%s is left out: its image %s can not be pulled", OPTIONAL[name][1], image)
    return replace(compose, profiles=[name for name in compose.profiles if name not in left_out])


def _needed(profiles: Sequence[str]) -> Mapping[str, str]:
    images = official(FILE.read_text(encoding="utf-8"))
    return {
        name: image
        for name, image in images.items()
        if name not in OPTIONAL or OPTIONAL[name][0] in profiles
    }


def refuse_ports_in_use(compose: Compose) -> None:
    """Say which port is taken before anything is started.

    Raises:
        StackError: A port is in use, and not by the system itself.
    """
    running = {each.service for each in compose.containers() if each.state == "running"}
    for port, service in compose.published().items():
        if service not in running and in_use(port):
            raise StackError(
                f"port {port}, for {service}, is in use: stop what uses it (`make servers-down`, if"
                f" it is ours), or choose another, as {variable_of(port)}=... make up"
            )


def variable_of(port: int) -> str:
    """Return the variable of the compose file that chooses a port."""
    defaults = dict(_PORT.findall(FILE.read_text(encoding="utf-8")))
    chosen = {**defaults, **chosen_here(ENV_FILE, defaults)}
    return next((name for name, value in chosen.items() if int(value) == port), "its variable")


def announcement(compose: Compose, seconds: float) -> str:
    """Return what a person needs to know: where everything is, and one request to try."""
    at = {service: port for port, service in compose.published().items()}
    url = f"http://127.0.0.1:{at['score']}"
    lines = [
        f"ready after {seconds:.0f} s",
        f"  front end      {url}  (docs: {url}/docs, metrics: {url}/metrics)",
        f"  Elasticsearch  http://127.0.0.1:{at['elastic_search']}",
    ]
    for service, label in (
        ("kibana", "Kibana"),
        ("prometheus", "Prometheus"),
        ("grafana", "Grafana"),
    ):
        if service in at:
            lines.append(f"  {label:<13}  http://127.0.0.1:{at[service]}")
    example = load(CONFIGURATION)
    body = json.dumps(example.endpoints[example.default_endpoint].example)
    lines.append(f"try: curl -s {url}/predict -H 'Content-Type: application/json' -d '{body}'")
    return "\n".join(lines)
